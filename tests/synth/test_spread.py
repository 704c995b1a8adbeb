"""Sounds spread over the times of words: each word where it was heard, pauses kept, the clip tiled."""

from __future__ import annotations

from itertools import pairwise

import pytest

from openvalle.synth.speech import Timed
from openvalle.synth.spread import spread_sounds
from openvalle.text.language import phonemize
from openvalle.types import SIL


def test_each_word_lies_where_it_was_heard_with_its_pauses() -> None:
    words = phonemize("I saw it all", "en")
    heard = [Timed("I", 0.5, 0.6), Timed("saw", 0.6, 1.0), Timed("it", 2.0, 2.2), Timed("all.", 2.2, 2.6)]
    spans = spread_sounds(words, heard, 3.0)
    assert spans[0].start == 0 and spans[-1].end == 3.0
    assert all(one.end == other.start for one, other in pairwise(spans))
    pauses = [(span.start, span.end) for span in spans if span.symbol == SIL]
    assert pauses == [pytest.approx(pair) for pair in ((0, 0.5), (1.0, 2.0), (2.6, 3.0))]
    first, last = ([span for span in spans if span.word == index] for index in (1, 3))
    assert first[0].start == pytest.approx(0.6) and first[-1].end == pytest.approx(1.0)
    assert last[0].start == pytest.approx(2.2) and last[-1].end == pytest.approx(2.6)
    assert [span.symbol for span in spans if span.word >= 0] == [phone for word in words for phone in word.phones]


def test_words_of_other_borders_are_matched_by_their_letters() -> None:
    """A recogniser cuts Chinese elsewhere than the front end does."""
    pytest.importorskip("pypinyin")
    words = phonemize("今天天气很好", "zh")
    heard = [Timed("今", 0.0, 0.2), Timed("天天", 0.2, 0.6), Timed("气很好", 0.6, 1.2)]
    spans = spread_sounds(words, heard, 1.2)
    starts = [next(span.start for span in spans if span.word == index) for index in range(len(words))]
    letters = [sum(len(word.text) for word in words[:index]) for index in range(len(words))]
    assert starts == pytest.approx([0.2 * count for count in letters])


def test_words_of_no_time_and_beyond_the_end_still_tile_the_clip() -> None:
    words = phonemize("saw see", "en")
    spans = spread_sounds(words, [Timed("saw", 0.5, 0.5), Timed("see", 0.4, 9.0)], 1.0)
    assert spans[0].start == 0 and spans[-1].end == 1.0
    assert all(one.end == other.start and one.start <= one.end for one, other in pairwise(spans))
