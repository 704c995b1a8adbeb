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
from openvalle.prepare.steps import Step

SBATCH = """#!{python}
# As Slurm does: reads the array from the script, runs its tasks as processes, ends when they have.
import os, re, signal, subprocess, sys
from pathlib import Path

assert sys.argv[1] == "--wait", sys.argv
script = Path(sys.argv[2]).read_text()
first, last, most = map(int, re.search(r"#SBATCH --array=(\\d+)-(\\d+)%(\\d+)", script).groups())
log = re.search(r'#SBATCH --output="(.*)"', script)[1]
here = Path(__file__).parent
(here / "calls").open("a").write(f"{{first}}-{{last}}%{{most}}\\n")
failed = 0
for task in range(first, last + 1):
    if task == 1 and (here / "lose").exists():
        (here / "lose").unlink()  # a node is gone, and the task that it was at
        failed = 1
        continue
    with open(log.replace("%a", str(task)), "w") as out:
        environment = os.environ | {{"SLURM_ARRAY_TASK_ID": str(task)}}
        failed |= subprocess.run(["bash", sys.argv[2]], stdout=out, stderr=out, env=environment).returncode
sys.exit(failed)
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
    out = tmp_path / "there"
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
    there = {name: data for name, data in read_bytes(out).items() if not name.startswith("slurm/")}
    assert there == read_bytes(tmp_path / "here")
    prepare(source, out, last=Step.AUDIO, options=options, executor=Executor.SLURM)
    assert len((sbatch / "calls").read_text().split()) == 2, "there was nothing to do"


def test_what_a_task_says_is_told(tmp_path: Path, write_sound, sbatch: Path) -> None:
    source = write_corpus(tmp_path / "in", write_sound, clips=1)
    (sbatch / "sbatch").write_text(
        "#!/bin/bash\n"
        "log=$(sed -n 's/#SBATCH --output=\"\\(.*\\)%a.*/\\1/p' $2)\n"
        "echo 'no room' > ${log}0.log; exit 1\n"
    )
    with pytest.raises(UserError, match=r"was not made \(no room\)"):
        prepare(source, tmp_path / "out", last=Step.AUDIO, options=OPTIONS, executor=Executor.SLURM)


def test_without_slurm_it_is_one_line(tmp_path: Path, write_sound, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_corpus(tmp_path / "in", write_sound, clips=1)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"there is no sbatch here; .*--executor local"):
        prepare(source, tmp_path / "out", last=Step.AUDIO, options=OPTIONS, executor=Executor.SLURM)
