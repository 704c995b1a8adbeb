"""Reading takes time linear in the length of a text, whatever it is made of.

Each class of text is doubled on the way that `say` takes (a script's lines) and on the one that `stream` takes (pieces
as they arrive); rules that see a whole text, as transcripts are read, are tried apart. Time is of the processor, the
least of several runs, and must not grow by more than 2.5 when the text doubles.
"""

import contextlib
import logging
import time
from collections.abc import Callable

import pytest

from openvalle.errors import UserError
from openvalle.synth.plan import parse_script, split_sentences
from openvalle.text.chapters import read_heading, split_chapters
from openvalle.text.normalize import normalize
from openvalle.text.sentences import pause_after

GROWTH, NOISE = 2.5, 0.02  # NOISE: seconds that no ratio is made of
SPACES = ("\n", "\n ", " ", "\t", "\r\n", "\u00a0", "\u2003 \u00a0\u3000", "\u2029", " \u2029", "\f", "\v")
SIGNS = (*'.,[](){}"-@/$#*_<\\', ". ", ", ", ")a", "?! ", "()", "[]", '" ', "' ", "- ", "--", "\u2014", "\u2026 ")
FIGURES = ("7", "7.", "7,", "000,", "7-", "7:", "7 ", "+1 ", "$1,000,", "5%", "1/2 ", "2024-1-1 ", "1st ", "9 a.m. ")
LETTERS = (
    "a",
    "A",
    "bcdf",
    "Aa",
    "a-",
    "a'",
    "'s",
    "a.",
    "A. ",
    "U.S. ",
    "US ",
    "AB ",
    "Dr. ",
    "etc. ",
    "St. ",
    "Co. ",
)
ADDRESSES = ("www.", "www.a ", "a@", "a@b.", "http://", "a.com ", "com.", "/a", "-.", "_a")
OTHERS = ("\u0301", "e\u0301", "\U0001f600", "\u4e2d", "\u4e2d\u3002", "\u0436", "\ufdfa", "\xbd", "\xad", "\ud800")
TAGS = ("[a:", "[pause:", "[S1] a ", "[laugh] ", "a [pause:0.1s] ", "qz [ab](/AH0/) ", "a [rate:0.9] ", "\\[", "# a ")
SSML = (
    *('<break time="1ms"/>', "a<!-- -->", "<p>a</p>", "<x/>", "<sub alias='b'>a</sub>", "<?x?>"),
    *("<phoneme ph='AH0'>ab</phoneme>", "<prosody pitch='1'>a </prosody>"),
)


def least(read: Callable[[str], object], text: str, runs: int = 1) -> float:
    taken = []
    for _ in range(runs):
        start = time.process_time()
        with contextlib.suppress(UserError):
            read(text)
        taken.append(time.process_time() - start)
    return min(taken)


def grows_too_fast(read: Callable[[str], object], make: Callable[[int], str], size: int) -> str:
    """Return what was measured if time grows faster than length, judged again at larger sizes if it seems so."""
    for attempt in range(3):
        once, twice = least(read, make(size)), least(read, make(2 * size))
        if twice <= max(GROWTH * once, NOISE):
            return ""
        if twice > 5:
            break
        size = size if attempt == 0 else 2 * size
    return f"{size} characters took {once:.3f} s, twice as many {twice:.3f} s"


def said(text: str) -> None:
    for _ in parse_script(text).sentences():
        pass


def arriving(text: str) -> None:
    pieces = (text[at : at + 7] for at in range(0, len(text), 7))
    for _ in split_sentences(pieces):
        pass


@pytest.fixture(autouse=True)
def ready():
    """The lexicons are read before the clock runs, and what cannot be spoken is not printed line by line."""
    said("Hello, qzzx.")
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("unit", [*SPACES, *SIGNS, *FIGURES, *LETTERS, *ADDRESSES, *OTHERS, *TAGS], ids=repr)
def test_say_and_stream_are_linear(unit):
    spoken = sum(letter.isalnum() or letter in "<$#@/_%" for letter in unit) / len(unit)
    size = 1_000 if spoken > 0.2 else 8_000  # words cost a thousand times what blanks do
    for read in (said, arriving):
        assert not (fault := grows_too_fast(read, lambda n: "Well " + unit * (n // len(unit)) + " done.", size)), fault


@pytest.mark.parametrize("unit", SSML)
@pytest.mark.parametrize("around", ["{}", "<say-as interpret-as='characters'>{}</say-as>"])
def test_ssml_is_linear(unit, around):
    def make(size: int) -> str:
        return f"<speak>Well {around.format(unit * (size // len(unit)))} done.</speak>"

    assert not (fault := grows_too_fast(said, make, 3_000)), fault


@pytest.mark.parametrize("unit", [*SPACES, *SIGNS, *FIGURES, *LETTERS, *ADDRESSES, *OTHERS, "<?xml"], ids=repr)
def test_whole_transcripts_and_books_are_linear(unit):
    def read(text: str) -> None:
        normalize(text)
        pause_after(text)
        read_heading("# " + text)
        split_chapters(text)

    assert not (fault := grows_too_fast(read, lambda n: "a" + unit * (n // len(unit)) + "b", 4_000)), fault


def test_many_blank_lines_take_no_time():
    """4 kB of blank lines took a minute, a million blanks half of one."""
    start = time.process_time()
    for text in ("a" + "\n " * 20_000 + "b", "a" + " " * 1_000_000 + "b"):
        assert len(list(parse_script(text).sentences())) in (1, 2)
        assert len(list(split_sentences([text]))) in (1, 2)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("how", [said, arriving])
def test_space_of_any_length_reads_as_one_blank(how):
    for space in (" " * 3_000, "\t \u00a0" * 900):
        text = f"Hello there{space}my friend, how do you do."
        for pieces in (text, [text], list(text)):
            assert [line.text for line in split_sentences(pieces)] == ["Hello there my friend, how do you do."]
