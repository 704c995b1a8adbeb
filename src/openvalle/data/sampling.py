"""Which rows are drawn: weights by speaker, the generator that belongs to (seed, step, rank), and even draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PLASTIC = 1.324717957244746  # the real root of x**3 = x + 1


def draw_generator(seed: int, step: int, rank: int) -> np.random.Generator:
    """Return the generator of one step on one rank: resuming needs the step number and nothing else."""
    return np.random.default_rng([seed, step, rank])


def even_point(seed: int, index: int) -> tuple[float, float]:
    """Return point `index` of a sequence of which any stretch covers the unit square evenly, shifted by the seed.

    Each coordinate goes on by a fixed step, modulo 1 (Roberts' R2). What two independent draws would meet by chance,
    some twice as often and some not at all, meets equally often, and still the point follows from its index alone.
    """
    first, second = draw_generator(seed, 0, 0).random(2)
    return float((first + index / PLASTIC) % 1), float((second + index / PLASTIC**2) % 1)


def row_weights(speakers: Sequence[str], lengths: np.ndarray, power: float, *, by_length: bool = False) -> np.ndarray:
    """Return the probability of each row, (rows,) float64: speakers count by length ** power.

    `power` 1 draws by hours, 0 gives every speaker the same share. Within a speaker rows are equally likely,
    or likely by their length.
    """
    _, speaker = np.unique(np.asarray(speakers), return_inverse=True)  # (rows,)
    total = np.bincount(speaker, lengths)  # (speakers,)
    share = total**power / np.sum(total**power)
    within = lengths / total[speaker] if by_length else 1 / np.bincount(speaker)[speaker]
    weights = share[speaker] * within
    return weights / weights.sum()
