"""The command line, run inside the test process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from openvalle.cli.main import app


@dataclass(frozen=True)
class Run:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def openvalle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Run]:
    """Runner of `openvalle ARGS` in an empty folder, `tmp_path/here`."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def run(*arguments: object) -> Run:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app([str(argument) for argument in arguments], prog_name="openvalle")
        code = ended.value.code
        out, err = capsys.readouterr()
        return Run(0 if code is None else int(code), out, err)

    return run


@pytest.fixture
def voice_path(tiny_voice, tmp_path: Path) -> Path:
    """The tiny model's voice as a file."""
    return tiny_voice.save(tmp_path / "me.safetensors")
