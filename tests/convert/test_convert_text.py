"""Texts become the symbols that the other projects' own front ends made of them (`recorded/texts.json`).

The English sentences are the first of the Harvard lists and a few of ours, the others are ours. In those of pinyin the
figures were written out before they were recorded: there figures have no symbols.
"""

from __future__ import annotations

import inspect
import json

import pytest

import checkpoint_layouts as layouts
from openvalle.convert.amphion_v2 import list_phones
from openvalle.convert.plachtaa import LETTERS, SPECIAL
from openvalle.errors import TextError
from openvalle.text.notation_zh import read_number
from openvalle.text.notations import NOTATIONS, find_notation, mark_stress
from openvalle.text.symbols import SymbolTable
from openvalle.types import Vocabulary

FOLDER = layouts.RECORDED.parent
RECORDS = json.loads((layouts.RECORDED / "texts.json").read_text(encoding="utf-8"))
VALLEX = (*SPECIAL, *LETTERS)


def read_sentences(language: str = "en") -> list[str]:
    name = "sentences.txt" if language == "en" else f"sentences_{language}.txt"
    return (FOLDER / name).read_text(encoding="utf-8").splitlines()


def compare(
    name: str, notation: str, symbols: tuple[str, ...], language: str = "en", ignored: str = ""
) -> tuple[int, list[str]]:
    """Return of how many sentences all symbols, but for those `ignored`, are those of the record; and the others."""
    table, others = SymbolTable(Vocabulary(symbols, notation=notation)), []
    for text, record in zip(read_sentences(language), RECORDS[name], strict=True):
        expected = record.split()
        if expected[0].isdigit():
            expected = [symbols[int(index)] for index in expected]
        pieces = table.pieces(text, language)
        if [one for one in pieces if one not in ignored] != [one for one in expected if one not in ignored]:
            others.append(text)
    return len(RECORDS[name]) - len(others), others


def list_symbols(name: str, *more: str) -> tuple[str, ...]:
    return tuple(sorted({symbol for record in RECORDS[name] for symbol in record.split()} | set(more)))


@pytest.mark.parametrize("language", ["en", "zh", "ja"])
def test_there_are_fifty_sentences(language):
    assert len(set(read_sentences(language))) == 50


def test_espeak_phones_are_those_of_lifeiteng_in_every_sentence():
    pytest.importorskip("phonemizer")
    assert compare("espeak", "espeak", list_symbols("espeak")) == (50, [])


def test_letters_are_those_of_vallex_in_every_english_sentence():
    assert compare("plachtaa", "ipa-letters", VALLEX) == (50, [])


def test_letters_are_those_of_vallex_in_every_chinese_sentence():
    pytest.importorskip("pypinyin")
    pytest.importorskip("jieba")
    assert compare("plachtaa-zh", "ipa-letters", VALLEX, "zh") == (50, [])


def test_letters_are_those_of_vallex_in_japanese_as_far_as_the_dictionary_is():
    """Its own library gives all fifty; that of the extra has other accents."""
    library = pytest.importorskip("pyopenjtalk")
    is_plus = "use_vanilla" in inspect.signature(library.extract_fullcontext).parameters
    equal, others = compare("plachtaa-ja", "ipa-letters", VALLEX, "ja")
    assert equal >= 12 if is_plus else others == []
    assert compare("plachtaa-ja", "ipa-letters", VALLEX, "ja", ignored="↑↓_")[0] >= 42


@pytest.mark.parametrize("name", ["pinyin", "pinyin-parts"])
def test_pinyin_is_that_of_icefall_in_every_sentence(name):
    pytest.importorskip("pypinyin")
    assert compare(name, name, list_symbols(name), "zh") == (50, [])


def test_phones_are_those_of_g2p_en_but_for_its_guesses():
    """It takes "used" for "use to" wherever the word is no past tense, and guesses "dont", without its apostrophe."""
    symbols = list_symbols("enhuiz", "Z")
    assert compare("enhuiz", "arpabet", symbols) == (49, ["A saw is a tool used for making boards."])
    others = ["Open the crate but don't break the glass.", "A saw is a tool used for making boards."]
    assert compare("amphion-v2", "arpabet-places", list_phones(220)) == (48, others)


@pytest.mark.parametrize(
    ("figures", "signs"),
    [
        ("0", "零"),
        ("10", "十"),
        ("110", "一百一十"),
        ("1001", "一千零一"),
        ("20010", "二万零一十"),
        ("100000", "十万"),
        ("123456789", "一亿二千三百四十五万六千七百八十九"),
        ("100000001", "一亿零一"),
        ("10010001", "一千零一万零一"),
        ("1000000000000", "一万亿"),
        ("8268841980128", "八万二千六百八十八亿四千一百九十八万零一百二十八"),
        ("007", "七"),
        ("3.14", "三点一四"),
        ("10.0", "十点零"),
        ("12345678901234567", "一二三四五六七八九零一二三四五六七"),
    ],
)
def test_numbers_in_chinese_signs(figures, signs):
    assert read_number(figures) == signs


def test_stress_stands_before_the_syllable_and_not_in_words_of_one():
    assert mark_stress(["S", "IH1", "T"]) == "sɪt"
    assert mark_stress(["AH0", "B", "AW1", "T"]) == "əˈbaʊt"
    assert mark_stress(["D", "IH0", "S", "T", "ER1", "B"]) == "dɪˈstəɹb"
    assert mark_stress(["P", "ER1", "F", "AH0", "K", "T"]) == "ˈpəɹfəkt"


def test_each_notation_refuses_what_it_cannot_say():
    for name in ("ipa-letters", "arpabet", "arpabet-places"):
        with pytest.raises(TextError):
            NOTATIONS[name].spell("...", "en", frozenset("."))
    for name in ("pinyin", "pinyin-parts"):
        with pytest.raises(TextError, match="this model reads Mandarin, and the text is 'en'; give --language zh"):
            NOTATIONS[name].spell("Hello.", "en", frozenset())
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
