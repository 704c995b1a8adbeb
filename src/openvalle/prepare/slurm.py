"""Units by Slurm: an array of tasks for each step, which `sbatch --wait` runs; each does its share of the units.

In OUT/slurm/STEP lie the job (`job.json`), the units (`tasks.jsonl`), the script and what the tasks said. Partition,
time, memory and account are those of Slurm's own variables ($SBATCH_PARTITION, $SBATCH_TIMELIMIT ...), which stand
above what the script says and below the command line: there is what must not be changed. All machines have to see the
folder, the sounds and this environment under the same names.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from openvalle.config import json_line
from openvalle.errors import ConfigError, UserError
from openvalle.files import write_text
from openvalle.prepare.executor import Build
from openvalle.prepare.steps import STEPS, StepJob
from openvalle.prepare.units import UnitTask, do_task, read_unit
from openvalle.stop import unwind_on_signal

log = logging.getLogger(__name__)

MOST = 1000  # tasks of an array: Slurm's MaxArraySize is 1,001 where nobody changed it
TASKS_EACH = 4  # for each that runs at a time: the last ones end together, and no more are asked for than that
ROUNDS = 3  # arrays one after the other that make no unit, after which nobody tries any longer
LOOK_SECONDS = 10.0  # between two looks at what is done: a file system of many machines is not asked more often
SETTLE_SECONDS = 90.0  # after which one machine sees what another one wrote (NFS: 60 at most by itself)


def run_on_slurm(jobs: int, build: Build, step: Path, tasks: Sequence[UnitTask]) -> Iterator[int]:
    """Yield the number of each task as it is done, `jobs` tasks of an array at a time.

    Units whose task or node was lost, or ran out of time, are given out again, as long as that gets on. `UserError` if
    there is no Slurm, if it takes no array, or if `ROUNDS` arrays make nothing.
    """
    assert isinstance(build, StepJob), build
    folder = build.out / "slurm" / step.name
    waiting = dict(enumerate(tasks))
    idle, most = 0, _largest_array()
    while waiting:
        count = min(most, len(waiting), TASKS_EACH * jobs)
        _write(folder, build, list(waiting.values()))
        before = len(waiting)
        with _submit(folder, _options(folder, count, jobs), count) as array:
            while True:
                is_over = array.has_ended(LOOK_SECONDS)
                yield from _take_done(step, waiting)
                if is_over:
                    break
            settled = time.monotonic() + SETTLE_SECONDS
            while waiting and array.process.returncode == 0 and time.monotonic() < settled:
                time.sleep(min(LOOK_SECONDS, SETTLE_SECONDS))
                yield from _take_done(step, waiting)
        idle = idle + 1 if len(waiting) == before else 0
        if idle == ROUNDS:
            (task, *_) = waiting.values()
            raise UserError(f"{task} was not made ({_last_words(folder)})", f"see the logs in {folder}")
        if waiting:
            log.warning("%d units were not made (%s); they are given out again", len(waiting), _last_words(folder))


def _take_done(step: Path, waiting: dict[int, UnitTask]) -> list[int]:
    """Return the numbers of the tasks that are done now, and take them out of `waiting`. Folders are listed, so that
    what is not there is not asked for one by one."""
    there: set[str] = set()
    for folder in step.iterdir() if step.is_dir() else ():
        if len(folder.name) == 2:
            with suppress(OSError):
                there.update(f"{folder.name}/{name}" for name in os.listdir(folder))
    done = [
        number for number, task in waiting.items() if task.name in there and read_unit(step / task.name) is not None
    ]
    for number in done:
        del waiting[number]
    return done


def _largest_array() -> int:
    """Return how many tasks an array may have here, as far as Slurm says so.

    `MaxArraySize` is one more than the largest number of a task; `max_array_tasks`, one of the scheduler's parameters,
    is how many there may be.
    """
    with suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, timeout=60, check=False)
        size = re.search(r"^MaxArraySize\s*=\s*(\d+)", said.stdout, re.M)
        most = re.search(r"^SchedulerParameters\s*=.*\bmax_array_tasks=(\d+)", said.stdout, re.M)
        return max(1, min([MOST, *([int(size[1]) - 1] if size else []), *([int(most[1])] if most else [])]))
    return MOST


def _write(folder: Path, job: StepJob, tasks: Sequence[UnitTask]) -> None:
    """Write what a step's array needs."""
    folder.mkdir(parents=True, exist_ok=True)
    for log_file in folder.glob("*.log"):
        log_file.unlink()
    write_text(folder / "job.json", job.model_dump_json(indent=1) + "\n")
    write_text(folder / "tasks.jsonl", "".join(json_line(task.model_dump(mode="json")) for task in tasks))
    on_gpu = STEPS[job.step].gpu and job.device.startswith("cuda")
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name=openvalle-{job.step}",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks=1",
        *(["#SBATCH --gpus-per-task=1"] if on_gpu else []),
        "#SBATCH --requeue",
        f"exec {shlex.quote(sys.executable)} -m openvalle.prepare.slurm {shlex.quote(str(folder))} \\",
        '  "$SLURM_ARRAY_TASK_ID" "$1"',
    ]
    write_text(folder / "array.sbatch", "\n".join(lines) + "\n")


def _options(folder: Path, count: int, jobs: int) -> list[str]:
    """Return what no variable of Slurm may change."""
    if "\\" in str(folder):
        raise ConfigError(f"Slurm cannot write below {folder}: a backslash means something else to it", "rename it")
    logs = f"{str(folder).replace('%', '%%')}/%a.log"  # a sign of percent alone stands for something else
    places = [f"--output={logs}", f"--error={logs}"]
    # appended: what a task said before its node was lost stays
    return [f"--array=0-{count - 1}%{jobs}", *places, "--open-mode=append", "--export=ALL"]


@dataclass(frozen=True)
class Array:
    """The `sbatch` that ends when all tasks of its array have, and the file where it tells the array's number."""

    process: subprocess.Popen[bytes]
    told: Path

    def wait_for_number(self) -> str:
        """Return the number, and the cluster after a semicolon if there are several; "" if Slurm does not take it."""
        while not (line := self.told.read_text(encoding="utf-8")).endswith("\n"):
            if self.has_ended(0.05):
                return self.told.read_text(encoding="utf-8").strip()
        return line.strip()

    def has_ended(self, seconds: float) -> bool:
        """Wait for so long; return whether all tasks have ended."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def cancel(self) -> None:
        """Take it away from Slurm, whoever waited for it being stopped."""
        number, _, cluster = self.wait_for_number().partition(";")
        if number and self.process.poll() is None:
            where = [f"--clusters={cluster}"] if cluster else []
            with suppress(OSError, subprocess.SubprocessError):
                subprocess.run(["scancel", *where, number], timeout=60, check=False, stdin=subprocess.DEVNULL)
            self.process.terminate()
        self.process.wait()


@contextmanager
def _submit(folder: Path, options: Sequence[str], count: int) -> Iterator[Array]:
    """Yield the array, which is taken away again if this process is stopped before it has ended."""
    command = ["sbatch", "--wait", "--parsable", *options, str(folder / "array.sbatch"), str(count)]
    told, said = folder / "sbatch.out", folder / "sbatch.err"
    with unwind_on_signal(), told.open("wb") as out, said.open("wb") as errors:
        try:
            # in a session of its own: Ctrl-C ends it by us alone, who then know whether there is something to cancel
            process = subprocess.Popen(
                command, stdout=out, stderr=errors, stdin=subprocess.DEVNULL, start_new_session=True
            )
        except FileNotFoundError:
            raise ConfigError("there is no sbatch here", "run this where Slurm is, or use --executor local") from None
        array = Array(process, told)
        try:
            if not array.wait_for_number():
                raise _refused(said, process.returncode)
            yield array
        finally:
            if process.poll() is None:
                array.cancel()


def _refused(said: Path, code: int) -> UserError:
    """Return what to tell of an array that Slurm does not take."""
    lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in lines]
    hint = "set what this cluster wants: SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_TIMELIMIT ... (man sbatch)"
    return UserError(f"Slurm does not take the array ({lines[-1][:300] if lines else f'exit code {code}'})", hint)


def _last_words(folder: Path) -> str:
    """Return what a task said last."""
    for log_file in sorted(folder.glob("*.log")):
        if lines := log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines():
            return lines[-1][:300]
    return "no task said anything"


def be_task(folder: Path, number: int, count: int) -> None:
    """Do the units of the task `number` of an array of `count`."""
    job = StepJob.load(folder / "job.json")
    lines = (folder / "tasks.jsonl").read_text(encoding="utf-8").splitlines()
    work, step = job(), job.out / job.step
    for line in lines[number::count]:
        do_task(work, step, UnitTask.model_validate_json(line))


if __name__ == "__main__":
    try:
        be_task(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    except UserError as problem:
        sys.exit(str(problem))
