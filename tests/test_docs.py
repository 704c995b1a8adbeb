"""The examples in docs/ run, page by page, with the built-in model: what a reader copies works.

Blocks marked `python` share one namespace per page; those marked `bash` run in the same empty folder, in order. Other
blocks (unmarked, `yaml` ...) are only read.
"""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.M | re.S)
HERE_DOCUMENT = re.compile(r"<<-?\s*'?(\w+)'?")
SHELL_SIGNS = set("|<>$&;`*")  # outside of quotes: only a shell knows what they mean
PAGES = sorted(page for page in DOCS.rglob("*.md") if BLOCK.search(page.read_text(encoding="utf-8")))
OPENVALLE = f'openvalle() {{ "{sys.executable}" -m openvalle "$@"; }}\n'


@pytest.fixture(autouse=True)
def one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model is loaded once: a loaded one never changes."""
    from openvalle.synth.pipeline import Synthesizer

    monkeypatch.setattr(Synthesizer, "load", _load())


@functools.cache
def _load():
    from openvalle.synth.pipeline import Synthesizer

    return functools.cache(Synthesizer.load)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    namespace: dict[str, object] = {"__name__": "__docs__"}
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        language, code = match.groups()
        line = text[: match.start()].count("\n") + 1
        if language == "python":
            exec(compile("\n" * line + code, str(page), "exec"), namespace)
        else:
            for command in commands_of(code):
                run(command)


def commands_of(code: str) -> Iterator[str]:
    """Yield the commands of a block: a line each, with continued lines and here documents."""
    lines = iter(code.splitlines())
    for line in lines:
        while line.endswith("\\"):
            line = line[:-1] + next(lines)
        if match := HERE_DOCUMENT.search(line):
            for more in lines:
                line += "\n" + more
                if more == match.group(1):
                    break
        if line.strip() and not line.lstrip().startswith("#"):
            yield line


def run(command: str) -> None:
    """Run one command; plain `openvalle` commands in this process, which is quicker."""
    bare = re.sub(r"'[^']*'|\"[^\"$`]*\"", "", command.partition(" #")[0])
    if command.startswith("openvalle ") and not SHELL_SIGNS & set(bare):
        from openvalle.cli.main import app

        with pytest.raises(SystemExit) as ended:
            app(shlex.split(command, comments=True)[1:], prog_name="openvalle")
        assert not ended.value.code, command
        return
    done = subprocess.run(["bash", "-ec", OPENVALLE + command], capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_commands_are_cut_as_a_shell_does() -> None:
    code = "one \\\n  two\n# not this\ncat > x <<'END'\na\nb\nEND\n\nlast"
    assert list(commands_of(code)) == ["one   two", "cat > x <<'END'\na\nb\nEND", "last"]


def test_pages_are_there() -> None:
    assert {"voices", "streaming", "long-text"} <= {page.stem for page in PAGES}
