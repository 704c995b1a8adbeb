"""The picture of speech is a picture, whatever the speech."""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openvalle.apps.plot import BINS, HOP, find_fonts, mel_spectrogram, plot_speech
from openvalle.audio import Audio, hertz_to_mel
from openvalle.errors import MissingExtra
from openvalle.synth.speech import Quality, Speech, Timed


def speech_of(audio: Audio, phones: tuple[Timed, ...]) -> Speech:
    return Speech(audio, "saw see", phones, phones, Quality("end", 8.0), np.zeros((2, 8), np.uint16), ("S",), (2,))


@pytest.mark.parametrize("phones", [(), (Timed("S", 0.0, 0.5),), (Timed("S", 0.0, 1.0), Timed("AO1", 1.0, 3.0))])
def test_png_is_written(spoken: Audio, tmp_path: Path, phones: tuple[Timed, ...]) -> None:
    path = plot_speech(speech_of(spoken, phones), tmp_path / "out" / "speech.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [item.name for item in path.parent.iterdir()] == ["speech.png"]


def test_signs_of_chinese_are_drawn_without_a_warning(spoken: Audio, tmp_path: Path) -> None:
    speech = replace(speech_of(spoken, ()), text="今天", words=(Timed("今天", 0.0, 1.0),))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_speech(speech, tmp_path / "speech.png")
    assert find_fonts()[0] == "DejaVu Sans"


def test_missing_matplotlib_says_how_to_get_it(spoken: Audio, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"openvalle\[plot\]"):
        plot_speech(speech_of(spoken, ()), "speech.png")


def test_mel_spectrogram_shows_a_tone_at_its_place() -> None:
    hertz = 1000.0
    tone = Audio(np.sin(2 * np.pi * hertz * np.arange(24_000) / 24_000).astype(np.float32))
    mel = mel_spectrogram(tone)
    assert mel.shape == (BINS, 1 + 24_000 // HOP)
    centre = (mel[:, 50].argmax() + 1) / (BINS + 1) * hertz_to_mel(12_000)
    assert abs(700 * (10 ** (centre / 2595) - 1) - hertz) < 60


def test_no_window_system_is_touched() -> None:
    code = "import sys, openvalle.apps.plot; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
