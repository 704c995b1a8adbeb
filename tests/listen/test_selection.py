"""Five-sample selection of VALL-E 2: similarity up to a bound first, then words; and the best of each measure."""

from __future__ import annotations

import numpy as np
import pytest

from openvalle.audio import RATE, Audio, silence
from openvalle.errors import AudioError
from openvalle.listen.asr import Transcript
from openvalle.listen.selection import SampleJudge, Scores, metric_wise, sorted_choice

FIVE = [Scores(0.28, 0.0), Scores(0.31, 0.4, 3.0), Scores(0.6, 0.2, 2.5), Scores(0.45, 0.2), Scores(0.1, 0.0, 3.5)]


def test_beyond_enough_similarity_the_words_decide():
    assert sorted_choice(FIVE) == 2  # 0.31, 0.6 and 0.45 are all enough; the first with the fewest errors
    assert sorted_choice(FIVE, enough=1.0) == 2
    assert sorted_choice(FIVE, enough=0.05) == 0  # everybody is alike enough: words only, the first of equals


def test_below_it_the_voice_decides():
    assert sorted_choice([Scores(0.2, 0.0), Scores(0.29, 1.0)]) == 1


def test_metric_wise_takes_each_measure_where_it_is_best():
    assert metric_wise(FIVE) == Scores(0.6, 0.0, 3.5)
    assert metric_wise(FIVE[:1]).quality is None


class Loudness:
    """A recogniser and encoder of tones: words are the loudness in tenths, the voice is the pitch."""

    name = "tones"

    def transcribe(self, audio: Audio) -> Transcript:
        if not np.abs(audio.samples).max():
            raise AudioError("silent")
        return Transcript(" ".join(["word"] * round(float(np.abs(audio.samples).max()) * 10)))

    def embed(self, audio: Audio) -> np.ndarray:
        spectrum = np.abs(np.fft.rfft(audio.samples))[:2000]
        return spectrum / np.linalg.norm(spectrum)


def tone(hertz: float, loudness: float) -> Audio:
    return Audio((loudness * np.sin(np.arange(RATE) * 2 * np.pi * hertz / RATE)).astype(np.float32), RATE)


def test_samples_are_judged_by_their_words_and_their_voice():
    judge = SampleJudge(tone(200, 0.5), Loudness(), Loudness())
    text = "word word word"
    assert judge.scores(tone(200, 0.3), text).similarity == pytest.approx(1, abs=1e-3)
    assert judge.scores(tone(200, 0.3), text).error_rate == 0
    assert judge.scores(tone(200, 0.2), text).error_rate == pytest.approx(1 / 3)
    assert judge.scores(silence(1.0), text) == Scores(0.0, 1.0)
    samples = [silence(1.0), tone(900, 0.3), tone(200, 0.2), tone(200, 0.3)]
    assert judge.choose(samples, text) == 3
