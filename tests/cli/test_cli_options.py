"""Options that several commands have are declared once, and every command that speaks has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.main import get_command

from openvalle.cli.main import app

SPEAK = ("say", "stream", "dialogue", "book", "batch")
SHARED = {"--channel", "--asr", "--consent", "--model", "--codec", "--device", "--seed"}
SAMPLING = {"--temperature", "--top-p", "--window", "--speed", "--attempts", "--set"}


def options(command: str) -> dict[str, str]:
    """The options of a command and what its help says of them."""
    params = get_command(app).commands[command].params  # type: ignore[attr-defined]
    return {name: param.help for param in params for name in param.opts if name.startswith("--")}


@pytest.mark.parametrize("command", SPEAK)
def test_every_command_that_speaks_has_them(command: str) -> None:
    assert set(options(command)) >= SHARED | SAMPLING


def test_one_option_has_one_wording() -> None:
    words: dict[str, set[str]] = {}
    for command in SPEAK:
        for name in SHARED | SAMPLING:
            words.setdefault(name, set()).add(options(command)[name])
    assert {name: found for name, found in words.items() if len(found) > 1} == {}


def test_a_dialogue_hears_the_channel_that_is_asked_for(openvalle, tiny_model: Path, clip_path: Path) -> None:
    given = ("dialogue", "[S1] Saw.", "-v", f"S1={clip_path}", "-m", tiny_model, "-o", "talk.wav")
    assert "channel" in openvalle(*given, "--channel", "centre").err
    assert "nobody" in openvalle(*given, "--asr", "nobody").err


def test_sampling_changes_what_a_batch_says(openvalle, tiny_model: Path, voice_path: Path) -> None:
    Path("lines.csv").write_text("text\nSaw.\n", encoding="utf-8")
    seconds = []
    for speed in ("1", "2"):
        given = ("-v", voice_path, "-m", tiny_model, "-o", speed, "--set", f"speed={speed}", "--json")
        run = openvalle("batch", "lines.csv", *given)
        assert run.code == 0, run.err
        seconds.append(json.loads(run.out)["seconds"])
    assert seconds[1] < seconds[0]
