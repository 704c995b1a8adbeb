"""The built-in aligners: each hears its languages, and what the built-in model says where it says it, without torch."""

from __future__ import annotations

import numpy as np
import pytest

from openvalle.errors import ConfigError
from openvalle.speech_models.aligner import Aligner, mark_edges
from openvalle.speech_models.aligners import AUTO, Aligners, load_aligner
from openvalle.speech_models.ctc import CTCAligner
from openvalle.synth.synthesizer import Synthesizer
from openvalle.text.language import phonemize
from openvalle.text.nearest import find_ears, to_units
from openvalle.text.phones import MARKS
from openvalle.types import SIL

SAID = {
    "zh": ("mei", "今天天气很好，我们一起去公园吧。", "明天晚上你能不能早点回家？"),
    "ja": ("hana", "今日はとても良い天気ですね。", "駅の前で三時に会いましょう。"),
}


def test_a_language_has_the_aligner_that_suits_it():
    found = Aligners()
    assert isinstance(found["en"], Aligner)
    assert isinstance(found["zh"], CTCAligner)
    assert found["zh"] is load_aligner("ctc") is found["ja"] is found["de"]
    assert load_aligner("ctc", "en") is found["zh"]
    assert found.digest == Aligners(AUTO).digest == found["zh"].digest
    with pytest.raises(ConfigError, match="there is no aligner 'ctc:'"):
        load_aligner("ctc:")


@pytest.mark.parametrize("language", SAID)
def test_the_sounds_of_other_languages_begin_where_the_model_put_them(language):
    pytest.importorskip("pypinyin" if language == "zh" else "pyopenjtalk")
    tts, aligner = Synthesizer.load(), load_aligner(language=language)
    voice, *lines = SAID[language]
    late = []
    for line in lines:
        speech = tts.say(line, voice, language=language, seed=1)
        words = [(word.text, to_units(word.phones)) for word in phonemize(line, language)]
        found = aligner.align_scored(speech.audio, words, find_ears(language, aligner.symbols))
        assert found.score > aligner.poor_score
        swapped = [(f"{number}", units) for number, (_, units) in enumerate(reversed(words))]
        wrong = aligner.align_scored(speech.audio, swapped, find_ears(language, aligner.symbols))
        assert wrong.score < found.score - 0.5
        begins = [span.start for span in mark_edges(found.spans, speech.audio) if span.symbol != SIL]
        known = [phone.start for phone in speech.phones if phone.text not in (SIL, *MARKS)]
        assert len(begins) == len(known)
        late += np.abs(np.subtract(begins, known)).tolist()
    assert np.median(late) < 0.04, "its frames last 20 ms, the model's blocks 27"
    assert np.quantile(late, 0.9) < 0.15
