"""Discriminators for codec training: STFTs at several resolutions and periods of several lengths, side by side.

- Complex STFTs (EnCodec, arXiv:2210.13438, section 3.4), with frequency strides from the first layer on.
- Periods (HiFi-GAN, arXiv:2010.05646, section 2.3): they hear whether what comes a pitch period later is alike. Their
  layers are half as wide as there: they are the dearest part of a training step.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

Verdict = tuple[Tensor, list[Tensor]]  # a map of scores (B, 1, ...) and the feature maps before it


class StftDiscriminator(nn.Module):
    """(B, samples) -> scores (B, 1, T', F') and the feature maps before them."""

    def __init__(self, n_fft: int, channels: int) -> None:
        super().__init__()
        self.window: Tensor
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        shapes = [(2, channels, 1), (channels, channels, 1), (channels, channels, 2), (channels, channels, 4)]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(i, o, (3, 9), stride=(1, 2), dilation=(dilation, 1), padding=(dilation, 4)))
            for i, o, dilation in shapes
        )
        self.score = weight_norm(nn.Conv2d(channels, 1, (3, 3), padding=(1, 1)))

    def forward(self, samples: Tensor) -> Verdict:
        spectrum = torch.stft(
            samples, self.n_fft, self.n_fft // 4, window=self.window, return_complex=True, normalized=True
        )
        pair = torch.view_as_real(spectrum)
        # Power 0.3 keeps the phase and brings quiet harmonics within the layers' reach.
        pair = pair * (pair.pow(2).sum(-1, keepdim=True) + 1e-6).pow(-0.35)
        x = pair.permute(0, 3, 2, 1).contiguous(memory_format=torch.channels_last)  # (B, 2, T, F)
        return _judge(self.layers, self.score, x)


class PeriodDiscriminator(nn.Module):
    """(B, samples) -> scores (B, 1, T', period) and the feature maps before them."""

    def __init__(self, period: int, channels: int) -> None:
        """`channels`: of the first layer; the later ones have up to 16 times as many."""
        super().__init__()
        self.period = period
        widths = [1, channels, 4 * channels, 8 * channels, 16 * channels, 16 * channels]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(i, o, (5, 1), stride=(3 if index < 4 else 1, 1), padding=(2, 0)))
            for index, (i, o) in enumerate(pairwise(widths))
        )
        self.score = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, samples: Tensor) -> Verdict:
        rows = F.pad(samples, (0, -samples.shape[1] % self.period)).reshape(len(samples), 1, -1, self.period)
        return _judge(self.layers, self.score, rows.contiguous(memory_format=torch.channels_last))


def _judge(layers: nn.ModuleList, score: nn.Module, x: Tensor) -> Verdict:
    features = []
    for layer in layers:
        x = F.leaky_relu(layer(x), 0.2)
        features.append(x)
    return score(x), features


class Discriminator(nn.Module):
    """Several resolutions and periods judged side by side."""

    def __init__(
        self,
        n_ffts: Sequence[int] = (2048, 1024, 512),
        channels: int = 32,
        periods: Sequence[int] = (2, 3, 5, 7, 11),
        period_channels: int = 32,
    ) -> None:
        super().__init__()
        self.judges = nn.ModuleList(
            [StftDiscriminator(n_fft, channels) for n_fft in n_ffts]
            + [PeriodDiscriminator(period, period_channels) for period in periods]
        )

    def forward(self, samples: Tensor) -> list[Verdict]:
        return [judge(samples) for judge in self.judges]


def discriminator_loss(real: Sequence[Verdict], fake: Sequence[Verdict]) -> Tensor:
    """Hinge loss: real above 1, fake below -1."""
    losses = [
        F.relu(1 - r.float()).mean() + F.relu(1 + f.float()).mean() for (r, _), (f, _) in zip(real, fake, strict=True)
    ]
    return torch.stack(losses).mean()


def generator_losses(real: Sequence[Verdict], fake: Sequence[Verdict]) -> tuple[Tensor, Tensor]:
    """Return the adversarial loss and the feature matching loss relative to the real features' size."""
    adversarial = torch.stack([-f.float().mean() for f, _ in fake]).mean()
    matches = [
        F.l1_loss(f, r).float() / r.abs().mean().float().clamp(min=1e-3)
        for (_, reals), (_, fakes) in zip(real, fake, strict=True)
        for r, f in zip(reals, fakes, strict=True)
    ]
    return adversarial, torch.stack(matches).mean()
