"""Word errors: the normaliser's rules, and sums over utterances."""

from __future__ import annotations

import math

import pytest

from openvalle.speech_models.wer import WordErrors, normalize_words, word_errors


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, WORLD!", "hello world"),
        ("Mr. O\u2019Neil's café", "mister o'neil's cafe"),
        ("'quoted' well-known", "quoted well known"),
        ("3 dogs & 1,200 cats", "three dogs and one thousand two hundred cats"),
        ("the 21st of 50%", "the twenty first of fifty percent"),
        ("2.5", "two point five"),
        ("... !", ""),
    ],
)
def test_rules_of_the_normaliser(text, words):
    assert normalize_words(text) == words
    assert normalize_words(words) == words


def test_counts():
    assert word_errors("one two three", "one too three four") == WordErrors(1, 0, 1, 3)
    assert word_errors("one two three", "") == WordErrors(0, 3, 0, 3)
    assert word_errors("HELLO, world", "hello world").rate == 0


def test_without_reference_every_word_is_an_insertion():
    errors = word_errors("!", "two words")
    assert errors == WordErrors(insertions=2)
    assert math.isnan(errors.rate)
