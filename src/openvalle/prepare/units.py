"""Units: about an hour of a step's rows, done once, named by the digest of what they are made of.

    STEP/ab/abcd.../rows.jsonl   a line about the unit, the rows that go on, the rows that were left out
    STEP/ab/abcd.../audio.npy    what the rows refer to, as the step wants it
    STEP/ab/abcd.../cost.json    what it cost: all that differs between two runs

A unit's folder appears whole or not at all, so a stop at any moment loses the units that were being made and nothing
else, and two processes that make the same one, on one machine or on two, do no harm: their bytes are the same.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from openvalle.config import BadLine, Config, json_line, json_lines
from openvalle.data.shards import Row
from openvalle.errors import AudioError, ModelError, TextError, UserError
from openvalle.files import atomic_folder
from openvalle.prepare.perf import Measurement

ROWS, COST = "rows.jsonl", "cost.json"
FORMAT = 1  # of a unit; part of its name
SECONDS = 3600.0  # of sound in a unit of a large corpus
FEWEST, SHORTEST = 16, 60.0  # units that a small corpus has, if they are as long as this
ENDS = 8  # one row in so many may end a unit

Made = TypeVar("Made")


@dataclass(frozen=True)
class Unit:
    """A unit that is done: `folder` of its files, the id of its first row; `seconds` are of the rows that go on.

    `content`: digest of the rows that go on, all that the next step reads.
    """

    folder: Path
    first: str
    kept: int
    rejected: int
    seconds: float
    content: str

    def rows(self) -> Iterator[Row]:
        """Yield the rows that go on; `ModelError` if their file is damaged."""
        return islice(self._lines(), 1, 1 + self.kept)

    def lines(self) -> Iterator[bytes]:
        """Yield the rows that go on as they are written."""
        with (self.folder / ROWS).open("rb") as file:
            yield from islice(file, 1, 1 + self.kept)

    def list_left_out(self) -> Iterator[Row]:
        """Yield the rows that were left out, as {"id", "reason"}."""
        return islice(self._lines(), 1 + self.kept, None)

    def cost(self) -> Measurement:
        """Return what it cost; nothing where that was lost."""
        try:
            return Measurement(**json.loads((self.folder / COST).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return Measurement()

    def _lines(self) -> Iterator[Row]:
        path = self.folder / ROWS
        try:
            with path.open(encoding="utf-8") as file:
                yield from (row for _, row in json_lines(file))
        except BadLine as error:
            raise ModelError(f"{path} is damaged at line {error.number}", "remove its folder, prepare again") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"cannot read {path} ({error})", "run `openvalle prepare` again") from None


def read_unit(folder: Path) -> Unit | None:
    """Return the unit in a folder; None unless all its files are there, as long as they were when it was made."""
    try:
        with (folder / ROWS).open(encoding="utf-8") as file:
            about = json.loads(file.readline())
        whole = all((folder / name).stat().st_size == size for name, size in about["files"].items())
        rows = (folder / ROWS).stat().st_size == len(json_line(about).encode()) + about["bytes"]
        values = {key: about[key] for key in ("first", "kept", "rejected", "seconds", "content")}
        return Unit(folder, **values) if whole and rows else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


class UnitTask(Config):
    """A unit that is to be made: all that has to travel to whoever makes it.

    `source`: the folder of the unit of the step before; `name`: its own, below the folder of the step; `rows`,
    `seconds` and `first` (an id) of what it reads; `before`: an earlier unit of the same rows, which may be reused.
    """

    source: Path
    name: str
    first: str
    rows: int
    seconds: float
    before: Path | None = None

    def __str__(self) -> str:
        return f"unit {self.name} ({self.first} and following)"


@dataclass(frozen=True)
class Target:
    """Where the files of a unit go: `folder` while it is made; rows call it `name`, below the folder of the step."""

    folder: Path
    name: str
    before: Path | None = None


Work = Callable[[Target, list[Row]], tuple[list[Row], list[Row]]]
"""(where to, rows) -> (rows that go on, rows left out as {"id", "reason"}); writes what they refer to."""


def make_tasks(step: Path, sources: Sequence[Unit], settings: Any, before: dict[str, Path]) -> list[UnitTask]:
    """Return what a step has to do for the units of the step before; `before`: its own earlier units by first row."""
    tasks = []
    for unit in sources:
        text = json.dumps([FORMAT, step.name, settings, unit.content], sort_keys=True, ensure_ascii=False)
        name = name_unit(hashlib.sha256(text.encode()).hexdigest())
        earlier = before.get(unit.first)
        tasks.append(
            UnitTask(
                source=unit.folder,
                name=name,
                first=unit.first,
                rows=unit.kept,
                seconds=unit.seconds,
                before=None if earlier == step / name else earlier,
            )
        )
    return tasks


def name_unit(digest: str) -> str:
    """Return the place of a unit below its step: folders that hold a few hundred names each."""
    return f"{digest[:2]}/{digest[:32]}"


def do_task(work: Work, step: Path, task: UnitTask) -> None:
    """Make a unit, unless it is there; `UserError` where it cannot be written."""
    place = step / task.name
    if read_unit(place) is not None:
        return
    began, clock = time.process_time(), time.monotonic()
    source = read_unit(task.source)
    if source is None:
        raise ModelError(f"{task.source} is damaged", "run `openvalle prepare` again: it makes it anew")
    with explain_write_errors(step), new_unit(place) as part:
        kept, rejected = work(Target(part, task.name, task.before), list(source.rows()))
        write_rows(part, task.first, kept, rejected)
        cost = Measurement(task.rows, task.seconds, time.process_time() - began, time.monotonic() - clock)
        (part / COST).write_text(json.dumps(vars(cost)), encoding="utf-8")


@contextmanager
def new_unit(place: Path) -> Iterator[Path]:
    """Yield a folder that becomes the unit at `place`; nothing happens where another process was quicker."""
    with suppress(FileExistsError), atomic_folder(place, replace=place.exists()) as part:
        yield part


def write_rows(folder: Path, first: str, kept: Sequence[Row], rejected: Sequence[Row]) -> None:
    """Write the rows of a unit, whose other files are in its folder already."""
    going, left = "".join(map(json_line, kept)).encode(), "".join(map(json_line, rejected)).encode()
    about = {
        "first": first,
        "kept": len(kept),
        "rejected": len(rejected),
        "seconds": round(sum(row.get("seconds", 0.0) for row in kept), 4),
        "content": hashlib.blake2b(going, digest_size=16).hexdigest(),
        "bytes": len(going) + len(left),
        "files": {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
    }
    (folder / ROWS).write_bytes(json_line(about).encode() + going + left)


def unit_seconds(total: float) -> float:
    """Return how long the units of a corpus of so many seconds are: an hour, or less so that a small one has several.

    An hour is halved a few times, so that a corpus that grows a little keeps its units.
    """
    seconds = SECONDS
    while seconds > total / FEWEST and seconds / 2 >= SHORTEST:
        seconds /= 2
    return seconds


def group_rows(rows: Iterable[Row], seconds: float) -> Iterator[list[Row]]:
    """Yield the rows in groups of about so many seconds, in their order.

    Where a group ends depends, within a quarter of its length, on the ids of the rows alone: a row that is added or
    taken away changes its own group and seldom more than the next.
    """
    group: list[Row] = []
    total = 0.0
    for row in rows:
        may_end = int.from_bytes(hashlib.blake2b(str(row["id"]).encode(), digest_size=2).digest()) % ENDS == 0
        if group and (total >= 1.25 * seconds or (total >= 0.75 * seconds and may_end)):
            yield group
            group, total = [], 0.0
        group.append(row)
        total += row["seconds"]
    if group:
        yield group


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
