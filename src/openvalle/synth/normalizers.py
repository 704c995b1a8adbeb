"""Texts as they are counted, by language: bare words, or the signs of languages that write no spaces.

A normaliser has a name, which stands beside every figure; a change of its rules is a new name. Figures are read as our
front ends read them, so that "3" and "三" are one.

| name | language | what it does |
|---|---|---|
| `openvalle-en-1`, `plain-1` | English, any | see `openvalle.speech_models.wer` |
| `openvalle-zh-1` | Mandarin | figures in words, width folded, no punctuation, each sign a word; scripts stay |
| `openvalle-ja-1` | Japanese | the same: kana and kanji as they are written, so that 橋 and はし differ |
| `openvalle-ja-kana-1` | Japanese | what is said, in katakana: how a recogniser writes it does not count |
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, partial

from openvalle.speech_models import wer
from openvalle.speech_models.wer import WordErrors, word_errors
from openvalle.text.language import find_language
from openvalle.types import ENGLISH

_SIGN = re.compile(r"[a-z\u00e0-\u024f']+|[^\W_]")  # a Latin word, or one sign
PLAIN = "plain-1"
DEFAULTS = {ENGLISH: wer.NORMALIZER, "zh": "openvalle-zh-1", "ja": "openvalle-ja-kana-1"}  # others: PLAIN
WRITTEN = DEFAULTS | {"ja": "openvalle-ja-1"}  # as it is written: what BLEU compares


def split_signs(text: str, language: str) -> str:
    """Return a text with its figures in words, as signs and Latin words with blanks between."""
    said = unicodedata.normalize("NFKC", find_language(language).front_end.read_out(text)).lower()
    return " ".join(_SIGN.findall(said))


def split_kana(text: str) -> str:
    """Return what is said of a Japanese text in katakana, with blanks between."""
    from openvalle.text.japanese import to_kana

    return " ".join(_SIGN.findall(unicodedata.normalize("NFKC", to_kana(unicodedata.normalize("NFKC", text)))))


OURS: dict[str, wer.Normalize] = {
    "openvalle-zh-1": partial(split_signs, language="zh"),
    "openvalle-ja-1": partial(split_signs, language="ja"),
    "openvalle-ja-kana-1": split_kana,
}
NORMALIZERS = wer.NORMALIZERS | OURS


def find_normalizer(name: str) -> wer.Normalize:
    """Return the normaliser called `name`, of any language; `UserError` lists those there are."""
    return wer.find_normalizer(name, NORMALIZERS)


def split_units(text: str, language: str) -> list[str]:
    """Return what is counted of a text by the rules of its language: words, signs of Chinese, kana of Japanese."""
    return find_normalizer(choose_normalizer(wer.NORMALIZER, language))(text).split()


def count_errors(text: str, heard: str, language: str = ENGLISH) -> WordErrors:
    """Return the errors of what was heard of a text, in the units of its language."""
    return word_errors(text, heard, find_normalizer(choose_normalizer(wer.NORMALIZER, language)))


@cache
def choose_normalizer(name: str, language: str) -> str:
    """Return which normaliser counts texts of a language where `name` is asked for: it, if it is of that language."""
    base = language.partition("-")[0]
    fits = name == PLAIN or name.split("-")[1] == base
    return name if fits else DEFAULTS.get(base, PLAIN)
