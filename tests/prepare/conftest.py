"""Sounds and corpora for the prepare steps, and stand-ins for the aligner and the codec."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE = 16_000


def tone(seconds: float, level: float = 0.3, rate: int = RATE) -> np.ndarray:
    """Return a trembling tone: loud enough to pass for speech, (samples,) float32."""
    time = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * 220 * time) * (0.6 + 0.4 * np.sin(9 * time))).astype(np.float32)


@pytest.fixture
def write_sound() -> Callable[..., Path]:
    """Writer of a sound file: (path, samples or seconds of a tone, rate)."""

    def write(path: Path, sound: np.ndarray | float = 1.0, rate: int = RATE, subtype: str | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(sound, rate=rate) if isinstance(sound, float) else sound, rate, subtype)
        return path

    return write
