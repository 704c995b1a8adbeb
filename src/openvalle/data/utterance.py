"""`Utterance`: one tokenised recording with its aligned symbols, and crops of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Utterance:
    """`text`: symbol ids (S,); `codes`: (T, Q); `durations`: frames of each symbol (S,), sum T; all int64.

    Byte pairs are not aligned: they have no durations, and no part of their sound can be named.
    """

    id: str
    speaker: str
    language: str
    text: Tensor
    codes: Tensor
    durations: Tensor | None
    recording: Tensor | None = None  # (R, Q) codes of the whole recording, of which this is a part
    start: int = 0  # frame of the recording at which it begins

    @property
    def path(self) -> Tensor:
        """Index into `text` of each frame, (T,)."""
        assert self.durations is not None, "byte pairs have no path"
        return torch.repeat_interleave(torch.arange(len(self.text)), self.durations)

    def part(self, first: int, last: int) -> Utterance:
        """Return the symbols [first, last) with their frames."""
        assert self.durations is not None, "byte pairs cannot be cut"
        edges = [0, *torch.cumsum(self.durations, 0).tolist()]
        return replace(
            self,
            text=self.text[first:last],
            codes=self.codes[edges[first] : edges[last]],
            durations=self.durations[first:last],
            recording=self.codes if self.recording is None else self.recording,
            start=self.start + edges[first],
        )


def crop(utterance: Utterance, max_frames: int, rng: np.random.Generator, block: int = 2) -> Utterance:
    """Return a random stretch of whole symbols of at most `max_frames`, the whole utterance if it fits.

    Stretches begin and end on a multiple of `block` frames, so that merged frames stay whole. A symbol that
    alone lasts longer than `max_frames` is never split: with no stretch that fits, the shortest symbol is kept.
    """
    if len(utterance.codes) <= max_frames:
        return utterance
    assert utterance.durations is not None, "byte pairs cannot be cut"
    edges = np.concatenate([[0], np.cumsum(utterance.durations.numpy())])  # (S + 1,)
    # Symbol boundaries at a block's edge; marks last no time and stay with the symbol after them.
    usable = np.flatnonzero((edges % block == 0) & (np.diff(edges, prepend=-1) > 0))
    ends = np.searchsorted(edges[usable], edges[usable] + max_frames, side="right") - 1
    starts = np.flatnonzero(ends > np.arange(len(usable)))
    # Only starts from which no more fits at the end are left out: the rest are about `max_frames` long.
    full = starts[edges[usable[starts]] + max_frames <= edges[-1]]
    choice = full if len(full) else starts
    if not len(choice):
        lasting = np.flatnonzero(utterance.durations.numpy())
        place = int(utterance.durations[lasting].argmin())
        return utterance.part(int(lasting[place - 1]) + 1 if place else 0, int(lasting[place]) + 1)
    start = int(rng.choice(choice))
    return utterance.part(int(usable[start]), int(usable[ends[start]]))
