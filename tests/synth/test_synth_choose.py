"""Candidates: the best by words and voice; one candidate is plain speech; the choice is told."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from openvalle.audio import Audio
from openvalle.listen.asr import Transcript
from openvalle.synth import choose
from openvalle.synth.choose import Chooser, agreement, score
from openvalle.synth.jobs import Job
from openvalle.synth.lines import lines_of
from openvalle.synth.pipeline import Synthesizer
from openvalle.synth.speech import Quality
from openvalle.synth.voice import Voice


@dataclass
class Listener:
    """Hears the words only in the longest clip, and a voice that points where the sound says."""

    name: str = "listener"

    def transcribe(self, audio: Audio) -> Transcript:
        return Transcript("hello there" if len(audio.samples) == LONGEST["samples"] else "what")

    def embed(self, audio: Audio) -> np.ndarray:
        return np.array([1.0, 0.0], np.float32)


LONGEST = {"samples": 0}


def test_agreement_counts_words() -> None:
    assert agreement("Hello, there!", "hello there") == 1
    assert agreement("Hello there", "") == 0
    assert agreement("one two three four", "one two four") == pytest.approx(6 / 7)


def test_score_prefers_words_then_voice_and_minds_flags() -> None:
    good = Quality("end", 8.0, agreement=1.0, similarity=0.8)
    assert score(good) > score(replace(good, agreement=0.8))
    assert score(good) > score(replace(good, similarity=0.6))
    assert score(good) > score(replace(good, flags=("slow",)))


def test_the_best_candidate_is_taken_and_told(
    synthesizer: Synthesizer, tiny_voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = next(lines_of("Hello there."))
    job = Job(line, tiny_voice, 0)
    takes = synthesizer.utterer.speak([replace(job, take=take) for take in range(3)], synthesizer.options)
    plain = synthesizer.say("Hello there.", tiny_voice)
    np.testing.assert_array_equal(takes[0].codes, plain.codes)
    LONGEST["samples"] = max(len(take.audio.samples) for take in takes)
    listener = Listener()
    monkeypatch.setattr(choose, "Chooser", lambda: Chooser(listener, listener))
    best = synthesizer.say("Hello there.", tiny_voice, candidates=3)
    assert len(best.audio.samples) == LONGEST["samples"]
    assert (best.quality.candidates, best.quality.agreement) == (3, 1.0)
    assert best.quality.similarity == pytest.approx(1.0)
    assert best.quality.as_dict()["candidates"] == 3
    assert "candidates" not in plain.quality.as_dict()
    again = synthesizer.say("Hello there.", tiny_voice, candidates=1)
    np.testing.assert_array_equal(again.audio.samples, plain.audio.samples)
