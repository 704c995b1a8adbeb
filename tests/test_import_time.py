"""`import openvalle` and `openvalle --help` are quick and need neither torch nor any file of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "openvalle"
BUDGET_SECONDS = 0.5
HEAVY = ("torch", "transformers", "soundfile", "matplotlib", "pocketsphinx", "scipy")
REPORT = "import sys; print(*[name for name in {heavy} if name in sys.modules])"

COMMANDS = {
    "import": "import openvalle; ",
    "help": "import openvalle.cli.main as m\ntry: m.app(['--help'])\nexcept SystemExit: pass\n",
    "say-help": "import openvalle.cli.main as m\ntry: m.app(['say', '--help'])\nexcept SystemExit: pass\n",
}


# Compiled files are kept, as on a person's machine, even where the tests themselves run without: compiling everything
# again at each start is what would be measured otherwise.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=ENVIRONMENT)


@pytest.mark.parametrize("what", COMMANDS)
def test_nothing_heavy_is_imported(what: str) -> None:
    done = python(COMMANDS[what] + REPORT.format(heavy=HEAVY))
    assert done.stdout.splitlines()[-1].split() == []


def test_a_command_reads_no_other_command() -> None:
    shared = {"main", "options", "settings"}
    done = python(COMMANDS["say-help"] + "import sys; print(*sys.modules)")
    prefix = "openvalle.cli."
    found = {name.removeprefix(prefix) for name in done.stdout.split() if name.startswith(prefix)}
    assert found == shared | {"say"}


@pytest.mark.skipif(sys.platform == "win32", reason="processor time of children is POSIX")
@pytest.mark.parametrize("what", COMMANDS)
def test_it_takes_under_half_a_second(what: str) -> None:
    python(COMMANDS[what])  # the first run compiles and fills the disk cache
    durations = []
    for _ in range(4):
        before = os.times()
        python(COMMANDS[what])
        after = os.times()
        # processor time, so that what else the machine does is not counted
        durations.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(durations) < BUDGET_SECONDS, durations


def test_importing_opens_no_file_and_reads_no_argument() -> None:
    code = (
        "import sys; sys.argv = ['x', '--nonsense']\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else None)\n"
        "import openvalle\n"
        "print([path for path in opened if not path.endswith(('.py', '.pyc')) and '__pycache__' not in path])"
    )
    assert python(code).stdout.strip() == "[]"


def test_public_names_are_there() -> None:
    code = "import openvalle; [getattr(openvalle, name) for name in openvalle.__all__]"
    assert python(code).returncode == 0


def test_who_speaks_holds_arrays_of_numpy() -> None:
    """Torch stands behind the engine and is loaded with a model, not by what speaks, decodes and protects."""
    rooms = ("apps", "synth", "decode", "safety", "text")
    paths = [path for room in rooms for path in sorted((SOURCE / room).glob("*.py")) if path.stem != "__init__"]
    names = [".".join(("openvalle", *path.relative_to(SOURCE).with_suffix("").parts)) for path in paths]
    assert len(names) > 30
    done = python(f"import {', '.join(names)}; " + REPORT.format(heavy=("torch",)))
    assert done.stdout.strip() == ""
