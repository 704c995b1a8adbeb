"""The meter of BS.1770 on the signals that it and EBU Tech 3341 give, and the gain of a chapter."""

from __future__ import annotations

import math

import numpy as np
import pytest

from openvalle.apps.loudness import LoudnessMeter, choose_gain
from openvalle.audio import Audio


def tone(level: float, seconds: float, rate: int = 24_000, hertz: float = 997.0) -> np.ndarray:
    times = np.arange(round(seconds * rate)) / rate
    return (10 ** (level / 20) * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def measure(samples: np.ndarray, rate: int = 24_000, size: int = 7_777) -> float:
    meter = LoudnessMeter(rate)
    for start in range(0, len(samples), size):
        meter.push(Audio(samples[start : start + size], rate))
    return meter.measure()


@pytest.mark.parametrize("rate", [16_000, 22_050, 24_000, 44_100, 48_000])
def test_full_scale_at_997_hertz_is_minus_3_01(rate: int) -> None:
    assert measure(tone(0, 5, rate), rate) == pytest.approx(-3.01, abs=0.05)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [  # Tech 3341, cases 3 and 4, in one channel: 3.01 lower than in two
        ([(-36, 10), (-23, 60), (-36, 10)], -26.0),
        ([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], -26.0),
    ],
)
def test_gates(parts, expected: float) -> None:
    samples = np.concatenate([tone(level, seconds, hertz=1000.0) for level, seconds in parts])
    assert measure(samples) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("size", [100, 1_000, 100_000])
def test_blocks_change_nothing(size: int) -> None:
    noise = (0.1 * np.random.default_rng(0).standard_normal(12_345)).astype(np.float32)
    assert measure(noise, size=size) == pytest.approx(measure(noise, size=len(noise)), abs=1e-9)


def test_agrees_with_another_meter() -> None:
    pyloudnorm = pytest.importorskip("pyloudnorm")
    noise = np.random.default_rng(1).standard_normal(48_000 * 8) * np.repeat(np.geomspace(0.001, 0.3, 8), 48_000)
    expected = pyloudnorm.Meter(48_000).integrated_loudness(noise)
    assert measure(noise.astype(np.float32), 48_000) == pytest.approx(expected, abs=0.05)


def test_gain_brings_to_the_target_as_far_as_peaks_allow() -> None:
    for level in (-30.0, -10.0):
        meter = LoudnessMeter(24_000)
        meter.push(Audio(tone(level, 3), 24_000))
        assert 20 * math.log10(choose_gain(meter, -20.0)) == pytest.approx(-20 - (level - 3.01), abs=0.05)
    meter = LoudnessMeter(24_000)
    samples = tone(-30, 3)
    samples[1000] = 0.9
    meter.push(Audio(samples, 24_000))
    assert choose_gain(meter, -20.0) * 0.9 == pytest.approx(10 ** (-3 / 20))


def test_silence_and_less_than_a_block() -> None:
    meter = LoudnessMeter(24_000)
    assert (meter.measure(), choose_gain(meter, -20.0)) == (-math.inf, 1.0)
    meter.push(Audio(np.zeros(10_000, np.float32), 24_000))
    assert (meter.measure(), choose_gain(meter, -20.0)) == (-math.inf, 1.0)
    assert -12 < measure(tone(0, 0.1)) < -3
