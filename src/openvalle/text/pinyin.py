"""Pinyin -> phones of the inventory, a table of our own, and the tones that neighbours change (tone sandhi).

A syllable is an initial, a final and a tone: `xiong2` is `ɕ j tone2 ʊ ŋ`, the tone before the vowel that carries it.
No two syllables share their phones, so that phones can be read back as pinyin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import accumulate, pairwise

from openvalle.text.phones import BORDER, MARKS, TONES, Phones

# fmt: off
INITIALS = {
    "": "", "b": "p", "p": "pʰ", "m": "m", "f": "f", "d": "t", "t": "tʰ", "n": "n", "l": "l", "g": "k", "k": "kʰ",
    "h": "x", "j": "tɕ", "q": "tɕʰ", "x": "ɕ", "zh": "ʈʂ", "ch": "ʈʂʰ", "sh": "ʂ", "r": "ɻ", "z": "ts", "c": "tsʰ",
    "s": "s",
}
FINALS = {  # before the bar what glides into the vowel that carries the tone
    "a": "|a", "o": "|o", "e": "|ɤ", "ê": "|ɛ", "ai": "|aɪ", "ei": "|eɪ", "ao": "|aʊ", "ou": "|oʊ", "an": "|a n",
    "en": "|ə n", "ang": "|ɑ ŋ", "eng": "|ə ŋ", "er": "|ɚ", "ong": "|ʊ ŋ",
    "i": "|i", "ia": "j|a", "io": "j|o", "ie": "j|ɛ", "iai": "j|aɪ", "iao": "j|aʊ", "iou": "j|oʊ", "ian": "j|ɛ n",
    "in": "|i n", "iang": "j|ɑ ŋ", "ing": "|i ŋ", "iong": "j|ʊ ŋ",
    "u": "|u", "ua": "w|a", "uo": "w|o", "uai": "w|aɪ", "uei": "w|eɪ", "uan": "w|a n", "uen": "w|ə n",
    "uang": "w|ɑ ŋ", "ueng": "w|ə ŋ",
    "ü": "|y", "üe": "ɥ|ɛ", "üan": "ɥ|a n", "ün": "|y n",
    "-i": "|z̩", "-ï": "|ʐ̩",  # of zi, ci, si; of zhi, chi, shi, ri
    "m": "̩|m", "n": "̩|n", "ng": "̩|ŋ",  # interjections without a vowel
}
_WRITTEN = {  # finals with no initial, as they are spelt
    "yi": "i", "ya": "ia", "yo": "io", "ye": "ie", "yai": "iai", "yao": "iao", "you": "iou", "yan": "ian", "yin": "in",
    "yang": "iang", "ying": "ing", "yong": "iong", "wu": "u", "wa": "ua", "wo": "uo", "wai": "uai", "wei": "uei",
    "wan": "uan", "wen": "uen", "wang": "uang", "weng": "ueng", "yu": "ü", "yue": "üe", "yuan": "üan", "yun": "ün",
}
_SHORT = {"iu": "iou", "ui": "uei", "un": "uen"}
# fmt: on
RETROFLEX = "ɻ"  # what 儿 makes of the syllable before it: a final r
SYLLABLES = re.compile(r"[a-zêü]{1,7}[1-5](?:[\s'-]*[a-zêü]{1,7}[1-5])*")  # a pronunciation that is pinyin


class NotPinyin(ValueError):
    """What is no syllable of Mandarin."""


@cache
def read_syllable(pinyin: str) -> Phones:
    """Return the phones of a syllable such as `zhong1` or `wanr2` (5, or no figure: neutral); `NotPinyin` else."""
    written = pinyin.lower().replace("u:", "ü").replace("v", "ü")
    letters, tone = (written[:-1], int(written[-1])) if written[-1:] in tuple("12345") else (written, 5)
    curled = letters.endswith("r") and letters not in ("er", "r")
    initial, final = _split(letters.removesuffix("r") if curled else letters)
    glide, _, rest = FINALS[final].partition("|")
    vowel, *coda = rest.split()
    before, syllabic = ("", glide) if glide in MARKS else (glide, "")
    parts = (INITIALS[initial], before, TONES[tone - 1], syllabic, vowel, *coda, RETROFLEX * curled)
    return tuple(part for part in parts if part)


def _split(letters: str) -> tuple[str, str]:
    """Return initial and final of a syllable without its tone."""
    if letters == "r":
        return "", "er"
    if letters in ("hm", "hng"):
        return "h", letters[1:]
    if letters in _WRITTEN:
        return "", _WRITTEN[letters]
    initial = next((letters[:size] for size in (2, 1) if letters[:size] in INITIALS), "")
    if letters in ("m", "n", "ng"):
        return "", letters
    final = _SHORT.get(letters[len(initial) :], letters[len(initial) :])
    if initial in ("j", "q", "x") and final[:1] == "u":
        final = {"uen": "ün"}.get(final, "ü" + final[1:])
    if final == "i" and initial in ("z", "c", "s", "zh", "ch", "sh", "r"):
        final = "-i" if initial in ("z", "c", "s") else "-ï"
    if final == "o" and initial in ("b", "p", "m", "f"):
        final = "uo"
    if final == "ue" and initial in ("n", "l"):
        final = "üe"
    if final not in FINALS or final in ("m", "n", "ng") or (not initial and final[0] in "iuü-"):
        raise NotPinyin(letters)
    return initial, final


def join_syllables(syllables: Iterable[str]) -> Phones:
    """Return the phones of the syllables of a word; what is no syllable has none.

    Where two equal sounds meet a border stands between them: `tɕ tone1 i n | n j tone2 ɛ n` (jin1 nian2).
    """
    phones: list[str] = []
    for syllable in syllables:
        try:
            own = read_syllable(syllable)
        except NotPinyin:
            continue
        phones += [BORDER] * (phones[-1:] == [own[0]]) + [*own]
    return tuple(phones)


def read_pinyin(text: str) -> Phones:
    """Return the phones of syllables with their tones, `ni3 hao3` or `ni3hao3`; `NotPinyin` names what is none."""
    syllables = re.findall(r"[a-zêüv:]+[1-5]?", text.lower())
    for syllable in syllables:
        read_syllable(syllable)
    return join_syllables(syllables)


def apply_sandhi(words: Sequence[tuple[str, Sequence[str]]]) -> list[list[str]]:
    """Return the syllables of the words of a clause with the tones that are said.

    `words`: each with its syllables and their tones, one for each of its signs. 一 and 不 go by the tone that follows;
    a third tone before another becomes the second, inside a word first, then between words, as in speech that is
    neither very slow nor very fast.
    """
    signs = "".join(text for text, _ in words)
    said = [syllable for _, syllables in words for syllable in syllables]
    assert len(signs) == len(said), (signs, said)
    starts = [0, *accumulate(len(text) for text, _ in words)]
    ends = {end - 1 for start, end in pairwise(starts) if end - start > 1}  # the last signs of longer words
    for at, sign in enumerate(signs):
        if sign == "不" and said[at][:-1] == "bu":
            said[at] = "bu" + _tone_of_bu(signs, said, at)
        elif sign == "一" and said[at][:-1] == "yi":
            said[at] = "yi" + ("1" if at in ends else _tone_of_yi(signs, said, at, at - 1 in starts))
    for start, end in pairwise(starts):
        _raise_thirds(said, start, end)
    for start in starts[1:-1]:
        if said[start - 1][-1] == said[start][-1] == "3":
            said[start - 1] = said[start - 1][:-1] + "2"
    return [said[start:end] for start, end in pairwise(starts)]


def _tone_of_bu(signs: str, said: Sequence[str], at: int) -> str:
    if 0 < at < len(signs) - 1 and signs[at - 1] == signs[at + 1]:  # 好不好
        return "5"
    return "2" if at + 1 < len(said) and said[at + 1][-1] == "4" else "4"


_DIGITS = frozenset("零〇一二三四五六七八九十点幺")


def _tone_of_yi(signs: str, said: Sequence[str], at: int, is_second: bool) -> str:
    before, after, second = signs[at - 1] if at else "", signs[at + 1 : at + 2], signs[at + 2 : at + 3]
    if before and after == before and before not in _DIGITS and is_second:  # 看一看
        return "5"
    is_ordinal = before in ("第", "初") or after in ("月", "号") or (before, after) == ("月", "日")
    is_digit = before in _DIGITS or (after in _DIGITS and (after != "点" or second in _DIGITS))
    if (
        not after
        or is_ordinal
        or after in "加减乘除等"
        or before in tuple("加减乘除")
        or (before and is_digit)
        or (after and is_digit)
    ):
        return "1"
    return "2" if said[at + 1][-1] in "45" else "4"


def _raise_thirds(said: list[str], start: int, end: int) -> None:
    """Make the second tone of every third tone that stands before another in a word."""
    was = [syllable[-1] == "3" for syllable in said[start:end]]
    for number in range(end - start - 1):
        if was[number] and was[number + 1]:
            said[start + number] = said[start + number][:-1] + "2"
