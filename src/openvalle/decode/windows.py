"""Codebooks 2..Q of a line that is still being spoken: the NAR model goes through it in windows.

The NAR model reads a whole utterance in both directions, so its exact result is known only at the end. Here it reads
the prompt, the finished frames before a window, the window, and codebook 1 of a few frames after it. Where windows
begin and end depends on frame counts alone, so that pieces of any size give the same codes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from openvalle.config import Config
from openvalle.decode.nar import NARPromptRow, fill
from openvalle.model.config import NARPrompt
from openvalle.model.nar import NAR

EVERYTHING = 1 << 60  # frames: no window is as long


class Windows(Config):
    """How a line is cut while it is spoken. Frames are the codec's (75 a second).

    Every window is as long as all that was spoken before it in the text, because that is how long a listener is
    busy: speech at twice real time never keeps one waiting, and long texts are filled in long windows.
    """

    first: int = Field(40, ge=0, description="frames of a text's first window; 0 fills every line in one go")
    look_ahead: int = Field(12, ge=0, description="frames after a window whose codebook 1 the model reads with it")
    context: int = Field(150, ge=0, description="finished frames before a window that the model reads again")


class WindowFiller:
    """Codebooks 2..Q of one row, window by window, as its codebook 1 comes in."""

    def __init__(self, model: NAR, row: NARPromptRow, windows: Windows, spoken: int = 0) -> None:
        """`row`: text and prompt, with no frames of the target yet; `spoken`: frames before it in the text."""
        assert not len(row.first), "codebook 1 comes by `push`"
        self.model, self.row, self.windows, self.spoken = model, row, windows, spoken
        self.first = row.first  # (T,) so far
        self.path = row.path  # (Tp + T,) so far
        self.codes = torch.zeros(0, model.config.codebooks, dtype=torch.long)  # (t, Q) finished

    def push(self, first: Tensor, path: Tensor | None = None) -> Iterator[Tensor]:
        """Take codebook 1 (t,) and the symbol of each frame (t,); yield the codes (n, Q) of windows that are full."""
        self.first = torch.cat([self.first, first])
        if self.path is not None:
            assert path is not None, "this model needs the symbol of each frame"
            self.path = torch.cat([self.path, path])
        while len(self.first) >= len(self.codes) + self._size() + self.windows.look_ahead:
            yield self._fill(len(self.codes) + self._size())

    def flush(self) -> Iterator[Tensor]:
        """Yield the codes (n, Q) of what is left."""
        if len(self.first) > len(self.codes):
            yield self._fill(len(self.first))

    def _size(self) -> int:
        if not self.windows.first or self.model.config.prompt == NARPrompt.NONE:
            return EVERYTHING  # a model that reads no prompt cannot read what came before a window either
        return max(self.windows.first, self.spoken)

    def _fill(self, end: int) -> Tensor:
        """Return the codes of the frames up to `end`."""
        start, stop = len(self.codes), min(end + self.windows.look_ahead, len(self.first))
        kept = min(start, self.windows.context)
        prompt, path = self.row.prompt, self.path
        before = 0 if prompt is None else len(prompt)
        if path is not None:
            path = torch.cat([path[:before], path[before + start - kept : before + stop]])
        past = self.codes[start - kept :]
        row = replace(
            self.row,
            first=self.first[start:stop],
            prompt=past if prompt is None else torch.cat([prompt, past]),
            path=path,
            context=kept,
        )
        if not len(row.prompt if row.prompt is not None else past):
            row = replace(row, prompt=None)
        codes = fill(self.model, [row])[0][: end - start].cpu()
        self.codes = torch.cat([self.codes, codes])
        self.spoken += len(codes)
        return codes
