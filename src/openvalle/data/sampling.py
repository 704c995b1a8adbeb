"""Which rows are drawn: weights by speaker, and the generator that belongs to (seed, step, rank)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def draw_generator(seed: int, step: int, rank: int) -> np.random.Generator:
    """Return the generator of one step on one rank: resuming needs the step number and nothing else."""
    return np.random.default_rng([seed, step, rank])


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


def neighbours(speakers: Sequence[str], names: Sequence[str]) -> dict[str, int | None]:
    """Return for each row's name the row of its speaker before it; for the first one the next, None if it is alone."""
    last: dict[str, int] = {}
    found: dict[str, int | None] = {}
    for index, (speaker, name) in enumerate(zip(speakers, names, strict=True)):
        before = last.get(speaker)
        found[name] = before
        if before is not None and found[names[before]] is None:
            found[names[before]] = index
        last[speaker] = index
    return found
