"""Distances of spectra: of log-mels, and of samples at several resolutions on mel and on linear frequencies.

And the pitch of speech, which the decoder's harmonic source learns to predict: the difference function of YIN
(de Cheveigné and Kawahara, 2002) for a whole batch on the training device; see also `speech_models.prosody`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvalle.codec.layers import normalized_mel_filters

LOWEST, HIGHEST = 60.0, 550.0  # hertz
WINDOW_SECONDS = 0.04  # compared with what lies a period later
VOICED = 0.2  # a frame whose aperiodicity is lower than this is voiced
QUIET = 1e-6  # mean square of a frame under which nothing counts as voiced: -60 dB
JUMP = 0.3  # octaves off the median of its neighbours at which a frame's pitch is not believed


@torch.no_grad()
def find_pitch(samples: Tensor, rate: int, hop: int, first: int) -> tuple[Tensor, Tensor]:
    """Return the pitch in hertz of samples (B, N) every `hop`, (B, N // hop), 0 where nothing is voiced, and the
    normalised autocorrelation at that pitch. `first`: sample that the first frame is centred on."""
    shortest, longest = int(rate / HIGHEST), int(rate / LOWEST)
    window = round(WINDOW_SECONDS * rate)
    size, count = window + longest + 1, samples.shape[1] // hop
    before = size // 2 - first
    padded = F.pad(samples.float(), (max(0, before), size + hop))[:, max(0, -before) :]
    frames = padded.unfold(1, size, hop)[:, :count]  # (B, T, size)
    normal, likeness = _differences(frames, window, longest)
    inside = normal[..., shortest:longest]
    lowest = inside.amin(-1, keepdim=True)
    # The first dip that is deep enough, not the deepest: the deepest is often an octave too low.
    dips = inside <= torch.maximum(lowest + 0.05, lowest.new_tensor(VOICED / 2))
    lag = _bottom(inside, dips.float().argmax(-1)) + shortest
    found = likeness.gather(-1, lag.round().long()[..., None])[..., 0]
    voiced = (lowest[..., 0] < VOICED) & (frames.pow(2).mean(-1) > QUIET)
    return _steady(torch.where(voiced, rate / lag, 0.0)), found


def _differences(frames: Tensor, window: int, longest: int) -> tuple[Tensor, Tensor]:
    """Return YIN's normalised difference and the normalised autocorrelation for lags 0 to `longest`, (B, T, lags)."""
    length = 1 << (frames.shape[-1] - 1).bit_length()
    spectrum = torch.fft.rfft(frames, length) * torch.fft.rfft(frames[..., :window], length).conj()
    cross = torch.fft.irfft(spectrum, length)[..., : longest + 1]
    sums = F.pad(frames.double().pow(2).cumsum(-1), (1, 0))
    energy = (sums[..., window : window + longest + 1] - sums[..., : longest + 1]).float()
    difference = (energy[..., :1] + energy - 2 * cross).clamp(min=0)
    difference[..., 0] = 0
    lags = torch.arange(longest + 1, device=frames.device).clamp(min=1)
    normal = difference / (difference.cumsum(-1) / lags).clamp(min=1e-9)
    normal[..., 0] = 1
    return normal, cross / (energy[..., :1] * energy).clamp(min=1e-18).sqrt()


def _bottom(values: Tensor, start: Tensor) -> Tensor:
    """Return the place of the first minimum at or after `start` in each row (..., lags), refined by a parabola."""
    places = torch.arange(values.shape[-1] - 1, device=values.device)
    after = (values.diff(dim=-1) >= 0) & (places >= start[..., None])
    place = torch.where(after.any(-1), after.float().argmax(-1), start).clamp(1, values.shape[-1] - 2)
    left, middle, right = (values.gather(-1, (place + shift)[..., None])[..., 0] for shift in (-1, 0, 1))
    bend = left - 2 * middle + right
    return place + torch.where(bend.abs() > 1e-9, 0.5 * (left - right) / bend, 0.0).clamp(-0.5, 0.5)


def _steady(hertz: Tensor) -> Tensor:
    """Drop stretches of one or two voiced frames and mend jumps of about an octave within the others, (B, T)."""
    voiced = hertz > 0
    run = F.pad(voiced.float(), (2, 2)).unfold(1, 3, 1).amin(-1)  # three in a row from here
    voiced = run.unfold(1, 3, 1).amax(-1) > 0
    near = fill_unvoiced(torch.where(voiced, hertz, 0.0))
    middle = F.pad(near[:, None], (3, 3), mode="replicate")[:, 0].unfold(1, 7, 1).median(-1).values
    jumps = (near / middle).log2().abs() > JUMP
    return torch.where(voiced, torch.where(jumps, middle, near), 0.0)


def fill_unvoiced(hertz: Tensor) -> Tensor:
    """Return pitches (B, T) with each zero replaced by the last pitch before it, or else the first one after it; 1 in
    rows without any."""
    places = torch.arange(hertz.shape[1], device=hertz.device).expand_as(hertz)
    last = torch.where(hertz > 0, places, -1).cummax(1).values
    first = (hertz > 0).float().argmax(1, keepdim=True)
    filled = hertz.gather(1, torch.where(last >= 0, last, first))
    return torch.where(filled > 0, filled, 1.0)


def harmonicity(samples: Tensor, rate: int) -> Tensor:
    """Return the mean harmonics-to-noise ratio of the voiced frames of samples (B, N), in decibels; 0 without any."""
    hertz, likeness = find_pitch(samples, rate, rate // 100, 0)
    likeness = likeness[hertz > 0].clamp(1e-3, 0.9999)
    return (10 * (likeness / (1 - likeness)).log10()).sum() / max(1, len(likeness))


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
