"""Sound as the models that judge speech read it: at 16 kHz, and as mel spectrograms.

The spectrograms are those of librosa's and Kaldi's defaults, which the models were trained on.
"""

from __future__ import annotations

import numpy as np

from openvalle.audio import Audio, is_silent, mel_filters, resample
from openvalle.errors import AudioError

RATE = 16_000  # of the models, in hertz


def to_model_samples(audio: Audio) -> np.ndarray:
    """Return the samples at `RATE`; `AudioError` if they are silent."""
    if not len(audio.samples) or is_silent(audio):
        raise AudioError("the recording is silent", "give a recording of someone speaking")
    return resample(audio, RATE).samples


def power_mel(samples: np.ndarray, rate: int, window: int, hop: int, bands: int) -> np.ndarray:
    """Return the mel power spectrogram of (samples,) as (frames, bands) float32, frames centred every `hop`."""
    padded = np.pad(samples, window // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    power = np.abs(np.fft.rfft(frames * hann.astype(np.float32), axis=1)) ** 2
    return (power @ mel_filters(rate, window, bands, slaney=True).T).astype(np.float32)


def kaldi_fbank(samples: np.ndarray, rate: int, bands: int) -> np.ndarray:
    """Return Kaldi's log mel energies of (samples,) in [-1, 1] as (frames, bands) float32, without dither.

    25 ms every 10 ms, only whole windows; each without its mean, pre-emphasised by 0.97, under Povey's window.
    """
    window, hop = rate * 25 // 1000, rate // 100
    if len(samples) < window:
        return np.zeros((0, bands), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), window)[::hop]
    frames = frames - frames.mean(axis=1, keepdims=True)
    frames = frames - 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    povey = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / (window - 1))) ** 0.85
    size = 1 << (window - 1).bit_length()
    power = np.abs(np.fft.rfft(frames * povey, size, axis=1)) ** 2
    mel = _kaldi_mel(np.fft.rfftfreq(size, 1 / rate))[None]
    lowest, highest = _kaldi_mel(np.array([20.0, rate / 2])).tolist()
    edges = np.linspace(lowest, highest, bands + 2)
    centre = edges[1:-1, None]
    step = edges[1] - edges[0]  # bands overlap by half
    filters = np.maximum(0, 1 - np.abs(mel - centre) / step)  # (bands, bins)
    return np.log(np.maximum(power @ filters.T, np.finfo(np.float32).eps)).astype(np.float32)


def _kaldi_mel(hz: np.ndarray) -> np.ndarray:
    return 1127 * np.log1p(hz / 700)
