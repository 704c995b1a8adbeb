"""Marked-up text spoken: pauses, voices and pronunciations arrive in the sound."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openvalle.audio import concatenate
from openvalle.errors import ConfigError, TextError
from openvalle.synth.plan import parse_script, split_sentences
from openvalle.synth.synthesizer import Synthesizer
from openvalle.synth.voice import Voice
from openvalle.text.sentences import pause_after


def test_plain_text_gives_the_lines_it_always_gave() -> None:
    text = "First one. Second, with a clause; and more!\n\nA new paragraph? Yes. " * 4
    assert list(parse_script(text).sentences()) == list(split_sentences(text))


def test_lines_carry_voice_rate_and_pause() -> None:
    script = parse_script("[pause:1s]One. [voice:ben]Two, [pause:0.8s]three. [rate:2]Four.[pause:2s]")
    lines = list(script.sentences())
    assert [(line.words, line.voice, line.speed, line.pause) for line in lines] == [
        (("One",), None, 1.0, 0.4),
        (("Two",), "ben", 1.0, 0.8),
        (("three",), "ben", 1.0, 0.4),
        (("Four",), "ben", 2.0, 0.0),
    ]
    assert (script.lead, script.tail) == (1.0, 2.0)


def test_pauses_are_heard(synthesizer: Synthesizer, tiny_voice: Voice) -> None:
    plain = synthesizer.say("Hello there.", tiny_voice)
    marked = synthesizer.say("[pause:1s]Hello there.[pause:0.5s]", tiny_voice)
    assert marked.seconds == pytest.approx(plain.seconds + 1.5, abs=0.001)
    assert marked.words[0].start == pytest.approx(plain.words[0].start + 1)
    assert np.abs(marked.audio.samples[: synthesizer.rate]).max() < 0.01
    parts = synthesizer.say("Hello, [pause:0.8s] there.", tiny_voice)
    assert parts.words[1].start - parts.words[0].end >= 0.8 - 0.05


def test_streams_are_marked_up_too(synthesizer: Synthesizer, tiny_voice: Voice) -> None:
    text = "[pause:0.3s]Hello, [pause:0.8s] there.[pause:0.2s]"
    whole = synthesizer.say(text, tiny_voice, options=synthesizer.sampling(attempts=1))
    blocks = list(synthesizer.stream(text, tiny_voice))
    np.testing.assert_array_equal(concatenate([block.audio for block in blocks]).samples, whole.audio.samples)
    ends = [block.start + block.audio.seconds for block in blocks]
    assert ends[-1] == pytest.approx(whole.seconds)


def test_pronunciations_and_lexicon_are_spoken(synthesizer: Synthesizer, tiny_voice: Voice, tmp_path: Path) -> None:
    marked = synthesizer.say("The [tomato](/təˈmɑːtoʊ/).", tiny_voice)
    assert [word.text for word in marked.words] == ["The", "tomato"]
    assert marked.text == "The tomato."
    assert "AA1" in marked.symbols
    (tmp_path / "words.tsv").write_text("tomato\tT AH0 M AA1 T OW0\n")
    listed = synthesizer.say("The tomato.", tiny_voice, lexicon=tmp_path / "words.tsv")
    np.testing.assert_array_equal(listed.audio.samples, marked.audio.samples)
    (batch,) = synthesizer.say_batch(["The [tomato](/təˈmɑːtoʊ/)."], tiny_voice)
    np.testing.assert_array_equal(batch.audio.samples, marked.audio.samples)


def test_voices_change_where_they_are_named(synthesizer: Synthesizer, tiny_voice: Voice, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 1024, tiny_voice.codes.shape).astype(np.uint16)
    path = replace(tiny_voice, codes=codes).save(tmp_path / "other.safetensors")
    mixed = list(synthesizer.sentences(f"Hello. [voice:{path}]Hello.", tiny_voice, seed=3))
    assert [piece.speaker for piece in mixed] == ["", str(path)]
    assert not np.array_equal(mixed[0].codes, mixed[1].codes)
    with pytest.raises(TextError, match="line 1, column 8: no voice called 'nobody'"):
        synthesizer.say("Hello. [voice:nobody]Hello.", tiny_voice)
    with pytest.raises(TextError, match="openvalle dialogue"):
        synthesizer.say("[S1] Hello.", tiny_voice)


def test_what_is_not_honoured_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        script = parse_script("Oh [laugh] yes.")
    assert [record.message for record in caplog.records] == list(script.notes)
    assert [line.words for line in script.sentences()] == [("Oh", "yes")]
    with pytest.raises(ConfigError, match="there is no markup 'html'; use one of: auto"):
        parse_script("x", "html")
    with pytest.raises(TextError, match="nothing that can be spoken"):
        list(parse_script("[pause:1s] !").sentences())


def test_pause_after() -> None:
    assert [pause_after(text) for text in ("a", "a, ", 'a." ', "a.\n\n", "")] == [0.0, 0.2, 0.4, 0.7, 0.0]
