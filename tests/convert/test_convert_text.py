"""Texts become the symbols that the other projects' own front ends made of them (`recorded/texts.json`).

The sentences are the first of the Harvard lists and a few of ours. English that is written in phones is pronounced by
this package: where its lexicon differs from theirs the symbols do, and it is counted how often they do not.
"""

from __future__ import annotations

import json

import pytest

import checkpoint_layouts as layouts
from openvalle.convert.amphion_v2 import list_phones
from openvalle.convert.plachtaa import LETTERS, SPECIAL
from openvalle.errors import TextError
from openvalle.text.notations import NOTATIONS, find_notation, mark_stress
from openvalle.text.symbols import SymbolTable
from openvalle.types import Vocabulary

SENTENCES = (layouts.RECORDED.parent / "sentences.txt").read_text(encoding="utf-8").splitlines()
RECORDS = json.loads((layouts.RECORDED / "texts.json").read_text(encoding="utf-8"))


def count_equal(name: str, notation: str, symbols: tuple[str, ...]) -> int:
    """Return of how many sentences all symbols are those of the record."""
    table = SymbolTable(Vocabulary(symbols, notation=notation))
    found = 0
    for text, record in zip(SENTENCES, RECORDS[name], strict=True):
        pieces = table.pieces(text)
        ids = [str(index) for index in table.encode(pieces)]
        found += record.split() in (pieces, ids)
    return found


def test_there_are_fifty_sentences():
    assert len(SENTENCES) == 50


def test_espeak_phones_are_those_of_lifeiteng_in_every_sentence():
    pytest.importorskip("phonemizer")
    symbols = sorted({symbol for record in RECORDS["espeak"] for symbol in record.split()})
    assert count_equal("espeak", "espeak", tuple(symbols)) == 50


@pytest.mark.parametrize(
    ("name", "notation", "symbols", "equal"),
    [
        ("plachtaa", "ipa-letters", (*SPECIAL, *LETTERS), 36),
        ("amphion-v2", "arpabet-places", list_phones(220), 44),
        ("enhuiz", "arpabet", None, 44),
    ],
)
def test_phones_are_theirs_but_for_the_lexicon(name, notation, symbols, equal):
    symbols = symbols or tuple(sorted({symbol for record in RECORDS[name] for symbol in record.split()} | {"AH2"}))
    assert count_equal(name, notation, symbols) >= equal


def test_stress_stands_before_the_syllable_and_not_in_words_of_one():
    assert mark_stress(["S", "IH1", "T"]) == "sɪt"
    assert mark_stress(["AH0", "B", "AW1", "T"]) == "əˈbaʊt"
    assert mark_stress(["D", "IH0", "S", "T", "ER1", "B"]) == "dɪˈstəɹb"
    assert mark_stress(["P", "ER1", "F", "AH0", "K", "T"]) == "ˈpəɹfəkt"


def test_each_notation_refuses_what_it_cannot_say():
    for name in ("ipa-letters", "arpabet", "arpabet-places"):
        with pytest.raises(TextError):
            NOTATIONS[name].spell("...", "en", frozenset("."))
    with pytest.raises(TextError, match="no front end yet"):
        NOTATIONS["pinyin"].spell("你好", "zh", frozenset())
    with pytest.raises(TextError, match="no symbol"):
        NOTATIONS["arpabet"].spell("hello", "en", frozenset("_"))
    with pytest.raises(TextError, match="'runes'; update openvalle"):
        find_notation("runes")


def test_strange_letters_are_the_unknown_one_where_there_is_one():
    table = SymbolTable(Vocabulary((*SPECIAL, *LETTERS), notation="ipa-letters"))
    pieces = table.pieces('She said: "so".')
    assert "[UNK]" in pieces
    assert pieces[-1] == "."
    assert table.joint == []
    assert SymbolTable(Vocabulary(("<pad>", "_"), notation="espeak")).joint == ["_"]
