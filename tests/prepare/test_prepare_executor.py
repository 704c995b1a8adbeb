"""Units are done once, whatever stops the run, and again exactly when their input or settings change."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from openvalle.data.shards import read_rows
from openvalle.errors import UserError
from openvalle.prepare.executor import run_step

ROWS = [{"id": str(number)} for number in range(20)]


@dataclass(frozen=True)
class Note:
    """Notes each unit done; rejects row 3; may die in a unit, always or once."""

    folder: Path
    die_in: int = -1
    always: bool = False

    def __call__(self, unit: int, rows: list[dict]) -> tuple[list[dict], list[dict]]:
        if unit == self.die_in and (self.always or not (self.folder / "died").exists()):
            (self.folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        with (self.folder / "log").open("a") as file:
            file.write(f"{unit}\n")
        kept = [row | {"unit": unit} for row in rows if row["id"] != "3"]
        return kept, [{"id": row["id"], "reason": "three"} for row in rows if row["id"] == "3"]


def _units(folder: Path) -> list[int]:
    path = folder / "log"
    units = [int(line) for line in path.read_text().split()] if path.exists() else []
    path.unlink(missing_ok=True)
    return units


def _build(folder: Path, **options: object) -> Note:
    return Note(folder, **options)


def _run(folder: Path, rows=ROWS, settings=None, jobs=1, build: Callable | None = None, **more):
    return run_step(folder / "step", rows, build or partial(_build, folder), settings or {}, jobs, 4, **more)


def test_every_row_is_kept_or_rejected_in_order(tmp_path):
    result = _run(tmp_path)
    assert [row["id"] for row in result.kept] == [row["id"] for row in ROWS if row["id"] != "3"]
    assert result.rejected == [{"id": "3", "reason": "three"}]
    assert read_rows(tmp_path / "step" / "index.jsonl") == result.kept
    assert read_rows(tmp_path / "step" / "rejected.jsonl") == result.rejected


def test_nothing_is_done_twice(tmp_path):
    first = _run(tmp_path)
    assert _units(tmp_path) == [0, 1, 2, 3, 4]
    assert _run(tmp_path) == first
    assert _units(tmp_path) == []


def test_changed_rows_and_settings_redo_their_units(tmp_path):
    _run(tmp_path)
    _units(tmp_path)
    changed = [row | {"text": "new"} if row["id"] == "9" else row for row in ROWS]
    _run(tmp_path, changed)
    assert _units(tmp_path) == [2]
    _run(tmp_path, [*changed, {"id": "20"}])
    assert _units(tmp_path) == [5]
    _run(tmp_path, changed, {"level": 1})
    assert _units(tmp_path) == [0, 1, 2, 3, 4]


def test_a_damaged_unit_is_redone(tmp_path):
    _run(tmp_path)
    _units(tmp_path)
    path = tmp_path / "step" / "unit-00001.jsonl"
    path.write_bytes(path.read_bytes()[:10])
    _run(tmp_path)
    assert _units(tmp_path) == [1]


def test_progress_counts_every_row_once(tmp_path):
    calls = []
    _run(tmp_path, progress=lambda *call: calls.append(call))
    assert calls == [("step", done, 20) for done in (4, 8, 12, 16, 20)]


def test_several_processes_give_the_same_result(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    alone = _run(tmp_path / "a")
    together = _run(tmp_path / "b", jobs=2)
    assert together == alone
    assert sorted(_units(tmp_path / "b")) == [0, 1, 2, 3, 4]


def test_a_worker_that_dies_is_replaced_and_its_unit_tried_again(tmp_path):
    result = _run(tmp_path, jobs=2, build=partial(_build, tmp_path, die_in=2))
    assert len(result.kept) == 19
    assert sorted(_units(tmp_path)) == [0, 1, 2, 3, 4]


def test_a_unit_that_kills_every_worker_is_one_clear_error(tmp_path):
    with pytest.raises(UserError, match=r"died with exit code -9 while it was at unit 2 \(8 and following\)"):
        _run(tmp_path, jobs=2, build=partial(_build, tmp_path, die_in=2, always=True))


def _refuse() -> Note:
    raise UserError("no such codec")


def test_an_error_meant_for_people_comes_through(tmp_path):
    with pytest.raises(UserError, match="no such codec"):
        _run(tmp_path, jobs=2, build=_refuse)


def _full_disk(unit: int, rows: list[dict]) -> tuple[list[dict], list[dict]]:
    raise OSError(errno.ENOSPC, "No space left on device")


def _build_full_disk() -> Callable:
    return _full_disk


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_full_disk_is_one_clear_line(tmp_path, jobs):
    with pytest.raises(UserError, match=r"No space left on device.*; check the permissions and the free space"):
        _run(tmp_path, jobs=jobs, build=_build_full_disk)


def test_an_output_that_is_a_file_is_one_clear_line(tmp_path):
    (tmp_path / "step").touch()
    with pytest.raises(UserError, match="cannot write to"):
        _run(tmp_path)


SLOW = """
import sys, time
from pathlib import Path
from openvalle.prepare.executor import run_step

def work(unit, rows):
    time.sleep(0.15)
    with open(sys.argv[1] + "/log", "a") as file:
        file.write(f"{unit}\\n")
    return rows, []

run_step(Path(sys.argv[1]) / "step", [{"id": str(n)} for n in range(20)], lambda: work, {}, unit=4)
"""


def test_kill_9_loses_only_the_unit_in_flight(tmp_path):
    command = [sys.executable, "-c", SLOW, str(tmp_path)]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 30
    while not (tmp_path / "step" / "unit-00001.jsonl").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "step" / "index.jsonl").exists()
    subprocess.run(command, check=True)
    units = _units(tmp_path)
    assert sorted(set(units)) == [0, 1, 2, 3, 4]
    assert len(units) <= 6  # one unit at most was done again
    assert len(read_rows(tmp_path / "step" / "index.jsonl")) == 20
