"""What is written and how a careful narrator says it, kind by kind: readings.tsv, a case a line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openvalle.text.language import phonemize
from openvalle.text.normalize import explain, normalize
from openvalle.text.sentences import split, split_arriving

LINES = (Path(__file__).parent / "readings.tsv").read_text(encoding="utf-8").splitlines()
CASES = [line.split("\t") for line in LINES if line and not line.startswith("# ")]


@pytest.mark.parametrize(("written", "spoken"), CASES)
def test_readings(written: str, spoken: str) -> None:
    assert normalize(written).text == spoken
    assert explain(written)[0] == spoken


@pytest.mark.parametrize("written", [written for written, _ in CASES if written[-1] not in ".!?"])
def test_the_full_stop_after_a_sentence_stays(written: str) -> None:
    assert normalize(f"So it was {written}. They left.").text.endswith(". They left.")


@pytest.mark.parametrize("written", [written for written, _ in CASES])
def test_reading_does_not_depend_on_where_a_line_is_broken(written: str) -> None:
    """Every blank of a sentence may be a line break: on the way of `say` and on that of a stream."""
    text = f"So it is. {written} There it was."
    said = read_pieces(split(text))
    for at, sign in enumerate(text):
        if sign == " ":
            broken = f"{text[:at]}\n{text[at + 1 :]}"
            assert read_pieces(split(broken)) == said, broken
            assert read_pieces(split_arriving(list(broken))) == said, broken


def read_pieces(chunks) -> list[str]:
    return [f"{word.text} {word.phones}" for chunk in chunks for word in phonemize(chunk.text)]


def marked(text: str) -> str:
    """Return the words with a bar for each pause."""
    words = [word for chunk in split(text, 200) for word in [*phonemize(chunk.text), None]]
    return (
        " ".join(word.text + "|" * word.pause if word else "/" for word in words).replace("| /", "|").replace(" /", "|")
    )


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("1) Mix\n2) Bake\n3) Eat", "one| Mix| two| Bake| three| Eat|"),
        ("Bring:\n  * tea\n  * milk", "Bring| tea| milk|"),
        ("+ one\n+ two", "one| two|"),
        ("# News\nIt rained.\n## More\nIt snowed.", "News| It rained| More| It snowed|"),
        ("Milk\nEggs\nBread", "Milk| Eggs| Bread|"),
        ("He met\nJohn Smith in\nParis, where\nhe lived.", "He met John Smith in Paris| where he lived|"),
        ("| tea | milk |\n|---|---|\n| two | one |", "tea| milk| two| one|"),
        ("a well-\nknown re-\ncord of Thut-\nmose", "a well known record of Thutmose|"),
        ("four- \nor five-year plans", "four or five year plans|"),
        ("A quiet\u00ad\nly said word.", "A quietly said word|"),
        ("<p>One.</p><p>Two &amp; three</p>", "One| Two and three|"),
        ("> He wrote this\n> to me.", "He wrote this to me|"),
    ],
)
def test_lines(written: str, spoken: str) -> None:
    assert marked(written) == spoken


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("See p. 5 and pp. 7-9 there. Go on.", ["See p. 5 and pp. 7-9 there.", "Go on."]),
        (
            "It is the U.S. Army. He left the U.S. It rained.",
            ["It is the U.S. Army.", "He left the U.S.", "It rained."],
        ),
        ("At 5 p.m. Monday he came. At 6 p.m. He left.", ["At 5 p.m. Monday he came.", "At 6 p.m.", "He left."]),
        ('He said "Wait." Then he ran.', ['He said "Wait."', "Then he ran."]),
        ("He went (slowly. Very.) Then he ran.", ["He went (slowly.", "Very.)", "Then he ran."]),
        ("Plan B. It works. J. R. Dale saw it.", ["Plan B.", "It works.", "J. R. Dale saw it."]),
        ("They sell to Hill Corp. It grew.", ["They sell to Hill Corp.", "It grew."]),
        ("It costs $3.50. No. 5 is out. No. I mean it.", ["It costs $3.50.", "No. 5 is out.", "No.", "I mean it."]),
        (
            "He lives on Elm St. Then he moved to St. Louis. Fine.",
            ["He lives on Elm St.", "Then he moved to St. Louis.", "Fine."],
        ),
    ],
)
def test_streams_are_cut_at_the_ends_of_sentences_only(text: str, sentences: list[str]) -> None:
    for size in (1, 2, 3, 7, len(text)):
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        assert [chunk.text for chunk in split_arriving(pieces, 200)] == sentences


def test_a_stream_waits_for_no_more_than_it_needs() -> None:
    taken: list[str] = []

    def pieces():
        for piece in ("He left. ", "It rained", " all day", ". And", " then", " it", " stopped."):
            taken.append(piece)
            yield piece

    chunks = split_arriving(pieces(), 200)
    assert next(chunks).text == "He left." and len(taken) == 2
    assert next(chunks).text == "It rained all day." and len(taken) == 4


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([written for written, _ in CASES]), min_size=1, max_size=4), st.randoms())
def test_reading_is_a_function_of_the_words(written: list[str], chance) -> None:
    """Not of where a line was broken, nor of how a stream was cut."""
    text = " ".join(part if part[-1] in ".!?" else f"{part}." for part in written)
    broken = "".join("\n" if sign == " " and chance.random() < 0.2 else sign for sign in text)
    places = sorted(chance.randrange(len(broken)) for _ in range(len(broken) // 4))
    pieces = [broken[start:end] for start, end in zip([0, *places], [*places, len(broken)], strict=True)]
    said = read_pieces(split(text, 200))
    assert read_pieces(split(broken, 200)) == said
    assert read_pieces(split_arriving(pieces, 200)) == said
    assert list(split_arriving(pieces, 200)) == list(split_arriving([broken], 200))


@pytest.mark.parametrize(
    "text",
    [
        "They turned onto Lake Dr. Sault Ste. Marie is north of here.",
        "Wait!No. 5\u207b\u00b9 is a fifth.",
        "BBC NASA UNESCO IKEA. DR. DALE CAME.",
        "DR. DALE CAME. BOOK III.",
        "He walks. I READ IT TO THEM ALL NOW. So be it.",
    ],
)
def test_a_sentence_is_read_alone_as_among_others(text: str) -> None:
    assert read_pieces(split(text, 2000)) == read_pieces(split(text, 40)) == read_pieces(split_arriving([text], 200))
