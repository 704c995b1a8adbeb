"""The root command: sections in the order of use, version, completion."""

from __future__ import annotations

import re

import pytest
from typer.main import get_command

from openvalle import __version__
from openvalle.cli.main import SECTIONS, app


def test_help_shows_every_command_once_in_the_order_of_use(openvalle) -> None:
    text = openvalle("--help").out
    shown = re.findall(r"^  ([a-z]+)  ", text, re.M)
    assert shown == [name for names in SECTIONS.values() for name in names]
    assert set(shown) == set(get_command(app).commands)  # type: ignore[attr-defined]
    assert [text.index(f"\n{title}:\n") for title in SECTIONS] == sorted(text.index(f"\n{t}:\n") for t in SECTIONS)


def test_version(openvalle) -> None:
    assert openvalle("--version").out == openvalle("version").out == f"openvalle {__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_shown(openvalle, shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    run = openvalle("--show-completion", shell)
    assert run.code == 0
    assert "_OPENVALLE_COMPLETE" in run.out
