"""Codebook 1 of a line, as it comes -> its sound: codebooks 2..Q in one go or in windows, the codec in blocks.

With the same windows, or none, the samples are the same whether codebook 1 comes step by step or is complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from openvalle.audio import Audio
from openvalle.codec.base import Codec, CodecSpec
from openvalle.decode.nar import NARPromptRow
from openvalle.decode.windows import WindowFiller, Windows
from openvalle.model.alignment import durations_of
from openvalle.model.nar import NAR
from openvalle.synth.lines import Line, times_of
from openvalle.synth.speech import Quality, Speech

BLOCK = 32  # frames decoded at a time: convolutions prepare themselves for every size they meet, and keep that


class Renderer:
    """One line on its way from codebook 1 to samples."""

    def __init__(
        self,
        nar: NAR,
        codec: Codec,
        row: NARPromptRow,
        windows: Windows | None,
        merge: int,
        spoken: int,
        places: Tensor | None,
    ) -> None:
        """`row`: the line's text and prompt; `windows` None: the line in one go; `merge`: frames per code of codebook
        1; `spoken`: frames before it; `places` (L,): where the row's text holds each symbol of the line; None without
        alignment."""
        self.filler = WindowFiller(nar, row, windows, spoken)
        self.decoder, self.merge, self.device = codec.stream(), merge, nar.codes.device
        self.path = torch.zeros(0, dtype=torch.long)  # (T / merge,) symbol of each step, counted in the line
        self.places = places
        self.blocks: list[np.ndarray] = []  # what was yielded

    @property
    def codes(self) -> Tensor:
        """The codes (T, Q) that are finished."""
        return self.filler.codes

    def push(self, first: Tensor, path: Tensor | None = None) -> Iterator[np.ndarray]:
        """Take steps of codebook 1 (n,) with their symbols (n,); yield the samples that are final."""
        spread = None
        if path is not None:
            assert self.places is not None, "a model without alignment has no path"
            self.path = torch.cat([self.path, path.cpu()])
            spread = self.places[path.cpu()].repeat_interleave(self.merge)
        yield from self._decoded(self.filler.push(first.cpu().repeat_interleave(self.merge), spread))

    def flush(self) -> Iterator[np.ndarray]:
        """Yield the rest of the samples."""
        yield from self._decoded(self.filler.flush())
        if len(self.codes):
            yield self._kept(self.decoder.flush())

    def speech(self, line: Line, spec: CodecSpec, quality: Quality) -> Speech:
        """Return everything as the speech of `line`."""
        audio = Audio(np.concatenate([*self.blocks, np.zeros(0, np.float32)]), spec.rate)
        durations: tuple[int, ...] = ()
        if len(self.path):
            durations = tuple((durations_of(self.path, len(line.symbols)) * self.merge).tolist())
        words, phones = times_of(line, durations, spec.frame_rate, audio.seconds) if durations else ((), ())
        return Speech(
            audio=audio,
            text=line.text,
            words=words,
            phones=phones,
            quality=quality,
            codes=self.codes.numpy().astype(np.uint16),
            symbols=line.symbols if durations else (),
            durations=durations,
            speaker=line.voice or "",
        )

    def _decoded(self, windows: Iterable[Tensor]) -> Iterator[np.ndarray]:
        for codes in windows:
            for block in codes.split(BLOCK):
                yield self._kept(self.decoder.push(block[None].to(self.device)))

    def _kept(self, decoded: Tensor) -> np.ndarray:
        self.blocks.append(np.ascontiguousarray(decoded[0].float().cpu().numpy(), np.float32))
        return self.blocks[-1]
