"""Pace: speed s takes 1/s of the time, a duration is kept, lines begin without delay, short words are not slow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lm_samples import AR_KINDS, NAR_KINDS
from openvalle.apps.batch import TableJob, TableRow
from openvalle.apps.dialogue import speak_dialogue
from openvalle.audio import concatenate
from openvalle.decode.ar import StoppedBy
from openvalle.engines.torch import TorchAR, TorchNAR
from openvalle.errors import ConfigError, ModelError
from openvalle.model.ar import AR
from openvalle.model.config import ARConfig, NARConfig
from openvalle.model.nar import NAR
from openvalle.synth.plan import plan_segments, split_sentences
from openvalle.synth.speech import assess_quality, join_speech
from openvalle.synth.synthesizer import Synthesizer
from openvalle.synth.voice import Voice

TEXTS = (
    "Hello there, my friend.",
    "It is raining again.",
    "The river ran slowly past the old mill, and nobody saw it.",
    "Yes.",
    "Nobody in the village could say when the wheel had stopped turning, or why.",
    "He had a letter, he said.",
    "A boy came down the road with a lantern in his hand.",
    "What do you want at this hour?",
    "In 1999 it had been carried over the pass.",
    "She opened the door and looked at him for a long time without a word.",
)
SHORT = ("Yes.", "No!", "Hi.", "42.", "Seven.", "Thank you.")


@pytest.fixture(scope="module")
def builtin() -> Synthesizer:
    """The built-in model."""
    return Synthesizer.load()


@pytest.fixture
def unaligned(synthesizer: Synthesizer) -> Synthesizer:
    """The tiny synthesizer with networks without alignment."""
    size = {"symbols": len(synthesizer.generator.table), "codebook_size": 1024}
    stack = {"width": 16, "heads": 2, "depth": 1, "feedforward": 32}
    ar = TorchAR(AR(ARConfig.parse({**AR_KINDS["valle"], **size, "transformer": stack})).eval())
    nar = TorchNAR(NAR(NARConfig.parse({**NAR_KINDS["valle"], **size, "transformer": stack})).eval())
    return replace(synthesizer, generator=replace(synthesizer.generator, ar=ar, nar=nar))


def frames(speaker: Synthesizer, text: str, voice: Voice, seed: int, speed: float = 1.0) -> int:
    """Return how many frames of codebook 1 a line takes."""
    segment = next(plan_segments(split_sentences(text), voice, seed))
    attempt = speaker.generator.sample_paced([speaker.generator.encode(segment)], speaker.sampling(speed=speed))[0]
    return len(attempt.result.codes) * speaker.generator.ar.config.merge


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.3, 2.0])
def test_speed_divides_the_time(synthesizer: Synthesizer, tiny_voice: Voice, speed: float) -> None:
    text = "Hello there, my friend. I see."  # two lines with a pause between them
    plain = synthesizer.say(text, tiny_voice, seed=3)
    options = synthesizer.sampling(speed=speed)
    other = synthesizer.say(text, tiny_voice, seed=3, options=options)
    assert other.seconds == pytest.approx(plain.seconds / speed, rel=0.08)
    assert other.symbols == plain.symbols
    line = synthesizer.say("Hello there, my friend.", tiny_voice, seed=3, options=options)
    assert line.seconds * speed == pytest.approx(
        synthesizer.say("Hello there, my friend.", tiny_voice, seed=3).seconds, rel=0.03
    )


def test_a_stream_at_another_pace_is_what_say_gives(synthesizer: Synthesizer, tiny_voice: Voice) -> None:
    options = synthesizer.sampling(speed=1.5, attempts=1)
    text = "Hello there. I see."
    said = synthesizer.say(text, tiny_voice, seed=3, options=options)
    for live in (True, False):
        blocks = synthesizer.stream(text, tiny_voice, None, 3, options, live=live, windows=None)
        np.testing.assert_array_equal(concatenate([block.audio for block in blocks]).samples, said.audio.samples)


def test_the_path_at_another_pace_is_the_model_s_own(synthesizer: Synthesizer, tiny_voice: Voice) -> None:
    """Sounds and pauses are stretched alike: long ones stay long."""
    plain = synthesizer.say("Hello there, my friend.", tiny_voice, seed=3)
    slow = synthesizer.say("Hello there, my friend.", tiny_voice, seed=3, options=synthesizer.sampling(speed=0.5))
    assert max(abs(a - 2 * b) for a, b in zip(slow.durations, plain.durations, strict=True)) <= 4


@pytest.mark.parametrize("seconds", [0.9, 1.25, 1.6])
def test_a_line_lasts_as_long_as_it_is_told(synthesizer: Synthesizer, tiny_voice: Voice, seconds: float) -> None:
    speech = synthesizer.say("Hello there, my friend.", tiny_voice, seed=1, duration=seconds)
    assert speech.seconds == pytest.approx(seconds, rel=0.03)


def test_a_text_lasts_as_long_as_it_is_told_in_a_batch_and_a_dialogue(
    synthesizer: Synthesizer, tiny_voice: Voice, tmp_path
) -> None:
    text = "Hello there, my friend. I see. [pause:0.5s] And another."
    plain, wanted = synthesizer.say(text, tiny_voice), 3.0
    assert plain.seconds != pytest.approx(wanted, rel=0.1)
    alone = synthesizer.say(text, tiny_voice, duration=wanted)
    assert alone.seconds == pytest.approx(wanted, rel=0.03)
    both = synthesizer.say_batch([text, text], tiny_voice, duration=[None, wanted])
    for one, other in zip(both, (plain, alone), strict=True):
        np.testing.assert_array_equal(one.audio.samples, other.audio.samples)
    path = tiny_voice.save(tmp_path / "me.safetensors")
    rows = [TableRow(text="Hello there, my friend.", id="one", duration=1.5, voice=str(path))]
    (outcome,) = TableJob(synthesizer, tmp_path / "out", tmp_path).run(rows)
    assert outcome.seconds == pytest.approx(1.5, rel=0.03)
    voices = {"S1": tiny_voice, "S2": tiny_voice}
    spoken = speak_dialogue(synthesizer, "[S1] Hello there. [S2] I see.", voices, duration=2.0)
    assert join_speech(list(spoken)).seconds == pytest.approx(2.0, rel=0.03)


def test_what_cannot_be_is_refused(synthesizer: Synthesizer, unaligned: Synthesizer, tiny_voice: Voice) -> None:
    with pytest.raises(ConfigError, match=r"100 s do not fit a text that takes .* s; give a duration from"):
        synthesizer.say("Hello there.", tiny_voice, duration=100)
    with pytest.raises(ConfigError, match="contradict"):
        synthesizer.say("Hello.", tiny_voice, options=synthesizer.sampling(speed=2), duration=1)
    with pytest.raises(ModelError, match="no alignment: its pace cannot be changed"):
        unaligned.say("Hello.", tiny_voice, options=unaligned.sampling(speed=2, most_frames=4))
    with pytest.raises(ModelError, match="no alignment: its pace cannot be changed"):
        unaligned.say("Hello.", tiny_voice, options=unaligned.sampling(most_frames=4), duration=0.3)


def test_pauses_and_the_last_sound_say_nothing_about_the_pace() -> None:
    assert assess_quality(75, 3, StoppedBy.EOS, 1).flags == (), "'yes', drawn out to a second"
    assert assess_quality(40, 1, StoppedBy.EOS, 1).flags == (), "'oh'"
    assert assess_quality(100, 2, StoppedBy.EOS, 1).flags == ("slow",)
    assert assess_quality(250, 10, StoppedBy.EOS, 1).flags == ("slow",)
    assert assess_quality(1, 1, StoppedBy.EOS, 1).flags == ("fast",)


def test_short_words_take_one_attempt_and_begin_at_once(builtin: Synthesizer) -> None:
    voice = builtin.voice()
    segments = [next(plan_segments(split_sentences(text), voice, seed)) for text in SHORT for seed in (0, 1)]
    rows = [builtin.generator.encode(segment) for segment in segments]
    for segment, attempt in zip(segments, builtin.generator.sample_paced(rows, builtin.options), strict=True):
        assert (attempt.quality.attempts, attempt.quality.flags) == (1, ()), (segment.sentence.text, attempt.quality)
        assert segment.sentence.symbols[0] == "SIL"
        assert int((attempt.result.alignment == 0).sum()) * 2 / 75 <= 0.25


def test_the_built_in_model_keeps_a_speed(builtin: Synthesizer) -> None:
    voice = builtin.voice()
    ratios = [
        frames(builtin, text, voice, 1, speed) * speed / frames(builtin, text, voice, 1)
        for text in TEXTS[:2]
        for speed in (1.5,)
    ]
    assert float(np.abs(np.array(ratios) - 1).max()) < 0.05


@pytest.mark.slow
def test_speed_by_ten_texts_and_three_seeds(builtin: Synthesizer) -> None:
    voice = builtin.voice()
    segments = [next(plan_segments(split_sentences(text), voice, seed)) for text in TEXTS for seed in range(3)]

    rows = [builtin.generator.encode(segment) for segment in segments]

    def lengths(speed: float) -> np.ndarray:
        options = builtin.sampling(speed=speed)
        parts = [builtin.generator.sample_paced(rows[start : start + 6], options) for start in range(0, len(rows), 6)]
        return np.array([len(attempt.result.codes) for part in parts for attempt in part])

    plain = lengths(1.0)
    for speed in (0.6, 1.4, 2.0):
        ratios = lengths(speed) * speed / plain
        assert abs(float(np.median(ratios)) - 1) < 0.05
        assert float(np.abs(ratios - 1).max()) < 0.2
