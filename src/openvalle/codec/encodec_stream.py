"""Streaming EnCodec's decoder, exactly: convolutions carry their last inputs, the LSTM its state.

The decoder is causal, so nothing is late but the start: EnCodec pads the beginning with its own reflection, for
which the first convolution must have seen seven frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EncodecStream:
    """Protocol: `codec.base.DecoderStream`. `latents` turns codes (B, t, Q) into the decoder's input (B, D, t)."""

    def __init__(self, decoder: nn.Module, latents: Callable[[Tensor], Tensor]) -> None:
        self.decoder: Any = decoder
        self.latents = latents
        self._first = first_frames(decoder)
        self._waiting: Tensor | None = None  # (B, D, < first) until the start has been decoded
        self._states: dict[nn.Module, Any] = {}

    @torch.inference_mode()
    def push(self, codes: Tensor) -> Tensor:
        """Take codes (B, t, Q); return the finished samples (B, n)."""
        x = self.latents(codes)
        if not self._states:
            x = x if self._waiting is None else torch.cat([self._waiting, x], dim=-1)
            self._waiting = x
            if x.shape[-1] < self._first:
                return x.new_zeros(len(x), 0)
        if not x.shape[-1]:
            return x.new_zeros(len(x), 0)
        for layer in self.decoder.layers:
            x = self._advance(layer, x)
        return x[:, 0]

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """Return the last samples (B, n): none, unless the whole was shorter than the start that is waited for."""
        if self._waiting is None:
            return torch.zeros(1, 0)
        if self._states or not self._waiting.shape[-1]:
            return self._waiting.new_zeros(len(self._waiting), 0)
        return self.decoder(self._waiting)[:, 0]

    def _advance(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Return what one layer makes of its next inputs (B, C, t)."""
        from transformers.models.encodec import modeling_encodec as encodec

        if isinstance(layer, encodec.EncodecConv1d):
            return self._convolve(layer, x)
        if isinstance(layer, encodec.EncodecConvTranspose1d):
            return self._upsample(layer, x)
        if isinstance(layer, encodec.EncodecLSTM):
            y, self._states[layer] = layer.lstm(x.permute(2, 0, 1), self._states.get(layer))
            return y.permute(1, 2, 0) + x
        if isinstance(layer, encodec.EncodecResnetBlock):
            y = x
            for inner in layer.block:
                y = self._advance(inner, y)
            return self._advance(layer.shortcut, x) + y
        return layer(x)

    def _convolve(self, layer: Any, x: Tensor) -> Tensor:
        context = _context(layer.conv)
        if not context:
            return layer.conv(x)
        before = self._states.get(layer)
        x = F.pad(x, (context, 0), mode=layer.pad_mode) if before is None else torch.cat([before, x], dim=-1)
        self._states[layer] = x[..., -context:]
        return layer.conv(x)

    def _upsample(self, layer: Any, x: Tensor) -> Tensor:
        # A kernel of two strides: each output is made of one input and the one before it.
        stride, new = layer.conv.stride[0], x.shape[-1]
        before = self._states.get(layer)
        self._states[layer] = x[..., -1:]
        joined = x if before is None else torch.cat([before, x], dim=-1)
        skipped = (joined.shape[-1] - new) * stride
        return layer.conv(joined)[..., skipped : skipped + new * stride]


def first_frames(decoder: nn.Module) -> int:
    """Return how many frames the start needs, so that each convolution can reflect its first inputs."""
    frames, scale = 1, 1  # scale: samples of a layer's input per frame
    for layer in decoder.modules():
        if isinstance(layer, nn.ConvTranspose1d):
            assert layer.kernel_size[0] == 2 * layer.stride[0], (layer.kernel_size, layer.stride)
            scale *= layer.stride[0]
        elif isinstance(layer, nn.Conv1d):
            assert layer.stride[0] == 1, layer.stride
            frames = max(frames, math.ceil((_context(layer) + 1) / scale))
    return frames


def _context(conv: nn.Conv1d) -> int:
    return (conv.kernel_size[0] - 1) * conv.dilation[0]
