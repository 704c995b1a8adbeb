"""Means of ratings with intervals that know who gave them and to what, and how far raters agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with its confidence interval; the interval is not a number where there are too few raters or items."""

    mean: float
    low: float
    high: float


def clustered_mean(
    values: Sequence[float], raters: Sequence[str], items: Sequence[str], seed: int = 0, draws: int = DRAWS
) -> Estimate:
    """Return the mean of `values` with a bootstrap interval over raters and items.

    Ratings of one rater, and of one item, resemble each other: to treat them as independent makes intervals that are
    far too narrow. Both raters and items are drawn again with replacement, and a rating counts as often as its rater
    times as often as its item (the pigeonhole bootstrap of Owen 2007, which errs on the wide side).
    """
    x = np.asarray(values, np.float64)
    if not len(x):
        return Estimate(np.nan, np.nan, np.nan)
    rows, who = np.unique(np.asarray(raters), return_inverse=True)
    columns, what = np.unique(np.asarray(items), return_inverse=True)
    if len(rows) < 2:
        return Estimate(float(x.mean()), np.nan, np.nan)
    total, count = np.zeros((2, len(rows), len(columns)))
    np.add.at(total, (who, what), x)
    np.add.at(count, (who, what), 1)
    rng = np.random.default_rng(seed)
    of_rater = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), draws)  # (draws, raters)
    of_item = rng.multinomial(len(columns), np.full(len(columns), 1 / len(columns)), draws)  # (draws, items)
    weight = np.einsum("dr,ri,di->d", of_rater, count, of_item, optimize=True)
    sums = np.einsum("dr,ri,di->d", of_rater, total, of_item, optimize=True)
    means = sums[weight > 0] / weight[weight > 0]
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(means, [tail, 100 - tail])
    return Estimate(float(x.mean()), float(low), float(high))


def krippendorff_alpha(values: Sequence[float], units: Sequence[str], raters: Sequence[str]) -> float:
    """Return Krippendorff's alpha for interval data: 1 perfect agreement, 0 none beyond chance.

    A unit is what several raters rated; missing ratings are allowed. Not a number if no unit has two ratings, or
    if every rating is the same. Several ratings of one unit by one rater count as their mean.
    """
    cells: dict[tuple[str, str], list[float]] = {}
    for value, unit, rater in zip(values, units, raters, strict=True):
        cells.setdefault((unit, rater), []).append(value)
    by_unit: dict[str, list[float]] = {}
    for (unit, _), given in cells.items():
        by_unit.setdefault(unit, []).append(float(np.mean(given)))
    paired = [np.asarray(given) for given in by_unit.values() if len(given) > 1]
    if not paired:
        return float("nan")
    everything = np.concatenate(paired)
    n = len(everything)
    observed = sum(_squared_distances(given) / (len(given) - 1) for given in paired) / n
    expected = _squared_distances(everything) / (n * (n - 1))
    return float(1 - observed / expected) if expected > 0 else float("nan")


def _squared_distances(x: np.ndarray) -> float:
    """Return the sum of (a - b)^2 over all ordered pairs."""
    centred = x - x.mean()
    return float(2 * len(x) * np.sum(centred**2))
