"""What is done to a prompt on purpose: a room, noise, a telephone. The same every time for the same clip.

A condition is a name with its value: `clean`, `room-0.6` (reverberation time in seconds), `noise-15` (speech over
noise in decibels), `band-4000` (bandwidth in hertz).
"""

from __future__ import annotations

import numpy as np

from openvalle.audio import Audio, levels, normalize, resample
from openvalle.errors import UserError

CLEAN = "clean"
KINDS = {"room": "reverberation", "noise": "noise", "band": "bandwidth"}  # kind -> the measure that should follow it
DIRECT_SHARE = 0.5  # of the energy that reaches the microphone directly
SEED = 20_301  # of the rooms and noises: they are the same in every run


def parse_condition(condition: str) -> tuple[str, float] | None:
    """Return the measure that follows the condition and the value put in; None for `clean`."""
    if condition == CLEAN:
        return None
    kind, _, value = condition.partition("-")
    try:
        return KINDS[kind], float(value)
    except (KeyError, ValueError):
        hint = "use clean, room-SECONDS, noise-DECIBELS or band-HERTZ"
        raise UserError(f"there is no condition {condition!r}", hint) from None


def apply_condition(audio: Audio, condition: str) -> Audio:
    """Return the sound in that condition, at the level that it had."""
    found = parse_condition(condition)
    if found is None:
        return audio
    kind, value = found
    changed = {"reverberation": add_room, "noise": add_noise, "bandwidth": limit_band}[kind](audio, value)
    return normalize(changed)


def add_room(audio: Audio, seconds: float) -> Audio:
    """Return the sound in a room with that reverberation time: exponentially decaying noise as impulse response."""
    rng = np.random.default_rng(SEED)
    times = np.arange(round(1.5 * seconds * audio.rate)) / audio.rate
    tail = rng.standard_normal(len(times)) * 10 ** (-3 * times / seconds)
    tail *= np.sqrt((1 - DIRECT_SHARE) / DIRECT_SHARE / np.square(tail).sum())
    response = np.concatenate([[1.0], tail])
    length = len(audio.samples) + len(response) - 1
    spectrum = np.fft.rfft(audio.samples, length) * np.fft.rfft(response, length)
    return Audio(np.fft.irfft(spectrum, length)[: len(audio.samples)].astype(np.float32), audio.rate)


def add_noise(audio: Audio, decibels: float) -> Audio:
    """Return the sound with white noise that much under the active part of the speech."""
    frames = 10 ** (levels(audio, 0.02).astype(np.float64) / 10)
    active = frames[frames > frames.max() * 10**-2.5].mean()
    noise = np.random.default_rng(SEED).standard_normal(len(audio.samples))
    return Audio((audio.samples + np.sqrt(active / 10 ** (decibels / 10)) * noise).astype(np.float32), audio.rate)


def limit_band(audio: Audio, hertz: float) -> Audio:
    """Return the sound without what lies above that frequency."""
    narrow = resample(audio, round(2 * hertz))
    samples = resample(narrow, audio.rate).samples
    samples = np.pad(samples, (0, max(0, len(audio.samples) - len(samples))))[: len(audio.samples)]
    return Audio(samples.astype(np.float32), audio.rate)
