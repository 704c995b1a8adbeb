"""Sounds that a listening test makes itself: anchors, clips for catch trials, tones for the headphone check."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from openvalle.audio import Audio

ANCHOR_HERTZ = 3500.0  # low anchor of ITU-R BS.1534-3
POOR_HERTZ = 1200.0  # a catch clip must be poor on any loudspeaker
POOR_SNR_DB = 3.0
TONE_HERTZ = 200.0  # Woods et al. 2017, "Headphone screening to facilitate web-based auditory experiments"
TONE_SECONDS, RAMP_SECONDS, GAP_SECONDS = 1.0, 0.1, 0.5
QUIETER_DB = -6.0
TONE_LEVEL = 0.25  # peak of the louder tones
TONE_RATE = 24_000
ORDERS = tuple(permutations(("loud", "quiet", "antiphase")))  # the six trials of the check


def low_passed(audio: Audio, hertz: float) -> Audio:
    """Return the sound below `hertz`, with a raised-cosine edge a tenth of it wide."""
    frequencies = np.fft.rfftfreq(len(audio.samples), 1 / audio.rate)
    edge = np.clip((frequencies - hertz) / (0.1 * hertz), 0, 1)
    spectrum = np.fft.rfft(audio.samples) * (0.5 + 0.5 * np.cos(np.pi * edge))
    return Audio(np.fft.irfft(spectrum, len(audio.samples)).astype(np.float32), audio.rate)


def anchor(audio: Audio) -> Audio:
    """Return the MUSHRA anchor of a reference: its band below 3.5 kHz."""
    return low_passed(audio, ANCHOR_HERTZ)


def poor(audio: Audio, rng: np.random.Generator) -> Audio:
    """Return a version that no listener takes for the better one: dull and noisy, at the same level."""
    dull = low_passed(audio, POOR_HERTZ).samples
    power = float(np.mean(np.square(dull, dtype=np.float64)))
    noise = rng.standard_normal(len(dull)) * np.sqrt(power / 10 ** (POOR_SNR_DB / 10))
    mixed = dull + noise
    gain = np.sqrt(np.mean(np.square(audio.samples, dtype=np.float64)) / max(np.mean(np.square(mixed)), 1e-12))
    return Audio(np.clip(mixed * gain, -1, 1).astype(np.float32), audio.rate)


def headphone_tones(order: tuple[str, ...]) -> np.ndarray:
    """Return three tones in a row, (samples, 2) float32 at `TONE_RATE`.

    One tone is 6 dB quieter and one is loud with the channels in opposite phase. Through headphones the quiet one
    is found easily; through loudspeakers the opposite phases cancel, and the loud tone seems to be the quietest.
    """
    times = np.arange(round(TONE_SECONDS * TONE_RATE)) / TONE_RATE
    ramp = np.clip(np.minimum(times, TONE_SECONDS - times) / RAMP_SECONDS, 0, 1)
    tone = TONE_LEVEL * np.sin(2 * np.pi * TONE_HERTZ * times) * np.sin(0.5 * np.pi * ramp) ** 2
    quiet = tone * 10 ** (QUIETER_DB / 20)
    sounds = {"loud": (tone, tone), "quiet": (quiet, quiet), "antiphase": (tone, -tone)}
    gap = np.zeros((round(GAP_SECONDS * TONE_RATE), 2))
    parts = [part for name in order for part in (np.stack(sounds[name], axis=1), gap)]
    return np.concatenate(parts[:-1]).astype(np.float32)
