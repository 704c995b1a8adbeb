"""Distances of spectra: of log-mels, and of samples at several resolutions on mel and on linear frequencies."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvalle.codec.layers import normalized_mel_filters

RESOLUTIONS = ((2048, 120), (1024, 80), (512, 40), (256, 20))  # samples of a window, mel bins


class Spectra(NamedTuple):
    """Distances, each the mean over the resolutions."""

    mel: Tensor  # L1 of log-mels
    linear: Tensor  # spectral convergence, and L1 of log-magnitudes (Parallel WaveGAN, arXiv:1910.11480, section 2.2)


class SpectralLoss(nn.Module):
    """Samples that were made and those that they should be, (B, N) -> their distances."""

    def __init__(self, rate: int, floor: float) -> None:
        """Magnitudes below `floor` count as silence."""
        super().__init__()
        self.floor = floor
        self.window_256: Tensor
        for n_fft, bins in RESOLUTIONS:
            self.register_buffer(f"window_{n_fft}", torch.hann_window(n_fft), persistent=False)
            self.register_buffer(f"filters_{n_fft}", normalized_mel_filters(rate, n_fft, bins), persistent=False)

    def forward(self, made: Tensor, wanted: Tensor) -> Spectra:
        found = [self._at(n_fft, made.float(), wanted.float()) for n_fft, _ in RESOLUTIONS]
        return Spectra(*(torch.stack(each).mean() for each in zip(*found, strict=True)))

    def _at(self, n_fft: int, made: Tensor, wanted: Tensor) -> Spectra:
        a, b = self._magnitude(n_fft, made), self._magnitude(n_fft, wanted)
        filters = self.get_buffer(f"filters_{n_fft}")
        with torch.autocast(made.device.type, enabled=False):
            mel = F.l1_loss(self._log(a @ filters), self._log(b @ filters))
        convergence = (a - b).norm() / b.norm().clamp(min=1e-3)
        return Spectra(mel, convergence + F.l1_loss(self._log(a), self._log(b)))

    def _magnitude(self, n_fft: int, samples: Tensor) -> Tensor:
        window = self.get_buffer(f"window_{n_fft}")
        frames = torch.stft(samples, n_fft, n_fft // 4, window=window, return_complex=True)
        return torch.view_as_real(frames).pow(2).sum(-1).clamp(min=1e-12).sqrt().transpose(1, 2)  # (B, T, F)

    def _log(self, magnitude: Tensor) -> Tensor:
        return magnitude.clamp(min=self.floor).log()


def mel_distance(predicted: Tensor, target: Tensor) -> Tensor:
    """L1 of log-mels (B, T, bins) and of their steps in time, which keeps the decoder from blurring onsets."""
    steps = F.l1_loss(predicted.diff(dim=1), target.diff(dim=1))
    return F.l1_loss(predicted, target) + 0.5 * steps
