"""Written text becomes words, nothing is lost in silence, and spoken text stays as it is."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openvalle.text.normalize import normalize

# any code point, half of a surrogate pair included
ANY = st.lists(st.integers(0, 0x2FFFF) | st.integers(32, 0x17F), max_size=80).map(
    lambda points: "".join(map(chr, points))
)
SPOKEN = [
    ("It costs $1,234.56.", "It costs one thousand two hundred and thirty-four dollars and fifty-six cents."),
    ("£3.50, €20, 50¢, $1", "three pounds and fifty pence, twenty euros, fifty cents, one dollar"),
    ("$3.5bn or $5 million or -$5", "three point five billion dollars or five million dollars or minus five dollars"),
    ("20 EUR", "twenty euros"),
    ("on 3/15/2024 and 2024-03-15", "on March fifteenth, twenty twenty-four and March fifteenth, twenty twenty-four"),
    ("Page 5 may be read; 3 march on.", "Page five may be read; three march on."),
    ("15 March 2024, the 4th of July", "the fifteenth of March, twenty twenty-four, the fourth of July"),
    ("Feb. 3rd, 1999", "February third, nineteen ninety-nine"),
    ("in 1984, 2005 and the 1990s", "in nineteen eighty-four, two thousand and five and the nineteen nineties"),
    ("the '80s from 1914-1918", "the eighties from nineteen fourteen to nineteen eighteen"),
    ("at 3:45 p.m. He left.", "at three forty-five P-M. He left."),
    ("10:05am 15:30 12:00 9 AM", "ten oh five A-M fifteen thirty twelve o'clock nine A-M"),
    ("1:02:03", "one hour two minutes three seconds"),
    ("5km, 12 km/h, 1 kg", "five kilometers, twelve kilometers per hour, one kilogram"),
    ("72°F and -5 °C", "seventy-two degrees Fahrenheit and minus five degrees Celsius"),
    ("3 m² and 5'10\" tall", "three square meters and five feet ten inches tall"),
    ("2.5% or 3-4 %", "two point five percent or three to four percent"),
    ("1/2, 3/4, 5/8, 24/7", "one half, three quarters, five eighths, twenty-four seven"),
    ("2 1/2 or 3½", "two and a half or three and a half"),
    ("1st, 2nd, 103rd", "first, second, one hundred and third"),
    ("Henry VIII, Chapter IV", "Henry the eighth, Chapter four"),
    ("call 555-123-4567", "call five five five, one two three, four five six seven"),
    ("+1 (555) 987-6543", "plus one, five five five, nine eight seven, six five four three"),
    ("007, 1,000,000, 3.14, -5", "zero zero seven, one million, three point one four, minus five"),
    ("10-20, #1, MP3, COVID-19", "ten to twenty, number one, M-P three, COVID nineteen"),
    ("Dr. Smith lives on Main St. in Ohio", "Doctor Smith lives on Main Street in Ohio"),
    ("St. John and Mrs. Jones", "Saint John and Missus Jones"),
    ("e.g. this, etc.", "for example this, et cetera."),
    ("the FBI, NASA, US and CDs", "the F-B-I, NASA, U-S and C-D's"),
    ("J.R.R. Tolkien of the U.S. Army", "J-R-R Tolkien of the U-S Army"),
    ("see https://www.example.com/a?b=1.", "see W-W-W dot example dot com slash a question mark B equals one."),
    ("mail john.doe@example.org", "mail john dot doe at example dot org"),
    ("π & 100 + 1 = 101 @ home", "pi and one hundred plus one equals one hundred and one at home"),
    ("“café” — naïve…", '"cafe" - naive...'),
    ("and/or he/she", "and or he slash she"),
    ("THE FBI WENT TO PARIS TODAY", "the fbi went to paris today"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "spoken"), SPOKEN)
def test_reading_aloud(written: str, spoken: str) -> None:
    assert normalize(written).text == spoken


@pytest.mark.parametrize("written", [written for written, _ in SPOKEN])
def test_spoken_text_stays_as_it_is(written: str) -> None:
    once = normalize(written).text
    assert normalize(once).text == once


@settings(max_examples=150, deadline=None)
@given(ANY | st.text("0123456789.,:/-$%°'\" aAmMpPstndrh#@&+()IVX\n", max_size=40))
def test_any_text_becomes_plain_words(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z\s.,;:!?'\"()\[\]-]*", normalize(text).text)


@settings(max_examples=80, deadline=None)
@given(st.text("0123456789.,:/-$%°'\" aAmMpPstndrh#@&+()IVX\n", max_size=40))
def test_no_figure_is_lost(text: str) -> None:
    assert bool(re.search("[A-Za-z]", normalize(text).text)) == bool(re.search(r"[0-9A-Za-z$%°#@&+]", text))


def test_what_cannot_be_spoken_is_returned() -> None:
    found = normalize("hi \U0001f600\U0001f3fd 你好 \u200b!")
    assert found.text == "hi!"
    assert found.dropped == ("\U0001f600", "\U0001f3fd", "你", "好")


def test_line_breaks_survive() -> None:
    assert normalize(" One.  \n\n Two ").text == "One.\n\nTwo"


def test_patterns_are_compiled_when_they_are_used_and_all_of_them_can_be() -> None:
    code = (
        "import gc, openvalle.text.english, openvalle.text.kana, openvalle.text.markup as m\n"
        "from openvalle.text.normalize import normalize\n"
        "from openvalle.text.rules import _Late\n"
        "normalize('Hello there.')\n"
        "late = [one for one in gc.get_objects() if isinstance(one, _Late)]\n"
        "print(len(late), sum(len(vars(one)) > 2 for one in late))\n"
        "for one in late: one.search('1')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    count, used = map(int, done.stdout.split())
    assert count > 100 and used < count / 2
