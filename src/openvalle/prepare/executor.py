"""Work in units: each is done once, by one of several processes, and survives a stop at any moment.

A unit's result is the file `unit-00012.jsonl`, written atomically after everything it refers to. Its first line
holds a digest of the unit's input and settings, so a unit is redone exactly when one of them changed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from openvalle.data.shards import Row, read_rows, write_rows
from openvalle.errors import ModelError, UserError
from openvalle.stop import serve_parent

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]  # step, utterances done, utterances in all
UNIT = 64  # utterances in a unit: what a killed process loses at most

Work = Callable[[int, list[Row]], tuple[list[Row], list[Row]]]
"""(unit number, rows) -> (rows kept, rows rejected as {"id", "reason"}); writes its own payload files."""


@dataclass(frozen=True)
class Task:
    """One unit of a step: its number, input rows and the digest of both with the settings."""

    number: int
    rows: list[Row]
    digest: str
    path: Path

    def is_done(self) -> bool:
        """Return True if the result on disk belongs to this input and these settings."""
        try:
            return self.path.is_file() and read_rows(self.path)[0]["digest"] == self.digest
        except (ModelError, IndexError, KeyError):
            return False

    def finish(self, kept: list[Row], rejected: list[Row]) -> None:
        """Write the unit's result; from here on it is done."""
        write_rows(self.path, [{"digest": self.digest, "kept": len(kept)}, *kept, *rejected])

    def result(self) -> tuple[list[Row], list[Row]]:
        """Return the kept and the rejected rows."""
        header, *rows = read_rows(self.path)
        return rows[: header["kept"]], rows[header["kept"] :]


@dataclass(frozen=True)
class Result:
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
) -> Result:
    """Do every unit of a step that is not done yet; write and return its `index.jsonl` and `rejected.jsonl`.

    `build` makes the work function once in each process (spawned, so it must pickle) and may load models.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    tasks = list(_tasks(folder, rows, settings, unit))
    todo = [task for task in tasks if not task.is_done()]
    done = len(rows) - sum(len(task.rows) for task in todo)
    log.info("%s: %d of %d utterances are already done", folder.name, done, len(rows))
    if todo:
        # An index must never point into payload files that are being replaced.
        (folder / "index.jsonl").unlink(missing_ok=True)
    for task in _run(build, todo, jobs):
        done += len(task.rows)
        if progress:
            progress(folder.name, done, len(rows))
    with writing(folder):
        return _merge(folder, tasks)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission into one clear line."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write to {folder} ({error.strerror or error})",
            "check the permissions and the free space; what is done is kept",
        ) from None


def _do(work: Work, task: Task) -> None:
    with writing(task.path.parent):
        task.finish(*work(task.number, task.rows))


def _tasks(folder: Path, rows: Sequence[Row], settings: dict[str, Any], unit: int) -> Iterator[Task]:
    for number, start in enumerate(range(0, len(rows), unit)):
        part = list(rows[start : start + unit])
        text = json.dumps([settings, part], sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        yield Task(number, part, digest, folder / f"unit-{number:05d}.jsonl")


def _merge(folder: Path, tasks: list[Task]) -> Result:
    kept: list[Row] = []
    rejected: list[Row] = []
    for task in tasks:
        more, lost = task.result()
        kept += more
        rejected += lost
    write_rows(folder / "rejected.jsonl", rejected)
    write_rows(folder / "index.jsonl", kept)
    log.info("%s: %d utterances kept, %d rejected", folder.name, len(kept), len(rejected))
    return Result(kept, rejected)


def _run(build: Callable[[], Work], tasks: list[Task], jobs: int) -> Iterator[Task]:
    if jobs > 1 and len(tasks) > 1:
        yield from _Pool(build, tasks, min(jobs, len(tasks))).run()
    elif tasks:
        work = build()
        for task in tasks:
            _do(work, task)
            yield task


def _serve(build: Callable[[], Work], connection: Connection) -> None:
    """Body of a worker process: take tasks until None comes."""
    serve_parent()
    try:
        work = build()
        connection.send(None)
        while (task := connection.recv()) is not None:
            _do(work, task)
            connection.send(None)
    except UserError as error:
        connection.send(UserError(error.what, error.hint))  # its subclasses may not unpickle
    except EOFError:
        pass  # the parent stopped; what is unfinished stays undone


class _Pool:
    """Spawned worker processes; one that dies is replaced and its unit tried once more."""

    def __init__(self, build: Callable[[], Work], tasks: list[Task], jobs: int) -> None:
        self._build = build
        self._context = multiprocessing.get_context("spawn")
        self._queue = deque(tasks)
        self._retried: set[int] = set()
        self._workers: dict[Connection, tuple[Any, Task | None]] = {}
        self._jobs = jobs

    def run(self) -> Iterator[Task]:
        """Yield the tasks as they are finished."""
        try:
            for _ in range(self._jobs):
                self._start()
            while self._workers:
                for connection in wait(list(self._workers)):
                    assert isinstance(connection, Connection)
                    finished = self._answer(connection)
                    if finished:
                        yield finished
        finally:
            for connection, (process, _) in self._workers.items():
                connection.close()
                process.terminate()
                process.join()

    def _start(self) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(self._build, theirs), daemon=True)
        process.start()
        theirs.close()
        self._workers[ours] = (process, None)

    def _answer(self, connection: Connection) -> Task | None:
        process, task = self._workers[connection]
        try:
            error = connection.recv()
        except (EOFError, OSError):
            self._replace(connection)
            return None
        if error is not None:
            raise error
        following = self._queue.popleft() if self._queue else None
        self._workers[connection] = (process, following)
        connection.send(following)
        if following is None:
            del self._workers[connection]
            process.join()
        return task

    def _replace(self, connection: Connection) -> None:
        process, task = self._workers.pop(connection)
        process.join()
        if task is None or task.number in self._retried:
            what = f"unit {task.number} ({task.rows[0]['id']} and following)" if task else "its models"
            raise UserError(
                f"a worker process died with exit code {process.exitcode} while it was at {what}",
                "the log above may say why (out of memory?); run the same command again to go on",
            )
        log.warning("a worker died with exit code %s at unit %d; trying again", process.exitcode, task.number)
        self._retried.add(task.number)
        self._queue.appendleft(task)
        self._start()
