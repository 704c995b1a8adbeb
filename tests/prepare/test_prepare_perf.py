"""Each step tells what it cost, whatever stopped it in between, and a larger corpus is reckoned from that."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from test_prepare_executor import units_of

from openvalle.errors import UserError
from openvalle.prepare.executor import run_step
from openvalle.prepare.perf import PERF, Measurement, estimate, write_perf
from openvalle.prepare.units import Target

ROWS = [{"id": str(number), "seconds": 10.0} for number in range(12)]


def work(target: Target, rows: list[dict], stop_at: str = "") -> tuple[list[dict], list[dict]]:
    if rows[0]["id"] == stop_at:
        raise UserError("stopped")
    sum(number * number for number in range(200_000))
    return rows[1:], [{"id": rows[0]["id"], "reason": f"too short: 0.{rows[0]['id']} s, less than 0.5 s"}]


def run(folder: Path, stop_at: str = "") -> None:
    run_step(folder / "step", units_of(folder, ROWS), lambda: partial(work, stop_at=stop_at), {})


def read(folder: Path) -> dict:
    return json.loads((folder / "step" / PERF).read_text())


def test_a_step_tells_what_it_cost_and_why_it_left_out_what(tmp_path: Path) -> None:
    run(tmp_path)
    found = read(tmp_path)
    assert (found["kept"], found["rejected"], found["kept_seconds"]) == (9, 3, 90.0)
    assert found["reasons"] == {"too short: N s, less than N s": 3}
    assert found["measured"]["rows"] == 12 and found["measured"]["audio_seconds"] == 120
    assert found["measured"]["cpu_seconds"] > 0
    assert found["cpu_seconds_per_hour"] == pytest.approx(30 * found["measured"]["cpu_seconds"], rel=0.01)
    run(tmp_path)  # all is done already
    assert read(tmp_path) == found


def test_what_was_done_before_a_stop_is_counted_and_not_twice(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stopped"):
        run(tmp_path, "8")
    run(tmp_path)
    assert read(tmp_path)["measured"]["rows"] == 12


def test_a_larger_corpus_is_reckoned_step_by_step(tmp_path: Path) -> None:
    left = [{"id": "b", "reason": "silent"}]
    write_perf(tmp_path / "audio", [Measurement(4, 3600.0, 36.0, 40.0)], 3, 2700.0, left)
    (tmp_path / "audio" / "ab").mkdir()
    (tmp_path / "audio" / "ab" / "payload").write_bytes(bytes(1_000_000))
    write_perf(tmp_path / "align", [Measurement(3, 3600.0, 180.0, 200.0)], 3, 3600.0, [])
    first, second = estimate(tmp_path, ("scan", "audio", "align"), 1000)
    assert (first.step, round(first.cpu_hours, 3), first.kept) == ("audio", 10.0, 0.75)
    assert first.gigabytes == pytest.approx(1.0, abs=0.01)
    assert second.cpu_hours == pytest.approx(0.75 * 50)  # a quarter of the sound never comes here
    with pytest.raises(UserError, match="nothing was measured"):
        estimate(tmp_path / "empty", ("scan",), 1)
