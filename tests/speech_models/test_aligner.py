"""Laws of forced alignment: spans tile the clip, keep the order of the phones, and know when they cannot."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from openvalle.audio import Audio, resample, silence
from openvalle.errors import AudioError, TextError
from openvalle.speech_models.aligner import MIN_SILENCE, Aligner, PhoneSpan, spans_to_durations
from openvalle.types import SIL


@pytest.fixture(scope="module")
def aligner() -> Aligner:
    return Aligner()


def test_spans_tile_the_clip_and_keep_the_phones_in_order(aligner, clip, words):
    spans = aligner.align(clip, words)
    assert spans[0].start == 0
    assert spans[-1].end == clip.seconds
    assert all(before.end == after.start for before, after in itertools.pairwise(spans))
    assert all(span.end > span.start for span in spans)
    phones = [span.symbol for span in spans if span.symbol != SIL]
    assert phones == [phone for _, word in words for phone in word]
    assert [span.word for span in spans if span.symbol != SIL] == [0, 0, 1, 1, 2, 2]


def test_phones_are_found_where_they_are(aligner, clip, words, said):
    found = {(span.symbol.rstrip("012"), span.word): span.start for span in aligner.align(clip, words)}
    starts = np.cumsum([0, *(seconds for _, seconds in said)])
    for (phone, word), index in {("AA", 1): 5, ("SH", 2): 6, ("IY", 2): 7, ("S", 1): 4, ("IY", 0): 2}.items():
        assert found[phone, word] == pytest.approx(starts[index], abs=0.03)


def test_result_depends_neither_on_the_rate_nor_on_earlier_clips(aligner, clip, words):
    first = aligner.align(clip, words)
    aligner.align(clip, [("she", ("SH", "IY2")), *words[1:]])
    assert aligner.align(clip, words) == first == Aligner().align(clip, words)
    other = aligner.align(resample(clip, 44_100), words)
    assert [span.symbol for span in other] == [span.symbol for span in first]
    assert [span.start for span in other] == pytest.approx([span.start for span in first], abs=0.02)


def test_right_words_score_higher_than_wrong_ones(aligner, clip, words):
    right = aligner.align_scored(clip, words)
    wrong = aligner.align_scored(clip, words[::-1][:2] + words[:1])
    assert wrong.score < right.score <= 0
    assert len(right.word_scores) == len(words)
    times = right.word_times()
    assert all(start < end for start, end in times)
    assert times == sorted(times)


def test_words_without_phones_are_passed_over(aligner, clip, words):
    given = [words[0], ("-", ()), *words[1:]]
    result = aligner.align_scored(clip, given)
    assert [span.symbol for span in result.spans] == [span.symbol for span in aligner.align(clip, words)]
    start, end = result.word_times()[1]
    assert start == end


def test_equal_neighbours_are_one_span(aligner, clip):
    spans = aligner.align(clip, [("see", ("S", "IY1")), ("saw", ("S", "AA1")), ("she", ("SH", "IY1", "IY1"))])
    symbols = [span.symbol for span in spans]
    assert all(a != b for a, b in itertools.pairwise(symbols))
    assert all(span.seconds >= MIN_SILENCE for span in spans if span.symbol == SIL)


def test_too_many_words_do_not_match(aligner, clip):
    with pytest.raises(AudioError, match="words do not match the audio"):
        aligner.align(clip, [("catbuckdoyta", ("K", "AE1", "T", "B", "UH0", "K", "D", "OY2"))] * 12)


def test_what_the_first_search_loses_a_wider_one_finds(aligner, clip, words):
    class Hasty(Aligner):
        def _decode(self, pcm, pronunciations):
            raise AudioError("lost", "")

    hasty = Hasty()
    found = hasty.align_scored(clip, words)
    assert [span.symbol for span in found.spans] == [span.symbol for span in aligner.align(clip, words)]
    with pytest.raises(AudioError, match="do not match"):  # a wider search also finds what is not there
        hasty.align_scored(clip, [("catbuckdoyta", ("K", "AE1", "T", "B", "UH0", "K", "D", "OY2"))] * 12)


@pytest.mark.parametrize("audio", [silence(1.0), Audio(np.zeros(0, np.float32))])
def test_silence_is_refused(aligner, audio, words):
    with pytest.raises(AudioError, match="silent"):
        aligner.align(audio, words)


def test_a_clip_of_a_few_samples_does_not_match(aligner, words):
    noise = np.random.default_rng(0).standard_normal(40).astype(np.float32) * 0.1
    with pytest.raises(AudioError, match="words do not match"):
        aligner.align(Audio(noise), words)


def test_no_words_are_refused(aligner, clip):
    with pytest.raises(TextError):
        aligner.align(clip, [("!", ())])


def spans_at(*edges: float) -> list[PhoneSpan]:
    return [PhoneSpan(f"P{i}", start, end, i) for i, (start, end) in enumerate(itertools.pairwise(edges))]


def test_durations_sum_to_the_frames_and_fill_whole_blocks():
    rng = np.random.default_rng(1)
    for _ in range(200):
        edges = np.concatenate([[0], np.sort(rng.uniform(0, 2, rng.integers(0, 30))), [2]])
        frames = int(rng.integers(148, 153))
        symbols, durations = spans_to_durations(spans_at(*edges), frames)
        assert len(symbols) == len(durations) == len(edges) - 1
        assert sum(durations) == frames
        assert min(durations) >= 2
        assert all(duration % 2 == 0 for duration in durations[:-1])


def test_durations_follow_the_times():
    assert spans_to_durations(spans_at(0, 0.4, 1.0, 1.2), 90)[1] == [30, 46, 14]


def test_crowded_symbols_get_one_frame_each_and_more_are_refused():
    edges = np.linspace(0, 0.1, 6)
    assert (
        spans_to_durations(spans_at(*edges), 7)[1] == [2, 1, 1, 2, 1]
        or sum(spans_to_durations(spans_at(*edges), 7)[1]) == 7
    )
    assert spans_to_durations(spans_at(*edges), 5)[1] == [1] * 5
    with pytest.raises(AudioError, match="5 symbols cannot fit 4 frames"):
        spans_to_durations(spans_at(*edges), 4)
