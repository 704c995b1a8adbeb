"""Estimates with bootstrap intervals, for measurements that come in groups (readers, raters, items).

Measurements of one reader, or by one rater, resemble each other: whoever resamples them as if they were independent
gets intervals that are far too narrow. So whole groups are drawn again, with replacement.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 2000  # bootstrap samples per interval
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean or a ratio with its interval; the interval is NaN where there is too little to resample."""

    value: float
    low: float
    high: float
    count: int = 0  # measurements

    def text(self, percent: bool = False, digits: int = 2) -> str:
        """Return `value [low, high]`."""
        scale, digits = (100, 1) if percent else (1, digits)
        low, value, high = (f"{number * scale:.{digits}f}" for number in (self.low, self.value, self.high))
        return f"{value} [{low}, {high}]"


def estimate(sums: np.ndarray, drawn: np.ndarray) -> Estimate:
    """Return the ratio of the measurements' sums, with the interval of the drawn ones.

    `sums`: (N, 2), the parts above and below of each measurement; `drawn`: (draws, 2), their sums in each draw.
    """
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(quotients(drawn), [tail, 1 - tail])
    return Estimate(float(quotients(sums.sum(axis=0))), float(low), float(high), len(sums))


def quotients(sums: np.ndarray) -> np.ndarray:
    """Return above / below of sums (..., 2)."""
    return sums[..., 0] / np.maximum(sums[..., 1], 1e-9)


def draw(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each of `count` things is in each draw with replacement, (DRAWS, count)."""
    return rng.multinomial(count, np.full(count, 1 / count), DRAWS)


def draw_nested(count: int, rng: np.random.Generator, groups: Sequence[Hashable] | None = None) -> np.ndarray:
    """Return how often each measurement is in each draw of groups and of their measurements, (DRAWS, count).

    A draw takes as many groups as there are, and of each its number of measurements. That errs on the wide side with
    few groups. With one group, or none named, measurements are drawn.
    """
    names = list(dict.fromkeys(groups)) if groups is not None else []
    if len(names) < 2 or groups is None:
        return draw(count, rng)
    assert len(groups) == count, (len(groups), count)
    places = np.array([names.index(group) for group in groups])
    times = draw(len(names), rng)  # (DRAWS, groups)
    found = np.zeros((DRAWS, count), np.int64)
    for number in range(len(names)):
        own = np.flatnonzero(places == number)
        found[:, own] = rng.multinomial(times[:, number] * len(own), np.full(len(own), 1 / len(own)))
    return found


def draw_crossed(
    sums: np.ndarray, rng: np.random.Generator, rows: Sequence[Hashable], columns: Sequence[Hashable]
) -> np.ndarray:
    """Return the sums (draws, 2) of measurements (N, 2) that belong to two kinds of groups, such as raters and items.

    Both are drawn, and a measurement counts as often as its row times as often as its column (the pigeonhole bootstrap
    of Owen 2007, which errs on the wide side). Draws without any measurement are left out.
    """
    names, who = np.unique(np.asarray(rows), return_inverse=True)
    things, what = np.unique(np.asarray(columns), return_inverse=True)
    table = np.zeros((len(names), len(things), 2))  # summed over the measurements of one row and column
    np.add.at(table, (who, what), sums)
    drawn = np.einsum("dr,rck,dc->dk", draw(len(names), rng), table, draw(len(things), rng), optimize=True)
    return drawn[drawn[:, 1] > 0]
