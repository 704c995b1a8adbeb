"""The built-in codec's decoder by torch in blocks of fixed sizes, so that CUDA graphs can take them (`captured`).

A block that is not full is filled up, and how much of it does not count lies on the device: what the stream carries on
is taken from before that. A whole decode is a stream, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from openvalle.codec.builtin import BuiltinCodec, BuiltinStream, DecoderState, SoundDecoder
from openvalle.codec.layers import FineState
from openvalle.codec.settings import LOOKAHEAD
from openvalle.engines.base import CodecStream
from openvalle.engines.captured import Capturer, Lease, Stock
from openvalle.engines.torch import TorchCodec, TorchCodecStream

SIZES = (32, 96, 384)  # frames; a stream's blocks have 96 at most


class StaticCodec(TorchCodec):
    """A `CodecEngine` over the built-in codec."""

    def __init__(self, codec: BuiltinCodec) -> None:
        super().__init__(codec)
        with torch.inference_mode():
            self._decoder = BlockDecoder(codec.decoder, Capturer(self._device))
        self._builtin = codec

    def decode(self, codes: np.ndarray) -> np.ndarray:
        stream = self.stream()
        return np.concatenate([stream.push(codes.astype(np.int64)), stream.flush()])

    def stream(self) -> CodecStream:
        return TorchCodecStream(BuiltinStream(self._builtin, self._decoder), self._device)


@dataclass(eq=False)
class BlockState:
    """The state of a stream, which lies where the blocks are computed."""

    blocks: Lease[Blocks]
    tail: Tensor | None = None


class BlockDecoder:
    """Does what `SoundDecoder` does for streams of one row."""

    def __init__(self, decoder: SoundDecoder, capturer: Capturer) -> None:
        self.latent, self.delay = decoder.latent, decoder.delay
        self._stock = Stock(lambda: Blocks(decoder, capturer), lambda _: 0)

    def empty_state(self, rows: int) -> BlockState:
        """Return the state of a stream that has seen nothing."""
        assert rows == 1, "a stream of the engine has one row"
        lease = Lease(self._stock)
        lease.lent.clear()
        return BlockState(lease)

    def advance(self, padded: Tensor, state: BlockState) -> tuple[Tensor, None]:
        """Return the samples (1, T * hop) that T frames finish; `padded` holds (1, T + 2 * LOOKAHEAD) latents."""
        blocks, count = state.blocks.lent, padded.shape[1] - 2 * LOOKAHEAD
        samples, start = [], 0
        while start < count:
            size = next((size for size in SIZES if size >= count - start), SIZES[-1])
            end = min(count, start + size)
            samples.append(blocks.run(padded[:, start : end + 2 * LOOKAHEAD], size))
            start = end
        state.tail = blocks.state.tail
        return torch.cat(samples, dim=1), None


class Blocks:
    """Memory of one stream, and what is done with it for blocks of each size."""

    def __init__(self, decoder: SoundDecoder, capturer: Capturer) -> None:
        self._decoder, self._capturer = decoder, capturer
        self.state = decoder.empty_state(1)
        last, device = decoder.inverse_stft, capturer.device
        self.state.tail = torch.zeros(1, last.n_fft - last.hop, device=device)
        self._latents = {size: torch.zeros(1, size + 2 * LOOKAHEAD, decoder.latent, device=device) for size in SIZES}
        self._spare = {size: torch.zeros((), dtype=torch.int64, device=device) for size in SIZES}
        self._runs: dict[int, Callable[[], Tensor]] = {}

    def clear(self) -> None:
        """Forget the stream that was here."""
        for tensor in list_tensors(self.state):
            tensor.zero_()

    def run(self, padded: Tensor, size: int) -> Tensor:
        """Return the samples (1, T * hop) of a block of T frames, at most `size`."""
        if size not in self._runs:
            self._runs[size] = self._capture(size)
        spare, latents = size + 2 * LOOKAHEAD - padded.shape[1], self._latents[size]
        latents[:, : padded.shape[1]] = padded
        latents[:, padded.shape[1] :] = 0
        self._spare[size].fill_(spare)
        samples = self._runs[size]()
        return samples[:, : samples.shape[1] // size * (size - spare)].clone()

    def _capture(self, size: int) -> Callable[[], Tensor]:
        """Return what computes blocks of this size; a stream may be under way."""
        before = [tensor.clone() for tensor in list_tensors(self.state)]
        given = self._latents[size], self._spare[size]
        run = self._capturer.capture(partial(advance_in_place, self._decoder, self.state, *given))
        for tensor, value in zip(list_tensors(self.state), before, strict=True):
            tensor.copy_(value)
        return run


def advance_in_place(decoder: SoundDecoder, state: DecoderState, latents: Tensor, spare: Tensor) -> Tensor:
    """Return the samples of a block; what is carried on is written where it was."""
    after = DecoderState(list(state.trunk), list(state.body), None, state.tail)
    if state.fine is not None:
        after.fine = FineState(list(state.fine.pitch), list(state.fine.body), replace(state.fine.source))
    samples, _ = decoder.advance(latents, after, spare=spare)
    for kept, new in zip(list_tensors(state), list_tensors(after), strict=True):
        kept.copy_(new)
    return samples


def list_tensors(state: DecoderState) -> list[Tensor]:
    """Return all that a stream carries on."""
    assert state.tail is not None
    found = [*state.trunk, *state.body, state.tail]
    if (fine := state.fine) is not None:
        source = fine.source
        found += [*fine.pitch, *fine.body, source.octaves, source.gate, source.phase, source.samples]
    return found
