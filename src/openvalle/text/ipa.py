"""Any transcription in IPA -> phones of the inventory, which has every sound or the nearest one.

Marks stand before their segment here, and the stress before its vowel: `ˈtaː` is `t ˈ ː a`. Signs of fine detail that
the inventory does not have are left out; tones beyond the five of Mandarin fall together with them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from openvalle.text.phones import BORDER, LONG, MARKS, PRIMARY, SECONDARY, SEGMENTS, TONES, Phones, UnknownSound

VOWELS = frozenset(SEGMENTS[: SEGMENTS.index("p")])
_KNOWN = {unicodedata.normalize("NFD", segment): segment for segment in SEGMENTS}
# fmt: off
_NEAREST = {  # signs of IPA that are no segment of their own
    "g": "ɡ", "ʧ": "tʃ", "ʤ": "dʒ", "ʦ": "ts", "ʣ": "dz", "ʨ": "tɕ", "ʥ": "dʑ", "ᵻ": "ɨ", "ᵿ": "ʊ", "ᵊ": "ə", "ᴇ": "e",
    "ə˞": "ɚ", "ɜ˞": "ɝ", "ɿ": "z̩", "ʅ": "ʐ̩", "ʮ": "z̩", "ʯ": "ʐ̩", "ȵ": "ɲ", "ȶ": "tɕ", "ȡ": "dʑ", "ȴ": "ʎ", "ʡ": "ʔ",
    "ʢ": "ʕ", "ʜ": "ħ", "ɩ": "ɪ", "ɷ": "ʊ", "ʘ": "p", "ǀ": "t", "ǁ": "k", "ǂ": "c", "ǃ": "k", "ʗ": "k", "ʇ": "t",
    "ʖ": "k",    "ɼ": "r", "ɿ̥": "z̩", "ʆ": "ʃ", "ʓ": "ʒ", "ƥ": "ɓ", "ƭ": "ɗ", "ʠ": "q", "ƈ": "c", "ƙ": "k", "ʞ": "k",
    "ʩ": "f",    "ʪ": "ɬ", "ʫ": "ɮ", "ʬ": "p", "ʭ": "t", "ʚ": "ɞ", "ƞ": "n", "ꭓ": "x", "ꞎ": "ɬ",
}
# fmt: on
_KNOWN |= {unicodedata.normalize("NFD", sign): segment for sign, segment in _NEAREST.items()}
_LONGEST = max(map(len, _KNOWN))
_STRESS = {"ˈ": PRIMARY, "'": PRIMARY, "ˌ": SECONDARY, ",": SECONDARY}
_DETAIL = frozenset((*MARKS[MARKS.index(LONG) + 1 :], "ʱ"))  # written after their segment
_AS_MARK = {"ʱ": "̤", "ʼ": "ʼ", "’": "ʼ"}
_TONES = {"1": 1, "2": 2, "3": 3, "4": 4, "5": 5, "6": 5, "7": 5, "8": 5, "9": 5, "ɜ": 3}  # as espeak-ng counts them
_CONTOURS = {"˥": 1, "˥˥": 1, "˧˥": 2, "˨˥": 2, "˧˩˧": 3, "˨˩˦": 3, "˨˩": 3, "˩": 3, "˥˩": 4, "˥˨": 4}  # others: 5
_CONTOUR = "˥˦˧˨˩"
# ties, borders of syllables, places and ways of speaking that are finer than the inventory
_SILENT = frozenset(" .-‿_͜͡ˑ̪̺̻̼̝̞̟̠̩̘̙̜̹̯̆̈̽̊̚‖↗↘ᵝⁿˡʴ˞̍̌̂́̀̄̋̏ꜜꜛ()ˀᶣᵐᶬᵑ")


def from_ipa(text: str, *, is_strict: bool = False) -> Phones:
    """Return a transcription as phones; `UnknownSound` for a sign that is none, if `is_strict`, else it is left out."""
    written = unicodedata.normalize("NFD", text).replace("͡", "").replace("͜", "").replace("g", "ɡ")
    phones: list[str] = []
    stress, at = "", 0
    while at < len(written):
        sign = written[at]
        segment, size = _find_segment(written, at)
        if sign in _STRESS:
            stress, at = _STRESS[sign], at + 1
        elif segment:
            if segment in VOWELS and stress:
                phones.append(stress)
                stress = ""
            phones.append(segment)
            at += size
        elif sign == BORDER:
            phones.append(BORDER)
            at += 1
        elif size := _apply(phones, written, at):
            at += size
        elif is_strict and sign not in _SILENT:
            raise UnknownSound(sign, at)
        else:
            at += 1
    return _double(phones)


def _find_segment(text: str, at: int) -> tuple[str, int]:
    for size in range(_LONGEST, 0, -1):
        if found := _KNOWN.get(text[at : at + size]):
            return found, len(text[at : at + size])
    return "", 0


def _apply(phones: list[str], text: str, at: int) -> int:
    """Put the mark of a sign before the segment that it belongs to; return how many signs it was, 0: it is no mark."""
    sign = text[at]
    last = next((place for place in range(len(phones) - 1, -1, -1) if phones[place] not in MARKS), None)
    if sign in _TONES or sign in _CONTOUR:
        size = 1
        while sign in _CONTOUR and text[at + size : at + size + 1] in tuple(_CONTOUR):
            size += 1
        tone = _TONES.get(sign) or _CONTOURS.get(text[at : at + size], 5)
        vowel = next((place for place in range(len(phones) - 1, -1, -1) if phones[place] in VOWELS), last)
        _insert(phones, vowel, TONES[tone - 1])
        return size
    mark = _AS_MARK.get(sign, sign)
    if mark != LONG and mark not in _DETAIL:
        return 0
    _insert(phones, last, mark)
    return 1


def _insert(phones: list[str], place: int | None, mark: str) -> None:
    if place is not None and phones[place - 1 : place] != [mark]:
        phones.insert(place, mark)


def _double(phones: Iterable[str]) -> Phones:
    """Return the phones with equal neighbours as one long one: models take them for one sound."""
    out: list[str] = []
    for phone in phones:
        if out and out[-1] == phone:
            _insert(out, len(out) - 1, LONG)
        else:
            out.append(phone)
    return tuple(out)
