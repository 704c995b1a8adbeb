"""The best way through a CTC lattice (Graves et al. 2006): in which frames each of a given row of states is heard.

A lattice here is a row of states, each of one class (a sound, or the blank). A frame stays in its state or goes on to
the next one; states that are optional, as blanks are, may be passed over.
"""

from __future__ import annotations

import numpy as np

WINDOW = 2048  # states that are looked at together: all of them in clips of up to a minute
_NEVER = -np.inf


def find_path(scores: np.ndarray, labels: np.ndarray, optional: np.ndarray, window: int = WINDOW) -> np.ndarray | None:
    """Return the state of each frame on the likeliest path, (T,) int64; None if no path leads through.

    `scores` (T, K): log-likelihood of each class at each frame; `labels` (S,): the class of each state, three or more;
    `optional` (S,) bool: may be passed over, never two neighbours. Time and memory grow with the frames alone: of
    lattices with more states than `window` only those near the best one of a frame are looked at.
    """
    frames, states = len(scores), len(labels)
    assert states >= 3 and not np.any(optional[1:] & optional[:-1]), (states, optional)
    width = min(window, states)
    moves, bases = np.zeros((frames, width), np.uint8), np.zeros(frames, np.int64)
    passes = np.where(np.concatenate([[False, False], optional[1:-1]]), 0.0, _NEVER)  # into each state, by two
    best = np.full(width, _NEVER)
    best[: 1 + bool(optional[0])] = scores[0, labels[: 1 + bool(optional[0])]]
    base, places = 0, np.arange(width)
    for frame in range(1, frames):
        ahead = min(int(best.argmax()) - width // 2, states - width - base)
        if ahead > 0:  # what lies far behind is given up
            best = np.concatenate([best[ahead:], np.full(ahead, _NEVER)])
            base += ahead
        bases[frame] = base
        ways = np.full((3, width), _NEVER)
        ways[0] = best
        ways[1, 1:] = best[:-1]
        ways[2, 2:] = best[:-2] + passes[base + 2 : base + width]
        moves[frame] = ways.argmax(0)
        best = ways[moves[frame], places] + scores[frame, labels[base : base + width]]
    ends = [states - 1, states - 2] if optional[-1] else [states - 1]
    ends = [end for end in ends if end >= base and end - base < width and np.isfinite(best[end - base])]
    if not ends:
        return None
    state = max(ends, key=lambda end: float(best[end - base]))
    path = np.empty(frames, np.int64)
    for frame in range(frames - 1, -1, -1):
        path[frame] = state
        state -= int(moves[frame, state - bases[frame]])
    return path
