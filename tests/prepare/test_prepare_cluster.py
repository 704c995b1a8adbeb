"""Slurm's array makes the units that processes of this machine make: here `sbatch` runs the tasks as processes."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_prepare_killed import OPTIONS, read_bytes, write_corpus

from openvalle.errors import UserError
from openvalle.prepare.executor import Executor
from openvalle.prepare.run import prepare
from openvalle.prepare.slurm import ROUNDS, _largest_array
from openvalle.prepare.steps import Step

SBATCH = """#!{python}
# As Slurm does: takes a copy of the script, tells the array's number, runs its tasks as processes with the arguments,
# ends when they have, with the highest of their exit codes.
import os, re, shutil, signal, subprocess, sys, time
from pathlib import Path

here = Path(__file__).parent
options = dict(each.removeprefix("--").partition("=")[::2] for each in sys.argv[1:] if each.startswith("--"))
assert options.keys() == {{"wait", "parsable", "array", "output", "error", "open-mode", "export"}}, options
assert options["export"] == "ALL" and options["open-mode"] == "append" and options["error"] == options["output"]
script, *arguments = [each for each in sys.argv[1:] if not each.startswith("--")]
directives = [line for line in Path(script).read_text().splitlines() if line.startswith("#SBATCH")]
assert "#SBATCH --requeue" in directives and not any("output" in line or "array" in line for line in directives)
first, last, most = map(int, re.fullmatch(r"(\\d+)-(\\d+)%(\\d+)", options["array"]).groups())
(here / "calls").open("a").write(f"{{first}}-{{last}}%{{most}}\\n")
copy = shutil.copy(script, here / "slurm_script")
print("4711;there", flush=True)
if (here / "stop").exists():
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(60)


def name_log(task):
    symbols = {{"%%": "%", "%a": str(task)}}
    return re.sub("%.", lambda found: symbols[found[0]], options["output"])


codes = [0]
for task in range(first, last + 1):
    if task == 1 and (here / "lose").exists():
        (here / "lose").unlink()  # a node is gone, and the task that it was at
        codes.append(1)
        continue
    with open(name_log(task), "a") as out:
        environment = os.environ | {{"SLURM_ARRAY_TASK_ID": str(task)}}
        if (here / "limit").exists():
            arguments = ["1000"]  # its time is over after the first unit of a thousand
        code = subprocess.run(["bash", copy, *arguments], stdout=out, stderr=out, env=environment).returncode
        codes.append(1 if (here / "limit").exists() else code)
sys.exit(max(codes))
"""


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH with an `sbatch`, which notes its calls."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sbatch").write_text(SBATCH.format(python=sys.executable))
    (folder / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("openvalle.prepare.slurm.LOOK_SECONDS", 0.05)
    return folder


@pytest.mark.long
def test_slurm_makes_the_same_bytes_and_makes_up_for_a_lost_task(tmp_path: Path, write_sound, sbatch: Path) -> None:
    source = write_corpus(tmp_path / "in", write_sound, clips=2)
    options = replace(OPTIONS, unit_seconds=1.0)
    prepare(source, tmp_path / "here", last=Step.AUDIO, options=options)
    units = len(list((tmp_path / "here" / "audio").glob("??/*")))
    (sbatch / "lose").touch()
    calls: list[tuple] = []
    out = tmp_path / '100% of "Anna\'s" speech %j'
    prepare(
        source,
        out,
        jobs=5,
        last=Step.AUDIO,
        options=options,
        executor=Executor.SLURM,
        progress=lambda *call: calls.append(call),
    )
    assert (sbatch / "calls").read_text().split() == [f"0-{units - 1}%5", "0-0%5"]  # all, then the one that was lost
    assert units > 1
    assert calls[-1] == ("audio", 4, 4)
    assert sorted(path.name for path in (out / "slurm" / "audio").glob("*.log")) == ["0.log"], "of the last array"
    there = {name: data for name, data in read_bytes(out).items() if not name.startswith("slurm/")}
    assert there == read_bytes(tmp_path / "here")
    prepare(source, out, last=Step.AUDIO, options=options, executor=Executor.SLURM)
    assert len((sbatch / "calls").read_text().split()) == 2, "there was nothing to do"


@pytest.mark.slow
def test_units_are_given_out_again_as_long_as_that_gets_on(tmp_path: Path, write_sound, sbatch: Path) -> None:
    """On a cluster that allows arrays of one task, whose time is over after a unit: more rounds than make nothing."""
    source = write_corpus(tmp_path / "in", write_sound, clips=3)
    options = replace(OPTIONS, unit_seconds=0.5)
    prepare(source, tmp_path / "here", last=Step.AUDIO, options=options)
    units = len(list((tmp_path / "here" / "audio").glob("??/*")))
    (sbatch / "limit").touch()
    (sbatch / "scontrol").write_text("#!/bin/sh\necho 'Configuration data'; echo 'MaxArraySize            = 2'\n")
    (sbatch / "scontrol").chmod(0o755)
    prepare(source, tmp_path / "there", jobs=9, last=Step.AUDIO, options=options, executor=Executor.SLURM)
    assert (sbatch / "calls").read_text().split() == ["0-0%9"] * units and units > ROUNDS
    there = {name: data for name, data in read_bytes(tmp_path / "there").items() if not name.startswith("slurm/")}
    assert there == read_bytes(tmp_path / "here")


@pytest.mark.parametrize(
    ("says", "most"),
    [
        ("MaxArraySize            = 1001", 1000),
        ("MaxArraySize            = 4", 3),
        ("MaxArraySize            = 0", 1),  # arrays are switched off: Slurm says so itself when it refuses one
        ("MaxArraySize = 100001\nSchedulerParameters     = bf_interval=60,max_array_tasks=50,defer", 50),
        ("SchedulerParameters     = (null)", 1000),
        ("", 1000),
    ],
)
def test_arrays_are_as_large_as_the_cluster_allows(sbatch: Path, says: str, most: int) -> None:
    (sbatch / "scontrol").write_text(f"#!/bin/sh\ncat << end\nConfiguration data\n{says}\nend\n")
    (sbatch / "scontrol").chmod(0o755)
    assert _largest_array() == most


def test_what_is_stopped_is_taken_away_from_slurm(tmp_path: Path, write_sound, sbatch: Path) -> None:
    source = write_corpus(tmp_path / "in", write_sound, clips=1)
    (sbatch / "stop").touch()
    (sbatch / "scancel").write_text(f'#!/bin/sh\necho "$@" > {sbatch}/cancelled\n')
    (sbatch / "scancel").chmod(0o755)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "out", last=Step.AUDIO, options=OPTIONS, executor=Executor.SLURM)
    assert (sbatch / "cancelled").read_text() == "--clusters=there 4711\n"


def test_an_array_that_slurm_does_not_take_is_one_line(tmp_path: Path, write_sound, sbatch: Path) -> None:
    source = write_corpus(tmp_path / "in", write_sound, clips=1)
    (sbatch / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition: cpu' >&2; exit 1\n")
    with pytest.raises(UserError, match=r"does not take the array \(invalid partition: cpu\); .*SBATCH_PARTITION"):
        prepare(source, tmp_path / "out", last=Step.AUDIO, options=OPTIONS, executor=Executor.SLURM)


def test_what_a_task_says_is_told(tmp_path: Path, write_sound, sbatch: Path) -> None:
    source = write_corpus(tmp_path / "in", write_sound, clips=1)
    (sbatch / "sbatch").write_text(
        "#!/bin/bash\n"
        "echo 7; for each; do case $each in --output=*) log=${each#--output=};; esac; done\n"
        "echo 'no room' > ${log%%%a.log}0.log; exit 1\n"
    )
    with pytest.raises(UserError, match=r"was not made \(no room\)"):
        prepare(source, tmp_path / "out", last=Step.AUDIO, options=OPTIONS, executor=Executor.SLURM)


def test_without_slurm_it_is_one_line(tmp_path: Path, write_sound, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_corpus(tmp_path / "in", write_sound, clips=1)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"there is no sbatch here; .*--executor local"):
        prepare(source, tmp_path / "out", last=Step.AUDIO, options=OPTIONS, executor=Executor.SLURM)
