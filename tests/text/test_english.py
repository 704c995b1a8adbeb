"""The lexicons in ARPAbet, and the endings English adds."""

from __future__ import annotations

import sys

import pytest

from openvalle.text.english import DEFAULT, cmu_lexicon, from_misaki, letter, lexicon
from openvalle.text.symbols import arpabet


@pytest.mark.parametrize(
    ("word", "phones"),
    [
        ("hello", "HH AH0 L OW1"),
        ("butter", "B AH1 T ER0"),
        ("button", "B AH1 T N"),
        ("owls", "AW1 L Z"),
        ("cat's", "K AE1 T S"),
        ("wishes", "W IH1 SH IH0 Z"),
        ("Bill'd", "B IH1 L D"),
        ("vlogged", "V L AA1 G D"),
        ("runnin'", "R AH1 N IH0 N"),
        ("Paris's", "P EH1 R AH0 S IH0 Z"),
    ],
)
def test_pronunciations(word: str, phones: str) -> None:
    readings = lexicon().lookup(word)
    assert readings is not None
    assert " ".join(readings[DEFAULT]) == phones


def test_every_listed_word_uses_symbols_of_the_table() -> None:
    known, words = set(arpabet().symbols), lexicon()
    for word in words.listed()[::7]:
        readings = words.entry(word)
        assert readings is not None
        assert all(known.issuperset(phones) for phones in readings.values()), word


def test_the_second_source_has_the_same_phones_without_stress() -> None:
    known = {symbol.rstrip("012") for symbol in arpabet().symbols}
    assert len(cmu_lexicon()) > 100_000
    assert all(known.issuperset(phones) for phones in list(cmu_lexicon().values())[::50])


def test_an_unknown_word_is_not_invented() -> None:
    assert lexicon().lookup("xqzptl") is None
    assert lexicon().lookup("") is None
    assert lexicon().lookup("'s") is not None


def test_letters() -> None:
    assert letter("w") == tuple("D AH1 B AH0 L Y UW0".split())  # noqa: SIM905
    assert letter("D's") == ("D", "IY1", "Z")
    assert letter("ab") is letter("é") is letter("1") is None


def test_the_lexicon_does_not_import_its_package() -> None:
    lexicon()
    assert "misaki" not in sys.modules
    assert from_misaki("k\u02c8æməɹə") == ("K", "AE1", "M", "ER0", "AH0")
