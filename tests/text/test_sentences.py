"""Long text comes apart at the right places and together again without loss."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openvalle.errors import TextError
from openvalle.text.sentences import (
    CLAUSE,
    NONE,
    PARAGRAPH,
    SENTENCE,
    Chunk,
    count_words,
    even_blanks,
    join_words,
    split,
)

WORDS = st.lists(
    st.sampled_from(
        ["Dr.", "word", "$3.50", "a.m.", "U.S.", '"Yes!"', "(so", "on),", "end.", "why?", "-", "it's", "No. 5"]
    )
    | st.text("abcdefgh", min_size=1, max_size=30),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(WORDS, st.integers(1, 80), st.sampled_from([" ", "\n", "\n\n", " \t "]))
def test_nothing_is_lost_and_the_budget_holds(words: list[str], budget: int, space: str) -> None:
    chunks = split(space.join(words), budget)
    letters = "".join(sign for word in words for sign in word if sign.isalnum())
    assert "".join(sign for chunk in chunks for sign in chunk.text if sign.isalnum()) == letters
    assert all(0 < len(chunk.text) <= budget for chunk in chunks)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("abc", min_size=1, max_size=9), max_size=40), st.integers(10, 60))
def test_joined_chunks_are_the_words_of_the_text(words: list[str], budget: int) -> None:
    assert " ".join(chunk.text for chunk in split(" ".join(words), budget)).split() == words


@settings(max_examples=100, deadline=None)
@given(st.text(".!?,;:\n \"')(ab1\u2026\u201d\u3002\u2029\U0001f600", max_size=200), st.integers(1, 50))
def test_any_text_can_be_split(text: str, budget: int) -> None:
    split(text, budget)


def test_the_pause_tells_what_ended() -> None:
    text = "One is here. Two came, then went away.\n\nThree."
    assert split(text, 15) == [
        Chunk("One is here.", SENTENCE),
        Chunk("Two came,", CLAUSE),
        Chunk("then went away.", PARAGRAPH),
        Chunk("Three.", NONE),
    ]
    assert PARAGRAPH > SENTENCE > CLAUSE > NONE


@pytest.mark.parametrize(
    "whole", ["Dr. Smith came.", "It is 3.14 wide.", "The U.S. Army.", "See No. 5 now.", "J. R. Ewing."]
)
def test_abbreviations_and_decimals_are_not_ends(whole: str) -> None:
    chunks = split(f"{whole} Another one is here.", len(whole))
    assert chunks[0] == Chunk(whole, SENTENCE)


def test_a_quotation_keeps_its_marks() -> None:
    texts = [chunk.text for chunk in split('"Is it so?" he said. "Yes!" And he left.', 20)]
    assert texts == ['"Is it so?" he said.', '"Yes!" And he left.']


def test_short_text_is_one_chunk_and_no_text_is_none() -> None:
    assert split("Hello there. How are you?") == [Chunk("Hello there. How are you?", NONE)]
    assert split("") == split(" \n ") == split("... !? \U0001f600") == []


def test_a_word_longer_than_the_budget_is_cut() -> None:
    assert [chunk.text for chunk in split("abcdefgh", 3)] == ["abc", "def", "gh"]


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(TextError, match="budget"):
        split("word", 0)


def test_twenty_thousand_characters_are_fast() -> None:
    started = time.process_time()
    for text in ("Hello world, this is fine. " * 740, "a" * 20000, '"' * 20000, ", " * 10000):
        split(text, 200)
    assert time.process_time() - started < 3


def test_signs_that_no_blanks_set_apart_count_each() -> None:
    assert count_words("One two - three.") == 4
    assert count_words("今天，天气 very 好。") == 6
    assert count_words(" ") == 0


def test_words_are_joined_as_each_script_writes_them() -> None:
    assert join_words(["今天", "天气", "very", "好"]) == "今天天气very好"
    assert join_words(["안녕", "하세요"]) == "안녕 하세요", "Korean sets words apart"
    assert count_words("안녕 하세요") == 2
    assert even_blanks("今天\n 天气  very\nmuch\n好") == "今天天气 very much 好"
