"""Candidates: the best by words and voice; one candidate is plain speech; the choice is told."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from openvalle.audio import Audio
from openvalle.errors import UserError
from openvalle.speech_models import asr
from openvalle.speech_models.recognizers import Transcript
from openvalle.synth import rerank
from openvalle.synth.plan import Segment, split_sentences
from openvalle.synth.rerank import Reranker, Scores, agreement, enough_for, rank
from openvalle.synth.synthesizer import Synthesizer
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


FIVE = [Scores(0.28, 0.0), Scores(0.31, 0.4), Scores(0.6, 0.2), Scores(0.45, 0.2), Scores(0.1, 0.0)]


def test_beyond_enough_similarity_the_words_decide() -> None:
    assert rank(FIVE, 0.3) == [2, 3, 1, 0, 4]  # 0.31, 0.6 and 0.45 are all enough; the first with the fewest errors
    assert rank(FIVE, 1.0) == [2, 3, 1, 0, 4]  # never enough: the voice decides
    assert rank(FIVE, 0.05) == [0, 4, 2, 3, 1]  # everybody is alike enough: words only, the first of equals


def test_it_is_equation_23_on_random_samples() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        five = [Scores(float(a), float(b)) for a, b in np.round(rng.random((5, 2)), 1)]
        keys = [(min(one.similarity, 0.3), 1 - one.error_rate) for one in five]
        assert rank(five, 0.3)[0] == keys.index(max(keys))


def test_what_went_wrong_loses_first_and_without_an_encoder_words_decide() -> None:
    assert rank([Scores(0.9, 0.0, flags=1), Scores(0.1, 1.0)], 0.3) == [1, 0]
    assert rank([Scores(None, 0.5), Scores(None, 0.2)], 0.3) == [1, 0]


def test_enough_is_on_the_scale_of_the_speaker_model() -> None:
    assert enough_for("unispeech 0123") == 0.3
    assert enough_for("resemblyzer 0.1.4") == 0.7
    assert enough_for("microsoft/wavlm-base-plus-sv feb593a6") > 0.8


def test_candidates_read_their_prompt_once(
    synthesizer: Synthesizer, tiny_voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As do lines of a batch that say the same; each says what it says alone."""
    engine, read = type(synthesizer.generator.ar), []
    prefill = engine.prefill
    monkeypatch.setattr(engine, "prefill", lambda own, *given: read.append(1) or prefill(own, *given))
    options = synthesizer.sampling(attempts=1)
    segment = Segment(next(split_sentences("Hello there.")), tiny_voice, 0)
    rows = [replace(segment, candidate=number) for number in range(3)]
    together = synthesizer.generator.speak(rows, options)
    assert len(read) == 1
    alone = [synthesizer.generator.speak([row], options)[0] for row in rows]
    assert all(np.array_equal(one.codes, other.codes) for one, other in zip(together, alone, strict=True))
    assert len({one.codes.tobytes() for one in together}) == 3
    read.clear()
    synthesizer.say_batch(["Hello there.", "What?", "Hello there."], tiny_voice, seed=[1, 2, 3], options=options)
    assert len(read) == 2


def test_the_best_candidate_is_taken_and_told(
    synthesizer: Synthesizer, tiny_voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = next(split_sentences("Hello there."))
    segment = Segment(line, tiny_voice, 0)
    takes = synthesizer.generator.speak(
        [replace(segment, candidate=number) for number in range(3)], synthesizer.options
    )
    plain = synthesizer.say("Hello there.", tiny_voice)
    np.testing.assert_array_equal(takes[0].codes, plain.codes)
    LONGEST["samples"] = max(len(take.audio.samples) for take in takes)
    listener = Listener()
    monkeypatch.setattr(rerank, "Reranker", lambda asr: Reranker(listener, listener))
    best = synthesizer.say("Hello there.", tiny_voice, candidates=3)
    assert len(best.audio.samples) == LONGEST["samples"]
    assert (best.quality.candidates, best.quality.agreement) == (3, 1.0)
    assert best.quality.similarity == pytest.approx(1.0)
    assert best.quality.as_dict()["candidates"] == 3
    assert "candidates" not in plain.quality.as_dict()
    again = synthesizer.say("Hello there.", tiny_voice, candidates=1)
    np.testing.assert_array_equal(again.audio.samples, plain.audio.samples)


class Whisper(asr.WhisperRecognizer):
    """Stands in for the weights: hears another sentence in each language; notes which it was told."""

    knows_languages = True  # type: ignore[assignment]

    def __init__(self, heard: dict[str, str]) -> None:
        self.name, self.heard, self.told = "whisper of a test", heard, []

    def transcribe(self, audio: Audio, language: str = "en") -> Transcript:
        self.told.append(language)
        return Transcript(self.heard[language])


def test_signs_of_chinese_and_what_is_said_of_japanese_agree() -> None:
    for package in ("wetext", "pypinyin", "pyopenjtalk"):
        pytest.importorskip(package)
    assert agreement("今天有3个苹果。", "今天有三個蘋果", "zh") == pytest.approx(10 / 14)
    assert agreement("今天天气很好", "今天 天汽 很好", "zh") == pytest.approx(10 / 12)
    assert agreement("橋を渡る。", "はしをわたる", "ja") == 1
    assert agreement("橋を渡る。", "橋を走る", "ja") < 0.8
    assert agreement("いいはがき", "いいばがき", "ja") == pytest.approx(8 / 10), "the marks of kana count"


@pytest.mark.usefixtures("esperanto")
@pytest.mark.parametrize(
    ("language", "text", "right"), [("zh", "今天天气很好。", "今天天气很好"), ("ja", "橋を渡る。", "はしをわたる")]
)
def test_candidates_are_heard_in_the_language_that_is_spoken(many, tiny_voice, language, text, right) -> None:
    pytest.importorskip("pyopenjtalk" if language == "ja" else "pypinyin")
    whisper = Whisper({language: right})
    reranker = Reranker(whisper, Listener())
    options = many.sampling(attempts=1)
    (segment,) = many.plan(text, tiny_voice, 0, {"language": language}, options).segments
    best = reranker.speak(many.generator, segment, options, 2)
    assert whisper.told == [language] * 2
    assert best.quality.agreement == 1 and best.quality.candidates == 2


@pytest.mark.usefixtures("esperanto")
def test_who_hears_english_alone_is_refused_before_anything_is_spoken(many, tiny_voice, monkeypatch) -> None:
    pytest.importorskip("pypinyin")
    monkeypatch.setattr(asr, "find_spec", lambda name: None)  # no Whisper
    monkeypatch.setattr(type(many.generator), "speak", lambda *given: pytest.fail("it speaks"))
    for recognizer in ("", "pocketsphinx"):
        heard_by = replace(many, asr=recognizer)
        with pytest.raises(UserError, match=r"candidates cannot be judged: .*'zh'.*openvalle\[asr\].*whisper:base"):
            heard_by.say("今天天气很好。", tiny_voice, candidates=2, language="zh")
