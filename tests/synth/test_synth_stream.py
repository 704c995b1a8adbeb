"""The stream is the whole, sample for sample, however its text arrives; and it ends when nobody reads on."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from openvalle.audio import RATE, concatenate
from openvalle.decode import ar
from openvalle.decode.nar import Windows
from openvalle.engines.torch import TorchNAR
from openvalle.errors import TextError
from openvalle.model.config import NARConfig
from openvalle.model.nar import NAR
from openvalle.synth import generate as utter
from openvalle.synth.joints import EdgeTrimmer
from openvalle.synth.stream import StreamBlock
from openvalle.synth.synthesizer import Synthesizer
from openvalle.synth.voice import Voice
from openvalle.text.sentences import split, split_arriving

TEXT = "Hello, my friend. I see.\n\nAnd another."
SMALL = Windows(first=8, look_ahead=3)  # many windows in little speech


def sound(blocks: list[StreamBlock]) -> np.ndarray:
    return concatenate([block.audio for block in blocks]).samples


def test_live_stream_line_by_line_is_what_say_gives_spoken_once(synthesizer: Synthesizer, tiny_voice: Voice) -> None:
    whole = synthesizer.say(TEXT, tiny_voice, seed=3, options=synthesizer.sampling(attempts=1))
    blocks = list(synthesizer.stream(TEXT, tiny_voice, seed=3, windows=None))
    np.testing.assert_array_equal(sound(blocks), whole.audio.samples)
    assert [block.speech.text for block in blocks if block.speech] == [
        piece.text for piece in synthesizer.sentences(TEXT, tiny_voice)
    ]


@pytest.mark.parametrize("windows", [SMALL, Windows()])
def test_windows_leave_codebook_1_alone_and_give_one_sound_live_or_not(
    synthesizer: Synthesizer, tiny_voice: Voice, windows: Windows
) -> None:
    once = synthesizer.sampling(attempts=1)
    pieces = list(synthesizer.sentences(TEXT, tiny_voice, seed=3, options=once))
    live = list(synthesizer.stream(TEXT, tiny_voice, seed=3, windows=windows))
    waiting = list(synthesizer.stream(TEXT, tiny_voice, None, 3, once, live=False, windows=windows))
    np.testing.assert_array_equal(sound(live), sound(waiting))
    streamed = [block.speech for block in live if block.speech]
    for whole, piece in zip(pieces, streamed, strict=True):
        np.testing.assert_array_equal(whole.codes[:, 0], piece.codes[:, 0])
        assert whole.durations == piece.durations
    changed = np.concatenate([whole.codes != piece.codes for whole, piece in zip(pieces, streamed, strict=True)])
    assert changed[:, 1:].any()


@pytest.mark.parametrize("prompt", ["segment", "sentence", "none"])
def test_a_model_that_met_no_longer_prefixes_streams_line_by_line(
    synthesizer: Synthesizer, tiny_voice: Voice, prompt: str
) -> None:
    values = synthesizer.generator.nar.config.model_dump() | {"prompt": prompt, "text": "target"}
    nar = TorchNAR(NAR(NARConfig.parse(values)).eval())
    other = replace(synthesizer, generator=replace(synthesizer.generator, nar=nar))
    whole = other.say(TEXT, tiny_voice, seed=3, options=other.sampling(attempts=1))
    np.testing.assert_array_equal(sound(list(other.stream(TEXT, tiny_voice, seed=3))), whole.audio.samples)


def test_stream_that_waits_is_the_whole(synthesizer: Synthesizer, tiny_voice: Voice, monkeypatch) -> None:
    assess_quality = utter.assess_quality

    def picky(*arguments, **keywords):
        quality = assess_quality(*arguments, **keywords)
        return replace(quality, flags=("slow",) if quality.attempts < 3 else ())

    monkeypatch.setattr(utter, "assess_quality", picky)
    blocks = list(synthesizer.stream(TEXT, tiny_voice, seed=1, live=False, windows=None))
    np.testing.assert_array_equal(sound(blocks), synthesizer.say(TEXT, tiny_voice, seed=1).audio.samples)
    assert {block.speech.quality.attempts for block in blocks if block.speech} == {3}


def test_blocks_follow_each_other_and_tell_their_sentence(synthesizer: Synthesizer, tiny_voice: Voice) -> None:
    blocks = list(synthesizer.stream(TEXT, tiny_voice, windows=SMALL))
    ends = np.cumsum([len(block.audio.samples) for block in blocks]) / RATE
    np.testing.assert_allclose([block.start for block in blocks], [0.0, *ends[:-1]])
    assert [block.sentence for block in blocks] == sorted(block.sentence for block in blocks)
    spoken = [block.speech for block in blocks if block.speech is not None]
    assert len(spoken) == blocks[-1].sentence + 1 == 2
    assert sum(piece.seconds for piece in spoken) == pytest.approx(ends[-1])
    whole = list(synthesizer.sentences(TEXT, tiny_voice, options=synthesizer.sampling(attempts=1)))
    assert [piece.words for piece in spoken] == [piece.words for piece in whole]
    assert len(blocks) > 4, "a sentence comes in several blocks"


def test_first_block_comes_while_the_model_still_speaks(
    synthesizer: Synthesizer, tiny_voice: Voice, monkeypatch
) -> None:
    steps = 0
    draw = ar.sample

    def counted(*arguments):
        nonlocal steps
        steps += 1
        return draw(*arguments)

    monkeypatch.setattr(ar, "sample", counted)
    stream = synthesizer.stream("Hello, my friend, this is one line and nothing else.", tiny_voice, windows=SMALL)
    next(stream)
    first = steps
    list(stream)
    assert first < 0.7 * steps, (first, steps)


def test_reader_who_stops_ends_it(synthesizer: Synthesizer, tiny_voice: Voice, monkeypatch) -> None:
    loops: list[weakref.ref] = []
    begin = ar.Decoder.__init__

    def noted(self, *arguments):
        begin(self, *arguments)
        loops.append(weakref.ref(self))

    monkeypatch.setattr(ar.Decoder, "__init__", noted)
    closed = []

    def words() -> Iterator[str]:
        try:
            while True:
                yield "Hello, my friend. "
        finally:
            closed.append(True)

    threads = threading.active_count()
    stream = synthesizer.stream(words(), tiny_voice)
    next(stream)
    stream.close()
    gc.collect()
    assert loops
    assert all(loop() is None for loop in loops), "nothing of the decoding is left"
    assert closed == [True], "the text is not read on"
    assert threading.active_count() == threads


def test_text_may_arrive_in_any_pieces(synthesizer: Synthesizer, tiny_voice: Voice) -> None:
    whole = sound(list(synthesizer.stream([TEXT], tiny_voice, windows=SMALL)))
    for size in (1, 5, 1000):
        pieces = (TEXT[start : start + size] for start in range(0, len(TEXT), size))
        np.testing.assert_array_equal(sound(list(synthesizer.stream(pieces, tiny_voice, windows=SMALL))), whole)
    said = synthesizer.say([TEXT], tiny_voice, options=synthesizer.sampling(attempts=1))
    np.testing.assert_array_equal(said.audio.samples, sound(list(synthesizer.stream([TEXT], tiny_voice, windows=None))))


def test_sentence_is_spoken_before_the_next_is_complete(synthesizer: Synthesizer, tiny_voice: Voice) -> None:
    read: list[str] = []

    def words() -> Iterator[str]:
        for word in TEXT.split(" "):
            read.append(word)
            yield word + " "

    next(synthesizer.stream(words(), tiny_voice))
    assert " ".join(read) == "Hello, my friend. I"


@pytest.mark.parametrize("text", ["", "  ", "!?", ["", " "], ["...", " !"]])
def test_nothing_to_say(synthesizer: Synthesizer, tiny_voice: Voice, text: object) -> None:
    with pytest.raises(TextError):
        list(synthesizer.stream(text, tiny_voice))


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_arriving_text_is_cut_as_sentences(size: int) -> None:
    text = "Dr. Who came. “Really?” Yes!\n\nA new one: it goes on, and on. 3.5 is a number.\nThe end"
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    chunks = list(split_arriving(pieces))
    assert [chunk.text for chunk in chunks] == [
        "Dr. Who came.", "“Really?”", "Yes!", "A new one: it goes on, and on.", "3.5 is a number.", "The end",
    ]  # fmt: skip
    assert [chunk.pause for chunk in chunks] == [0.4, 0.4, 0.7, 0.4, 0.4, 0.0]


def test_text_without_a_full_stop_is_cut_all_the_same() -> None:
    words = ["word "] * 1000
    chunks = list(split_arriving(words, budget=50))
    assert " ".join(chunk.text for chunk in chunks).split() == ["word"] * 1000
    assert max(len(chunk.text) for chunk in chunks) <= 50
    endless = split_arriving(iter(lambda: "word ", None), budget=50)
    assert next(endless).text, "it does not wait for an end that never comes"
    assert [chunk.text for chunk in split_arriving(["word " * 1000], 50)] == [chunk.text for chunk in chunks]
    assert split("", 50) == list(split_arriving([], 50)) == []


@pytest.mark.parametrize("size", [1, 100, 321, 5000])
@pytest.mark.parametrize(("lead", "tail", "is_last"), [(None, 0.0, True), (0.2, 0.2, False), (0.0, 0.4, True)])
def test_edges_do_not_depend_on_the_blocks(size: int, lead: float | None, tail: float, is_last: bool) -> None:
    rng = np.random.default_rng(0)
    parts = [np.zeros(3000), 0.2 * rng.standard_normal(4000), np.zeros(3333), 0.2 * rng.standard_normal(2000)]
    samples = np.concatenate([*parts, np.zeros(700)]).astype(np.float32)
    whole = EdgeTrimmer(RATE, lead, tail)
    expected = np.concatenate([whole.push(samples), whole.flush(is_last)])
    trimmer = EdgeTrimmer(RATE, lead, tail)
    blocks = [trimmer.push(samples[start : start + size]) for start in range(0, len(samples), size)]
    np.testing.assert_array_equal(np.concatenate([*blocks, trimmer.flush(is_last)]), expected)
    assert trimmer.shift == whole.shift
