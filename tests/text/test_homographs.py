"""Homographs are said as their sentence asks for: homographs.tsv, whose sentences nothing was learned from."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest

from openvalle.text.homographs import find_readings
from openvalle.text.language import phonemize
from openvalle.text.lexicon import lexicon

LINES = (Path(__file__).parent / "homographs.tsv").read_text(encoding="utf-8").splitlines()
CASES = [line.split("\t") for line in LINES if not line.startswith("#")]


def say(word: str, sentence: str) -> str:
    return next(" ".join(found.phones) for found in phonemize(sentence) if found.text.lower() == word)


def test_the_list_is_long_and_has_every_reading_twice() -> None:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for word, phones, _ in CASES:
        counts[word][phones] += 1
    assert len(CASES) >= 300 and len(counts) >= 60
    assert all(len(readings) == 2 and min(readings.values()) >= 2 for readings in counts.values())


def test_most_are_said_right() -> None:
    right = sum(say(word, sentence) == phones for word, phones, sentence in CASES)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for word, phones, _ in CASES:
        counts[word][phones] += 1
    most_frequent = sum(max(readings.values()) for readings in counts.values()) / len(CASES)
    assert most_frequent < 0.6
    assert right / len(CASES) >= 0.97


@pytest.mark.parametrize(
    ("word", "sentence", "phones"),
    [
        ("use", "It is of no use.", "Y UW1 S"),
        ("use", "Use it with care.", "Y UW1 Z"),
        ("read", "We read to them each night.", "R IY1 D"),
        ("read", "He read it last night.", "R EH1 D"),
        ("augment", "They augment the team.", "AO0 G M EH1 N T"),
        ("used", "It was used to open it.", "Y UW1 Z D"),
        ("have", "That is all I have.", "HH AE1 V"),
    ],
)
def test_readings(word: str, sentence: str, phones: str) -> None:
    assert say(word, sentence) == phones


def test_words_of_one_reading_are_none() -> None:
    for word in ("cat", "the", "have", "closer", "minutes"):
        assert find_readings(word, lexicon().lookup(word) or {"DEFAULT": ("K",)}) is None
