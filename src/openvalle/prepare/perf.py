"""What each step cost and left out (`perf.json` beside its index), and what a larger corpus would cost by that."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openvalle.config import Syntax, read_data
from openvalle.data.shards import Row
from openvalle.errors import ConfigError, UserError
from openvalle.files import write_text

PERF = "perf.json"
CORES = 64  # of the machine that an estimate is for


@dataclass(frozen=True)
class Measurement:
    """What work took: utterances that came in, their sound, processor and clock of the processes that did it."""

    rows: int = 0
    audio_seconds: float = 0.0
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0

    def __add__(self, other: Measurement) -> Measurement:
        return Measurement(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


def write_perf(
    folder: Path, costs: Iterable[Measurement], kept: int, seconds: float, rejected: Iterable[Row], device: str = "cpu"
) -> None:
    """Write what the units of a step cost, how many utterances (and seconds) go on, and why others do not.

    Rates are those of one process: of several, each has them.
    """
    measured = sum(costs, Measurement())
    measured = Measurement(measured.rows, *(round(value, 3) for value in list(vars(measured).values())[1:]))
    reasons = Counter(re.sub(r"\d+(\.\d+)?", "N", row["reason"]) for row in rejected)
    rates: dict[str, Any] = {}
    if measured.wall_seconds and measured.cpu_seconds:
        rates = {
            "rows_per_second": round(measured.rows / measured.wall_seconds, 3),
            "times_real_time": round(measured.audio_seconds / measured.wall_seconds, 2),
            "cpu_seconds_per_hour": round(3600 * measured.cpu_seconds / max(1e-9, measured.audio_seconds), 2),
        }
    values = {
        "device": device,
        "kept": kept,
        "kept_seconds": round(seconds, 3),
        "rejected": reasons.total(),
        "reasons": dict(reasons.most_common()),
        "measured": vars(measured),
        **rates,
    }
    write_text(folder / PERF, json.dumps(values, indent=1) + "\n")


@dataclass(frozen=True)
class StepCost:
    """What one step would cost for a corpus."""

    step: str
    cpu_hours: float
    gigabytes: float
    kept: float  # share of the sound that passes

    @property
    def days(self) -> float:
        """On a machine of `CORES` cores."""
        return self.cpu_hours / CORES / 24


def estimate(out: Path, steps: Sequence[str], hours: float) -> list[StepCost]:
    """Return what the steps in a prepared folder would cost for `hours` of recordings, by what they cost there.

    A step hears what the steps before let pass. `UserError` if nothing was measured.
    """
    found, passing = [], 1.0
    for step in steps:
        folder = out / step
        try:
            values = read_data(folder / PERF, Syntax.JSON)
            measured, seconds = Measurement(**values["measured"]), float(values["kept_seconds"])
        except (ConfigError, KeyError, TypeError, ValueError):
            continue  # it was not done
        if not measured.audio_seconds:
            continue
        heard = measured.audio_seconds / 3600
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9
        share = min(1.0, seconds / measured.audio_seconds)  # copies at other speeds are no gain
        found.append(
            StepCost(step, hours * passing * measured.cpu_seconds / 3600 / heard, hours * passing * size / heard, share)
        )
        passing *= share
    if not found:
        raise UserError(f"nothing was measured in {out}", "prepare some speech there first: an hour tells enough")
    return found
