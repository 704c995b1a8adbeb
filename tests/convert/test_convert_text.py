"""Texts become the symbols that the other projects' own front ends made of them (`recorded/texts.json`).

The English sentences are the first of the Harvard lists and a few of ours, the others are ours. In those of pinyin the
figures were written out before they were recorded: there figures have no symbols.
"""

from __future__ import annotations

import json

import pytest

import checkpoint_layouts as layouts
from openvalle.convert.amphion_v2 import list_phones
from openvalle.convert.plachtaa import LETTERS, SPECIAL
from openvalle.errors import TextError
from openvalle.text import notation_ja
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
        pieces = table.pieces(text, "en" if language == "hard" else language)
        if [one for one in pieces if one not in ignored] != [one for one in expected if one not in ignored]:
            others.append(text)
    return len(RECORDS[name]) - len(others), others


def list_symbols(name: str, *more: str) -> tuple[str, ...]:
    return tuple(sorted({symbol for record in RECORDS[name] for symbol in record.split()} | set(more)))


@pytest.mark.parametrize("language", ["en", "zh", "ja", "hard"])
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


def test_letters_are_those_of_vallex_in_every_japanese_sentence(monkeypatch):
    """From the labels that its own library (pyopenjtalk 0.3.0, Open JTalk's dictionary 1.11) gave for them."""
    labels = json.loads((layouts.RECORDED / "labels_ja.json").read_text(encoding="utf-8"))

    class Recorded:
        @staticmethod
        def extract_fullcontext(spoken: str) -> list[str]:
            fields = [label.split(",") for label in labels[spoken].split()]
            return [f"x-{sound}+x/A:{fall}+{mora}+{left}/" for sound, fall, mora, left in fields]

    monkeypatch.setattr(notation_ja, "_openjtalk", lambda: Recorded)
    assert compare("plachtaa-ja", "ipa-letters", VALLEX, "ja") == (50, [])


# What the library of the extra `ja` says otherwise, whose dictionary is another.
OTHER_SOUNDS = {
    "東京は日本の首都です。": "日本 is ニホン, not ニッポン",
    "富士山は日本で一番高い山です。": "日本 is ニホン, not ニッポン",
    "会社は1998年に設立されました。": "the accent lies elsewhere, so another vowel is voiceless",
    "気をつけて行ってらっしゃい。": "the accent lies elsewhere, so another vowel is voiceless",
    "まだ本を返してもらっていません。": "the accent lies elsewhere, so another vowel is voiceless",
}


def test_sounds_of_japanese_are_those_of_vallex_with_the_library_of_the_extra():
    """Arrows and borders are not compared: its rules of accents, which are compiled, join 並んで and います."""
    pytest.importorskip("pyopenjtalk")
    _, others = compare("plachtaa-ja", "ipa-letters", VALLEX, "ja", ignored="↑↓_")
    assert set(others) <= OTHER_SOUNDS.keys()


@pytest.mark.parametrize("name", ["pinyin", "pinyin-parts"])
def test_pinyin_is_that_of_icefall_in_every_sentence(name):
    pytest.importorskip("pypinyin")
    assert compare(name, name, list_symbols(name), "zh") == (50, [])


@pytest.mark.parametrize(("name", "notation"), [("enhuiz", "arpabet"), ("amphion-v2", "arpabet-places")])
def test_phones_are_those_of_g2p_en_in_every_sentence(name, notation):
    symbols = list_symbols("enhuiz") if name == "enhuiz" else list_phones(220)
    assert compare(name, notation, symbols) == (50, [])


# Of fifty sentences made of words of two readings, contractions and compounds, what is said otherwise, and why.
OTHERWISE = {
    "We'll close the door because it's close to the window.": "its tagger takes the verb for an adjective",
    "Please present the present to your uncle on Monday.": "its tagger takes the verb for a noun",
    "The farm used to produce produce for the whole town.": "its tagger takes 'used to' for a participle",
}
OTHERWISE_WITH_SIGNS = OTHERWISE | {
    "He said he'd read the record before they record another.": "its tagger takes 'read' after 'he'd' for the present",
    "The dog's bowl and the boys' shoes were by the door.": "the apostrophe after a plural is a sign there",
    "A well-known author wrote this three-volume book.": "a compound is one word there, which it guesses",
}


@pytest.mark.parametrize(
    ("name", "notation", "others"),
    [("enhuiz", "arpabet", OTHERWISE_WITH_SIGNS), ("amphion-v2", "arpabet-places", OTHERWISE)],
)
def test_hard_sentences_are_those_of_g2p_en_but_for_its_errors(name, notation, others):
    symbols = list_symbols(f"{name}-hard", "EH1", "L") if name == "enhuiz" else list_phones(220)
    equal, found = compare(f"{name}-hard", notation, symbols, "hard")
    assert set(found) == others.keys()
    assert equal == 50 - len(others)


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
