"""Units are done once, whatever stops the run, and again exactly when their input or settings change."""

import errno
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from openvalle.data.shards import read_rows
from openvalle.errors import UserError
from openvalle.prepare.executor import run_local, run_step
from openvalle.prepare.units import Target, Unit, group_rows, read_unit, unit_seconds, write_rows

ROWS = [{"id": str(number), "seconds": 1.0} for number in range(20)]


@dataclass(frozen=True)
class Note:
    """Notes each unit done, by its first row; rejects row 3; may die in a unit, always or once."""

    folder: Path
    die_at: str = ""
    always: bool = False

    def __call__(self, target: Target, rows: list[dict]) -> tuple[list[dict], list[dict]]:
        first = rows[0]["id"]
        if first == self.die_at and (self.always or not (self.folder / "died").exists()):
            (self.folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        with (self.folder / "log").open("a") as file:
            file.write(f"{first}\n")
        (target.folder / "payload").write_text(first)
        kept = [row | {"payload": f"{target.name}/payload"} for row in rows if row["id"] != "3"]
        return kept, [{"id": row["id"], "reason": "three"} for row in rows if row["id"] == "3"]


def _done(folder: Path) -> list[str]:
    """Return the first rows of the units that were done since this was last asked."""
    path = folder / "log"
    units = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return units


def units_of(folder: Path, rows: list[dict], each: int = 4) -> list[Unit]:
    """Return units of so many rows, as a step before would have left them."""
    found = []
    for start in range(0, len(rows), each):
        place = folder / "source" / f"{start:02d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / "rows.jsonl").unlink(missing_ok=True)
        write_rows(place, rows[start]["id"], rows[start : start + each], [])
        unit = read_unit(place)
        assert unit is not None
        found.append(unit)
    return found


def _build(folder: Path, **options: object) -> Note:
    return Note(folder, **options)  # type: ignore[arg-type]


def _run(folder: Path, rows=ROWS, settings=None, jobs=1, build: Callable | None = None, **more):
    execute = partial(run_local, jobs)
    sources = units_of(folder, rows)
    return run_step(folder / "step", sources, build or partial(_build, folder), settings or {}, execute, **more)


def test_every_row_is_kept_or_rejected_in_order(tmp_path):
    result = _run(tmp_path)
    rows = list(result.rows())
    assert [row["id"] for row in rows] == [row["id"] for row in ROWS if row["id"] != "3"]
    assert list(result.list_left_out()) == [{"id": "3", "reason": "three"}]
    assert (result.kept, result.rejected, result.seconds) == (19, 1, 19.0)
    assert read_rows(tmp_path / "step" / "index.jsonl") == rows
    assert read_rows(tmp_path / "step" / "rejected.jsonl") == list(result.list_left_out())
    assert all((tmp_path / "step" / row["payload"]).is_file() for row in rows)


def test_nothing_is_done_twice_and_nothing_is_written_twice(tmp_path):
    first = _run(tmp_path)
    assert _done(tmp_path) == ["0", "4", "8", "12", "16"]
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "step").rglob("*")}
    assert _run(tmp_path) == first
    assert _done(tmp_path) == []
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "step").rglob("*")} == files


def test_changed_rows_and_settings_redo_their_units_and_the_old_ones_go(tmp_path):
    _run(tmp_path)
    _done(tmp_path)
    changed = [row | {"text": "new"} if row["id"] == "9" else row for row in ROWS]
    _run(tmp_path, changed)
    assert _done(tmp_path) == ["8"]
    _run(tmp_path, [*changed, {"id": "20", "seconds": 1.0}])
    assert _done(tmp_path) == ["20"]
    _run(tmp_path, changed, {"level": 1})
    assert _done(tmp_path) == ["0", "4", "8", "12", "16"]
    assert len(list((tmp_path / "step").glob("??/*"))) == 5


def test_a_unit_whose_files_are_damaged_is_redone(tmp_path):
    result = _run(tmp_path)
    for number, name in ((1, "rows.jsonl"), (3, "payload")):
        _done(tmp_path)
        path = result.units[number].folder / name
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        assert _run(tmp_path) == result
        assert _done(tmp_path) == [str(4 * number)]
        assert path.read_bytes() == whole


def test_a_clock_that_was_wrong_changes_nothing(tmp_path):
    _run(tmp_path)
    _done(tmp_path)
    for path in (tmp_path / "step").rglob("*"):
        os.utime(path, (4e9, 4e9) if len(path.name) % 2 else (0, 0))
    _run(tmp_path)
    assert _done(tmp_path) == []


def test_progress_counts_every_row_once(tmp_path):
    calls = []
    _run(tmp_path, progress=lambda *call: calls.append(call))
    assert calls == [("step", done, 20) for done in (4, 8, 12, 16, 20)]


def test_several_processes_give_the_same_result_and_lost_ones_are_replaced(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    alone = _run(tmp_path / "a")
    together = _run(tmp_path / "b", jobs=2, build=partial(_build, tmp_path / "b", die_at="8"))
    assert list(together.rows()) == list(alone.rows())
    assert sorted(_done(tmp_path / "b"), key=int) == ["0", "4", "8", "12", "16"]


def test_a_unit_that_kills_every_worker_is_one_clear_error(tmp_path):
    with pytest.raises(UserError, match=r"died with exit code -9 while it was at unit .*\(8 and following\)"):
        _run(tmp_path, jobs=2, build=partial(_build, tmp_path, die_at="8", always=True))


def _refuse() -> Note:
    raise UserError("no such codec")


def test_an_error_meant_for_people_comes_through(tmp_path):
    with pytest.raises(UserError, match="no such codec"):
        _run(tmp_path, jobs=2, build=_refuse)


def _full_disk(target: Target, rows: list[dict]) -> tuple[list[dict], list[dict]]:
    if rows[0]["id"] == "8":
        (target.folder / "half").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    return rows, []


def _build_full_disk() -> Callable:
    return _full_disk


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_full_disk_is_one_clear_line_and_what_was_done_is_kept(tmp_path, jobs):
    with pytest.raises(UserError, match=r"No space left on device.*; check the permissions and the free space"):
        _run(tmp_path, jobs=jobs, build=_build_full_disk)
    if jobs == 1:
        assert len(list((tmp_path / "step").glob("??/*"))) == 2 and not list((tmp_path / "step").rglob("half"))
    _run(tmp_path)
    assert "8" in _done(tmp_path)


def test_an_output_that_is_a_file_is_one_clear_line(tmp_path):
    (tmp_path / "step").touch()
    with pytest.raises(UserError, match="cannot write to"):
        _run(tmp_path)


def test_units_last_about_an_hour_and_small_corpora_have_several() -> None:
    assert unit_seconds(60_000 * 3600.0) == 3600
    assert unit_seconds(16 * 3600.0) == 3600
    assert unit_seconds(2 * 3600.0) == unit_seconds(3.9 * 3600) == 450
    assert unit_seconds(30.0) == 112.5


def test_a_row_more_changes_the_units_near_it_alone() -> None:
    rows = [{"id": f"{number:05d}", "seconds": 5.0 + number % 13} for number in range(4000)]
    before = {tuple(row["id"] for row in group) for group in group_rows(rows, 600)}
    more = [*rows[:1000], {"id": "new", "seconds": 9.0}, *rows[1000:]]
    after = {tuple(row["id"] for row in group) for group in group_rows(more, 600)}
    assert len(before) > 50 and len(after - before) <= 3
    lengths = [sum(float(rows[int(name)]["seconds"]) for name in group) for group in before]
    assert max(lengths) < 1.3 * 600 and sorted(lengths)[1] > 0.7 * 600
