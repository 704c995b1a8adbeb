"""`openvalle voice add|list|show|remove`: voices kept under a name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from openvalle.errors import UserError
from openvalle.hub import VOICE_SUFFIX, Kind, check_name, find, is_builtin, names, user_folder

INTRODUCTION = "This is a voice that belongs to nobody: it was made up, from nothing but these words."

voices = typer.Typer(help="Keep voices under a name.", no_args_is_help=True, rich_markup_mode=None)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="The voice's name.")]


@voices.command("add")
def add(
    name: Name,
    clip: Annotated[Path, typer.Argument(help="3 to 15 s of one speaker, or a .safetensors voice.")],
    prompt_text: Annotated[str | None, typer.Option(help="What the clip says; else it is transcribed.")] = None,
    consent: Annotated[str, typer.Option(help="Who agreed to the use of this voice, and when.")] = "",
    model: Annotated[str, typer.Option("--model", "-m", help="A model's name or folder.")] = "builtin",
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite a voice of this name.")] = False,
) -> None:
    """Keep the voice of a clip as NAME."""
    path = free_path(name, replace)
    from openvalle.synth.pipeline import Synthesizer

    voice = Synthesizer.load(model).voice(str(clip), prompt_text, consent=consent)
    print(dataclasses.replace(voice, name=name).save(path))


@voices.command("invent")
def invent(
    name: Name,
    seed: Annotated[int, typer.Option(min=0, help="Every seed is another voice.")] = 0,
    text: Annotated[str, typer.Option(help="What the voice says to introduce itself.")] = INTRODUCTION,
    model: Annotated[str, typer.Option("--model", "-m", help="A model's name or folder.")] = "builtin",
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite a voice of this name.")] = False,
) -> None:
    """Keep a voice that the model makes up, and that belongs to nobody, as NAME."""
    path = free_path(name, replace)
    from openvalle.synth.pipeline import Synthesizer

    print(Synthesizer.load(model).invent_voice(text, seed, name).save(path))


def free_path(name: str, replace: bool) -> Path:
    """Return the file of a voice that is to be made."""
    path = user_folder(Kind.VOICE) / f"{check_name(name, Kind.VOICE)}{VOICE_SUFFIX}"
    if path.exists() and not replace:
        raise UserError(f"there is a voice called {name!r} already", "add --replace, or take another name")
    return path


@voices.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the voices that can be used by name."""
    rows = [
        {"name": name, "kind": "built-in" if is_builtin(path) else "yours", "path": str(path)}
        for name, path in names(Kind.VOICE).items()
    ]
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(f"{row['name']}\t{row['kind']}\t{row['path']}")


@voices.command("show")
def show(name: Annotated[str, typer.Argument(help="A voice's name or file.")], as_json: AsJson = False) -> None:
    """Show what a voice holds: text, length, origin, consent."""
    from openvalle.synth.voice import Voice

    path = find(Kind.VOICE, name)
    voice = Voice.load(path)
    facts: dict[str, Any] = {"name": voice.name, "path": str(path)} | voice.facts()
    if as_json:
        print(json.dumps(facts))
        return
    for key, value in facts.items():
        print(f"{key:>8}: {value}")


@voices.command("remove")
def remove(name: Name) -> None:
    """Delete one of your voices."""
    path = find(Kind.VOICE, check_name(name, Kind.VOICE))
    if not path.is_relative_to(user_folder(Kind.VOICE)):
        raise UserError(
            f"{name!r} is not one of your voices", "only those made by `openvalle voice add` can be removed"
        )
    path.unlink()
    print(f"removed {path}")
