"""The examples in README.md and docs/ run, page by page, with the built-in model: what a reader copies works.

Blocks marked `python` share one namespace per page; those marked `bash` run in the same folder, in order. A block that
cannot run says why, in a comment before it: `<!-- not run: it takes a corpus -->`. Its commands are parsed, too.
"""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S
)
DATA = {"yaml", "toml", "json", "text"}  # what is only read: files, and what commands print
HERE_DOCUMENT = re.compile(r"<<-?\s*'?(\w+)'?")
SHELL_SIGNS = set("|<>$&;`*")  # outside of quotes: only a shell knows what they mean
# `aplay` stands for a player, which a machine that runs tests need not have.
SHELL = f'openvalle() {{ "{sys.executable}" -m openvalle "$@"; }}\naplay() {{ cat > /dev/null; }}\n'


def runs(page: Path) -> bool:
    blocks = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return any(block["language"] not in DATA and not block["reason"] for block in blocks)


RUNNING = [page for page in PAGES if runs(page)]
OWN_PROCESS = {"extending"}  # pages that change tables of the package


@pytest.fixture(autouse=True)
def one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model is loaded once: a loaded one never changes."""
    from openvalle.synth.synthesizer import Synthesizer

    monkeypatch.setattr(Synthesizer, "load", _load())


@functools.cache
def _load():
    from openvalle.synth.synthesizer import Synthesizer

    return functools.cache(Synthesizer.load)


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNING, ids=lambda page: page.stem)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    if page.name == "README.md":
        lay_out(here)
    namespace: dict[str, object] = {"__name__": "__docs__"}
    text = page.read_text(encoding="utf-8")
    if page.stem in OWN_PROCESS:
        code = "".join(block["code"] for block in BLOCK.finditer(text) if block["language"] == "python")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return
    for block in BLOCK.finditer(text):
        line = text[: block.start("code")].count("\n")
        if block["reason"] or block["language"] in DATA:
            continue
        if block["language"] == "python":
            exec(compile("\n" * line + block["code"], str(page), "exec"), namespace)
        else:
            for command in commands_of(block["code"]):
                run(command)


def lay_out(folder: Path) -> None:
    """Write the files that the README takes for granted."""
    from openvalle import Synthesizer

    Synthesizer.load().say("I like green tea.", seed=1).save(folder / "clip.wav")
    (folder / "novel.txt").write_text("# One\n\nA word.\n", encoding="utf-8")
    (folder / "lines.csv").write_text("text\nOne.\n", encoding="utf-8")
    (folder / "script.txt").write_text("[S1] Hello. [S2] Hi.\n", encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_runs_or_says_why_not(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) * 2 == len(re.findall(r"^```", text, re.M)), "a block that is not understood"
    for block in blocks:
        assert block["language"] in {"python", "bash", *DATA}, block["code"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_can_be_parsed(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the block does not run: commands, options and their values exist."""
    from typer.core import TyperCommand

    from openvalle.cli.main import app
    from openvalle.cli.settings import Command

    monkeypatch.chdir(tmp_path)
    for kind in (Command, TyperCommand):
        monkeypatch.setattr(kind, "invoke", lambda self, ctx: None, raising=False)
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        for command in commands_of(block["code"]) if block["language"] == "bash" else ():
            for arguments in calls_in(command):
                with pytest.raises(SystemExit) as ended:
                    app(arguments, prog_name="openvalle")
                assert not ended.value.code, command


def calls_in(command: str) -> Iterator[list[str]]:
    """Yield the arguments of each call of openvalle in a line of shell."""
    words = shlex.shlex(command.partition("<<")[0], posix=True, punctuation_chars=True)
    words.whitespace_split = True
    call: list[str] | None = None
    is_file = False  # what follows < or >
    for word in [*words, ";"]:
        if set(word) <= {"<", ">"}:
            is_file = True
        elif set(word) <= SHELL_SIGNS:
            if call is not None:
                yield call
            call = None
        elif word == "openvalle" and call is None:
            call = []
        elif call is not None and not is_file:
            call.append(word)
        is_file = is_file and set(word) <= {"<", ">"}


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
    done = subprocess.run(["bash", "-ec", SHELL + command], capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_commands_are_cut_as_a_shell_does() -> None:
    code = "one \\\n  two\n# not this\ncat > x <<'END'\na\nb\nEND\n\nlast"
    assert list(commands_of(code)) == ["one   two", "cat > x <<'END'\na\nb\nEND", "last"]


def test_calls_are_found_in_a_line_of_shell() -> None:
    line = 'SEED=3 openvalle say "a | b" -o x.wav > y; cat x | openvalle stream - | aplay  # openvalle no'
    assert list(calls_in(line)) == [["say", "a | b", "-o", "x.wav"], ["stream", "-"]]


def train_commands() -> Iterator[list[str]]:
    """Yield the arguments of every `openvalle train` of the pages, after the word `train`."""
    for page in PAGES:
        for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
            for command in commands_of(block["code"]) if block["language"] == "bash" else ():
                yield from (call[1:] for call in calls_in(command) if call[0] == "train")


def test_every_training_has_a_recipe_that_knows_its_settings() -> None:
    """Their values are checked by the recipe itself, as before a training; whether folders are there is not."""
    from openvalle.hub import recipes
    from openvalle.train.recipe import read_recipe

    commands = list(train_commands())
    assert len(commands) > 10
    for part, name, *rest in commands:
        overrides = tuple(word for word in rest if "=" in word)
        read_recipe(part, recipes()[name], overrides)


def test_the_tables_of_training_are_those_of_the_code() -> None:
    """Every setting of the loop and of the batches, with its default."""
    from openvalle.train.lm import TokenBatchConfig
    from openvalle.train.loop import LoopConfig

    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    for head, config in (("loop", LoopConfig), ("batches", TokenBatchConfig)):
        table = text.partition(f"\n| `{head}.` |")[2].partition("\n\n")[0]
        said: dict[str, str] = {}
        for names, defaults in re.findall(r"^\| (`[^|]*`) \| ([^|]*?) ?\|", table, re.M):
            found = re.findall(r"`(\w+)\.?`", names)
            values = defaults.split(", ") if len(found) > 1 else [defaults]
            said |= dict(zip(found, values, strict=True))
        assert said.keys() == config.model_fields.keys(), head
        for name, told in said.items():
            default = config.model_fields[name].default
            if name in ("optim", "steps", "seconds"):  # a table of its own, and what has to be said
                continue
            empty = default is None or default == ()
            assert told.strip("`") == ("none" if empty else _shown(default)), name


def _shown(value: object) -> str:
    """Return a default as the pages write it."""
    if isinstance(value, bool | str):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return f"{value:g}"


def test_pages_are_there() -> None:
    assert {"README", "voices", "streaming", "long-text", "settings"} <= {page.stem for page in RUNNING}


def test_readme_says_what_each_extra_is_for() -> None:
    """The table names every extra that the code asks for, and no other."""
    asked: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        asking = r'(?:MissingExtra\(|import_extra\("[^"]*", )"[^"]*", "([\w-]+)"\)'
        asked |= set(re.findall(asking, path.read_text(encoding="utf-8")))
    named = set(re.findall(r"^\|.*'\.\[([\w-]+)\]'", (ROOT / "README.md").read_text(encoding="utf-8"), re.M))
    assert named == asked
    assert asked <= set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


def test_readme_names_every_command() -> None:
    from openvalle.cli.main import SECTIONS

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in {name for names in SECTIONS.values() for name in names} - {
        "version",
        "report",
        "spoofing",
        "watermark",
    }:
        assert f"openvalle {name}" in text, name


def test_the_script_for_slurm_can_be_read_by_a_shell(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    scripts = [each for each in re.findall(r"```bash\n(.*?)```", page, re.S) if "#SBATCH" in each]
    assert len(scripts) == 1 and re.search(r"^srun .*torchrun", scripts[0], re.M)
    (tmp_path / "job.sh").write_text(scripts[0])
    done = subprocess.run(["bash", "-n", str(tmp_path / "job.sh")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
