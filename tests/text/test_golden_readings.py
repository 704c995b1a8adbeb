"""How sentences of Mandarin and Japanese are read, word by word: files that people went through, sentence by sentence.

Each was read by a second program, too (g2pM for Mandarin, pykakasi for Japanese), and every sign on which the two did
not agree was looked up; docs/languages.md says what is known to be read wrongly.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from openvalle.text.kana import PRONUNCIATION, read_kana
from openvalle.text.language import Word, phonemize, to_symbols
from openvalle.text.phones import BORDER, Phones
from openvalle.text.pinyin import NotPinyin, read_pinyin
from openvalle.text.symbols import inventory

FOLDER = Path(__file__).parent


def read_golden(language: str) -> list[tuple[str, list[str]]]:
    """The sentences of a language, each with its words as they are to be said, and a comma for a pause."""
    lines = (FOLDER / f"golden_{language}.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return [(text, said.split()) for text, said in rows]


def spell(said: str, word: Word) -> Phones:
    """The phones of a word as the file says it; those of words of other languages are as they are."""
    if PRONUNCIATION.fullmatch(said):
        return read_kana(said)
    try:
        return read_pinyin(said) if (said[-1].isdigit() and said.isascii()) or "ü" in said else word.phones
    except NotPinyin:
        return word.phones


@pytest.mark.parametrize(("language", "least"), [("zh", 150), ("ja", 150)])
def test_sentences_are_read_as_people_read_them(language: str, least: int) -> None:
    pytest.importorskip({"zh": "wetext", "ja": "pyopenjtalk"}[language])
    pytest.importorskip({"zh": "jieba", "ja": "pyopenjtalk"}[language])
    rows, wrong, table = read_golden(language), [], inventory()
    for text, said in rows:
        words = phonemize(text, language, spoken=("en", "zh", "ja"))
        expected = [spell(each.rstrip(","), word) for each, word in zip(said, words, strict=False)]
        found = [word.phones[word.phones[:1] == (BORDER,) :] for word in words]
        pauses = [each.endswith(",") for each in said]
        if len(said) != len(words) or expected != found or pauses != [word.pause for word in words]:
            wrong.append(f"{text}: {' '.join(said)} | {[' '.join(word.phones) for word in words]}")
        assert table.encode(to_symbols(words)[0])
    assert len(rows) >= least
    assert not wrong
