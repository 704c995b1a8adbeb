"""Codebooks 2..Q of a line that is still being spoken: the NAR model goes through it in windows.

The NAR model reads a whole utterance in both directions, so its exact result is known only at the end. Here it reads
the prompt, all finished frames before a window as more of it, the window, and codebook 1 of a few frames after it: what
a longer prefix of the utterance is in training. That is so for models of the `prefix` kind alone. Others have met each
utterance from its beginning on only, with a prompt from elsewhere: they fill a line in one go. Where windows begin and
end depends on frame counts alone, so that pieces of any size give the same codes.
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


class Windows(Config):
    """How a line is cut for a listener who waits. Frames are the codec's (75 a second).

    Every window is as long as all that was spoken before it in the text, because that is how long a listener is
    busy: speech at twice real time never keeps one waiting, and long texts are filled in long windows.
    """

    first: int = Field(40, ge=1, description="frames of a text's first window")
    look_ahead: int = Field(12, ge=0, description="frames after a window whose codebook 1 the model reads with it")


class WindowFiller:
    """Codebooks 2..Q of one row, window by window, as its codebook 1 comes in."""

    def __init__(self, model: NAR, row: NARPromptRow, windows: Windows | None, spoken: int = 0) -> None:
        """`row`: text and prompt, with no frames of the target yet; `windows` None: the row in one go; `spoken`: frames
        before it in the text."""
        assert not len(row.first), "codebook 1 comes by `push`"
        self.model, self.row, self.spoken = model, row, spoken
        self.windows = windows if model.config.prompt == NARPrompt.PREFIX else None
        self.first = row.first  # (T,) so far
        self.path = row.path  # (Tp + T,) so far
        self.codes = torch.zeros(0, model.config.codebooks, dtype=torch.long)  # (t, Q) finished

    def push(self, first: Tensor, path: Tensor | None = None) -> Iterator[Tensor]:
        """Take codebook 1 (t,) and the symbol of each frame (t,); yield the codes (n, Q) of windows that are full."""
        self.first = torch.cat([self.first, first])
        if self.path is not None:
            assert path is not None, "this model needs the symbol of each frame"
            self.path = torch.cat([self.path, path])
        while self.windows and len(self.first) >= len(self.codes) + self._size() + self.windows.look_ahead:
            yield self._fill(len(self.codes) + self._size())

    def flush(self) -> Iterator[Tensor]:
        """Yield the codes (n, Q) of what is left."""
        if len(self.first) > len(self.codes):
            yield self._fill(len(self.first))

    def _size(self) -> int:
        assert self.windows is not None
        return max(self.windows.first, self.spoken)

    def _fill(self, end: int) -> Tensor:
        """Return the codes of the frames up to `end`."""
        start, prompt, path = len(self.codes), self.row.prompt, self.path
        stop = min(end + (self.windows.look_ahead if self.windows else 0), len(self.first))
        if path is not None:
            path = path[: len(path) - len(self.first) + stop]
        known = self.codes if prompt is None else torch.cat([prompt, self.codes])
        row = replace(
            self.row, first=self.first[start:stop], prompt=known if len(known) else None, path=path, own=start
        )
        codes = fill(self.model, [row])[0][: end - start].cpu()
        self.codes = torch.cat([self.codes, codes])
        self.spoken += len(codes)
        return codes
