"""Every clip that cannot be a voice is refused with a sentence; every odd but usable one becomes a voice."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile

from openvalle.audio import Audio, concatenate, resample, silence
from openvalle.engines.torch import TorchCodec
from openvalle.errors import AudioError, TextError, UserError
from openvalle.synth.enrol import enrol

SAID = "saw, see, saw, see"


def write_error(clip: object, codec: object, transcript: str | None = SAID) -> str:
    with pytest.raises(UserError) as caught:
        enrol(clip, codec, "table", transcript)  # type: ignore[arg-type]
    assert caught.value.hint, "a refusal says what to do"
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def codec(tiny_codec) -> TorchCodec:
    return TorchCodec(tiny_codec)


def test_missing_clip(codec, tmp_path: Path) -> None:
    assert "no audio file at" in write_error(tmp_path / "none.wav", codec)


def test_unreadable_clip(codec, tmp_path: Path) -> None:
    path = tmp_path / "text.wav"
    path.write_text("this is no sound")
    assert "cannot read" in write_error(path, codec)


def test_empty_file(codec, tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    path.touch()
    assert "is empty" in write_error(path, codec)


def test_clip_without_samples(codec, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros(0, np.float32), 24_000)
    assert "holds no samples" in write_error(tmp_path / "none.wav", codec)


def test_silent_clip(codec) -> None:
    assert "silent" in write_error(silence(5.0), codec)


def test_short_clip(codec, spoken: Audio) -> None:
    assert "too little" in write_error(Audio(spoken.samples[9600:16800]), codec)  # 0.3 s


def test_ten_minute_clip(codec, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.zeros(600 * 8000, np.float32), 8000)
    assert "600 s" in write_error(tmp_path / "long.wav", codec)


def test_clip_of_more_than_half_a_minute(codec, spoken: Audio) -> None:
    assert "cut out 3 to 15 s" in write_error(concatenate([spoken] * 10), codec)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_clip_of_no_numbers(codec, spoken: Audio, tmp_path: Path, value: float) -> None:
    samples = spoken.samples.copy()
    samples[1000:1010] = value
    assert "not numbers" in write_error(Audio(samples), codec)
    soundfile.write(tmp_path / "nan.wav", samples, 24_000, subtype="FLOAT")
    assert "not numbers" in write_error(tmp_path / "nan.wav", codec)


@pytest.mark.parametrize("transcript", ["", "   ", "?!", "…"])
def test_transcript_without_words(codec, spoken: Audio, transcript: str) -> None:
    with pytest.raises(TextError, match="the transcript of the recording cannot be used"):
        enrol(spoken, codec, "table", transcript)


def test_nothing_heard(codec, spoken: Audio, monkeypatch: pytest.MonkeyPatch) -> None:
    from openvalle.speech_models import asr

    class Deaf:
        name = "deaf"

        def transcribe(self, audio: Audio) -> asr.Transcript:
            return asr.Transcript("")

    monkeypatch.setattr(asr, "best_available", lambda name, language: Deaf())
    assert "--prompt-text" in write_error(spoken, codec, None)


@pytest.mark.parametrize(
    ("subtype", "rate", "channels"), [("PCM_U8", 24_000, 1), ("PCM_16", 192_000, 1), ("PCM_24", 48_000, 6)]
)
def test_odd_formats_are_voices(codec, spoken, tmp_path: Path, subtype: str, rate: int, channels: int) -> None:
    samples = np.repeat(resample(spoken, rate).samples[:, None], channels, axis=1)
    soundfile.write(tmp_path / "odd.wav", samples, rate, subtype=subtype)
    voice = enrol(tmp_path / "odd.wav", codec, "table", SAID)
    assert voice.name == "odd"
    assert voice.seconds == pytest.approx(spoken.seconds, abs=0.5)


def test_voice_is_whole(codec, spoken: Audio) -> None:
    voice = enrol(spoken, codec, "table", SAID, name="me", consent="mine")
    assert voice.codes.shape == (sum(voice.durations), 8)
    assert voice.codes.dtype == np.uint16
    assert len(voice.codes) % 2 == 0
    assert [symbol for symbol in voice.symbols if symbol != "SIL"] == ["S", "AO1", "S", "IY1"] * 2
    assert (voice.codec_digest, voice.symbols_digest) == (codec.spec.digest, "table")
    assert (voice.name, voice.consent, voice.text) == ("me", "mine", SAID)
    pairs = voice.codes[:, 0].reshape(-1, 2)
    assert (pairs[:, 0] == pairs[:, 1]).all(), "codebook 1 is merged over blocks of two frames"


def test_same_clip_same_voice_whatever_the_level(codec, spoken: Audio) -> None:
    one, two = (enrol(Audio(spoken.samples * gain), codec, "table", SAID) for gain in (np.float32(1), np.float32(0.5)))
    assert one.durations == two.durations
    assert (one.codes == two.codes).mean() > 0.9


def test_transcript_is_found_when_missing(codec, spoken: Audio) -> None:
    try:
        voice = enrol(spoken, codec, "table")
    except TextError as error:  # crude speech may hold no word for the recogniser
        assert "no words were heard" in str(error)
    except AudioError as error:
        assert "do not match" in str(error)
    else:
        assert voice.text


def test_length_outside_the_best_is_said(codec, spoken: Audio, caplog: pytest.LogCaptureFixture) -> None:
    half = Audio(spoken.samples[: len(spoken.samples) // 2])
    with caplog.at_level(logging.WARNING):
        enrol(half, codec, "table", "saw, see")
    assert "3 to 15 s" in caplog.text
