"""A step over all its units: what is not done yet is done by an executor, then the units are put together.

`--executor` chooses who does them: processes of this machine, a Ray cluster, or the tasks of a Slurm array. The units
and their bytes are the same.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from openvalle.config import json_line, write_json_lines
from openvalle.data.index_files import INDEX, ROWS, TEXTS
from openvalle.data.shards import Row, read_rows
from openvalle.errors import ModelError
from openvalle.files import atomic_path
from openvalle.leftovers import clear, is_unfinished
from openvalle.parallel import run_units
from openvalle.prepare.perf import PERF, write_perf
from openvalle.prepare.units import Unit, UnitTask, Work, do_task, explain_write_errors, make_tasks, read_unit

log = logging.getLogger(__name__)

UNITS, REJECTED = "units.jsonl", "rejected.jsonl"

Progress = Callable[[str, int, int], None]  # step, utterances done, utterances in all
Build = Callable[[], Work]
Execute = Callable[[Build, Path, Sequence[UnitTask]], Iterator[int]]
"""(what makes the work, the step's folder, tasks) -> the number of each task as it is done."""


class Executor(StrEnum):
    """Who does the units."""

    LOCAL = "local"  # processes of this machine
    RAY = "ray"  # a Ray cluster: $RAY_ADDRESS, else one that is started here
    SLURM = "slurm"  # the tasks of an array, by `sbatch`


@dataclass(frozen=True)
class StepResult:
    """What a step made: its units in their order, which hold the rows that go on and those left out."""

    folder: Path
    units: tuple[Unit, ...]

    @property
    def kept(self) -> int:
        """Utterances that go on."""
        return sum(unit.kept for unit in self.units)

    @property
    def rejected(self) -> int:
        """Utterances that were left out."""
        return sum(unit.rejected for unit in self.units)

    @property
    def seconds(self) -> float:
        """Length of what goes on."""
        return sum(unit.seconds for unit in self.units)

    def rows(self) -> Iterator[Row]:
        """Yield the rows that go on."""
        for unit in self.units:
            yield from unit.rows()

    def list_left_out(self) -> Iterator[Row]:
        """Yield the rows that were left out, as {"id", "reason"}."""
        for unit in self.units:
            yield from unit.list_left_out()


def run_local(jobs: int, build: Build, step: Path, tasks: Sequence[UnitTask]) -> Iterator[int]:
    """Do the tasks in `jobs` processes; `build` makes the work once in each, so it must pickle."""
    yield from (number for number, _ in run_units(partial(_prepare_work, build, step), tasks, jobs))


def _prepare_work(build: Build, step: Path) -> Callable[[UnitTask], None]:
    return partial(do_task, build(), step)


def run_step(
    step: Path,
    sources: Sequence[Unit],
    build: Build,
    settings: Any,
    execute: Execute | None = None,
    progress: Progress | None = None,
    device: str = "cpu",
    tell: Callable[[], None] | None = None,
) -> StepResult:
    """Do what is not done yet of a step in the folder `step`, for the units of the step before; put it together.

    `settings`: all that its results depend on beside the rows, as JSON has it. `build`: makes the work. `device` and
    `tell` are for `join_units`.
    """
    with explain_write_errors(step):
        step.mkdir(parents=True, exist_ok=True)
    tasks = make_tasks(step, [unit for unit in sources if unit.kept], settings, _earlier(step))
    todo = [task for task in tasks if read_unit(step / task.name) is None]
    total = sum(task.rows for task in tasks)
    done = total - sum(task.rows for task in todo)
    log.info("%s: %d of %d utterances are already done", step.name, done, total)
    for number in (execute or partial(run_local, 1))(build, step, todo) if todo else ():
        done += todo[number].rows
        if progress:
            progress(step.name, done, total)
    units = []
    for task in tasks:
        unit = read_unit(step / task.name)
        if unit is None:
            raise ModelError(f"{task} is not there", "run the same command again: it goes on from here")
        units.append(unit)
    result = StepResult(step, tuple(units))
    join_units(result, device, tell)
    log.info("%s: %d utterances kept, %d rejected", step.name, result.kept, result.rejected)
    return result


def join_units(result: StepResult, device: str = "cpu", tell: Callable[[], None] | None = None) -> None:
    """Write a step's lists from its units, unless they are of these units already, and remove what belongs to none.

    `tell` writes what else has to be known of the rows, before they are listed.
    """
    step = result.folder
    listed = "".join(json_line({"unit": _name(unit), "first": unit.first}) for unit in result.units)
    names = (UNITS, REJECTED, ROWS, PERF)
    with explain_write_errors(step):
        if not all((step / name).is_file() for name in names) or (step / UNITS).read_text("utf-8") != listed:
            # What was made of other rows counts for nothing from here on, whatever stops this.
            for name in (UNITS, ROWS, INDEX, TEXTS):
                (step / name).unlink(missing_ok=True)
            if tell:
                tell()
            write_json_lines(step / REJECTED, result.list_left_out())
            costs = (unit.cost() for unit in result.units)
            write_perf(step, costs, result.kept, result.seconds, result.list_left_out(), device)
            _copy_rows(result.units, step / ROWS)
            with atomic_path(step / UNITS) as part:
                part.write_text(listed, encoding="utf-8")
        _sweep(step, {_name(unit) for unit in result.units})


def _name(unit: Unit) -> str:
    return f"{unit.folder.parent.name}/{unit.folder.name}"


def _copy_rows(units: Sequence[Unit], path: Path) -> None:
    """Write the rows of all units that go on: lines as they are."""
    with atomic_path(path) as part, part.open("wb") as file:
        for unit in units:
            file.writelines(unit.lines())


def _earlier(step: Path) -> dict[str, Path]:
    """Return the units that a step had when it was last done, by the id of the first row of each."""
    with suppress(ModelError, KeyError, TypeError):
        return {row["first"]: step / row["unit"] for row in read_rows(step / UNITS)}
    return {}


def _sweep(step: Path, names: set[str]) -> None:
    """Remove units that are no longer wanted, and what killed processes left."""
    for folder in [path for path in step.iterdir() if path.is_dir() and len(path.name) == 2]:
        clear(folder)  # what is still being written, by a task that outlived its run, is not touched
        for unit in folder.iterdir():
            if f"{folder.name}/{unit.name}" not in names and not is_unfinished(unit.name):
                shutil.rmtree(unit, ignore_errors=True) if unit.is_dir() else unit.unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()  # if nothing is left
