"""Recognition offline, and what happens without the better models."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from openvalle.audio import Audio, silence
from openvalle.errors import AudioError, MissingExtra
from openvalle.listen.asr import (
    FasterWhisperRecognizer,
    PocketsphinxRecognizer,
    TransformersRecognizer,
    best_available,
)


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
    [("faster_whisper", FasterWhisperRecognizer), ("transformers", TransformersRecognizer)],
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, package, backend):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match="pip install 'openvalle"):
        backend()


def test_without_whisper_the_offline_model_is_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    assert best_available().name == "pocketsphinx"
