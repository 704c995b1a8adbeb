"""Where something was said: reverberation time, signal-to-noise ratio and bandwidth, estimated blindly.

All three hear one clip of speech and know nothing else. Their errors are measured in docs/evaluation.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openvalle.audio import Audio, levels

FRAME_SECONDS = 0.008  # of the decay curves
SMOOTHING = 5  # frames that a decay curve is averaged over
BANDS = ((400, 800), (800, 1600), (1600, 3200), (3200, 6000))  # hertz; decays are looked for in each
MIN_DECAY_SECONDS, MIN_DECAY_DB = 0.1, 5.0  # shorter or shallower decays say nothing
# Speech does not stop at once, and decays in it are interrupted: the median decay (first) is not the room's (second).
# Measured on eight readers in simulated rooms.
CALIBRATION = ((0.27, 0.345, 0.49, 0.63, 0.75, 0.93, 1.15), (0.1, 0.2, 0.4, 0.6, 0.8, 1.2, 1.8))  # seconds
QUIETEST = 0.1  # share of the frames that are taken for pauses
PAUSE_MARGIN = 1.3  # times the power of the pauses: what is louder is speech
MAX_SNR = 60.0  # decibels; pauses of digital silence would give infinity
BAND_DB = 60.0  # frequencies this much under the loudest are not there
SPECTRUM_WINDOW = 1024


@dataclass(frozen=True)
class Acoustics:
    """`reverberation`: seconds until a sound has fallen by 60 dB, nan if none is heard to fall; `noise`: speech
    over noise in decibels; `bandwidth`: hertz."""

    reverberation: float
    noise: float
    bandwidth: float


def acoustics(audio: Audio) -> Acoustics:
    """Return the estimates for one clip."""
    return Acoustics(reverberation_time(audio), noise_ratio(audio), bandwidth(audio))


def noise_ratio(audio: Audio) -> float:
    """Return the power of the speech over that of the pauses, in decibels, at most `MAX_SNR`.

    The clip needs a tenth of pauses; steady noise only. A reverberant tail fills the pauses and counts as noise.
    """
    power = 10 ** (levels(audio, 0.02).astype(np.float64) / 10)
    quiet = np.sort(power)[: max(1, round(len(power) * QUIETEST))].mean()
    # The active part is within 25 dB of the loudest, as in openvalle.audio.normalize, and louder than the pauses.
    active = power[(power > power.max() * 10**-2.5) & (power > PAUSE_MARGIN * quiet)]
    loud = active.mean() if len(active) else quiet
    ratio = (loud - quiet) / max(quiet, 1e-12)
    return float(np.clip(10 * np.log10(max(ratio, 0.1)), -10.0, MAX_SNR))


def bandwidth(audio: Audio) -> float:
    """Return the highest frequency within `BAND_DB` of the loudest in the average spectrum, in hertz; 0 in silence."""
    window = min(SPECTRUM_WINDOW, len(audio.samples))
    frames = np.lib.stride_tricks.sliding_window_view(audio.samples.astype(np.float64), window)[:: window // 2]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(window), axis=1))).mean(axis=0)
    width = max(1, round(200 / (audio.rate / window)))
    smooth = np.convolve(power, np.ones(width) / width, mode="same")
    there = np.flatnonzero(smooth > smooth.max() * 10 ** (-BAND_DB / 10))
    return float(there[-1] * audio.rate / window) if len(there) else 0.0


def reverberation_time(audio: Audio) -> float:
    """Return the reverberation time in seconds, from the median of the decays in all bands."""
    rates = [rate for band in BANDS if band[1] < audio.rate / 2 for rate in _decay_rates(_envelope(audio, band))]
    if len(rates) < 3:
        return float("nan")
    return float(np.interp(60.0 / float(np.median(rates)), *CALIBRATION))


def _envelope(audio: Audio, band: tuple[int, int]) -> np.ndarray:
    """Return the level of a band in decibels, one value every `FRAME_SECONDS`, smoothed."""
    size = round(audio.rate * FRAME_SECONDS)
    window = 4 * size
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(audio.samples, window // 2), window)[::size]
    spectrum = np.fft.rfft(frames * np.hanning(window).astype(np.float32), axis=1)
    hertz = np.fft.rfftfreq(window, 1 / audio.rate)
    power = np.square(np.abs(spectrum[:, (hertz >= band[0]) & (hertz < band[1])])).sum(axis=1).astype(np.float64)
    return 10 * np.log10(np.convolve(power, np.ones(SMOOTHING) / SMOOTHING, mode="same") + 1e-12)


def _decay_rates(level: np.ndarray) -> list[float]:
    """Return the slopes, in decibels a second, of the stretches where the level falls without a break."""
    floor = float(np.quantile(level, 0.05)) + 6  # what lies under is noise, which does not decay
    falling = (np.diff(level) < 0) & (level[1:] > floor)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], falling.astype(int), [0]])))
    rates = []
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        count = end - start + 1
        drop = level[start] - level[end]
        if count * FRAME_SECONDS >= MIN_DECAY_SECONDS and drop >= MIN_DECAY_DB:
            times = np.arange(count) * FRAME_SECONDS
            rates.append(float(-np.polyfit(times, level[start : end + 1], 1)[0]))
    return rates
