"""What `make bench-scale` makes of the times of units."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from openvalle.errors import UserError


def test_workers_are_measured_while_all_of_them_are_at_work(load) -> None:
    """One starts after three units of the other: what comes before that, and after its end, counts for nothing."""
    scale = load("scale_prepare")
    first = [scale.Span(second, second + 1, 0.5, 60) for second in range(10)]
    second = [scale.Span(3.0 + step, 3.9 + step, 0.6, 60) for step in range(5)]  # a tenth of a second between two
    found = scale.measure_together(first + second, workers=2)
    lasts = 4.9  # from 3.0 to 7.9
    assert found["rate"] == pytest.approx((60 * lasts + 60 * 5) / lasts)
    assert found["cpu"] == pytest.approx((0.5 * lasts + 0.6 * 5) / (60 * lasts + 60 * 5))
    assert found["at_work"] == pytest.approx((lasts + 4.5) / 2 / lasts)
    alone = scale.measure_together(first, workers=1)
    assert alone == {"rate": pytest.approx(60), "cpu": pytest.approx(0.5 / 60), "at_work": pytest.approx(1)}
    with pytest.raises(UserError, match=r"never at work at the same time; give more --minutes"):
        scale.measure_together(first, workers=2)


def test_spans_are_those_of_the_units_costs(load, tmp_path: Path) -> None:
    scale = load("scale_prepare")
    cost = tmp_path / "ab" / "abcd" / "cost.json"
    cost.parent.mkdir(parents=True)
    cost.write_text(json.dumps({"rows": 3, "audio_seconds": 60.0, "cpu_seconds": 1.5, "wall_seconds": 2.0}))
    os.utime(cost, (100.0, 100.0))
    assert scale.read_spans(tmp_path) == [scale.Span(98.0, 100.0, 1.5, 60.0)]
