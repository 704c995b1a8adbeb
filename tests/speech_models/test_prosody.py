"""Pitch, tilt and distances of sounds whose pitch is known."""

from __future__ import annotations

import numpy as np
import pytest

from openvalle.audio import RATE, Audio, concatenate, silence
from openvalle.speech_models.prosody import contour_distance, pitch, prosody


def buzz(hertz: np.ndarray | float, seconds: float = 1.0, bright: float = 1.0) -> Audio:
    """Harmonics of a fundamental that may move; `bright` 0 leaves only the lowest."""
    times = np.arange(round(seconds * RATE))
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(hertz, times.shape)) / RATE
    samples = sum(bright ** (n - 1) / n * np.sin(n * phase) for n in range(1, 30))
    return Audio((0.1 * samples).astype(np.float32), RATE)


@pytest.mark.parametrize("hertz", [75.0, 110.0, 220.0, 401.0])
def test_pitch_of_a_steady_voice_is_found_within_a_fifth_of_a_semitone(hertz):
    found = pitch(buzz(hertz))[5:-8]
    assert np.isfinite(found).mean() > 0.95
    assert np.nanmedian(found) == pytest.approx(12 * np.log2(hertz), abs=0.2)


def test_noise_and_silence_have_no_pitch():
    noise = Audio((0.1 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32))
    assert np.isfinite(pitch(noise)).mean() < 0.1
    assert not np.isfinite(pitch(silence(0.5))).any()
    assert not len(pitch(silence(0.0)))
    assert np.isnan(prosody(silence(0.5)).pitch)


def test_pauses_do_not_count_as_active():
    found = prosody(concatenate([silence(0.5), buzz(150.0), silence(0.5)]))
    assert found.seconds == pytest.approx(2.0)
    assert found.active_seconds == pytest.approx(1.0, abs=0.05)


def test_range_and_contours_tell_a_rise_from_a_fall():
    rise = 120 * 2 ** np.linspace(0, 0.5, RATE)
    up, again, down = prosody(buzz(rise)), prosody(buzz(rise * 1.5)), prosody(buzz(rise[::-1]))
    assert up.pitch_range == pytest.approx(6 / np.sqrt(12), rel=0.15)
    assert contour_distance(up, again) < 0.3  # the same melody, sung higher
    assert contour_distance(up, down) > 2.5
    assert again.pitch - up.pitch == pytest.approx(12 * np.log2(1.5), abs=0.3)
    assert np.isnan(contour_distance(up, prosody(silence(0.5))))


def test_a_brighter_voice_has_less_tilt():
    assert prosody(buzz(150.0, bright=0.6)).tilt > prosody(buzz(150.0, bright=1.0)).tilt + 3


@pytest.mark.parametrize("decibels", [10.0, 15.0, 20.0])
def test_harmonicity_is_the_ratio_of_harmonics_to_the_noise_that_was_added(decibels):
    voice = buzz(140.0, seconds=2.0, bright=0.8)
    rng = np.random.default_rng(0)
    times = np.fft.rfftfreq(len(voice.samples), 1 / voice.rate)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(len(voice.samples))) * (times < 6000), len(voice.samples))
    noise *= np.sqrt(np.square(voice.samples).mean() / np.square(noise).mean() / 10 ** (decibels / 10))
    found = prosody(Audio((voice.samples + noise).astype(np.float32), voice.rate))
    assert found.harmonicity == pytest.approx(decibels, abs=1.0)
    assert prosody(voice).harmonicity > 25
    assert np.isnan(prosody(silence(0.5)).harmonicity)
