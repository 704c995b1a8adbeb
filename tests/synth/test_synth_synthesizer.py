"""Same seed, same sound: alone, in a batch, as a stream, from several threads; two voices never meet."""

from __future__ import annotations

import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from openvalle.audio import Audio, concatenate
from openvalle.decode.ar import StoppedBy
from openvalle.errors import AudioError, ModelError, TextError, UserError
from openvalle.synth import generate as utter
from openvalle.synth.generate import SpeechGenerator
from openvalle.synth.plan import Segment, build_sentence, place_in_time, split_sentences
from openvalle.synth.speech import Speech, assess_quality, rank_attempt
from openvalle.synth.synthesizer import Synthesizer
from openvalle.synth.voice import Voice
from openvalle.text.language import phonemize, to_symbols

TEXT = "Hello there, my friend."
LONG = "Once there was a cat. " * 25


def same(one: Speech, two: Speech) -> bool:
    return np.array_equal(one.audio.samples, two.audio.samples)


def test_same_seed_same_samples(synthesizer: Synthesizer, tiny_voice: Voice) -> None:
    first = synthesizer.say(TEXT, tiny_voice, seed=1)
    assert same(first, synthesizer.say(TEXT, tiny_voice, seed=1))
    other = synthesizer.say(TEXT, tiny_voice, seed=2)
    assert first.durations != other.durations, "another seed is another prosody"


def test_a_fresh_model_says_the_same(synthesizer: Synthesizer, tiny_model, tiny_voice: Voice) -> None:
    assert same(Synthesizer.load(tiny_model).say(TEXT, tiny_voice), synthesizer.say(TEXT, tiny_voice))


def test_batch_equals_alone(synthesizer: Synthesizer, tiny_voice: Voice) -> None:
    texts = [TEXT, "Hi.", LONG[:300], "See you."]
    batch = synthesizer.say_batch(texts, tiny_voice, seed=5)
    for text, speech in zip(texts, batch, strict=True):
        alone = synthesizer.say(text, tiny_voice, seed=5)
        assert same(speech, alone)
        assert speech.words == alone.words


def test_sentences_joined_are_the_whole(synthesizer: Synthesizer, tiny_voice: Voice) -> None:
    whole = synthesizer.say(LONG, tiny_voice, seed=3)
    pieces = list(synthesizer.sentences(LONG, tiny_voice, seed=3))
    assert len(pieces) > 2
    np.testing.assert_array_equal(concatenate([piece.audio for piece in pieces]).samples, whole.audio.samples)


def test_two_threads_with_two_voices_do_not_meet(synthesizer: Synthesizer, tiny_voice: Voice) -> None:
    rng = np.random.default_rng(9)
    other = replace(tiny_voice, codes=rng.integers(0, 1024, tiny_voice.codes.shape).astype(np.uint16))
    voices = [tiny_voice, other] * 4
    alone = [synthesizer.say(TEXT, voice, seed=4) for voice in voices[:2]]
    assert not same(*alone), "the voice matters"
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda voice: synthesizer.say(TEXT, voice, seed=4), voices))
    assert all(same(speech, alone[index % 2]) for index, speech in enumerate(together))


def test_words_and_phones_lie_in_the_sound_in_order(synthesizer: Synthesizer, tiny_voice: Voice) -> None:
    speech = synthesizer.say(TEXT, tiny_voice)
    assert [word.text for word in speech.words] == ["Hello", "there", "my", "friend"]
    for items in (speech.words, speech.phones):
        edges = [edge for item in items for edge in (item.start, item.end)]
        assert edges == sorted(edges)
        assert edges[0] >= 0
        assert edges[-1] <= speech.seconds
    assert speech.phones[-1].end == pytest.approx(speech.seconds)
    assert sum(speech.durations) == len(speech.codes) == speech.seconds * 75


def test_memory_does_not_grow_with_the_text(synthesizer: Synthesizer, tiny_voice: Voice, monkeypatch) -> None:
    made: list[weakref.ref[Speech]] = []
    sound = synthesizer.say("Hi.", tiny_voice)

    def speak(self: SpeechGenerator, segments: list[Segment], options: object) -> list[Speech]:
        pieces = [replace(sound, text=segment.sentence.text) for segment in segments]
        made.extend(weakref.ref(piece) for piece in pieces)
        return pieces

    monkeypatch.setattr(SpeechGenerator, "speak", speak)
    most = 0
    for _ in synthesizer.sentences(LONG * 4, tiny_voice):
        most = max(most, sum(ref() is not None for ref in made))
    assert len(made) >= 10
    assert most <= 3


def test_joints_step_no_more_than_the_speech(synthesizer: Synthesizer, tiny_voice: Voice) -> None:
    pieces = list(synthesizer.sentences(LONG, tiny_voice))
    steps = np.abs(np.diff(concatenate([piece.audio for piece in pieces]).samples))
    at = np.cumsum([len(piece.audio.samples) for piece in pieces])[:-1] - 1
    own = max(np.abs(np.diff(piece.audio.samples)).max() for piece in pieces)
    assert steps[at].max() <= own


@pytest.mark.parametrize("text", ["", "  ", "!?", "🙂", "\n\n* * *\n\n"])
def test_nothing_to_say(synthesizer: Synthesizer, tiny_voice: Voice, text: str) -> None:
    with pytest.raises(TextError):
        synthesizer.say(text, tiny_voice)


def test_voice_of_others_is_refused(synthesizer: Synthesizer, tiny_voice: Voice) -> None:
    with pytest.raises(ModelError, match="another codec"):
        synthesizer.say(TEXT, replace(tiny_voice, codec_digest="x"))


def test_invented_voice_can_speak(synthesizer: Synthesizer) -> None:
    voice = synthesizer.invent_voice("I am nobody at all.", seed=2)
    assert same(synthesizer.say("Hi.", voice), synthesizer.say("Hi.", voice))
    other = synthesizer.invent_voice("I am nobody at all.", seed=3)
    assert not np.array_equal(voice.codes, other.codes)


def test_saved_voice_says_the_same(synthesizer: Synthesizer, tiny_voice: Voice, tmp_path) -> None:
    path = tiny_voice.save(tmp_path / "me.safetensors")
    assert same(synthesizer.say(TEXT, path), synthesizer.say(TEXT, tiny_voice))


def test_clip_equals_its_enrolled_voice(synthesizer: Synthesizer, tiny_voice: Voice, spoken: Audio) -> None:
    assert same(synthesizer.say(TEXT, spoken, "saw, see, saw, see"), synthesizer.say(TEXT, tiny_voice))


def test_options_are_the_model_s_with_changes(synthesizer: Synthesizer) -> None:
    options = synthesizer.sampling(temperature=0.5)
    assert options.sampling.temperature == 0.5
    assert options.sampling.top_p == synthesizer.options.sampling.top_p
    assert synthesizer.sampling() == synthesizer.options


def test_unknown_device_lists_those_there(tiny_model) -> None:
    with pytest.raises(ModelError, match="there is no device 'tpu' here; use auto or one of: cpu"):
        Synthesizer.load(tiny_model, device="tpu")


def test_bad_lines_are_spoken_again_with_derived_seeds(synthesizer, tiny_voice, monkeypatch) -> None:
    attempts: list[int] = []

    def always_bad(frames: int, phones: int, stopped_by: StoppedBy, attempt: int, noticed: object, spare: int):
        attempts.append(attempt)
        return replace(assess_quality(frames, phones, stopped_by, attempt), flags=("slow",) if attempt < 3 else ())

    monkeypatch.setattr(utter, "assess_quality", always_bad)
    speech = synthesizer.say("Hi.", tiny_voice)
    assert attempts == [1, 2, 3]
    assert speech.quality.attempts == 3
    assert speech.quality.retries == ("slow", "slow")


def test_derived_seeds_differ_and_stay() -> None:
    (sentence,) = split_sentences("So.")
    segments = [Segment(sentence, None, seed, number) for seed in range(5) for number in range(5)]
    seeds = {segment.derive_seed(attempt) for segment in segments for attempt in range(3)}
    assert len(seeds) == 75
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert segments[0].derive_seed(0) == 3051931488724851722, "a change here changes everybody's speech"


def test_quality_names_what_may_be_heard() -> None:
    assert assess_quality(80, 10, StoppedBy.EOS, 1).flags == ()
    assert assess_quality(20, 10, StoppedBy.EOS, 1).flags == ("fast",)
    assert assess_quality(400, 10, StoppedBy.LIMIT, 1).flags == ("cut", "slow")
    assert rank_attempt(assess_quality(80, 10, StoppedBy.EOS, 1)) < rank_attempt(
        assess_quality(20, 10, StoppedBy.EOS, 1)
    )


def test_lines_know_the_word_of_every_symbol() -> None:
    words = phonemize("This sun, oh no.")
    line = build_sentence("This sun, oh no.", words)
    assert (line.symbols, line.owners) == to_symbols(words)
    assert all(a != b for a, b in zip(line.symbols, line.symbols[1:], strict=False))
    found, phones = place_in_time(line, [2] * len(line.symbols), 75.0, 10.0)
    assert [word.text for word in found] == ["This", "sun", "oh", "no"]
    assert len(phones) == len(line.symbols)


def test_lines_hold_every_word_of_the_text() -> None:
    text = "First one. Second, with a clause; and more!\n\n* * *\n\nA new paragraph? Yes. " * 5
    lines = list(split_sentences(text))
    spoken = [word for line in lines for word in line.words]
    assert spoken == [word.text for word in phonemize(text)]
    assert lines[-1].pause == 0


def test_all_that_is_spoken_is_marked_and_only_code_turns_it_off(synthesizer, tiny_model, tiny_voice) -> None:
    plain, text = Synthesizer.load(tiny_model, watermark=False), "Saw. See saw."
    unmarked = list(plain.sentences(text, tiny_voice))
    expected = [synthesizer.marker.mark(piece.audio).samples for piece in unmarked]
    for marked, piece, wanted in zip(synthesizer.sentences(text, tiny_voice), unmarked, expected, strict=True):
        assert np.array_equal(marked.audio.samples, wanted)
        assert not np.array_equal(marked.audio.samples, piece.audio.samples)
        assert (marked.provenance.watermark, piece.provenance.watermark) == ("perth-implicit", "")
    assert np.array_equal(synthesizer.say_batch([text], tiny_voice)[0].audio.samples, np.concatenate(expected))


def test_a_batch_may_have_a_voice_and_a_seed_for_each_text(synthesizer, tiny_voice) -> None:
    other = replace(tiny_voice, codes=tiny_voice.codes[::-1].copy())
    batch = synthesizer.say_batch(["Saw.", "See."], [tiny_voice, other], seed=[3, 4])
    for speech, text, voice, seed in zip(batch, ("Saw.", "See."), (tiny_voice, other), (3, 4), strict=True):
        assert np.array_equal(speech.audio.samples, synthesizer.say(text, voice, seed=seed).audio.samples)


def test_values_of_other_types_are_told_and_other_floats_taken(synthesizer: Synthesizer, tiny_voice: Voice) -> None:
    samples = np.zeros(100)
    assert Audio(samples).samples.dtype == np.float32
    for wrong, message in ((np.stack([samples, samples], 1), "not mono"), (samples.astype(np.int16), "be int16")):
        with pytest.raises(AudioError, match=message):
            Audio(wrong)
    for voice in (b"RIFF", samples, 5):
        with pytest.raises(UserError, match="a voice cannot be"):
            synthesizer.voice(voice)
    for text in (b"Hi.", None, 5):
        with pytest.raises(TextError, match="a text cannot be"):
            synthesizer.say(text, tiny_voice)
