"""What was put into a clip comes out of the blind estimators, within a stated error."""

from __future__ import annotations

import numpy as np
import pytest

from openvalle.audio import RATE, Audio
from openvalle.speech_models.acoustics import MAX_SNR, acoustics, bandwidth, noise_ratio, reverberation_time


def dry(seconds: float = 6.0) -> Audio:
    """Bursts of broad noise that die away as speech does (60 dB in 0.15 to 0.45 s), with pauses between them."""
    rng = np.random.default_rng(0)
    samples = np.zeros(round(seconds * RATE))
    place = 2400
    while place < len(samples) - 20_000:
        count = int(rng.integers(1440, 4800))
        times = np.arange(9600) / RATE
        decay = np.concatenate([np.ones(count), 10 ** (-3 * times / rng.uniform(0.15, 0.45))])
        samples[place : place + len(decay)] += 0.1 * rng.uniform(0.4, 1) * decay * rng.standard_normal(len(decay))
        place += count + int(rng.integers(6000, 14_400))
    return Audio((samples + 1e-5 * rng.standard_normal(len(samples))).astype(np.float32), RATE)


def in_room(audio: Audio, seconds: float) -> Audio:
    times = np.arange(round(1.5 * seconds * RATE)) / RATE
    tail = np.random.default_rng(1).standard_normal(len(times)) * 10 ** (-3 * times / seconds)
    response = np.concatenate([[1.0], tail / np.sqrt(np.square(tail).sum())])
    length = len(audio.samples) + len(response)
    spectrum = np.fft.rfft(audio.samples, length) * np.fft.rfft(response, length)
    return Audio(np.fft.irfft(spectrum, length)[: len(audio.samples)].astype(np.float32), RATE)


def in_noise(audio: Audio, decibels: float) -> Audio:
    frames = np.square(audio.samples[: len(audio.samples) // 480 * 480].astype(float)).reshape(-1, 480).mean(axis=1)
    active = frames[frames > frames.max() * 10**-2.5].mean()
    noise = np.random.default_rng(2).standard_normal(len(audio.samples))
    return Audio((audio.samples + np.sqrt(active * 10 ** (-decibels / 10)) * noise).astype(np.float32), RATE)


@pytest.mark.parametrize("seconds", [0.5, 0.8, 1.2])
def test_reverberation_is_found_within_a_third(seconds):
    assert reverberation_time(in_room(dry(), seconds)) == pytest.approx(seconds, rel=1 / 3)


def test_longer_rooms_are_longer():
    found = [reverberation_time(in_room(dry(), seconds)) for seconds in (0.2, 0.4, 0.6, 0.9, 1.3)]
    assert found == sorted(found)


@pytest.mark.parametrize("decibels", [5, 10, 20, 30])
def test_noise_is_found_within_two_decibels(decibels):
    assert noise_ratio(in_noise(dry(), decibels)) == pytest.approx(decibels, abs=2)


def test_digital_pauses_give_the_largest_ratio_and_all_noise_a_small_one():
    clean = Audio(np.where(np.arange(RATE * 2) % 12_000 < 6000, 0.1, 0).astype(np.float32))
    assert noise_ratio(clean) == MAX_SNR
    noise = Audio((0.1 * np.random.default_rng(0).standard_normal(RATE * 2)).astype(np.float32))
    assert noise_ratio(noise) < 0


@pytest.mark.parametrize("hertz", [3400, 6000, 10_000])
def test_bandwidth_is_found_within_five_per_cent(hertz):
    spectrum = np.fft.rfft(dry().samples)
    spectrum[np.fft.rfftfreq(len(dry().samples), 1 / RATE) > hertz] = 0
    narrow = Audio(np.fft.irfft(spectrum).astype(np.float32), RATE)
    assert bandwidth(narrow) == pytest.approx(hertz, rel=0.05)


def test_a_clip_without_decays_has_no_reverberation_time():
    tone = Audio(np.sin(np.arange(RATE) * 0.1).astype(np.float32))
    found = acoustics(tone)
    assert np.isnan(found.reverberation)
    assert np.isfinite(found.noise)
    assert np.isfinite(found.bandwidth)
    nothing = acoustics(Audio(np.zeros(RATE, np.float32)))
    assert (nothing.bandwidth, nothing.noise) == (0, -10)
