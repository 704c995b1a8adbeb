"""Which symbol of the text a row's next step belongs to: by a monotonic pointer (VALL-E R 3.2.2), as given, or unknown.

All three answer the same questions of one row: which symbol of the target's text the next step belongs to (`current`;
None without alignment), how many symbols come after it (`waiting`), how many steps the row may take (`longest`), and
whether it may end after the steps so far (`may_end`) or its text is over (`must_end`). `count` counts one step at the
current symbol; `move` chooses the symbol of the next from phoneme scores (symbols,) and a number in [0, 1). The decode
loop asks and never looks which one it has.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openvalle.decode.sampling import advances
from openvalle.errors import ModelError
from openvalle.model.alignment import to_step_alignment

NEVER = 2**31  # more steps than any row takes


class NoAlignment:
    """For models without alignment: no symbol is known, and the length of the text bounds the steps."""

    current = None
    waiting = 0
    must_end = False

    def __init__(self, least: int, longest: int) -> None:
        self.least, self.longest = least, longest
        self.steps = 0

    @property
    def may_end(self) -> bool:
        return self.steps >= self.least

    def count(self) -> None:
        self.steps += 1

    def move(self, scores: np.ndarray | None, uniform: float, temperature: float) -> None:
        pass


class MonotonicPointer:
    """Stays at a symbol or moves on by one (VALL-E R 3.2.2), never back, and leaves none out but marks."""

    def __init__(
        self,
        symbols: np.ndarray,
        caps: np.ndarray,
        end: int | None = None,
        marks: Sequence[int] = (),
        limit: int = NEVER,
        pauses: Sequence[int] = (),
        stay_bias: float = 0.0,
    ) -> None:
        """`symbols` (L,), and `caps` (L,), the longest stay at each in steps; `end`: how many of them are spoken, None:
        all; `marks`: symbols that last no time, which are passed over; `limit`: steps in all; `pauses`: symbols of
        silence; `stay_bias`: what staying at others scores more than the model says."""
        self.symbols, self.caps = symbols.tolist(), caps.tolist()
        self.end = len(symbols) if end is None else end
        places = np.flatnonzero(~np.isin(symbols, marks))  # of the symbols that last
        if not len(places):
            raise ModelError("the text holds no sound", "give at least one phone")
        found = np.searchsorted(places, np.arange(len(symbols)), side="right")
        # For each symbol the next one that lasts, or the last that does.
        self.after = places[found.clip(max=len(places) - 1)].tolist()
        self.current, self.last = int(places[0]), int(places[-1])
        self.held = 0  # steps counted at `current`
        self.longest = min(sum(self.caps), limit)
        self.pauses, self.stay_bias = pauses, stay_bias

    @property
    def waiting(self) -> int:
        return max(self.end - self.current - 1, 0)

    @property
    def may_end(self) -> bool:
        """Whether every symbol has been spoken."""
        return self.current == self.last and self.held > 0

    @property
    def must_end(self) -> bool:
        """Whether it has stayed at the last symbol for its cap, or comes to what is not to be spoken."""
        return (self.may_end and self._is_held_long) or self.current >= self.end

    def count(self) -> None:
        self.held += 1

    def move(self, scores: np.ndarray | None, uniform: float, temperature: float) -> None:
        assert scores is not None
        if self.current >= self.last:
            return
        following = self.after[self.current]
        here, there = self.symbols[self.current], self.symbols[following]
        difference = scores[there] - scores[here]
        if here not in self.pauses:
            difference -= self.stay_bias
        elif temperature:
            # The end of a pause is unlikely at every step of it: sharpened, it would come with the cap. So pauses last
            # as long as the model says.
            temperature = 1.0
        # Equal neighbours have one score, which tells nothing: they are passed in one step each, and the last of them
        # stays as long as the model wants, as if they were one.
        if self._is_held_long or here == there or advances(difference, uniform, temperature):
            self.current, self.held = following, 0

    @property
    def _is_held_long(self) -> bool:
        return self.held >= self.caps[self.current]


class PresetAlignment:
    """Goes along a given alignment (prosody transfer, VALL-E R 3.2.3) and ends with it."""

    may_end = False  # it never ends by itself

    def __init__(self, alignment: np.ndarray, end: int) -> None:
        """`alignment` (N,): index of each step's symbol in the target's text; `end`: how many symbols are spoken."""
        self.alignment, self.end = alignment.tolist(), end
        self.longest = len(alignment)
        self.steps = 0

    @property
    def current(self) -> int:
        """Beyond its end the last symbol of the alignment."""
        return self.alignment[min(self.steps, self.longest - 1)]

    @property
    def waiting(self) -> int:
        return max(self.end - self.current - 1, 0)

    @property
    def must_end(self) -> bool:
        return self.steps >= self.longest or self.current >= self.end

    def count(self) -> None:
        pass  # the place in the alignment tells

    def move(self, scores: np.ndarray | None, uniform: float, temperature: float) -> None:
        self.steps += 1


Pointer = NoAlignment | MonotonicPointer | PresetAlignment


def stretch(alignment: np.ndarray, steps: int) -> np.ndarray:
    """Return an alignment (N,) to the symbols 0 to n without a gap as one of `steps` steps, all stays longer or
    shorter by the same factor; each symbol keeps one step at least."""
    durations = np.bincount(alignment)
    return to_step_alignment(durations * max(steps, len(durations)), len(alignment))


def check_alignment(alignment: np.ndarray, symbols: int) -> None:
    """Raise `ModelError` unless `alignment` (N,) can be followed through a text of `symbols` symbols.

    It may leave symbols out and go back: that is the caller's intention.
    """
    if alignment.ndim != 1 or not len(alignment) or alignment.min() < 0 or alignment.max() >= symbols:
        raise ModelError(
            f"the preset alignment does not fit the text of {symbols} symbols",
            f"give one index from 0 to {symbols - 1} for every step",
        )
