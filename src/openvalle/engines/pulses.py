"""What the codec does between its networks, in NumPy: a pulse train from pitch, spectra and overlapping windows.

The same as `HarmonicSource` and `InverseSTFT` in `openvalle.codec.layers`, for one row.
"""

from __future__ import annotations

import math

import numpy as np

from openvalle.codec.settings import HIGHEST, LOWEST, MIDDLE, TOP


def hann_window(size: int) -> np.ndarray:
    """Return the periodic Hann window, (size,) float32."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)


def synthesis_window(size: int, hop: int) -> np.ndarray:
    """Return the Hann window over what its squares sum to at this hop, which is a constant."""
    window = hann_window(size)
    return window / np.square(window).reshape(-1, hop).sum(0).mean()


def overlap_add(frames: np.ndarray, tail: np.ndarray, hop: int) -> tuple[np.ndarray, np.ndarray]:
    """Add windowed frames (T, size) at each hop to the tail (size - hop,) of those before; return the finished samples
    (T * hop,) and the tail for the next."""
    count, size = frames.shape
    pieces = frames.reshape(count, size // hop, hop)
    total = np.zeros((count + size // hop - 1, hop), np.float32)
    total[: size // hop - 1] = tail.reshape(-1, hop)
    for place in range(size // hop):
        total[place : place + count] += pieces[:, place]
    return total[:count].reshape(-1), total[count:].reshape(-1)


def log_spectra(samples: np.ndarray, size: int, hop: int) -> np.ndarray:
    """Return the magnitudes (T, size // 2 + 1) of samples (N,), each window centred on its frame; the last frame is
    filled with silence."""
    side = (size - hop) // 2
    padded = np.pad(samples.astype(np.float32), (side, side + -len(samples) % hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    spectra = np.fft.rfft(frames * hann_window(size))
    return np.sqrt(np.maximum(np.square(spectra.real) + np.square(spectra.imag), 1e-12)).astype(np.float32)


class PulseTrain:
    """Pitch and voicing of each frame -> the spectrum of a pulse train in each short window, block by block."""

    def __init__(self, rate: int, hop: int, size: int, step: int) -> None:
        """`size`, `step`: samples of a window, and from one to the next."""
        self.rate, self.hop, self.size, self.step = rate, hop, size, step
        self._window = hann_window(size) / np.float32(math.sqrt(size))
        self._octaves, self._gate, self._phase = 0.0, np.float32(0), 0.0  # at the end of the last frame
        self._samples = np.zeros(size - step, np.float32)

    def push(self, octaves: np.ndarray, voicing: np.ndarray) -> np.ndarray:
        """Return spectra (T * hop / step, size // 2 + 1) for pitch, octaves over `MIDDLE`, and voicing, a probability,
        (T,) each at the end of a frame; in between they go in straight lines."""
        samples = self._pulses(octaves.astype(np.float64), voicing.astype(np.float32))
        heard = np.concatenate([self._samples, samples])
        self._samples = heard[len(samples) :]
        frames = np.lib.stride_tricks.sliding_window_view(heard, self.size)[:: self.step]
        return np.fft.rfft(frames * self._window)

    def _pulses(self, octaves: np.ndarray, gate: np.ndarray) -> np.ndarray:
        before = np.concatenate([[self._octaves], octaves[:-1]])
        gate_before = np.concatenate([[self._gate], gate[:-1]])
        ramp = np.arange(1, self.hop + 1) / self.hop
        hertz = np.clip(MIDDLE * np.exp2(before[:, None] + (octaves - before)[:, None] * ramp), LOWEST, HIGHEST)
        inside = (hertz / self.rate).cumsum(-1)  # (T, hop)
        ends = inside[:, -1].cumsum()  # periods from the block's start to each frame's end
        starts = ends - inside[:, -1] + self._phase
        # Each voiced stretch begins a pulse of its own, as in `HarmonicSource`.
        onset = (gate > 0.5) & (gate_before <= 0.5)
        last = np.maximum.accumulate(np.where(onset, np.arange(len(gate)), -1))
        starts = starts - np.where(last >= 0, starts[np.maximum(last, 0)], 0.0)
        periods = np.modf(starts[:, None] + inside)[0]
        self._octaves, self._gate, self._phase = float(octaves[-1]), gate[-1], float(periods[-1, -1])
        level = gate_before[:, None] + (gate - gate_before)[:, None] * ramp.astype(np.float32)
        return (level * _harmonics(periods.astype(np.float32), hertz.astype(np.float32))).reshape(-1).astype(np.float32)


def _harmonics(periods: np.ndarray, hertz: np.ndarray) -> np.ndarray:
    """Return the sum of all cosines up to `TOP`, in unit power; the highest one fades, so that none begins at once."""
    count = np.float32(TOP) / hertz
    whole = np.floor(count)
    half = np.float32(math.pi) * periods
    below = np.sin(half)
    near = np.abs(below) < 1e-5
    kernel = np.sin((2 * whole + 1) * half) / np.where(near, np.float32(1), below)  # Dirichlet's
    total = (np.where(near, 2 * whole + 1, kernel) - 1) / 2 + (count - whole) * np.cos(2 * (whole + 1) * half)
    return total * np.sqrt(2 / count)
