"""Which symbol each frame belongs to (VALL-E R 3.2), frame by frame and AR step by AR step.

Durations are frames per symbol, (S,). An alignment is the index of each frame's symbol, (T,). All arrays are NumPy's,
int64.
"""

from __future__ import annotations

import numpy as np

from openvalle.types import Utterance, place_borders, to_alignment


def cut_durations(durations: np.ndarray, start: int, end: int) -> np.ndarray:
    """Return the durations of the frames start..end-1; symbols outside keep 0."""
    return np.diff(np.cumsum(durations).clip(start, end), prepend=start)


def to_step_durations(durations: np.ndarray, frames: int) -> np.ndarray:
    """Return how many steps of `frames` frames each symbol owns, (S,), summing to sum(durations) // frames.

    A step goes to the symbol that overlaps it most (symbol borders are rounded to those of steps); then borders are
    moved as little as needed for every symbol that lasts to own at least one step. With fewer steps than symbols
    the earliest own none, and symbols of no frames (marks, and what lies outside of a cut) never own one.
    """
    assert durations.ndim == 1 and (durations >= 0).all(), durations
    is_lasting = durations > 0
    ends = np.cumsum(durations[is_lasting])
    steps = np.zeros(len(durations), np.int64)
    nearest, count = (2 * ends + frames) // (2 * frames), durations.sum() // frames
    steps[is_lasting] = np.diff(place_borders(nearest, count), prepend=0)
    return steps


def to_step_alignment(durations: np.ndarray, frames: int) -> np.ndarray:
    """Return the symbol index of each step of `frames` frames, (sum(durations) // frames,)."""
    return to_alignment(to_step_durations(durations, frames))


def find_whole(length: int, merge: int, group: int) -> tuple[int, int]:
    """Return (start, end) in frames so that end - start is a whole number of groups of merged codes.

    Frames that fill no merged code are cut from the end, codes that fill no group from the start (VALL-E 2 eq. 2:
    there is typically a short silence).
    """
    codes = length // merge
    return codes % group * merge, codes * merge


def cut_whole(row: Utterance, merge: int, group: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the codes (T, Q) of the whole groups of a recording and, with durations, the symbol of each frame (T,).

    An alignment is constant over the merge * group frames of an AR step.
    """
    start, end = find_whole(len(row.codes), merge, group)
    assert end > start, f"{len(row.codes)} frames fill no group of {group} codes merged by {merge}"
    codes = row.codes[start:end].astype(np.int64)
    if row.durations is None:
        return codes, None
    assert row.durations.sum() == len(row.codes), "durations must add up to the frames"
    symbols = to_step_alignment(cut_durations(row.durations, start, end), merge * group)
    return codes, np.repeat(symbols, merge * group)
