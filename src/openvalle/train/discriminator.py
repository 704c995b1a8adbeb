"""Multi-resolution complex STFT discriminator for codec training (EnCodec, arXiv:2210.13438, section 3.4).

Smaller than EnCodec's: frequency strides from the first layer on, because it is the dearest part of a training step.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm


class StftDiscriminator(nn.Module):
    """(B, samples) -> a map of scores (B, 1, T', F') and the feature maps before it."""

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

    def forward(self, samples: Tensor) -> tuple[Tensor, list[Tensor]]:
        spectrum = torch.stft(
            samples, self.n_fft, self.n_fft // 4, window=self.window, return_complex=True, normalized=True
        )
        pair = torch.view_as_real(spectrum)
        # Power 0.3 keeps the phase and brings quiet harmonics within the layers' reach.
        pair = pair * (pair.pow(2).sum(-1, keepdim=True) + 1e-6).pow(-0.35)
        x = pair.permute(0, 3, 2, 1).contiguous(memory_format=torch.channels_last)  # (B, 2, T, F)
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.score(x), features


class Discriminator(nn.Module):
    """Several resolutions judged side by side."""

    def __init__(self, n_ffts: tuple[int, ...] = (2048, 1024, 512), channels: int = 24) -> None:
        super().__init__()
        self.judges = nn.ModuleList(StftDiscriminator(n_fft, channels) for n_fft in n_ffts)

    def forward(self, samples: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        return [judge(samples) for judge in self.judges]


def discriminator_loss(real: list[tuple[Tensor, list[Tensor]]], fake: list[tuple[Tensor, list[Tensor]]]) -> Tensor:
    """Hinge loss: real above 1, fake below -1."""
    losses = [
        F.relu(1 - r.float()).mean() + F.relu(1 + f.float()).mean() for (r, _), (f, _) in zip(real, fake, strict=True)
    ]
    return torch.stack(losses).mean()


def generator_losses(
    real: list[tuple[Tensor, list[Tensor]]], fake: list[tuple[Tensor, list[Tensor]]]
) -> tuple[Tensor, Tensor]:
    """Return the adversarial loss and the feature matching loss relative to the real features' size."""
    adversarial = torch.stack([-f.float().mean() for f, _ in fake]).mean()
    matches = [
        (f.float() - r.float()).abs().mean() / r.float().abs().mean().clamp(min=1e-3)
        for (_, reals), (_, fakes) in zip(real, fake, strict=True)
        for r, f in zip(reals, fakes, strict=True)
    ]
    return adversarial, torch.stack(matches).mean()
