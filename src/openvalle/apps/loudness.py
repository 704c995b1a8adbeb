"""Loudness by ITU-R BS.1770-4, block by block, and the gain that brings a chapter to what audiobooks have.

Libraries ask for -23 to -18 dB and peaks of at most -3 dB (ACX, of the RMS; for a voice without long silences LUFS
differ from that by about 1). The meter is that of BS.1770, for one channel: K-weighting, blocks of 400 ms that overlap
by three quarters, an absolute gate at -70 LUFS and a relative one 10 LU below what passes it.
"""

from __future__ import annotations

import math

import numpy as np

from openvalle.audio import Audio

QUIETEST, TARGET, LOUDEST = -23.0, -20.0, -18.0  # LUFS
PEAK = -3.0  # dBFS
_GATE, _BELOW = -70.0, -10.0  # LUFS; LU
_HOPS = 4  # of 100 ms in a block
_OFFSET = -0.691  # so that 997 Hz at full scale in one channel is -3.01 LUFS
_TAIL = 0.2  # seconds after which nothing is left of the filters' response


def k_weighting(rate: int) -> np.ndarray:
    """Return the impulse response (taps,) of the two filters of BS.1770, which are given there for 48 kHz: a shelf for
    the head, and a high-pass; designed anew for `rate`."""
    shelf, high = math.tan(math.pi * 1681.974450955533 / rate), math.tan(math.pi * 38.13547087602444 / rate)
    gain = 10 ** (3.999843853973347 / 20)
    middle, q, q_high = gain**0.4996667741545416, 0.7071752369554196, 0.5003270373238773
    scale = 1 + shelf / q + shelf**2
    forward = [gain + middle * shelf / q + shelf**2, 2 * (shelf**2 - gain), gain - middle * shelf / q + shelf**2]
    back = [2 * (shelf**2 - 1), 1 - shelf / q + shelf**2]
    scale_high = 1 + high / q_high + high**2
    back_high = [2 * (high**2 - 1), 1 - high / q_high + high**2]
    impulse = [1.0] + [0.0] * round(_TAIL * rate)
    shelved = _filter(impulse, [each / scale for each in forward], [each / scale for each in back])
    return np.array(_filter(shelved, [1.0, -2.0, 1.0], [each / scale_high for each in back_high]))


def _filter(samples: list[float], forward: list[float], back: list[float]) -> list[float]:
    """Return what a filter of second order makes of the samples."""
    given, made = [0.0, 0.0], [0.0, 0.0]
    found = []
    for sample in samples:
        value = forward[0] * sample + forward[1] * given[0] + forward[2] * given[1]
        value -= back[0] * made[0] + back[1] * made[1]
        given, made = [sample, given[0]], [value, made[0]]
        found.append(value)
    return found


class LoudnessMeter:
    """Samples in, loudness out; it holds little more than a number for every 100 ms."""

    def __init__(self, rate: int) -> None:
        self.samples = 0  # that were heard
        self.peak = 0.0  # the largest sample's size
        self._hop = round(rate / 10)
        self._response = k_weighting(rate)
        self._size = 1 << (len(self._response) * 4 - 1).bit_length()  # of a transform
        self._spectrum = np.fft.rfft(self._response, self._size)
        self._before = np.zeros(len(self._response) - 1)  # samples that the next block's filters still hear
        self._rest = np.zeros(0)  # weighted samples of an unfinished hop
        self._energies: list[np.ndarray] = []  # mean squares of hops

    def push(self, audio: Audio) -> None:
        """Hear the next samples."""
        samples = audio.samples.astype(np.float64)
        self.samples += len(samples)
        self.peak = max(self.peak, float(np.abs(samples).max(initial=0.0)))
        step = self._size - len(self._before)
        for start in range(0, len(samples), step):
            block = np.concatenate([self._before, samples[start : start + step]])
            weighted = np.fft.irfft(np.fft.rfft(block, self._size) * self._spectrum, self._size)
            self._add(weighted[len(self._before) : len(block)])
            self._before = block[len(block) - len(self._before) :]

    def _add(self, weighted: np.ndarray) -> None:
        joined = np.concatenate([self._rest, weighted])
        count = len(joined) // self._hop
        hops, self._rest = joined[: count * self._hop], joined[count * self._hop :]
        self._energies.append(np.square(hops.reshape(count, self._hop)).mean(axis=1))

    def measure(self) -> float:
        """Return the loudness in LUFS; minus infinity if all was silent."""
        hops = np.concatenate([np.zeros(0), *self._energies])
        if len(hops) < _HOPS:  # less than a block: as if it were one
            hops = np.full(_HOPS, (hops.sum() * self._hop + np.square(self._rest).sum()) / (_HOPS * self._hop))
        blocks = np.convolve(hops, np.full(_HOPS, 1 / _HOPS), mode="valid")
        loud = blocks[blocks > _power(_GATE)]
        if not len(loud):
            return -math.inf
        loud = loud[loud > loud.mean() * 10 ** (_BELOW / 10)]
        return _OFFSET + 10 * math.log10(loud.mean())


def _power(loudness: float) -> float:
    return float(10 ** ((loudness - _OFFSET) / 10))


def choose_gain(meter: LoudnessMeter, target: float) -> float:
    """Return the factor that brings what was heard to `target` LUFS, or as near as its peaks allow."""
    loudness = meter.measure()
    if loudness == -math.inf or not meter.peak:
        return 1.0
    return float(min(10 ** ((target - loudness) / 20), 10 ** (PEAK / 20) / meter.peak))
