"""Recognition offline, and what happens without the better models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from openvalle.audio import Audio, silence
from openvalle.errors import AudioError, MissingExtra, UserError
from openvalle.media import read
from openvalle.speech_models.asr import best_available, load_recognizer
from openvalle.speech_models.recognizers import (
    WEIGHTS,
    PocketsphinxRecognizer,
    TransformersRecognizer,
    WhisperRecognizer,
)
from openvalle.speech_models.wer import word_errors


@pytest.fixture(scope="module")
def spoken_sentence(tmp_path_factory: pytest.TempPathFactory) -> tuple[Audio, str]:
    """A sentence by another system, which every recogniser understands."""
    pytest.importorskip("espeakng_loader", reason="needs the wheel espeakng-loader")
    text = "the weather was fine and the whole family walked along the river"
    path = tmp_path_factory.mktemp("espeak") / "sentence.wav"
    command = [sys.executable, str(Path(__file__).parents[2] / "benchmarks" / "espeak_command.py"), str(path)]
    subprocess.run(command, input=text, text=True, check=True)
    return read(path), text


@pytest.fixture(scope="module")
def recognizer() -> PocketsphinxRecognizer:
    return PocketsphinxRecognizer()


def test_words_are_in_order_within_the_clip_and_spell_the_text(recognizer, clip):
    transcript = recognizer.transcribe(clip)
    assert transcript.text == " ".join(word.text for word in transcript.words)
    assert "she" in transcript.text
    times = [time for word in transcript.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= clip.seconds + 0.02
    assert not set("<[(") & set(transcript.text)


def test_earlier_clips_do_not_matter(recognizer, clip):
    """Nor does the order in which clips are judged, or the number of processes that share them."""
    noise = np.random.default_rng(0).normal(0, 1, len(clip.samples)).astype(np.float32)
    clips = [Audio(level * clip.samples + hiss * noise, clip.rate) for level, hiss in ((0.3, 0.03), (0.6, 0.008))]
    clips.append(clip)
    forwards = [recognizer.transcribe(each) for each in clips]
    assert [recognizer.transcribe(each) for each in reversed(clips)] == forwards[::-1]
    assert PocketsphinxRecognizer().transcribe(clips[1]) == forwards[1]


def test_silence_is_refused(recognizer):
    with pytest.raises(AudioError, match="silent"):
        recognizer.transcribe(silence(1.0))


@pytest.mark.parametrize(
    ("package", "backend"),
    [("faster_whisper", WhisperRecognizer), ("transformers", TransformersRecognizer)],
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, package, backend):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match="pip install 'openvalle"):
        backend()


def test_without_whisper_the_offline_model_is_used(monkeypatch):
    monkeypatch.delenv("OPENVALLE_ASR", raising=False)
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    assert best_available().name == "pocketsphinx"


def test_the_recogniser_of_prompts_can_be_chosen(monkeypatch):
    monkeypatch.setenv("OPENVALLE_ASR", "pocketsphinx")
    assert best_available().name == "pocketsphinx"
    with pytest.raises(UserError, match="no recogniser 'ears'"):
        best_available("ears")
    monkeypatch.setenv("OPENVALLE_ASR", "ears")
    with pytest.raises(UserError, match="no recogniser 'ears'"):
        best_available()
    assert best_available("pocketsphinx").name == "pocketsphinx"


@pytest.mark.parametrize("size", ["tiny.en", "base"])
def test_whisper_from_wheels_hears_a_sentence(size, spoken_sentence):
    pytest.importorskip("faster_whisper", reason="optional: needs openvalle[asr]")
    try:
        WEIGHTS[size].find()
    except MissingExtra as error:
        pytest.skip(f"optional: {error}")
    audio, text = spoken_sentence
    recognizer = load_recognizer(f"whisper:{size}")
    heard = recognizer.transcribe(audio)
    assert word_errors(text, heard.text).rate <= 0.15
    assert recognizer.transcribe(audio) == heard
    assert recognizer.name == f"whisper {size}"
    with pytest.raises(AudioError, match="silent"):
        recognizer.transcribe(silence(1.0))


def test_another_language_needs_a_recogniser_that_hears_it(spoken) -> None:
    from openvalle.speech_models.asr import transcribe_in
    from openvalle.speech_models.recognizers import Transcript

    class English:
        name = "one that hears English"

        def transcribe(self, audio) -> Transcript:
            return Transcript("saw, see")

    assert transcribe_in(English(), spoken).text == "saw, see"
    with pytest.raises(UserError, match=r"hears English alone, not 'ja'; .*whisper:base"):
        transcribe_in(English(), spoken, "ja")


class Segment:
    """What faster-whisper gives; `seek`: frames of 10 ms before the window in which it was heard."""

    def __init__(self, text: str, seek: int) -> None:
        self.text, self.seek, self.avg_logprob, self.words = text, seek, -0.1, []


def test_what_whisper_writes_of_the_silence_after_the_last_word_is_left_out() -> None:
    """With times it goes on after the last word, and writes one sign on end if only silence is left."""

    class Model:
        def transcribe(self, samples: np.ndarray, **how: object) -> tuple[list[Segment], None]:
            return [Segment("今天很好。", 0), Segment("问问问问", rest)], None

    recognizer = WhisperRecognizer.__new__(WhisperRecognizer)
    recognizer.name, recognizer._model = "whisper base", Model()
    recognizer.__class__ = type("Multilingual", (WhisperRecognizer,), {"knows_languages": True})
    clip = Audio(0.1 * np.random.default_rng(0).standard_normal(48_000).astype(np.float32), 16_000)
    rest = 270
    assert recognizer.transcribe_timed(clip, "zh").text == "今天很好。"
    rest = 150  # so much later there may be words
    assert recognizer.transcribe_timed(clip, "zh").text == "今天很好。问问问问"
