"""`openvalle voice add|invent|blend|list|show|export|import|remove`: voices kept under a name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openvalle.cli import options as opt
from openvalle.cli.settings import Command
from openvalle.errors import ModelError, UserError, import_extra
from openvalle.files import lock_folder
from openvalle.hub import VOICE_SUFFIX, Kind, check_name, check_writable, find, is_builtin, list_names, user_folder

if TYPE_CHECKING:
    from openvalle.synth.voice import Voice

VALLEX_SUFFIX = ".npz"
INTRODUCTION = "This is a voice that belongs to nobody: it was made up, from nothing but these words."

voices = typer.Typer(help="Keep voices under a name.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="The voice's name.")]


@voices.command("add", cls=Command)
@opt.expand
def add(
    *,
    name: Name,
    clip: Annotated[Path, typer.Argument(help="3 to 15 s of one speaker, or a .safetensors voice.")],
    transcript: opt.Transcript = None,
    channel: opt.Channel = "auto",
    asr: opt.Asr = "",
    consent: opt.Consent = "",
    policy: opt.Policy = None,
    language: Annotated[str, typer.Option(help="What the clip speaks.")] = "en",
    licence: Annotated[str, typer.Option(help="Terms of the recording.")] = "",
    model: opt.Model,
    replace: opt.Replace = False,
) -> None:
    """Check a clip, say what may spoil it, and keep its voice as NAME."""
    with reserve(name, replace) as keep:
        terms = {"consent": consent, "language": language, "licence": licence, "channel": channel}
        voice = model.load(asr, policy).voice(str(clip), transcript, **terms)
        print(keep(dataclasses.replace(voice, name=name)))


@voices.command("import", cls=Command)
@opt.expand
def import_(
    *,
    file: Annotated[Path, typer.Argument(help="A .safetensors voice.")],
    name: Annotated[str | None, typer.Option(help="Its name here; default: the one it has.")] = None,
    model: opt.Model,
    policy: opt.Policy = None,
    replace: opt.Replace = False,
) -> None:
    """Keep a voice that was exported elsewhere, if the model can use it."""
    from openvalle.synth.voice import Voice

    chosen = name if name is not None else Voice.load(file).name
    with reserve(chosen, replace) as keep:
        voice = model.load(consent_policy=policy).voice(Path(file).resolve())
        print(keep(dataclasses.replace(voice, name=chosen)))


@voices.command("export", cls=Command)
def export(
    name: Annotated[str, typer.Argument(help="A voice's name or file.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File to write, .safetensors or .npz (VALL-E X); default: NAME.safetensors here."
        ),
    ] = None,
    replace: opt.Replace = False,
) -> None:
    """Write a voice to a file that `voice import` reads elsewhere, or VALL-E X."""
    from openvalle.synth.voice import Voice

    place = find(Kind.VOICE, name)
    path = output or Path(f"{place.stem}{VOICE_SUFFIX}")
    write: Callable[..., Path] = Voice.save
    if path.suffix == VALLEX_SUFFIX:
        from openvalle.convert.plachtaa import write_voice

        write = write_voice
    elif path.suffix != VOICE_SUFFIX:
        raise UserError(f"{path} is no name of a voice file", f"end it in {VOICE_SUFFIX} or {VALLEX_SUFFIX}")
    try:
        print(write(Voice.load(place), path, replace=replace))
    except FileExistsError:
        raise UserError(f"{path} is there already", "add --replace, or take another name") from None


@voices.command("blend", cls=Command)
def blend(
    name: Name,
    first: Annotated[str, typer.Argument(help="A voice's name or file.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    share: Annotated[float, typer.Option(help="Part of the prompt that is the second's, between 0 and 1.")] = 0.5,
    replace: opt.Replace = False,
) -> None:
    """Keep a prompt made of two voices as NAME: the model hears both. It is no average of them."""
    with reserve(name, replace) as keep:
        from openvalle.synth.enrol import blend as blended
        from openvalle.synth.voice import Voice

        one, other = (Voice.load(find(Kind.VOICE, voice)) for voice in (first, second))
        print(keep(blended(one, other, share, name)))


@voices.command("invent", cls=Command)
@opt.expand
def invent(
    *,
    name: Name,
    seed: Annotated[int, typer.Option(min=0, help="Every seed is another voice.")] = 0,
    text: Annotated[str, typer.Option(help="What the voice says to introduce itself.")] = INTRODUCTION,
    model: opt.Model,
    replace: opt.Replace = False,
) -> None:
    """Keep a voice that the model makes up, and that belongs to nobody, as NAME."""
    with reserve(name, replace) as keep:
        print(keep(model.load().invent_voice(text, seed, name)))


@contextmanager
def reserve(name: str, replace: bool) -> Iterator[Callable[[Voice], Path]]:
    """Yield a function that keeps a voice under a name, which nobody else takes meanwhile.

    What can be refused is refused before the work: `UserError` if the name is taken, or is being taken by another
    process, or if nothing can be written there.
    """
    folder = user_folder(Kind.VOICE)
    path = folder / f"{check_name(name, Kind.VOICE)}{VOICE_SUFFIX}"
    taken = UserError(f"there is a voice called {name!r} already", "add --replace, or take another name")
    if path.exists() and not replace:
        raise taken
    check_writable(folder)

    def keep(voice: Voice) -> Path:
        try:
            return voice.save(path, replace=replace)
        except FileExistsError:
            raise taken from None

    with lock_folder(folder, f".{name}.lock", f"the name {name!r}"):
        yield keep


@voices.command("list", cls=Command)
def list_(as_json: opt.AsJson = False) -> None:
    """List the voices that can be used by name, with the language that each was recorded in."""
    rows = [
        {
            "name": name,
            "kind": "built-in" if is_builtin(path) else "yours",
            "language": _read_language(path),
            "path": str(path),
        }
        for name, path in list_names(Kind.VOICE).items()
    ]
    opt.print_result(rows, as_json, ["\t".join(row.values()) for row in rows])


def _read_language(path: Path) -> str:
    """Return what a voice's clip speaks, "-" for a file that is damaged."""
    from openvalle.synth.voice import Voice

    try:
        return Voice.load(path).language
    except ModelError:
        return "-"


@voices.command("show", cls=Command)
@opt.expand
def show(
    *,
    name: Annotated[str, typer.Argument(help="A voice's name or file.")],
    as_json: opt.AsJson = False,
    plot: opt.Plot = None,
    model: opt.Model,
) -> None:
    """Show what a voice holds: text, length, origin, consent, and what the checks of its clip found."""
    from openvalle.synth.voice import Voice

    path = find(Kind.VOICE, name)
    voice = Voice.load(path)
    facts: dict[str, Any] = {"name": voice.name, "path": str(path)} | voice.facts()
    if plot is not None:
        from openvalle.apps.plot import plot_speech
        from openvalle.synth.enrol import decode_voice

        import_extra("matplotlib", "matplotlib", "plot")
        synthesizer = model.load(consent_policy="off")
        speech = decode_voice(synthesizer.voice(voice), synthesizer.generator)
        facts["plot"] = str(plot_speech(speech, plot, f"{voice.name}: {voice.text}"))
    opt.print_result(facts, as_json, [f"{key:>8}: {value}" for key, value in facts.items()])


@voices.command("remove", cls=Command)
def remove(name: Name) -> None:
    """Delete one of your voices."""
    path = find(Kind.VOICE, check_name(name, Kind.VOICE))
    if not path.is_relative_to(user_folder(Kind.VOICE)):
        raise UserError(
            f"{name!r} is not one of your voices", "only those made by `openvalle voice add` can be removed"
        )
    path.unlink()
    print(f"removed {path}")
