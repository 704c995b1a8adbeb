"""Results: what was measured of one system's answer to one item, a row each; and the figures of many rows.

A file of rows is JSON lines, one `Result` each. Metrics are numbers by name; one that could not be measured is absent,
never zero and never NaN, and `notes` says why.

Figures are per system with intervals, per seed, per condition; or of two sets of results against each other. Intervals
and tests: bootstrap over readers and their items (all seeds of an item together), permutation of paired
items. Items of one reader are alike, so what is resampled first is who reads.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.config import BadLine, json_lines, write_json_lines
from openvalle.errors import UserError
from openvalle.evaluate.metrics import METRICS
from openvalle.evaluate.test_list import KINDS, parse_condition
from openvalle.pipes import read_text
from openvalle.statistics import Estimate, draw_nested, estimate, quotients
from openvalle.types import ENGLISH

NO_NUMBER = " is not a number"  # ends the note of a metric that is NaN or infinite
ORIGINAL, RECONSTRUCTED, SYNTHESISED = "original", "codec-reconstructed", "synthesised"


@dataclass(frozen=True)
class Result:
    """One system, one item, one seed."""

    system: str
    item: str
    seed: int
    text: str  # that should be heard
    condition: str = "clean"
    speaker: str = ""
    language: str = ENGLISH  # of the text
    status: str = "ok"  # or "failed": the system gave no sound; the words then count as missing
    error: str = ""  # why it failed
    audio: str = ""  # path of the sound, relative to the file of rows; may be empty
    prompt_audio: str = ""
    heard: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def cluster(self) -> str:
        """The item without its condition: what is resampled, since conditions of one prompt are not independent."""
        return self.item.removesuffix(f"-{self.condition}")

    @property
    def failed(self) -> bool:
        """True if the system gave no sound."""
        return self.status != "ok"


def split_finite(values: dict[str, float | None]) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return the metrics that are numbers, and a note for each that is NaN or infinite."""
    kept = {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}
    bad = [name for name, value in values.items() if value is not None and not math.isfinite(value)]
    return kept, tuple(f"{name}{NO_NUMBER}" for name in bad)


def write_results(path: Path, rows: Iterable[Result]) -> Path:
    """Write the rows, atomically; return the path."""
    return write_json_lines(path, (asdict(row) for row in rows))


def read_results(path: Path) -> list[Result]:
    """Read a file of rows; `UserError` names the line that cannot be read."""
    try:
        return [_row(number, values) for number, values in json_lines(read_text(path, most=None))]
    except BadLine as error:
        damage = f"{path} is damaged at line {error.number} ({error.reason})"
        raise UserError(damage, "run the evaluation again") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path} ({error})", "give the folder that `openvalle evaluate` wrote") from None


def _row(number: int, values: Any) -> Result:
    try:
        return Result(**{**values, "notes": tuple(values.get("notes", ()))})
    except (AttributeError, TypeError) as error:
        raise BadLine(number, str(error)) from None


PERMUTATIONS = 10_000


@dataclass(frozen=True)
class Difference:
    """The second of two reports less the first, on the items that both hold."""

    value: float
    low: float
    high: float
    p: float  # how often a difference as large comes about if the two do not differ (two-sided)
    count: int

    @property
    def is_clear(self) -> bool:
        """True at the 5 % level."""
        return self.p < 0.05


def ratio(
    above: Sequence[float] | np.ndarray,
    below: Sequence[float] | np.ndarray,
    seed: int = 0,
    readers: Sequence[Hashable] | None = None,
) -> Estimate:
    """Return sum(above) / sum(below) over items; `readers`: who reads each, see `draw_nested`."""
    sums = np.stack([np.asarray(above, float), np.asarray(below, float)], axis=1)  # (items, 2)
    return estimate(sums, draw_nested(len(sums), np.random.default_rng(seed), readers) @ sums)


def compare_paired(
    first: Sequence[tuple[float, float]],
    second: Sequence[tuple[float, float]],
    seed: int = 0,
    readers: Sequence[Hashable] | None = None,
) -> Difference:
    """Return how the ratio of sums differs between two systems measured on the same items.

    Each item gives (above, below): (value, 1) for a mean, (errors, words) for an error rate. The interval resamples
    readers and items (`draw_nested`); p swaps the two systems' results of random items.
    """
    a, b = np.asarray(first, float), np.asarray(second, float)  # (items, 2)
    assert a.shape == b.shape, (a.shape, b.shape)
    count = len(a)
    rng = np.random.default_rng(seed)
    drawn = draw_nested(count, rng, readers)
    spread = quotients(drawn @ b) - quotients(drawn @ a)
    observed = float(quotients(b.sum(axis=0)) - quotients(a.sum(axis=0)))
    swap = rng.integers(0, 2, (PERMUTATIONS, count)).astype(np.float32)
    moved = swap @ (a - b)  # (permutations, 2): what the second takes from the first
    chance = quotients(b.sum(axis=0) + moved) - quotients(a.sum(axis=0) - moved)
    p = (1 + int(np.sum(np.abs(chance) >= abs(observed) - 1e-12))) / (1 + PERMUTATIONS)
    low, high = np.quantile(spread, [0.025, 0.975])
    return Difference(observed, float(low), float(high), p, count)


Pair = tuple[float, float]


@dataclass(frozen=True)
class Preservation:
    """How a measure of the acoustics went from prompts in one condition to a system's answers."""

    system: str
    condition: str
    measure: str
    put_in: float | None  # None for clean prompts
    prompts: float  # mean over the prompts
    answers: float  # mean over the answers
    count: int


@dataclass(frozen=True)
class MetricComparison:
    """One metric of two sets of rows."""

    metric: str
    first: float
    second: float
    difference: Difference


def collect_sums(rows: Iterable[Result], metric: str) -> dict[str, Pair]:
    """Return (above, below) of each item with the metric, all its seeds and conditions together."""
    above, below = METRICS[metric].ratio or (metric, None)
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for row in rows:
        if above in row.metrics and (below is None or below in row.metrics):
            sums[row.cluster][0] += row.metrics[above]
            sums[row.cluster][1] += row.metrics[below] if below else 1.0
    return {item: (top, bottom) for item, (top, bottom) in sums.items()}


def summarise(rows: Sequence[Result]) -> dict[str, Estimate]:
    """Return every metric that the rows hold, with 95 % intervals over readers and their items."""
    found, readers = {}, speakers_by_item(rows)
    for metric in METRICS:
        own = collect_sums(rows, metric)
        pairs = np.array(list(own.values()))
        if len(pairs) and pairs[:, 1].sum() > 0:
            found[metric] = ratio(pairs[:, 0], pairs[:, 1], readers=[readers[item] for item in own])
    return found


def speakers_by_item(rows: Iterable[Result]) -> dict[str, str]:
    """Return whose voice each item asks for: what intervals resample first."""
    return {row.cluster: row.speaker for row in rows}


def per_seed(rows: Sequence[Result]) -> dict[int, dict[str, float]]:
    """Return every metric of each seed alone."""
    by_seed: dict[int, list[Result]] = defaultdict(list)
    for row in rows:
        by_seed[row.seed].append(row)
    return {
        seed: {
            metric: float(quotients(np.sum(list(pairs.values()), axis=0)))
            for metric in METRICS
            if (pairs := collect_sums(own, metric))
        }
        for seed, own in sorted(by_seed.items())
    }


def measure_preservation(rows: Sequence[Result]) -> list[Preservation]:
    """Return, for every system and condition, the measure that the condition changes; clean prompts show all three."""
    groups: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for row in rows:
        groups[row.system, row.condition].append(row)
    found = []
    for (system, condition), own in groups.items():
        changed = parse_condition(condition)
        for measure in [changed[0]] if changed else list(KINDS.values()):
            both = [(row.metrics[f"prompt_{measure}"], row.metrics[measure]) for row in own if _has(row, measure)]
            if both:
                prompts, answers = np.mean(both, axis=0).tolist()
                put_in = changed[1] if changed else None
                found.append(Preservation(system, condition, measure, put_in, prompts, answers, len(both)))
    return found


def measure_kept(rows: Sequence[Result], measure: str) -> Estimate | None:
    """Return the slope of the answers' measure over the prompts', over readers and their answers: 1 is kept, 0 ignores
    the prompt. None where the prompts hardly differ."""
    changed = [
        row for row in rows if _has(row, measure) and (parse_condition(row.condition) or (measure,))[0] == measure
    ]
    both = np.array([(row.metrics[f"prompt_{measure}"], row.metrics[measure]) for row in changed])
    if len(both) < 4 or both[:, 0].std() < 1e-6 or len({row.condition for row in changed}) < 2:
        return None
    x, y = both.T - both.mean(axis=0)[:, None]
    times = draw_nested(len(x), np.random.default_rng(0), [row.speaker for row in changed])
    # a slope is a ratio of sums; each draw has means of its own
    means = [times @ values / times.sum(1) for values in (x, y)]
    spreads = times @ x**2 - times.sum(1) * means[0] ** 2
    drawn = np.stack([times @ (x * y) - times.sum(1) * means[0] * means[1], spreads], axis=1)
    return estimate(np.stack([x * y, x**2], axis=1), drawn[spreads > 0])


def _has(row: Result, measure: str) -> bool:
    return measure in row.metrics and f"prompt_{measure}" in row.metrics


def compare(first: Sequence[Result], second: Sequence[Result], seed: int = 0) -> list[MetricComparison]:
    """Return how the second set differs from the first on the items that both hold, metric by metric.

    Empty if they have no item in common.
    """
    found, readers = [], speakers_by_item(first)
    for metric in METRICS:
        a, b = collect_sums(first, metric), collect_sums(second, metric)
        common = [item for item in a if item in b]
        left, right = [a[item] for item in common], [b[item] for item in common]
        if not common or not sum(pair[1] for pair in left) or not sum(pair[1] for pair in right):
            continue
        one, two = (sum(pair[0] for pair in side) / sum(pair[1] for pair in side) for side in (left, right))
        found.append(
            MetricComparison(metric, one, two, compare_paired(left, right, seed, [readers[item] for item in common]))
        )
    return found
