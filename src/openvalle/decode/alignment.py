"""Which symbol of the text the next step belongs to: a monotonic pointer (VALL-E R 3.2.2), a given alignment, or none.

All three answer the same questions, for B rows of one decoding, (B,) each: which symbol of the target's text the next
step belongs to (`current`; None without alignment), how many symbols come after it (`waiting`), how many steps a row
may take (`longest`), and whether it may end after the steps so far (`may_end`) or its text is over (`must_end`).
`count` counts one step at the current symbol; `move` chooses the symbol of the next from phoneme scores (B, symbols)
and uniforms (B,). The decode loop asks and never looks which one it has.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openvalle.decode.sampling import advances
from openvalle.engines.base import pad
from openvalle.errors import ModelError
from openvalle.model.alignment import to_block_alignment

NEVER = 2**31  # more steps than any row takes


class NoAlignment:
    """Nobody knows the symbols: the length of the text bounds the steps."""

    current = None

    def __init__(self, least: np.ndarray, longest: np.ndarray) -> None:
        """`least`, `longest`: the steps of each row, (B,)."""
        self.least, self.longest = least, longest
        self.steps = 0
        self.waiting = np.zeros_like(least)
        self.must_end = np.zeros(len(least), bool)

    @property
    def may_end(self) -> np.ndarray:
        return self.steps >= self.least

    def count(self) -> None:
        self.steps += 1

    def move(self, scores: np.ndarray | None, uniform: np.ndarray, temperature: float) -> None:
        pass


class MonotonicPointer:
    """Per row it stays or moves on by one symbol, never back, and leaves none out but marks."""

    def __init__(
        self,
        symbols: Sequence[np.ndarray],
        caps: Sequence[np.ndarray],
        ends: Sequence[int] | None = None,
        marks: Sequence[int] = (),
        limit: int = NEVER,
    ) -> None:
        """`symbols` (L,) and the longest stay in steps, `caps` (L,), of each row; `ends`: how many of its symbols are
        spoken, None: all; `marks`: symbols that last no time, which are passed over; `limit`: steps of a row."""
        self.symbols, self.caps = pad(symbols), pad(caps)  # (B, L)
        self.ends = np.array([len(row) for row in symbols] if ends is None else ends)
        places = [np.flatnonzero(~np.isin(row, marks)) for row in symbols]  # of the symbols that last
        if not all(len(row) for row in places):
            raise ModelError("the text holds no sound", "give at least one phone")
        found = [
            np.searchsorted(to, np.arange(len(row)), side="right") for row, to in zip(symbols, places, strict=True)
        ]
        # For each symbol the next one that lasts, or the last that does, (B, L).
        self.after = pad([to[at.clip(max=len(to) - 1)] for at, to in zip(found, places, strict=True)])
        self.last = np.array([row[-1] for row in places])
        self.current = np.array([row[0] for row in places])
        self.held = np.zeros_like(self.last)  # steps counted at `current`
        self.longest = self.caps.sum(1).clip(max=limit)

    @property
    def waiting(self) -> np.ndarray:
        return np.maximum(self.ends - self.current - 1, 0)

    @property
    def may_end(self) -> np.ndarray:
        """Rows whose every symbol has been spoken."""
        return (self.current == self.last) & (self.held > 0)

    @property
    def must_end(self) -> np.ndarray:
        """Rows that have stayed at the last symbol for its cap, or that come to what is not to be spoken."""
        return (self.may_end & self._is_held_long()) | (self.current >= self.ends)

    def count(self) -> None:
        self.held += 1

    def move(self, scores: np.ndarray | None, uniform: np.ndarray, temperature: float) -> None:
        assert scores is not None
        rows, following = np.arange(len(self.current)), self._look_up(self.after)
        here, there = self._look_up(self.symbols), self.symbols[rows, following]
        difference = scores[rows, there] - scores[rows, here]
        # Equal neighbours have one score, which tells nothing: they are passed in one step each, and the last of them
        # stays as long as the model wants, as if they were one.
        wants = advances(difference, uniform, temperature) | (here == there) | self._is_held_long()
        moves = wants & (self.current < self.last)
        self.current = np.where(moves, following, self.current)
        self.held = np.where(moves, 0, self.held)

    def _is_held_long(self) -> np.ndarray:
        return self.held >= self._look_up(self.caps)

    def _look_up(self, table: np.ndarray) -> np.ndarray:
        return table[np.arange(len(table)), self.current]


class PresetAlignment:
    """Goes along given alignments (prosody transfer, VALL-E R 3.2.3) and ends with them."""

    def __init__(self, alignments: Sequence[np.ndarray], ends: Sequence[int]) -> None:
        """`alignments` (N,): index of each step's symbol in the row's target text; `ends`: how many symbols of each
        text are spoken."""
        self.alignments, self.ends = pad(alignments), np.array(ends)
        self.longest = np.array([len(row) for row in alignments])
        self.steps = 0
        self.may_end = np.zeros(len(alignments), bool)  # no row ends by itself

    @property
    def current(self) -> np.ndarray:
        """Beyond its end the last symbol of an alignment."""
        return self.alignments[np.arange(len(self.ends)), np.minimum(self.steps, self.longest - 1)]

    @property
    def waiting(self) -> np.ndarray:
        return np.maximum(self.ends - self.current - 1, 0)

    @property
    def must_end(self) -> np.ndarray:
        return (self.steps >= self.longest) | (self.current >= self.ends)

    def count(self) -> None:
        pass  # the place in the alignment tells

    def move(self, scores: np.ndarray | None, uniform: np.ndarray, temperature: float) -> None:
        self.steps += 1


Pointer = NoAlignment | MonotonicPointer | PresetAlignment


def stretch(alignment: np.ndarray, steps: int) -> np.ndarray:
    """Return an alignment (N,) to the symbols 0 to n without a gap as one of `steps` steps, all stays longer or
    shorter by the same factor; each symbol keeps one step at least."""
    durations = np.bincount(alignment)
    return to_block_alignment(durations * max(steps, len(durations)), len(alignment))


def check_alignment(alignment: np.ndarray, symbols: int) -> None:
    """Raise `ModelError` unless `alignment` (N,) can be followed through a text of `symbols` symbols.

    It may leave symbols out and go back: that is the caller's intention.
    """
    if alignment.ndim != 1 or not len(alignment) or alignment.min() < 0 or alignment.max() >= symbols:
        raise ModelError(
            f"the preset alignment does not fit the text of {symbols} symbols",
            f"give one index from 0 to {symbols - 1} for every step",
        )
