"""Work in units: each is done once, by one of several processes, and survives a stop at any moment.

A unit's result is the file `unit-00012.jsonl`, written atomically after everything it refers to. Its first line
holds a digest of the unit's input and settings, so a unit is redone exactly when one of them changed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from openvalle.config import write_json_lines
from openvalle.data.shards import Row, read_rows
from openvalle.errors import AudioError, ModelError, TextError, UserError
from openvalle.parallel import run_units
from openvalle.prepare.perf import Measured, write_perf

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]  # step, utterances done, utterances in all
UNIT = 64  # utterances in a unit: what a killed process loses at most

Made = TypeVar("Made")
Work = Callable[[int, list[Row]], tuple[list[Row], list[Row]]]
"""(unit number, rows) -> (rows kept, rows rejected as {"id", "reason"}); writes its own payload files."""


@dataclass(frozen=True)
class WorkUnit:
    """One unit of a step: its number, input rows and the digest of both with the settings."""

    number: int
    rows: list[Row]
    digest: str
    path: Path

    def __str__(self) -> str:
        return f"unit {self.number} ({self.rows[0]['id']} and following)"

    def is_done(self) -> bool:
        """Return True if the result on disk belongs to this input and these settings."""
        try:
            return self.path.is_file() and read_rows(self.path)[0]["digest"] == self.digest
        except (ModelError, IndexError, KeyError):
            return False


@dataclass(frozen=True)
class StepResult:
    """What a step made: the rows that go on and the rows that were left out, with reasons."""

    kept: list[Row]
    rejected: list[Row]


def run_step(
    folder: Path,
    rows: Sequence[Row],
    build: Callable[[], Work],
    settings: dict[str, Any],
    jobs: int = 1,
    unit: int = UNIT,
    progress: Progress | None = None,
) -> StepResult:
    """Do every unit of a step that is not done yet; write and return its `index.jsonl` and `rejected.jsonl`.

    `build` makes the work function once in each process (spawned, so it must pickle) and may load models.
    """
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    tasks = list(_tasks(folder, rows, settings, unit))
    todo = [task for task in tasks if not task.is_done()]
    done = len(rows) - sum(len(task.rows) for task in todo)
    log.info("%s: %d of %d utterances are already done", folder.name, done, len(rows))
    if todo:
        # An index must never point into payload files that are being replaced.
        (folder / "index.jsonl").unlink(missing_ok=True)
    before, measured, started = done, Measured(), time.monotonic()
    for number, cpu in run_units(partial(_build, build), todo, jobs):
        rows_done = todo[number].rows
        done += len(rows_done)
        measured += Measured(len(rows_done), sum(row.get("seconds", 0.0) for row in rows_done), cpu)
        if progress:
            progress(folder.name, done, len(rows))
    kept: list[Row] = []
    rejected: list[Row] = []
    for task in tasks:
        header, *found = read_rows(task.path)
        kept += found[: header["kept"]]
        rejected += found[header["kept"] :]
    with explain_write_errors(folder):
        write_json_lines(folder / "rejected.jsonl", rejected)
        write_json_lines(folder / "index.jsonl", kept)
        measured = replace(measured, wall_seconds=time.monotonic() - started if todo else 0.0)
        write_perf(folder, measured, kept, rejected, goes_on=before > 0)
    log.info("%s: %d utterances kept, %d rejected", folder.name, len(kept), len(rejected))
    return StepResult(kept, rejected)


def try_each(rows: Sequence[Row], do: Callable[[int, Row], Made]) -> tuple[list[tuple[Row, Made]], list[Row]]:
    """Return the rows that could be done with what was made of each, and the others with the reason.

    `do` takes a row's number, too.
    """
    done, rejected = [], []
    for index, row in enumerate(rows):
        try:
            done.append((row, do(index, row)))
        except (AudioError, TextError) as error:
            rejected.append({"id": row["id"], "reason": str(error)})
    return done, rejected


@contextmanager
def explain_write_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission into one clear line."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write to {folder} ({error.strerror or error})",
            "check the permissions and the free space; what is done is kept",
        ) from None


def _build(build: Callable[[], Work]) -> Callable[[WorkUnit], float]:
    return partial(_do, build())


def _do(work: Work, task: WorkUnit) -> float:
    """Do a unit; return the seconds of the processor that it took."""
    started = time.process_time()
    with explain_write_errors(task.path.parent):
        kept, rejected = work(task.number, task.rows)
        write_json_lines(task.path, [{"digest": task.digest, "kept": len(kept)}, *kept, *rejected])  # now it is done
    return time.process_time() - started


def _tasks(folder: Path, rows: Sequence[Row], settings: dict[str, Any], unit: int) -> Iterator[WorkUnit]:
    for number, start in enumerate(range(0, len(rows), unit)):
        part = list(rows[start : start + unit])
        text = json.dumps([settings, part], sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        yield WorkUnit(number, part, digest, folder / f"unit-{number:05d}.jsonl")
