"""Intervals and tests: bootstrap over items (all seeds of an item together), permutation of paired items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from openvalle.listen.scoring import WordErrors

DRAWS = 2000  # bootstrap samples per interval
PERMUTATIONS = 10_000


@dataclass(frozen=True)
class Figure:
    """A measured value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    count: int = 0  # items it was measured on

    def text(self, percent: bool = False, digits: int = 2) -> str:
        """Return `value [low, high]`."""
        scale, digits = (100, 1) if percent else (1, digits)
        low, value, high = (f"{number * scale:.{digits}f}" for number in (self.low, self.value, self.high))
        return f"{value} [{low}, {high}]"


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


def mean(values: Sequence[float], seed: int = 0) -> Figure:
    """Return the mean of one value per item."""
    return ratio(values, np.ones(len(values)), seed)


def error_rate(errors: Sequence[WordErrors], seed: int = 0) -> Figure:
    """Return the corpus error rate: all errors over all reference words."""
    return ratio([item.errors for item in errors], [item.words for item in errors], seed)


def ratio(above: Sequence[float] | np.ndarray, below: Sequence[float] | np.ndarray, seed: int = 0) -> Figure:
    """Return sum(above) / sum(below) over items."""
    top, bottom = np.asarray(above, float), np.asarray(below, float)
    return bootstrap(len(top), lambda rows: top[rows].sum(axis=-1) / np.maximum(bottom[rows].sum(axis=-1), 1e-9), seed)


def bootstrap(count: int, statistic: Callable[[np.ndarray], np.ndarray], seed: int = 0) -> Figure:
    """Return `statistic` of items 0 to `count` - 1 and the interval of its values on resampled items.

    `statistic` takes (..., count) indices and returns (...) values.
    """
    draws = np.random.default_rng(seed).integers(0, count, (DRAWS, count))
    low, high = np.quantile(statistic(draws), [0.025, 0.975])
    return Figure(float(statistic(np.arange(count))), float(low), float(high), count)


def paired(first: Sequence[tuple[float, float]], second: Sequence[tuple[float, float]], seed: int = 0) -> Difference:
    """Return how the ratio of sums differs between two systems measured on the same items.

    Each item gives (above, below): (value, 1) for a mean, (errors, words) for an error rate. The interval resamples
    items; p swaps the two systems' results of random items.
    """
    a, b = np.asarray(first, float), np.asarray(second, float)  # (items, 2)
    assert a.shape == b.shape, (a.shape, b.shape)
    count = len(a)
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, count, (DRAWS, count))
    spread = _ratio(b[rows]) - _ratio(a[rows])
    observed = float(_ratio(b) - _ratio(a))
    swap = rng.integers(0, 2, (PERMUTATIONS, count)).astype(np.float32)
    moved = swap @ (a - b)  # (permutations, 2): what the second takes from the first
    chance = _of_sums(b.sum(axis=0) + moved) - _of_sums(a.sum(axis=0) - moved)
    p = (1 + int(np.sum(np.abs(chance) >= abs(observed) - 1e-12))) / (1 + PERMUTATIONS)
    low, high = np.quantile(spread, [0.025, 0.975])
    return Difference(observed, float(low), float(high), p, count)


def _ratio(pairs: np.ndarray) -> np.ndarray:
    """Return the ratio of sums over the items, the last axis but one."""
    return _of_sums(pairs.sum(axis=-2))


def _of_sums(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / np.maximum(sums[..., 1], 1e-9)
