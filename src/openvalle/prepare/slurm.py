"""Units by Slurm: an array of tasks for each step, which `sbatch --wait` runs; each does its share of the units.

In OUT/slurm/STEP lie the job (`job.json`), the units (`tasks.jsonl`), the script and what the tasks said. Partition,
time, memory and account are those of Slurm's own variables ($SBATCH_PARTITION, $SBATCH_TIMELIMIT ...). All machines
have to see the folder, the sounds and this environment under the same names.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from openvalle.config import json_line
from openvalle.errors import ConfigError, UserError
from openvalle.files import write_text
from openvalle.prepare.executor import Build
from openvalle.prepare.steps import STEPS, StepJob
from openvalle.prepare.units import Task, do_task, read_unit

MOST = 1000  # tasks of an array: Slurm's MaxArraySize is 1,001 where nobody changed it
ROUNDS = 3  # times that units are given out whose task or node was lost
LOOK_SECONDS = 1.0  # between two looks at what is done


def run_on_slurm(jobs: int, build: Build, step: Path, tasks: Sequence[Task]) -> Iterator[int]:
    """Yield the number of each task as it is done, `jobs` tasks of an array at a time.

    `UserError` if there is no Slurm or a unit is not made in `ROUNDS` rounds.
    """
    assert isinstance(build, StepJob), build
    folder = build.out / "slurm" / step.name
    waiting = list(range(len(tasks)))
    for _ in range(ROUNDS):
        _write(folder, jobs, build, [tasks[number] for number in waiting])
        with _submit(folder) as process:
            while True:
                is_over = _has_ended(process)
                done = [number for number in waiting if read_unit(step / tasks[number].name) is not None]
                yield from done
                waiting = [number for number in waiting if number not in done]
                if is_over:
                    break
        if not waiting:
            return
    raise UserError(f"{tasks[waiting[0]]} was not made ({_last_words(folder)})", f"see the logs in {folder}")


def _write(folder: Path, jobs: int, job: StepJob, tasks: Sequence[Task]) -> None:
    """Write what a step's array needs."""
    count = min(MOST, len(tasks))
    for log in folder.glob("*.log"):
        log.unlink()
    write_text(folder / "job.json", job.model_dump_json(indent=1) + "\n")
    write_text(folder / "tasks.jsonl", "".join(json_line(task.model_dump(mode="json")) for task in tasks))
    on_gpu = STEPS[job.step].gpu and job.device.startswith("cuda")
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name=openvalle-{job.step}",
        f"#SBATCH --array=0-{count - 1}%{jobs}",
        "#SBATCH --ntasks=1",
        *(["#SBATCH --gpus-per-task=1"] if on_gpu else []),
        "#SBATCH --requeue",
        f'#SBATCH --output="{folder}/%a.log"',
        f"exec {shlex.quote(sys.executable)} -m openvalle.prepare.slurm {shlex.quote(str(folder))} \\",
        f'  "$SLURM_ARRAY_TASK_ID" {count}',
    ]
    write_text(folder / "array.sbatch", "\n".join(lines) + "\n")


def _submit(folder: Path) -> subprocess.Popen[bytes]:
    """Start `sbatch`, which ends when all tasks of the array have."""
    try:
        return subprocess.Popen(
            ["sbatch", "--wait", str(folder / "array.sbatch")], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise ConfigError("there is no sbatch here", "run this where Slurm is, or use --executor local") from None


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _last_words(folder: Path) -> str:
    """Return what a task said last."""
    for log in sorted(folder.glob("*.log")):
        if lines := log.read_text(encoding="utf-8", errors="replace").strip().splitlines():
            return lines[-1][:300]
    return "no task said anything"


def be_task(folder: Path, number: int, count: int) -> None:
    """Do the units of the task `number` of an array of `count`."""
    job = StepJob.load(folder / "job.json")
    lines = (folder / "tasks.jsonl").read_text(encoding="utf-8").splitlines()
    work, step = job(), job.out / job.step
    for line in lines[number::count]:
        do_task(work, step, Task.model_validate_json(line))


if __name__ == "__main__":
    try:
        be_task(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    except UserError as problem:
        sys.exit(str(problem))
