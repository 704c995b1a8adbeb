"""Numbers in words: read back by an independent reader they are the same numbers, and they are said as people do."""

from __future__ import annotations

import random

import pytest

from openvalle.number_words import NAMED, cardinal_words, figure_words, ordinal_words, year_words
from openvalle.speech_models.wer import normalize_words
from openvalle.text.normalize import normalize

# fmt: off
ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]
# fmt: on
TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
ORDINAL = {"first": "one", "second": "two", "third": "three", "fifth": "five", "eighth": "eight", "ninth": "nine"}
POWERS = {
    "thousand": 1,
    "million": 2,
    "billion": 3,
    "trillion": 4,
    "quadrillion": 5,
    "decillion": 11,
    "vigintillion": 21,
}


def read(words: str) -> int:
    """Return the number that the words mean: sum up to a power of a thousand, then multiply."""
    if words.startswith("minus "):
        return -read(words[6:])
    total = group = 0
    for word in words.replace("-", " ").replace(" and ", " ").split():
        if word in POWERS:
            total, group = total + group * 1000 ** POWERS[word], 0
        elif word == "hundred":
            group *= 100
        else:
            group += TENS[word] if word in TENS else ONES.index(word)
    return total + group


def numbers() -> list[int]:
    """All small numbers, and random ones of every length that the reader knows."""
    rng = random.Random(0)
    drawn = [rng.randrange(10 ** rng.randint(4, 18)) for _ in range(3000)]
    thin = [int("".join(rng.choice(("0", "0", figure)) for figure in str(number))) for number in drawn]
    return [*range(3000), *drawn, *thin, 10**33, 2 * 10**63 + 1]


def test_every_number_is_read_back_as_itself() -> None:
    for number in numbers():
        words = cardinal_words(number)
        assert read(words) == number, words
        assert cardinal_words(-number) == (f"minus {words}" if number else "zero")


def test_an_ordinal_is_the_number_with_another_last_word() -> None:
    for number in numbers():
        words = ordinal_words(number)
        last = words.replace("-", " ").split()[-1]
        for ending, plain in (("ieth", "y"), ("fth", "ve"), ("th", "")):  # twentieth, twelfth, sixth
            if last not in ORDINAL and last.endswith(ending):
                base = last.removesuffix(ending) + plain
                break
        else:
            base = ORDINAL[last]
        assert read(words.removesuffix(last) + base) == number, words


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (21, "twenty-one"),
        (101, "one hundred and one"),
        (1_001, "one thousand and one"),
        (1_205_017, "one million two hundred and five thousand and seventeen"),
        (1_000_100, "one million one hundred"),
        (-40, "minus forty"),
    ],
)
def test_known_numbers(number: int, words: str) -> None:
    assert cardinal_words(number) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (1905, "nineteen oh-five"),
        (1100, "eleven hundred"),
        (1066, "ten sixty-six"),
        (2000, "two thousand"),
        (2005, "two thousand and five"),
        (2024, "twenty twenty-four"),
        (850, "eight fifty"),
        (12024, "twelve thousand and twenty-four"),
    ],
)
def test_years(number: int, words: str) -> None:
    assert year_words(number) == words


def test_a_number_too_long_for_a_name_is_read_figure_by_figure() -> None:
    long = "12" * 3000  # longer than Python turns into a number
    assert figure_words("7-0") == "seven zero"
    with pytest.raises(ValueError, match=f"{NAMED} figures"):
        cardinal_words(10**NAMED)
    for figures in (long, f"{long}th", f"{long}.5"):
        assert normalize(figures).text.replace("-", " ").startswith("one two one two one two")
        assert normalize_words(figures).startswith("one two one two one two")


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("2.50", "two point five"),
        ("2.00", "two"),
        ("1,234.056", "one thousand two hundred and thirty four point zero five six"),
        ("the 21st", "the twenty first"),
    ],
)
def test_transcripts_are_scored_by_the_same_words(written: str, words: str) -> None:
    assert normalize_words(written) == words
