"""Rows -> figures: per system with intervals, per seed, per condition; and two sets of rows against each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from openvalle.evaluate.conditions import KINDS, measured_by
from openvalle.evaluate.metrics import METRICS
from openvalle.evaluate.rows import Row
from openvalle.evaluate.statistics import Difference, Figure, paired, ratio

# Figures that are quotients of sums; all others are means.
SUMS = {
    "wer": ("word_errors", "words"),
    "cer": ("character_errors", "characters"),
    "rtf": ("wall_seconds", "spoken_seconds"),
    "processor_per_second": ("processor_seconds", "spoken_seconds"),
}
Pair = tuple[float, float]


@dataclass(frozen=True)
class Preserved:
    """How a measure of the environment went from prompts in one condition to a system's answers."""

    system: str
    condition: str
    measure: str
    put_in: float | None  # None for clean prompts
    prompts: float  # mean over the prompts
    answers: float  # mean over the answers
    count: int


@dataclass(frozen=True)
class Compared:
    """One metric of two sets of rows."""

    metric: str
    first: float
    second: float
    difference: Difference


def pairs_of(rows: Iterable[Row], metric: str) -> dict[str, Pair]:
    """Return (above, below) of each item with the metric, all its seeds and conditions together."""
    above, below = SUMS.get(metric, (metric, None))
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for row in rows:
        if above in row.metrics and (below is None or below in row.metrics):
            sums[row.cluster][0] += row.metrics[above]
            sums[row.cluster][1] += row.metrics[below] if below else 1.0
    return {item: (top, bottom) for item, (top, bottom) in sums.items()}


def figures(rows: Sequence[Row], seed: int = 0) -> dict[str, Figure]:
    """Return every metric that the rows hold, with 95 % intervals over readers and their items."""
    found, readers = {}, readers_of(rows)
    for metric in METRICS:
        own = pairs_of(rows, metric)
        pairs = np.array(list(own.values()))
        if len(pairs) and pairs[:, 1].sum() > 0:
            found[metric] = ratio(pairs[:, 0], pairs[:, 1], seed, [readers[item] for item in own])
    return found


def readers_of(rows: Iterable[Row]) -> dict[str, str]:
    """Return whose voice each item asks for: what intervals resample first."""
    return {row.cluster: row.speaker for row in rows}


def per_seed(rows: Sequence[Row]) -> dict[int, dict[str, float]]:
    """Return every metric of each seed alone."""
    by_seed: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_seed[row.seed].append(row)
    return {
        seed: {
            metric: sum(pair[0] for pair in pairs.values()) / max(sum(pair[1] for pair in pairs.values()), 1e-9)
            for metric in METRICS
            if (pairs := pairs_of(own, metric))
        }
        for seed, own in sorted(by_seed.items())
    }


def preservation(rows: Sequence[Row]) -> list[Preserved]:
    """Return, for every system and condition, the measure that the condition changes; clean prompts show all three."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.system, row.condition].append(row)
    found = []
    for (system, condition), own in groups.items():
        changed = measured_by(condition)
        for measure in [changed[0]] if changed else list(KINDS.values()):
            both = [(row.metrics[f"prompt_{measure}"], row.metrics[measure]) for row in own if _has(row, measure)]
            if both:
                prompts, answers = np.mean(both, axis=0).tolist()
                put_in = changed[1] if changed else None
                found.append(Preserved(system, condition, measure, put_in, prompts, answers, len(both)))
    return found


def kept_share(rows: Sequence[Row], measure: str) -> float | None:
    """Return the slope of the answers' measure over the prompts': 1 is kept, 0 ignores the prompt.

    None where the prompts hardly differ.
    """
    changed = [row for row in rows if _has(row, measure) and (measured_by(row.condition) or (measure,))[0] == measure]
    both = np.array([(row.metrics[f"prompt_{measure}"], row.metrics[measure]) for row in changed])
    if len(both) < 4 or both[:, 0].std() < 1e-6 or len({row.condition for row in changed}) < 2:
        return None
    return float(np.polyfit(both[:, 0], both[:, 1], 1)[0])


def _has(row: Row, measure: str) -> bool:
    return measure in row.metrics and f"prompt_{measure}" in row.metrics


def compare(first: Sequence[Row], second: Sequence[Row], seed: int = 0) -> list[Compared]:
    """Return how the second set differs from the first on the items that both hold, metric by metric.

    Empty if they have no item in common.
    """
    found, readers = [], readers_of(first)
    for metric in METRICS:
        a, b = pairs_of(first, metric), pairs_of(second, metric)
        common = [item for item in a if item in b]
        left, right = [a[item] for item in common], [b[item] for item in common]
        if not common or not sum(pair[1] for pair in left) or not sum(pair[1] for pair in right):
            continue
        one, two = (sum(pair[0] for pair in side) / sum(pair[1] for pair in side) for side in (left, right))
        found.append(Compared(metric, one, two, paired(left, right, seed, [readers[item] for item in common])))
    return found
