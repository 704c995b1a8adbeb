"""Blocks of the built-in codec: log-mel analysis, ConvNeXt blocks with explicit streaming state, inverse STFT head."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvalle.audio import hertz_to_mel, mel_filters


def normalized_mel_filters(rate: int, n_fft: int, bins: int) -> Tensor:
    """Return (n_fft // 2 + 1, bins) float32 triangular filters, HTK mel scale from 0 to rate / 2, each of sum 1."""
    filters = mel_filters(rate, n_fft, bins)
    # A narrow low band may fall between two bins of the transform; give it its nearest one rather than silence.
    for band in np.flatnonzero(filters.sum(1) == 0):
        mel = float(hertz_to_mel(rate / 2)) * (band + 1) / (bins + 1)
        filters[band, round(700 * (10 ** (mel / 2595) - 1) / rate * n_fft)] = 1
    return torch.from_numpy((filters / filters.sum(1, keepdims=True)).T).float()


class LogMel(nn.Module):
    """(B, samples) -> log-mel (B, T, bins), one frame a hop, window centred on the frame.

    Magnitudes below `floor` count as silence. The rounding of 16-bit audio reaches about 2e-4 in bands that hold
    nothing else; a floor above it makes a signal the same to the network whether it was stored in between or not.
    """

    def __init__(self, rate: int, n_fft: int, hop: int, bins: int, floor: float) -> None:
        super().__init__()
        self.floor = floor
        self.window: Tensor
        self.filters: Tensor
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("filters", normalized_mel_filters(rate, n_fft, bins), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Samples whose count is not a multiple of the hop are padded with silence."""
        samples = F.pad(samples.float(), (0, -samples.shape[1] % self.hop))
        side = (self.n_fft - self.hop) // 2
        padded = F.pad(samples, (side, side))
        frames = torch.stft(padded, self.n_fft, self.hop, window=self.window, center=False, return_complex=True)
        magnitude = torch.view_as_real(frames).pow(2).sum(-1).clamp(min=1e-12).sqrt()  # (B, F, T)
        return (magnitude.transpose(1, 2) @ self.filters).clamp(min=self.floor).log()


class DepthwiseConv(nn.Module):
    """Depthwise convolution over time on (B, T, C); causal (with carried context) or centred."""

    def __init__(self, width: int, kernel: int, causal: bool) -> None:
        super().__init__()
        self.kernel, self.causal = kernel, causal
        self.conv = nn.Conv1d(width, width, kernel, groups=width)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """`context`: the (B, kernel - 1, C) inputs before x; silence when None."""
        x = x.transpose(1, 2)
        if not self.causal:
            return self.conv(F.pad(x, (self.kernel // 2, self.kernel // 2))).transpose(1, 2)
        x = F.pad(x, (self.kernel - 1, 0)) if context is None else torch.cat([context.transpose(1, 2), x], dim=2)
        return self.conv(x).transpose(1, 2)


class ConvNeXt(nn.Module):
    """ConvNeXt block on (B, T, C): depthwise convolution, norm, pointwise feed-forward, scaled residual."""

    def __init__(self, width: int, feedforward: int, kernel: int, causal: bool, scale: float) -> None:
        super().__init__()
        self.mix = DepthwiseConv(width, kernel, causal)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, feedforward)
        self.down = nn.Linear(feedforward, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return x + self.scale * self.down(F.gelu(self.up(self.norm(self.mix(x, context)))))


class Backbone(nn.Module):
    """A row of ConvNeXt blocks; causal ones can carry their contexts from call to call."""

    def __init__(self, width: int, feedforward: int, depth: int, kernel: int, causal: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ConvNeXt(width, feedforward, kernel, causal, scale=1 / max(depth, 1)) for _ in range(depth)
        )
        self.keep, self.width = kernel - 1, width

    def forward(self, x: Tensor, contexts: list[Tensor] | None = None) -> Tensor:
        """`contexts`, one (B, kernel - 1, C) per block, is updated in place for the next call."""
        for index, block in enumerate(self.blocks):
            context = None
            if contexts is not None:
                context = contexts[index]
                contexts[index] = torch.cat([context, x], dim=1)[:, -self.keep :]
            x = block(x, context)
        return x

    def empty_contexts(self, rows: int) -> list[Tensor]:
        """Return the contexts of a stream that has seen nothing."""
        parameter = next(self.parameters())
        return [parameter.new_zeros(rows, self.keep, self.width) for _ in self.blocks]


class InverseSTFT(nn.Module):
    """(B, T, C) -> overlapping windowed frames (B, T, n_fft) through predicted magnitude and phase (Vocos)."""

    def __init__(self, width: int, n_fft: int, hop: int, outputs: int = 2) -> None:
        """`outputs`: numbers predicted for each bin."""
        super().__init__()
        assert n_fft % hop == 0, (n_fft, hop)
        self.n_fft, self.hop, self.overlap = n_fft, hop, n_fft // hop
        self.project = nn.Linear(width, outputs * (n_fft // 2 + 1))
        window = torch.hann_window(n_fft)
        # Squared Hann windows at this overlap sum to a constant, so the envelope is one number.
        self.register_buffer(
            "window", window / window.pow(2).reshape(self.overlap, hop).sum(0).mean(), persistent=False
        )

    def forward(self, x: Tensor) -> Tensor:
        log_magnitude, phase = self.project(x).float().chunk(2, dim=-1)
        magnitude = log_magnitude.clamp(max=6.0).exp()
        return self.frames(torch.complex(magnitude * phase.cos(), magnitude * phase.sin()))

    def frames(self, spectrum: Tensor) -> Tensor:
        """Return the windowed frames (B, T, n_fft) of spectra (B, T, n_fft // 2 + 1)."""
        return torch.fft.irfft(spectrum, self.n_fft, dim=-1) * self.window

    def overlap_add(self, frames: Tensor, tail: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Add windowed frames (B, T, n_fft) at each hop.

        Returns the finished samples (B, T * hop) and the unfinished tail (B, n_fft - hop) for the next call.
        """
        rows, count, _ = frames.shape
        pieces = frames.reshape(rows, count, self.overlap, self.hop)
        total = torch.zeros(rows, count + self.overlap - 1, self.hop, dtype=frames.dtype, device=frames.device)
        if tail is not None:
            total[:, : self.overlap - 1] += tail.reshape(rows, self.overlap - 1, self.hop)
        total = total + sum(F.pad(pieces[:, :, k], (0, 0, k, self.overlap - 1 - k)) for k in range(self.overlap))
        samples = total.reshape(rows, -1)
        return samples[:, : count * self.hop], samples[:, count * self.hop :]
