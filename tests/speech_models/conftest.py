"""Sounds that are speech enough for the judges: vowels from three formants, hiss for fricatives."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import pytest

from openvalle.audio import Audio

RATE = 24_000
FORMANTS = {  # hertz, an adult male (Peterson and Barney, 1952)
    "IY": (270, 2290, 3010),
    "AA": (730, 1090, 2440),
    "AE": (660, 1720, 2410),
    "UW": (300, 870, 2240),
    "ER": (490, 1350, 1690),
}
HISSES = {"S": (4500, 9000), "SH": (2200, 6500)}  # pass bands in hertz


def phone(name: str, seconds: float, rng: np.random.Generator, pitch: float = 120.0) -> np.ndarray:
    """Return (samples,) float64 of one phone; SIL is faint noise."""
    count = round(seconds * RATE)
    if name in FORMANTS:
        phase = np.cumsum(np.full(count, pitch) * (1 + 0.02 * np.sin(np.arange(count) / 4000))) / RATE
        sound = np.zeros(count)
        for harmonic in range(1, int(5000 / pitch)):
            hz = harmonic * pitch
            gain = sum(10 ** (-0.3 * i) / (1 + ((hz - f) / 90) ** 2) for i, f in enumerate(FORMANTS[name]))
            sound += gain * np.sin(2 * np.pi * harmonic * phase)
        return 0.2 * sound / np.abs(sound).max() + 0.0005 * rng.standard_normal(count)
    noise = rng.standard_normal(count)
    if name in HISSES:
        spectrum, hz = np.fft.rfft(noise), np.fft.rfftfreq(count, 1 / RATE)
        low, high = HISSES[name]
        noise = np.fft.irfft(spectrum * ((hz > low) & (hz < high)), count)
        return 0.05 * noise / noise.std()
    return 0.0005 * noise


def utter(phones: list[tuple[str, float]], pitch: float = 120.0, seed: int = 0) -> Audio:
    """Return the phones (name, seconds) one after the other with 10 ms between them smoothed."""
    rng = np.random.default_rng(seed)
    parts = [phone(name, seconds, rng, pitch) for name, seconds in phones]
    edge = round(0.01 * RATE)
    ramp = np.linspace(0, 1, edge)
    for part in parts:
        part[:edge] *= ramp
        part[-edge:] *= ramp[::-1]
    return Audio(np.concatenate(parts).astype(np.float32), RATE)


SAID = [  # "see", pause, "saw she"
    ("SIL", 0.4),
    ("S", 0.18),
    ("IY", 0.3),
    ("SIL", 0.4),
    ("S", 0.18),
    ("AA", 0.3),
    ("SH", 0.18),
    ("IY", 0.3),
    ("SIL", 0.4),
]


JUDGES = {  # the packages of openvalle[eval-offline] that each file of tests needs
    "test_scoring": ("jiwer",),
    "test_speaker": ("resemblyzer", "webrtcvad"),
    "test_quality": ("speechmos", "onnxruntime"),
}


@pytest.fixture(autouse=True, scope="module")
def installed(request: pytest.FixtureRequest) -> None:
    """Skip the tests of a judge that is not installed."""
    missing = [name for name in JUDGES.get(request.path.stem, ()) if find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: pip install 'openvalle[eval-offline]'")


@pytest.fixture(scope="session")
def said() -> list[tuple[str, float]]:
    """What `clip` says: phones and seconds."""
    return SAID


@pytest.fixture(scope="session")
def clip() -> Audio:
    """2.6 s of crude speech at 24 kHz."""
    return utter(SAID)


@pytest.fixture(scope="session")
def words() -> list[tuple[str, tuple[str, ...]]]:
    """The words of `clip`."""
    return [("see", ("S", "IY1")), ("saw", ("S", "AA1")), ("she", ("SH", "IY1"))]


@pytest.fixture(scope="session")
def voice() -> Callable[[float, int], Audio]:
    """A function of pitch in hertz and seed that returns what `clip` says, said by such a voice."""
    return lambda pitch, seed: utter(SAID, pitch, seed)
