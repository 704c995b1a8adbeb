"""The monotonic pointer of VALL-E R (3.2.2): which symbol of the text the next frame belongs to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from openvalle.decode.sampling import advances
from openvalle.errors import ModelError
from openvalle.model.alignment import merge_path


class Pointer:
    """Per row, the symbol of the next step: it stays or moves on by one, never back, and leaves none out but marks."""

    def __init__(self, symbols: Sequence[Tensor], caps: Sequence[Tensor], marks: Sequence[int] = ()) -> None:
        """`symbols` (L,) and the longest stay in steps, `caps` (L,), of each row; `marks`: symbols that last no time,
        which are passed over."""
        self.symbols = pad_sequence(list(symbols), batch_first=True)  # (B, L)
        self.caps = pad_sequence(list(caps), batch_first=True)
        places = [_lasting(row, marks) for row in symbols]
        self.first = torch.stack([row[0] for row in places])  # (B,)
        self.last = torch.stack([row[-1] for row in places])
        after = [_following(len(row), where) for row, where in zip(symbols, places, strict=True)]
        self.after = pad_sequence(after, batch_first=True)  # (B, L) the symbol that each is left for
        self.current = torch.full_like(self.last, -1)
        self.held = torch.zeros_like(self.last)  # steps emitted at `current`

    def move(self, scores: Tensor | None, uniform: Tensor, temperature: float) -> None:
        """Choose the symbol of the next step from phoneme scores (B, symbols); the first step takes the first."""
        if scores is None:
            self.current = self.first
            return
        following = self._at(self.after, self.current)
        here = self._at(self.symbols, self.current)
        there = self._at(self.symbols, following)
        difference = (scores.gather(1, there[:, None]) - scores.gather(1, here[:, None]))[:, 0]
        # Equal neighbours have one score, which tells nothing: they are passed in one step each, and the last of them
        # stays as long as the model wants, as if they were one.
        wants = advances(difference, uniform, temperature) | (here == there) | self._is_held_long()
        moves = wants & (self.current < self.last)
        self.current = torch.where(moves, following, self.current)
        self.held = torch.where(moves, 0, self.held)

    def emit(self) -> None:
        """Count one step at the current symbol."""
        self.held = self.held + 1

    @property
    def may_end(self) -> Tensor:
        """Rows (B,) whose every symbol has been spoken."""
        return (self.current == self.last) & (self.held > 0)

    @property
    def must_end(self) -> Tensor:
        """Rows (B,) that have stayed at the last symbol for its cap."""
        return self.may_end & self._is_held_long()

    def _is_held_long(self) -> Tensor:
        return self.held >= self._at(self.caps, self.current)

    @staticmethod
    def _at(table: Tensor, index: Tensor) -> Tensor:
        return table.gather(1, index[:, None])[:, 0]


class PresetPointer:
    """A pointer that follows given paths (prosody transfer, VALL-E R 3.2.3) and ends with them."""

    def __init__(self, paths: Sequence[Tensor]) -> None:
        """`paths` (N,): index of each step's symbol in the row's target text."""
        self.paths = pad_sequence(list(paths), batch_first=True)
        self.lens = torch.tensor([len(path) for path in paths], device=self.paths.device)
        self.step = -1

    @property
    def current(self) -> Tensor:
        """Symbol of the next step, (B,); beyond a path's end its last."""
        at = torch.minimum(torch.full_like(self.lens, self.step), self.lens - 1)
        return self.paths.gather(1, at[:, None])[:, 0]

    def move(self, scores: Tensor | None, uniform: Tensor, temperature: float) -> None:
        """Go on along the paths: there is nothing to choose."""
        self.step += 1

    def emit(self) -> None:
        """The step's place on the path counts it already."""

    @property
    def may_end(self) -> Tensor:
        """No row ends by itself."""
        return torch.zeros_like(self.lens, dtype=torch.bool)

    @property
    def must_end(self) -> Tensor:
        """Rows (B,) at the end of their path."""
        return self.step >= self.lens


def stretched(path: Tensor, steps: int) -> Tensor:
    """Return a path (N,) through the symbols 0 to n without a gap as one of `steps` steps, all stays longer or shorter
    by the same factor; each symbol keeps one step at least."""
    durations = torch.bincount(path.cpu())
    return merge_path(durations * max(steps, len(durations)), len(path))


def _lasting(symbols: Tensor, marks: Sequence[int]) -> Tensor:
    """Return the places of the symbols (L,) that last, (N,); `ModelError` if none does."""
    places = torch.nonzero(~torch.isin(symbols, symbols.new_tensor(list(marks))))[:, 0]
    if not len(places):
        raise ModelError("the text holds no sound", "give at least one phone")
    return places


def _following(length: int, places: Tensor) -> Tensor:
    """Return, for each of `length` symbols, the next of `places` after it, or the last, (length,)."""
    at = torch.searchsorted(places, torch.arange(length, device=places.device), right=True)
    return places[at.clamp(max=len(places) - 1)]


def check_path(path: Tensor, symbols: int) -> None:
    """Raise `ModelError` unless `path` (N,) can be followed through a text of `symbols` symbols.

    It may leave symbols out and go back: that is the caller's intention.
    """
    if path.ndim != 1 or not len(path) or int(path.min()) < 0 or int(path.max()) >= symbols:
        raise ModelError(
            f"the preset path does not fit the text of {symbols} symbols",
            f"give one index from 0 to {symbols - 1} for every step",
        )
