"""A good clip has no problems, and each kind of bad one is named; none is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from openvalle.audio import Audio, concatenate
from openvalle.engines.torch import TorchCodec
from openvalle.speech_models import speaker
from openvalle.synth.clip_quality import clip_warnings
from openvalle.synth.enrol import enrol

SAID = "saw, see, saw, see"


@pytest.fixture
def codec(tiny_codec) -> TorchCodec:
    return TorchCodec(tiny_codec)


@pytest.fixture(autouse=True)
def one_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speaker, "ResemblyzerEncoder", lambda: type("One", (), {"embed": lambda self, a: np.ones(2)})())


def test_good_clip_has_none(spoken: Audio) -> None:
    assert clip_warnings(spoken) == []


def test_quiet_clip(spoken: Audio) -> None:
    assert any("quiet (-" in warning for warning in clip_warnings(Audio(spoken.samples * np.float32(0.005))))


def test_clipped_clip(spoken: Audio) -> None:
    loud = Audio(np.clip(spoken.samples * np.float32(50), -1, 1))
    assert any("clipped" in warning for warning in clip_warnings(loud))


def test_noisy_clip(spoken: Audio) -> None:
    noise = np.random.default_rng(0).standard_normal(len(spoken.samples)).astype(np.float32)
    found = clip_warnings(Audio(spoken.samples + np.float32(0.05) * noise))
    assert any("dB above what lies between the words" in problem for problem in found)


def test_two_people(spoken: Audio, monkeypatch: pytest.MonkeyPatch) -> None:
    voices = iter([np.array([1.0, 0.0]), np.array([0.5, 1.0])])
    monkeypatch.setattr(speaker, "ResemblyzerEncoder", lambda: type("E", (), {"embed": lambda self, a: next(voices)})())
    longer = concatenate([spoken, spoken])
    assert any("two people (similarity 0.45)" in warning for warning in clip_warnings(longer))


def test_without_an_encoder_nobody_asks(spoken: Audio, monkeypatch: pytest.MonkeyPatch) -> None:
    from openvalle.errors import MissingExtra

    def missing() -> None:
        raise MissingExtra("resemblyzer", "eval-offline")

    monkeypatch.setattr(speaker, "ResemblyzerEncoder", missing)
    assert clip_warnings(concatenate([spoken, spoken])) == []


def test_voice_keeps_what_was_found(codec, spoken: Audio, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    loud = Audio(np.clip(spoken.samples * np.float32(50), -1, 1))
    voice = enrol(loud, codec, "table", SAID, consent="nobody's")
    assert "clipped" in voice.checks
    assert "clipped" in caplog.text
    assert voice.facts()["checks"] == voice.checks
    clean = enrol(spoken, codec, "table", SAID)
    assert clean.checks == ""
    assert len(clean.clip_digest) == 16
    assert clean.clip_digest != voice.clip_digest


def test_language_must_be_one_that_is_spoken(codec, spoken: Audio) -> None:
    from openvalle.errors import TextError

    with pytest.raises(TextError, match="'tlh' cannot be read"):
        enrol(spoken, codec, "table", SAID, language="tlh")
    assert enrol(spoken, codec, "table", SAID, language="en-US").language == "en"
