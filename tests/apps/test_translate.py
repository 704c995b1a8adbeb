"""Speech in another language: real recognition results, a real translator, and what the paper puts before a model."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from openvalle.apps import segments
from openvalle.apps.segments import Heard, cut_segments
from openvalle.apps.translate import PromptMaker, read_source, speak_translation, translate
from openvalle.apps.translation_parts import TranslationParts
from openvalle.audio import Audio, concatenate, silence
from openvalle.errors import AudioError, ModelError, TextError, UserError
from openvalle.safety.consent import ConsentPolicy
from openvalle.speech_models.recognizers import TimedWord, Transcript
from openvalle.synth.speech import Timed
from openvalle.synth.synthesizer import Synthesizer
from openvalle.text.translator import Translators
from openvalle.types import SIL

pytestmark = pytest.mark.usefixtures("esperanto")
CONSENT = "nobody's: made of buzz and hiss"
GAP = 2.0  # seconds between the sentences of `talk`


class Given:
    """A recogniser that was told what is said; it knows the times."""

    name = "one that was told"

    def __init__(self, text: str, words: list[tuple[str, float, float]], language: str) -> None:
        self.transcript = Transcript(text, tuple(TimedWord(*word) for word in words), language=language)

    def transcribe(self, audio: Audio) -> Transcript:
        return self.transcript

    def transcribe_timed(self, audio: Audio, language: str = "") -> Transcript:
        return self.transcript


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch):
    """A function that puts a recogniser in the place of the installed one."""

    def put(text: str, words: list[tuple[str, float, float]], language: str) -> None:
        told = Given(text, words, language)
        monkeypatch.setattr(segments, "best_available", lambda name="", language="": told)

    return put


@pytest.fixture(scope="session")
def talk(speak) -> Audio:
    """ "saw, see." twice, 1.9 s each, with two seconds between them."""
    one = speak(110.0)
    half = Audio(one.samples[: len(one.samples) // 2], one.rate)
    return concatenate([half, silence(GAP - 0.6), half])


TWICE = [("saw,", 0.3, 0.8), ("see.", 1.0, 1.6), ("saw,", 3.6, 4.1), ("see.", 4.3, 4.9)]


@pytest.fixture
def there(translators: Path) -> Translators:
    needed("pypinyin", "jieba", "wetext")
    return Translators.find([translators / pair for pair in ("en-zh", "zh-en", "ja-eo", "en-eo")])


def needed(*packages: str) -> None:
    for package in packages:
        pytest.importorskip(package)


def test_a_recording_is_spoken_in_another_language_with_its_pauses(many, talk, there, tell) -> None:
    tell("saw, see. saw, see.", TWICE, "en")
    found = translate(many, talk, "zh", there, consent=CONSENT, seed=3)
    assert [segment.source.text for segment in found.segments] == ["saw, see.", "saw, see."]
    assert [segment.text for segment in found.segments] == ["今天天气很好。"] * 2
    assert found.speech.language == "zh" and found.speech.provenance is not None
    first, second = found.segments
    lead, gap = first.source.start, second.source.start - first.source.end
    assert first.start == pytest.approx(lead, abs=1e-3) and lead == pytest.approx(0.15, abs=1e-6)
    assert second.start - first.end == pytest.approx(gap, abs=1e-3) and gap == pytest.approx(2.0 - 0.3, abs=1e-6)
    assert found.speech.seconds - second.end == pytest.approx(talk.seconds - second.source.end, abs=1e-3)
    quiet = found.speech.audio.samples[round(first.end * 24000) + 1 : round(second.start * 24000) - 1]
    assert not np.any(quiet) and np.abs(found.speech.audio.samples).max() > 0.01
    assert [cue.text for cue in found.source.timeline().cues] == ["saw, see.", "saw, see."]
    assert found.source.timeline().cues[1].start == 3.6
    again = translate(many, talk, "zh", there, consent=CONSENT, seed=3).speech
    assert np.array_equal(again.audio.samples, found.speech.audio.samples)


def test_fitted_segments_keep_their_time(many, talk, there, tell) -> None:
    tell("saw, see. saw, see.", TWICE, "en")
    found = translate(many, talk, "zh", there, consent=CONSENT, is_fitted=True)
    for segment in found.segments:
        assert segment.end - segment.start == pytest.approx(segment.source.seconds, rel=0.05)
        assert segment.start == pytest.approx(segment.source.start, abs=0.001)
    assert found.speech.seconds == pytest.approx(talk.seconds, abs=0.05)


@pytest.mark.slow
def test_a_time_that_is_much_too_short_is_kept_as_nearly_as_can_be(many, talk, there, tell, caplog) -> None:
    words = [("saw,", 0.3, 0.33), ("see.", 0.34, 0.36), ("saw,", 3.6, 4.1), ("see.", 4.3, 4.9)]
    tell("saw, see. saw, see.", words, "en")
    found = translate(many, talk, "zh", there, consent=CONSENT, is_fitted=True)
    assert "does not fit" in caplog.text
    assert found.segments[0].end - found.segments[0].start > found.segments[0].source.seconds
    assert found.segments[1].start == pytest.approx(found.segments[1].source.start, abs=0.001), "the pause makes up"


def test_what_the_networks_read_is_the_prompt_of_the_paper(speakers_of_many, talk, there, tell) -> None:
    """VALL-E X 3.4: S^s, S^t and A^s of the whole source; the NAR network reads S^t and all codebooks of A^s."""
    paper = Synthesizer.load(speakers_of_many["paper"])
    tell("saw, see. saw, see.", TWICE, "en")
    source = read_source(paper, talk, "zh", there)
    voice = PromptMaker(paper, source).make(0)
    assert voice.language == "en" and [each for each in voice.symbols if each != SIL] == ["S", "AO1", "S", "IY1"] * 2
    assert voice.seconds == pytest.approx(source.segments[1].end - source.segments[0].start, abs=0.03), "3 s are wanted"
    segment = next(
        paper.plan("今天天气很好。", voice, 0, {"language": "zh", "mode": "cross-lingual"}, paper.options).segments
    )
    prompt, table, config = paper.generator.encode(segment).prompt, paper.generator.table, paper.generator.ar.config
    assert prompt.text.tolist() == [*table.encode(voice.symbols[:-1]), *table.encode(segment.sentence.symbols)]
    assert (prompt.prompt_language, prompt.language) == (1, 4)
    before = prompt.codes
    assert np.array_equal(prompt.ar(config).codes, before[:, 0]) and np.array_equal(voice.codes[: len(before)], before)
    nar = prompt.nar(config, codebook1=np.zeros(4, np.int64))
    assert np.array_equal(nar.prompt, before) and nar.prompt_symbols == prompt.prompt_symbols
    assert paper.generator.nar.config.text == "target"
    with pytest.raises(ModelError, match="without alignment"):
        next(speak_translation(paper, source, consent=CONSENT, is_fitted=True))


@pytest.mark.parametrize(
    ("language", "target", "said", "words", "heard"),
    [
        (
            "zh",
            "en",
            "撒西，撒西。",
            [("撒", 0.3, 0.8), ("西，", 1.0, 1.6), ("撒", 2.2, 2.7), ("西。", 2.9, 3.5)],
            "One two.",
        ),
        ("ja", "eo", "さあ、すい。", [("さあ、", 0.3, 0.8), ("すい。", 1.0, 1.6)], "amiko"),
    ],
)
def test_chinese_and_japanese_are_translated_from(
    many, spoken, there, tell, language, target, said, words, heard
) -> None:
    needed("pypinyin" if language == "zh" else "pyopenjtalk")
    tell(said, words, language)
    found = translate(many, spoken, target, there, consent=CONSENT)
    assert [segment.text for segment in found.segments] == [heard]
    assert found.source.language == language and found.speech.language == target
    assert found.source.timeline().cues[0].text == said


def test_words_that_are_given_are_aligned(many, spoken, there) -> None:
    source = read_source(many, spoken, "zh", there, transcript="saw, see, saw, see")
    (segment,) = source.segments
    starts = [word.start for word in segment.words]
    assert starts == pytest.approx([0.3, 1.0, 2.2, 2.9], abs=0.15)  # see SAW_SEE in tests/conftest.py
    assert source.language == "en" and source.translations == ("你好我们今天去看大海天气很好。",)


def test_words_are_recognised_offline_with_their_times(spoken) -> None:
    heard = segments.recognize(spoken, "it", "en", "pocketsphinx")
    times = [time for word in heard.words for time in (word.start, word.end)]
    assert times == sorted(times) and times[0] >= 0 and times[-1] <= spoken.seconds
    assert [heard.text[place:].startswith(word.text) for word, place in zip(heard.words, heard.places, strict=True)]
    assert cut_segments(heard, spoken.seconds)[0].text


def test_no_words_are_asked_of_the_silence_around_speech(spoken, monkeypatch) -> None:
    """Whisper writes there who wrote the song; the times of what is said are those of the recording."""
    heard: list[float] = []

    def hear(recognizer: object, audio: Audio, language: str) -> Transcript:
        heard.append(audio.seconds)
        return Transcript("saw", (TimedWord("saw", 0.1, 0.5),), language="en")

    monkeypatch.setattr(segments, "transcribe_timed", hear)
    plain = segments.recognize(spoken, "it", "en", "pocketsphinx").words[0]
    quiet = np.zeros(2 * spoken.rate, np.float32)
    around = Audio(np.concatenate([quiet, spoken.samples, quiet]), spoken.rate)
    late = segments.recognize(around, "it", "en", "pocketsphinx").words[0]
    assert heard[1] == pytest.approx(heard[0], abs=0.7)
    assert late.start == pytest.approx(plain.start + 2, abs=0.1) and late.end - late.start == pytest.approx(0.4)


@pytest.mark.slow
def test_another_voice_may_speak(many, tiny_voice, talk, there, tell) -> None:
    tell("saw, see. saw, see.", TWICE, "en")
    own = translate(many, talk, "zh", there, consent=CONSENT)
    other = translate(many, talk, "zh", there, voice=tiny_voice)
    assert not np.array_equal(own.segments[0].speech.codes, other.segments[0].speech.codes)


def test_sentences_and_pauses_cut_and_long_ones_are_cut_at_pauses() -> None:
    text = "Dr. Hill came. He saw it all and then he went away again. So"
    spoken = text.split()
    words, at = [], 0.5
    for word in spoken:
        words.append(Timed(word, at, at + 0.3))
        at += 2.0 if word == "all" else 0.4
    places, place = [], 0
    for word in spoken:
        places.append(text.index(word, place))
        place = places[-1] + 1
    heard = Heard(text, tuple(words), tuple(places), "en")
    found = cut_segments(heard, at)
    assert [each.text for each in found] == ["Dr. Hill came.", "He saw it all", "and then he went away again.", "So"]
    assert found[0].start == pytest.approx(0.35) and found[1].end == pytest.approx(found[1].words[-1].end + 0.15)
    assert all(one.end <= other.start + 1e-9 for one, other in pairwise(found))
    many = [Timed("la", 0.5 * n + (0.3 if n >= 25 else 0), 0.5 * n + 0.45 + (0.3 if n >= 25 else 0)) for n in range(60)]
    parts = cut_segments(Heard(" ".join(["la"] * 60), tuple(many), tuple(3 * n for n in range(60)), "en"), 40.0)
    assert all(part.seconds <= 15.4 for part in parts) and len(parts[0].words) == 25, "at its longest pause"
    assert sum(len(part.words) for part in parts) == 60


def test_a_part_that_cannot_be_a_prompt_is_spoken_as_its_neighbour_is(many, talk, there, tell, caplog) -> None:
    far = concatenate([talk, silence(3.0), Audio(talk.samples[: len(talk.samples) // 3], talk.rate)])
    tell("saw, see. saw, see. Xe.", [*TWICE, ("Xe.", 8.9, 9.1)], "en")
    source = read_source(many, far, "zh", there)
    maker = PromptMaker(many, source)
    assert maker.make(2) is maker.make(1) and "it is spoken as another part is" in caplog.text
    alone = replace(source, segments=source.segments[2:], translations=source.translations[2:])
    with pytest.raises(AudioError, match="too little for a voice"):
        PromptMaker(many, alone).make(0)


def test_words_that_cannot_be_aligned_are_spread_over_their_times(many, talk, there, tell, caplog) -> None:
    """What was misheard may fit no sound: the recording is the prompt of its translation all the same."""
    said = " ".join(["see"] * 70)
    tell(said, [(f"{said[:139]}", 0.3, 2.0), (said[140:], 3.6, 4.9)], "en")
    source = read_source(many, talk, "zh", there)
    voice = PromptMaker(many, replace(source, segments=source.segments[:1])).make(0)
    assert "spread over the times at which its words were heard" in caplog.text
    assert sum(voice.durations) == len(voice.codes) and voice.seconds > 1.5


def test_what_cannot_be_translated_is_refused_in_one_line(many, synthesizer, talk, there, tell) -> None:
    tell("saw, see. saw, see.", TWICE, "en")

    def refuse(error: type[UserError], match: str, recording: Audio = talk, target: str = "zh", **how: object) -> None:
        speaker = how.pop("speaker", many)
        with pytest.raises(error, match=match) as raised:
            translate(speaker, recording, target, how.pop("translators", there), **how)
        assert "\n" not in str(raised.value)

    refuse(AudioError, "silent", silence(2.0))
    tune = [np.sin(2 * np.pi * hertz * np.arange(12000) / 24000) for hertz in (262, 330, 392, 523, 392, 330, 262, 330)]
    refuse(AudioError, "music", Audio(0.3 * np.concatenate(tune).astype(np.float32), 24000))
    refuse(UserError, "speaks 'en' already", target="en")
    refuse(UserError, "speaks 'en' already", target="en", language="en")
    refuse(TextError, "'klingon' cannot be read", target="klingon")
    refuse(TextError, "'klingon' cannot be read", language="klingon")
    refuse(ModelError, "does not speak 'zh'", speaker=synthesizer)
    refuse(
        TextError, r"no translator goes from 'en' to 'ja', only.*Helsinki-NLP/opus-mt-en-jap.*--translator", target="ja"
    )
    refuse(TextError, r"no translator goes from 'en' to 'zh'; run: pip install .*translators/en-zh", translators=None)
    strict = replace(many, policy=ConsentPolicy.REQUIRE)
    refuse(UserError, "no consent is recorded", speaker=strict)
    narrow = replace(many, generator=replace(many.generator, languages=("eo", "ja", "eo", "zh")))
    refuse(ModelError, "was not trained with 'en'", speaker=narrow, consent=CONSENT)
    tell("", [], "en")
    refuse(TextError, "no words were heard")
    tell("wat is dat", [("wat", 0.3, 0.8)], "tlh")
    refuse(TextError, "'tlh' cannot be read")


class Halting(Translators):
    """It finds words for every other sentence."""

    def translate(self, texts, source: str, target: str) -> list[str]:
        return ["\u2026\u2026" if number % 2 == 0 else "今天天气很好。" for number in range(len(texts))]


def test_a_translator_that_says_nothing_leaves_silence(many, talk, there, tell, caplog) -> None:
    tell("saw, see. saw, see.", TWICE, "en")
    half = source = read_source(many, talk, "zh", Halting(there.places))
    assert half.translations == ("", "今天天气很好。") and "is translated as nothing" in caplog.text
    (spoken,) = speak_translation(many, half, consent=CONSENT)
    assert spoken.start == pytest.approx(source.segments[1].start, abs=1e-3)
    with pytest.raises(TextError, match="found no words"):
        next(speak_translation(many, replace(source, translations=("", "")), consent=CONSENT))


def test_what_was_heard_and_spoken_is_kept_when_it_is_interrupted(
    many, talk, there, tell, tmp_path: Path, monkeypatch
) -> None:
    tell("saw, see. saw, see.", TWICE, "en")

    def run(folder: str, resume: bool = True) -> list:
        parts = TranslationParts(tmp_path / folder, many.rate, many.provenance, resume)
        source = read_source(many, talk, "zh", there, parts=parts)
        return list(speak_translation(many, source, 3, consent=CONSENT, parts=parts))

    whole = run("whole")
    say, said = Synthesizer.say, []

    def count(own, text, *given, **how):
        said.append(text)
        if len(said) == 2:
            raise KeyboardInterrupt
        return say(own, text, *given, **how)

    monkeypatch.setattr(Synthesizer, "say", count)
    with pytest.raises(KeyboardInterrupt):
        run("cut")
    monkeypatch.setattr(segments, "recognize", lambda *given: pytest.fail("it listens again"))
    again = run("cut")
    assert len(said) == 3, "the first segment is not spoken again"
    for one, other in zip(again, whole, strict=True):
        assert np.array_equal(one.speech.audio.samples, other.speech.audio.samples)
        assert (one.speech.words, one.speech.quality) == (other.speech.words, other.speech.quality)
        assert np.array_equal(one.speech.codes, other.speech.codes) and one.as_dict() == other.as_dict()
    name = next(path for path in (tmp_path / "cut").glob("*.flac"))
    name.write_bytes(b"damaged")
    assert len(run("cut")) == 2 and len(said) == 4, "what is damaged is spoken again"
    parts = TranslationParts(tmp_path / "cut", many.rate, many.provenance, resume=False)
    assert not list((tmp_path / "cut").iterdir()) and parts.folder == tmp_path / "cut"
