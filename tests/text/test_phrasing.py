"""Breaths in long stretches without punctuation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openvalle.synth.plan import split_sentences
from openvalle.text.explain import explain
from openvalle.text.language import phonemize
from openvalle.text.phrasing import add_breaths
from openvalle.types import SIL

LONG = "then came a poor widow who put two small coins into the box and the rulers watched her while she went away"


def spoken(text: str) -> str:
    """A text with a stroke at each pause inside it."""
    words = add_breaths(phonemize(text))
    return " ".join(word.text + (" |" if word.pause and word is not words[-1] else "") for word in words)


def test_a_long_stretch_is_spoken_in_breaths() -> None:
    assert spoken(LONG) == (
        "then came a poor widow who put two small coins into the box | and the rulers watched her while she went away"
    )
    assert spoken(f"{LONG} {LONG}").count(" |") >= 3


@pytest.mark.parametrize(
    "text",
    [
        "We had bread and butter.",
        "She took the book and the pen and left the room.",
        "This is the house that Jack built when he was young.",
        "One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen.",  # nowhere
    ],
)
def test_what_needs_no_breath_is_left(text: str) -> None:
    assert add_breaths(phonemize(text)) == phonemize(text)


def test_punctuation_is_enough() -> None:
    text = "Then came a poor widow, who put two coins into the box; and the rulers, who watched her, went away."
    assert add_breaths(phonemize(text)) == phonemize(text)


def test_a_phrase_is_parted_where_no_clause_begins() -> None:
    text = "the tall old man walked slowly down the narrow stony path toward the small white village beyond the river"
    assert spoken(text).count("|") >= 1
    assert " | toward" in spoken(text)


@given(st.lists(st.sampled_from((*LONG.split(), "which", "of", "in", "money,", "bread.")), min_size=1, max_size=80))
def test_breaths_add_pauses_and_nothing_else(chosen: list[str]) -> None:
    words = phonemize(" ".join(chosen))
    breathed = add_breaths(words)
    assert [(word.text, word.phones) for word in breathed] == [(word.text, word.phones) for word in words]
    assert all(after.pause for before, after in zip(words, breathed, strict=True) if before.pause)
    assert breathed[-1].pause == words[-1].pause
    assert add_breaths(breathed) == breathed


def test_what_is_spoken_has_them_and_a_recording_has_not() -> None:
    sentence = next(split_sentences(LONG))
    assert sentence.symbols.count(SIL) == 2 + 1
    assert not any(word.pause for word in phonemize(LONG)[:-1])


def test_the_account_names_them() -> None:
    found = [word.said for word in explain(LONG, {}) if "a breath after it" in word.rules]
    assert found == ["box"]
