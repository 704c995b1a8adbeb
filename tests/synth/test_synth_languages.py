"""A model of several languages: texts in each, prompts of another, accents; and what a model of one refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from openvalle.apps.subtitles import Timeline
from openvalle.decode.prompt import Accent, prepare_inputs
from openvalle.errors import ConfigError, ModelError
from openvalle.synth.plan import parse_script
from openvalle.synth.synthesizer import Synthesizer
from openvalle.text.phones import MARKS
from openvalle.types import SIL

TEXTS = {"en": "One two.", "eo": "Amiko, amiko.", "zh": "今天天气很好。", "ja": "今日は天気がいい。"}
LANGUAGES = tuple(TEXTS)
pytestmark = pytest.mark.usefixtures("esperanto")
NEEDED = {"zh": ("pypinyin", "jieba", "wetext"), "ja": ("pyopenjtalk",)}


def need(language: str) -> None:
    for package in NEEDED.get(language, ()):
        pytest.importorskip(package)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_text_is_spoken_in_its_language_by_a_voice_of_another(many, tiny_voice, language: str) -> None:
    need(language)
    speech = many.say(TEXTS[language], tiny_voice, language=language)
    assert speech.language == language
    assert speech.seconds > 0.2 and len(speech.words) > 1
    assert sum(speech.durations) == len(speech.codes)
    marked = [frames for symbol, frames in zip(speech.symbols, speech.durations, strict=True) if symbol in MARKS]
    assert not any(marked), "marks last no time"
    blocks = list(many.stream(TEXTS[language], tiny_voice, language=language, live=False, windows=None))
    assert np.array_equal(np.concatenate([block.audio.samples for block in blocks]), speech.audio.samples)


@pytest.mark.parametrize("language", ["zh", "ja"])
def test_the_script_shows_the_language_and_subtitles_show_the_text(many, tiny_voice, language: str) -> None:
    need(language)
    text = TEXTS[language] * 3
    speech = many.say(text, tiny_voice)
    assert speech.language == language
    timeline = Timeline()
    timeline.add(speech)
    assert "".join(cue.text for cue in timeline.cues).replace(" ", "") == text
    assert all(word.end >= word.start for word in timeline.words)


def test_markup_changes_the_language_and_each_part_keeps_the_voice(many, tiny_voice) -> None:
    script = parse_script("One. [lang:eo]Amiko. [lang:] Two.")
    assert [passage.language for passage in script.passages] == [None, "eo", None]
    segments = list(many.plan(script, tiny_voice, 0, {}, many.options).segments)
    assert [segment.sentence.language for segment in segments] == ["en", "eo", "en"]
    assert {id(segment.voice) for segment in segments} == {id(tiny_voice)}
    ssml = parse_script('<speak>One. <lang xml:lang="eo">Amiko.</lang> Two. <p xml:lang="eo">Amiko.</p></speak>')
    assert [passage.language for passage in ssml.passages] == [None, "eo", None, "eo"]


def test_what_both_networks_read_is_what_the_paper_says(speakers_of_many, tiny_voice) -> None:
    """VALL-E X 3.2 to 3.4: text of prompt and target; each frame carries the language of its own audio."""
    paper = Synthesizer.load(speakers_of_many["paper"])
    voice = replace(tiny_voice, language="en")
    segment = next(paper.plan("Amiko.", voice, 0, {"language": "eo"}, paper.options).segments)
    prompt = paper.generator.encode(segment).prompt
    table = paper.generator.table
    before = table.encode(voice.symbols[:-1])  # the pause between the two is one
    assert voice.symbols[-1] == segment.sentence.symbols[0] == SIL
    assert prompt.text.tolist() == [*before, *table.encode(segment.sentence.symbols)]
    own = prompt.ar(paper.generator.ar.config)
    said = {accent: own.language_spoken(accent) for accent in Accent}
    assert said == {Accent.NATIVE: 2, Accent.FOREIGN: 1, Accent.NONE: 0}
    rows = prepare_inputs(paper.generator.ar.config, [own], [Accent.NATIVE])
    assert set(rows.languages.ravel().tolist()) == {1}, "the prompt's frames and the first step carry its language"
    nar = prompt.nar(paper.generator.ar.config, codebook1=np.zeros(4, np.int64))
    assert nar.prompt_symbols == len(before), "what the NAR network leaves out: it reads the target"
    assert paper.generator.nar.config.text == "target" and not paper.generator.nar.config.languages


def test_an_accent_changes_what_is_said_and_nothing_before(many, tiny_voice) -> None:
    spoken = {}
    with torch.no_grad():  # it begins at zero
        many.generator.ar.network.language.table.weight.normal_(0, 2.0)
    for accent in ("native", "foreign", "none"):
        options = many.sampling(accent=accent, attempts=1)
        spoken[accent] = many.say("Amiko, amiko.", tiny_voice, language="eo", options=options).codes[:, 0].tolist()
    assert spoken["native"] != spoken["foreign"]
    with pytest.raises(ConfigError):
        many.sampling(accent="french")


def test_what_a_model_of_one_language_refuses(synthesizer, tiny_voice) -> None:
    with pytest.raises(ModelError, match=r"does not speak 'zh'; it speaks en"):
        synthesizer.say("今天", tiny_voice, language="zh")
    with pytest.raises(ModelError, match="ids of languages"):
        synthesizer.sampling(accent="foreign")
    assert synthesizer.sampling(accent="native").accent is Accent.NATIVE
    with pytest.raises(ModelError, match="speaks 'eo'"):
        synthesizer.say("One.", replace(tiny_voice, language="eo"))
    script = parse_script("One. [lang:eo]Two.")
    segments = list(synthesizer.plan(script, tiny_voice, 0, {}, synthesizer.options).segments)
    assert [segment.sentence.language for segment in segments] == ["en", "en"]


def test_a_clip_of_another_language_becomes_a_voice(many, say_builtin) -> None:
    clip = say_builtin("Sah see, sah see.", "en")
    voice = many.voice(clip, "sasi, sasi", language="eo", consent="nobody's: made by a model")
    assert voice.language == "eo" and sum(voice.durations) == len(voice.codes)
    assert [symbol for symbol in voice.symbols if symbol != SIL] == ["s", "a", "s", "i"] * 2
    assert many.say("Amiko.", voice, language="eo").seconds > 0.1


@pytest.mark.parametrize(("language", "said", "marks"), [("zh", "撒西，撒西", 4), ("ja", "さあ、すい、さあ、すい", 2)])
def test_a_clip_of_chinese_or_japanese_becomes_a_voice(many, say_builtin, language: str, said: str, marks: int) -> None:
    need(language)
    voice = many.voice(say_builtin(said, language), said, language=language, consent="nobody's: made by a model")
    assert sum(voice.durations) == len(voice.codes)
    assert sum(symbol in MARKS for symbol in voice.symbols) >= marks
    assert all(not frames for symbol, frames in zip(voice.symbols, voice.durations, strict=True) if symbol in MARKS)
    assert many.say("One two.", voice).language == "en"
