"""Intervals and tests: bootstrap over readers and their items (all seeds of an item together), permutation of paired
items. Items of one reader are alike, so what is resampled first is who reads."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
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


def ratio(
    above: Sequence[float] | np.ndarray,
    below: Sequence[float] | np.ndarray,
    seed: int = 0,
    readers: Sequence[Hashable] | None = None,
) -> Figure:
    """Return sum(above) / sum(below) over items; `readers`: who reads each, see `resampled`."""
    sums = np.stack([np.asarray(above, float), np.asarray(below, float)], axis=1)  # (items, 2)
    spread = _of_sums(resampled(len(sums), np.random.default_rng(seed), readers) @ sums)
    low, high = np.quantile(spread, [0.025, 0.975])
    return Figure(float(_of_sums(sums.sum(axis=0))), float(low), float(high), len(sums))


def resampled(count: int, rng: np.random.Generator, readers: Sequence[Hashable] | None = None) -> np.ndarray:
    """Return how often each bootstrap sample holds each item, (DRAWS, count).

    With the readers of the items, a sample draws as many readers as there are, and of each its number of items. That
    errs on the wide side with few readers. One reader, or none named: items are drawn.
    """
    names = list(dict.fromkeys(readers)) if readers is not None else []
    if len(names) < 2 or readers is None:
        return rng.multinomial(count, np.full(count, 1 / count), DRAWS)
    assert len(readers) == count, (len(readers), count)
    places = np.array([names.index(reader) for reader in readers])
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)  # (DRAWS, readers)
    found = np.zeros((DRAWS, count), np.int64)
    for number in range(len(names)):
        own = np.flatnonzero(places == number)
        found[:, own] = rng.multinomial(drawn[:, number] * len(own), np.full(len(own), 1 / len(own)))
    return found


def paired(
    first: Sequence[tuple[float, float]],
    second: Sequence[tuple[float, float]],
    seed: int = 0,
    readers: Sequence[Hashable] | None = None,
) -> Difference:
    """Return how the ratio of sums differs between two systems measured on the same items.

    Each item gives (above, below): (value, 1) for a mean, (errors, words) for an error rate. The interval resamples
    readers and items (`resampled`); p swaps the two systems' results of random items.
    """
    a, b = np.asarray(first, float), np.asarray(second, float)  # (items, 2)
    assert a.shape == b.shape, (a.shape, b.shape)
    count = len(a)
    rng = np.random.default_rng(seed)
    drawn = resampled(count, rng, readers)
    spread = _of_sums(drawn @ b) - _of_sums(drawn @ a)
    observed = float(_of_sums(b.sum(axis=0)) - _of_sums(a.sum(axis=0)))
    swap = rng.integers(0, 2, (PERMUTATIONS, count)).astype(np.float32)
    moved = swap @ (a - b)  # (permutations, 2): what the second takes from the first
    chance = _of_sums(b.sum(axis=0) + moved) - _of_sums(a.sum(axis=0) - moved)
    p = (1 + int(np.sum(np.abs(chance) >= abs(observed) - 1e-12))) / (1 + PERMUTATIONS)
    low, high = np.quantile(spread, [0.025, 0.975])
    return Difference(observed, float(low), float(high), p, count)


def _of_sums(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / np.maximum(sums[..., 1], 1e-9)
