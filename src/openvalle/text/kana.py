"""Kana -> phones of the inventory, a table of our own: morae, long vowels, doubled consonants, devoiced vowels.

A mora is a consonant, perhaps a glide, and a vowel: キョ is `k j o`. ー makes the vowel before it long (`ː o`), ッ the
consonant after it (`ː k`), or at an end a stop in the throat; ン is `ɴ`; ’ after a mora takes its vowel's voice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from openvalle.text.phones import FALL, LONG, RISE, Phones
from openvalle.text.rules import regex

VOWELS = ("a", "i", "ɯ", "e", "o")
DEVOICED = {"i": "i̥", "ɯ": "ɯ̥"}
_ROWS = {  # the morae of each row, and the consonants of each
    "アイウエオ": "", "カキクケコ": "k", "ガギグゲゴ": "ɡ", "サ*スセソ": "s", "ザ*ズゼゾ": "z", "タ**テト": "t",
    "ダ**デド": "d", "ナ*ヌネノ": "n", "ハ**ヘホ": "h", "バビブベボ": "b", "パピプペポ": "p", "マミムメモ": "m",
    "ラリルレロ": "ɾ",
}  # fmt: skip
_GLIDES = {  # the consonant of a mora in -i, whose small ャ ュ ョ ェ follow
    "キ": "k j", "ギ": "ɡ j", "シ": "ɕ", "ジ": "dʑ", "ヂ": "dʑ", "チ": "tɕ", "ニ": "ɲ", "ヒ": "ç", "ビ": "b j",
    "ピ": "p j", "ミ": "m j", "リ": "ɾ j",
}  # fmt: skip
_SMALL = {"ャ": "a", "ュ": "ɯ", "ョ": "o", "ェ": "e"}
MORAE: dict[str, Phones] = {
    kana: (*((consonant,) if consonant else ()), vowel)
    for row, consonant in _ROWS.items()
    for kana, vowel in zip(row, VOWELS, strict=True)
    if kana != "*"
}
MORAE |= {
    kana + small: (*consonant.split(), vowel) for kana, consonant in _GLIDES.items() for small, vowel in _SMALL.items()
}
MORAE |= {
    kana: tuple(phones.split())
    for kana, phones in {
        "シ": "ɕ i", "ジ": "dʑ i", "ヂ": "dʑ i", "ヅ": "z ɯ", "チ": "tɕ i", "ツ": "ts ɯ", "ニ": "ɲ i", "ヒ": "ç i",
        "フ": "ɸ ɯ", "ヤ": "j a", "ユ": "j ɯ", "ヨ": "j o", "イェ": "j e", "ワ": "w a", "ウィ": "w i", "ウェ": "w e",
        "ウォ": "w o", "ヰ": "i", "ヱ": "e", "ヲ": "o", "ファ": "ɸ a", "フィ": "ɸ i", "フェ": "ɸ e", "フォ": "ɸ o",
        "フャ": "ɸ j a", "フュ": "ɸ j ɯ", "フョ": "ɸ j o", "ティ": "t i", "トゥ": "t ɯ",
        "テュ": "t j ɯ",
        "テャ": "t j a", "テョ": "t j o", "ディ": "d i", "ドゥ": "d ɯ", "デュ": "d j ɯ", "デャ": "d j a",
        "デョ": "d j o", "ツァ": "ts a", "ツィ": "ts i", "ツェ": "ts e",
        "ツォ": "ts o", "スィ": "s i", "ズィ": "z i", "クァ": "k w a", "クィ": "k w i",
        "クェ": "k w e", "クォ": "k w o", "グァ": "ɡ w a", "グィ": "ɡ w i", "グェ": "ɡ w e", "グォ": "ɡ w o",
        "クヮ": "k w a", "グヮ": "ɡ w a", "ヴァ": "v a", "ヴィ": "v i", "ヴ": "v ɯ", "ヴェ": "v e", "ヴォ": "v o",
        "ヴャ": "v j a", "ヴュ": "v j ɯ", "ヴョ": "v j o", "ァ": "a", "ィ": "i", "ゥ": "ɯ", "ェ": "e", "ォ": "o",
        "ャ": "j a", "ュ": "j ɯ", "ョ": "j o", "ヮ": "w a", "ヵ": "k a", "ヶ": "k e", "ン": "ɴ",
    }.items()
}  # fmt: skip
STOP, LENGTH, VOICELESS = "ッ", "ー", "’"
_READ = regex("|".join(sorted(map(re.escape, MORAE), key=len, reverse=True)) + f"|[{STOP}{LENGTH}{VOICELESS}]")
PRONUNCIATION = regex("[\u3041-\u3096\u30a1-\u30f6ー’'↑↓・ ]+")  # a pronunciation that is kana


def to_katakana(text: str) -> str:
    """Return hiragana as katakana."""
    return "".join(chr(ord(sign) + 0x60) if "\u3041" <= sign <= "\u3096" else sign for sign in text)


def count_morae(kana: str) -> int:
    """Return how many morae a text in kana has."""
    return sum(found.group() != VOICELESS for found in _READ.finditer(to_katakana(kana)))


def split_morae(kana: str) -> list[str]:
    """Return the morae of a text in kana; what is none is left out."""
    morae: list[str] = []
    for found in _READ.finditer(to_katakana(kana)):
        if found.group() == VOICELESS and morae:
            morae[-1] += VOICELESS
        elif found.group() != VOICELESS:
            morae.append(found.group())
    return morae


def read_morae(morae: Sequence[str], accent: int | None = None, before: int = 0) -> Phones:
    """Return the phones of morae, of which `before` others stand before in their accent phrase.

    `accent`: the mora of the phrase, from 1, after which the pitch falls, 0: it does not; None: no marks at all. The
    pitch rises on the second mora but where it falls after the first (`↑`); the mora before the fall has `↓`. A mark
    stands before its vowel.
    """
    return _read([(mora, _marks(number, accent)) for number, mora in enumerate(morae, before + 1)])


def _read(morae: Iterable[tuple[str, list[str]]]) -> Phones:
    """Return the phones of morae with the marks of each."""
    sounds: list[tuple[list[str], list[str], str]] = []  # what stands before a vowel, its marks, and it or ɴ
    is_double = False
    held: list[str] = []  # marks of a stop: the vowel after it takes them
    for mora, marks in morae:
        kana = mora.rstrip(VOICELESS)
        *consonants, last = MORAE.get(kana, ("",))
        if kana == STOP:
            is_double, held = True, marks
        elif kana == LENGTH or (not consonants and sounds and last == sounds[-1][2] in VOWELS and not is_double):
            if sounds:
                sounds[-1][1].extend(marks if LONG in sounds[-1][1] else [*marks, LONG])
        else:
            first = ([LONG] if consonants else ["ʔ"]) if is_double else []
            last = DEVOICED.get(last, last) if mora != kana else last
            sounds.append(([*first, *consonants], [*held, *marks], last))
            is_double, held = False, []
    phones = tuple(phone for consonants, marks, last in sounds for phone in (*consonants, *marks, last))
    return (*phones, "ʔ") if is_double else phones


def _marks(number: int, accent: int | None) -> list[str]:
    if accent is None:
        return []
    return [RISE] * (number == 2 and accent != 1) + [FALL] * (number == accent)


def read_kana(text: str) -> Phones:
    """Return the phones of a pronunciation in kana.

    An arrow stands before the mora on which the pitch rises (↑), or after which it falls (↓): ↓ハシ, ハ↑シ.
    """
    morae: list[tuple[str, list[str]]] = []
    arrows: list[str] = []
    for part in re.findall(f"[{RISE}{FALL}]|[^{RISE}{FALL}]+", text.replace("'", VOICELESS)):
        if part in (RISE, FALL):
            arrows.append(part)
            continue
        for mora in split_morae(part):
            morae.append((mora, arrows))
            arrows = []
    return _read(morae)
