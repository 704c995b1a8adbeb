"""Texts as a recogniser may mishear them: other signs for the same sounds, wrong and missing letters, no marks.

A translator of a benchmark that knows its sentences learns them so, as a real one knows what is meant; nothing here
knows what any recogniser made of any clip.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache

import numpy as np

from openvalle.text.language import phonemize

MOST_WRONG = 0.35  # share of the letters or signs of a variant, at most
MARKS = {"zh": "\uff0c。、", "ja": "、。"}  # that are written where somebody breathes; elsewhere a comma
HALF = 0.5  # chance that marks, or capital letters, are not written
COMMON = (0xB0, 0xD8)  # rows of GB 2312 with its 3755 common signs
_KATAKANA, _TO_HIRAGANA = range(0x30A1, 0x30F7), 0x60
_ALIKE = (("zh", "z"), ("ch", "c"), ("sh", "s"), ("ng", "n"), ("l", "n"), ("r", "n"))  # sounds that are mixed up


def mishear(texts: Sequence[str], language: str, each: int, seed: int = 0) -> list[list[str]]:
    """Return `each` variants of every text, the text itself among them."""
    rng = np.random.default_rng(seed)
    letters = sorted({letter for text in texts for letter in text if letter.isalnum()})
    return [[text, *(_mishear(text, language, letters, rng) for _ in range(each - 1))] for text in texts]


def _mishear(text: str, language: str, letters: Sequence[str], rng: np.random.Generator) -> str:
    share = float(rng.uniform(0, MOST_WRONG))
    if language == "zh":
        text = "".join(str(rng.choice(_homophones(sign))) if rng.random() < share else sign for sign in text)
    elif language == "ja":
        text = _in_kana(text, float(rng.choice([0.0, 0.3, 1.0])), rng)
    heard = [*letters, *(MARKS.get(language, ",") * (1 + len(letters) // 20))]
    wrong = [_spoil(letter, heard, rng) if rng.random() < share else letter for letter in text]
    text = "".join(wrong)
    if rng.random() < HALF:
        text = "".join(letter for letter in text if letter.isalnum() or letter == " ")
    return (text.lower() if rng.random() < HALF else text) or letters[0]


def _spoil(letter: str, letters: Sequence[str], rng: np.random.Generator) -> str:
    """Return another letter, none, or one more beside it."""
    other = str(rng.choice(letters))
    return ("", other, other, letter + other)[rng.integers(4)]


def _in_kana(text: str, share: float, rng: np.random.Generator) -> str:
    """Return a Japanese text with a share of its words in kana, of either kind."""
    from openvalle.text.japanese import to_kana

    for word in phonemize(text, "ja"):
        if rng.random() < share and (kana := to_kana(word.text)):
            text = text.replace(word.text, kana if rng.random() < HALF else _to_hiragana(kana), 1)
    return text


def _to_hiragana(kana: str) -> str:
    return "".join(chr(ord(sign) - _TO_HIRAGANA) if ord(sign) in _KATAKANA else sign for sign in kana)


def _homophones(sign: str) -> list[str]:
    """Return the common Chinese signs that sound much like one, whatever their tone."""
    from pypinyin import lazy_pinyin

    return _by_sound().get(_reduce(lazy_pinyin(sign)[0]), [sign])


@cache
def _by_sound() -> dict[str, list[str]]:
    from pypinyin import lazy_pinyin

    found: dict[str, list[str]] = defaultdict(list)
    for row in range(*COMMON):
        for sign in bytes(part for cell in range(0xA1, 0xFF) for part in (row, cell)).decode("gb2312", "ignore"):
            found[_reduce(lazy_pinyin(sign)[0])].append(sign)
    return dict(found)


def _reduce(pinyin: str) -> str:
    """Return a syllable without what is easily mixed up."""
    for sound, other in _ALIKE:
        pinyin = pinyin.replace(sound, other)
    return pinyin
