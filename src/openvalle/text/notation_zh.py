"""Mandarin as the models of other projects read it: pinyin with figures for tones, or IPA letters with arrows.

The front end of this package decides nothing here: such models were trained on what jieba and pypinyin say of whole
words, without sandhi, and read numbers as amounts.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

from openvalle.errors import import_extra

EXTRA = "zh"
DIGITS, PLACES, MYRIADS = "零一二三四五六七八九", ("", "十", "百", "千"), ("", "万", "亿", "万")
_NUMBER = re.compile(r"\d+(?:\.?\d+)?")


def write_numbers(text: str) -> str:
    """Return the text with its numbers in signs, as amounts: 二千零二十四, not 二零二四."""
    return _NUMBER.sub(lambda found: read_number(found[0]), text)


def read_number(figures: str) -> str:
    """Return a number such as 3.5 in signs; one of more than 16 figures sign by sign."""
    whole, point, decimals = figures.partition(".")
    tail = f"点{_read_digits(decimals)}" if point else ""
    if len(whole) > 16:
        return _read_digits(whole) + tail
    groups = [whole[max(0, end - 4) : end] for end in range(len(whole), 0, -4)]  # the lowest first
    said = ""
    for at in reversed(range(len(groups))):
        group = _read_group(groups[at])
        if group:
            needs_zero = bool(said) and groups[at].startswith("0")
            said += f"{'零' * needs_zero}{group}{MYRIADS[at]}"
        elif at == 2 and said:
            said += MYRIADS[2]  # 万亿
    said = said.removeprefix("一") if said.startswith("一十") else said
    return (said or DIGITS[0]) + tail


def _read_digits(figures: str) -> str:
    return "".join(DIGITS[int(figure)] for figure in figures)


def _read_group(figures: str) -> str:
    """Return up to four figures in signs, without zeros at either end; nothing for zero."""
    signs, skipped = "", False
    for place, figure in zip(reversed(range(len(figures))), figures, strict=True):
        if figure == "0":
            skipped = bool(signs)
            continue
        signs += "零" * skipped + DIGITS[int(figure)] + PLACES[place]
        skipped = False
    return signs


def _pypinyin() -> Any:
    return import_extra("pypinyin", "pypinyin, the pronunciation of Chinese signs,", EXTRA)


def _cutter() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _load_cutter(import_extra("jieba", "jieba, which finds the words of Chinese,", EXTRA))


@cache
def _load_cutter(jieba: Any) -> Any:
    """Return jieba with its dictionary, which takes a second; it keeps no file of it, as it else would."""
    cutter = jieba.Tokenizer()
    cutter.FREQ, cutter.total = cutter.gen_pfdict(cutter.get_dict_file())
    cutter.initialized = True
    return cutter


# --- pinyin: lifeiteng/vall-e and icefall ---------------------------------------------------------------------------
MARKS = ';:,.!?¡¿—…"«»“”_'  # signs that stand for themselves there; Chinese full stops and commas are none


def write_pinyin(text: str, *, parts: bool) -> list[str]:
    """Return the syllables of a text, `-` between them and `_` for spaces; `parts`: initials and finals apart.

    Signs that are no `MARKS` are syllables of their own there, and left out where syllables are in parts.
    """
    library = _pypinyin()
    line = re.sub(" +", " ", write_numbers(text).strip()).replace(" ", "_")
    symbols: list[str] = []
    for (
        said,
        *_,
    ) in library.pinyin(line, style=library.Style.TONE3, neutral_tone_with_five=True):
        if all(sign in MARKS for sign in said):
            symbols = [*symbols[:-1], *said] if symbols[-1:] == ["-"] else [*symbols, *said]
        elif not parts:
            symbols += [*re.findall(r"\w+|[^\w\s]", said), "-"]
        elif said[-1].isalnum():
            symbols += [*_split_syllable(said), "-"]
    while symbols and symbols[-1] in ("-", "_"):
        symbols.pop()
    return symbols


def _split_syllable(said: str) -> list[str]:
    """Return initial and final of a syllable, the tone with the final."""
    utils = import_extra("pypinyin.style._utils", "pypinyin, the pronunciation of Chinese signs,", EXTRA)
    sound, tone = (said[:-1], said[-1]) if said[-1].isdigit() else (said, "")
    parts = utils.get_initials(said, strict=False), utils.get_finals(sound, strict=False) + tone
    return [part for part in parts if part]


# --- letters: Plachtaa/VALL-E-X -------------------------------------------------------------------------------------
_INITIALS = {
    "ㄅ": "p⁼", "ㄆ": "pʰ", "ㄇ": "m", "ㄈ": "f", "ㄉ": "t⁼", "ㄊ": "tʰ", "ㄋ": "n", "ㄌ": "l", "ㄍ": "k⁼",
    "ㄎ": "kʰ", "ㄏ": "x", "ㄐ": "tʃ⁼", "ㄑ": "tʃʰ", "ㄒ": "ʃ", "ㄓ": "ts`⁼", "ㄔ": "ts`ʰ", "ㄕ": "s`", "ㄖ": "ɹ`",
    "ㄗ": "ts⁼", "ㄘ": "tsʰ", "ㄙ": "s",
}  # fmt: skip
_FINALS = {
    "ㄚ": "a", "ㄛ": "o", "ㄜ": "ə", "ㄝ": "ɛ", "ㄞ": "aɪ", "ㄟ": "eɪ", "ㄠ": "ɑʊ", "ㄡ": "oʊ", "ㄢ": "an", "ㄣ": "ən",
    "ㄤ": "ɑŋ", "ㄥ": "əŋ", "ㄦ": "əɻ", "ㄧ": "i", "ㄨ": "u", "ㄩ": "ɥ", "ㄧㄢ": "jɛn", "ㄩㄢ": "ɥæn", "ㄧㄣ": "in",
    "ㄩㄣ": "ɥn", "ㄧㄥ": "iŋ", "ㄨㄥ": "ʊŋ", "ㄩㄥ": "jʊŋ",
}  # fmt: skip
_TONES = {"ˉ": "→", "ˊ": "↑", "ˇ": "↓↑", "ˋ": "↓", "˙": ""}
_SIGNS = {"，": ",", "。": ".", "！": "!", "？": "?", "—": "-"}
_LETTERS: Mapping[str, str] = {
    **_INITIALS,
    **_FINALS,
    **{initial + "ㄛ": _INITIALS[initial] + "wo" for initial in "ㄅㄆㄇㄈ"},
    **_TONES,
    **_SIGNS,
}
_UNIT = re.compile("|".join(sorted(_LETTERS, key=len, reverse=True)))
# Latin letters, by their names.
_NAMES = {
    "a": "ㄟˉ", "b": "ㄅㄧˋ", "c": "ㄙㄧˉ", "d": "ㄉㄧˋ", "e": "ㄧˋ", "f": "ㄝˊㄈㄨˋ", "g": "ㄐㄧˋ",
    "h": "ㄝˇㄑㄩˋ", "i": "ㄞˋ", "j": "ㄐㄟˋ", "k": "ㄎㄟˋ", "l": "ㄝˊㄛˋ", "m": "ㄝˊㄇㄨˋ", "n": "ㄣˉ",
    "o": "ㄡˉ", "p": "ㄆㄧˉ", "q": "ㄎㄧㄡˉ", "r": "ㄚˋ", "s": "ㄝˊㄙˋ", "t": "ㄊㄧˋ", "u": "ㄧㄡˉ",
    "v": "ㄨㄧˉ", "w": "ㄉㄚˋㄅㄨˋㄌㄧㄡˋ", "x": "ㄝˉㄎㄨˋㄙˋ", "y": "ㄨㄞˋ", "z": "ㄗㄟˋ",
}  # fmt: skip


def write_letters(text: str) -> str:
    """Return a text in IPA letters: `⁼` unaspirated, `` ` `` retroflex, arrows for tones, spaces between words."""
    line = write_numbers(text).translate(str.maketrans("、；：", "，，，"))
    said = ""
    for word in _cutter().lcut(line, cut_all=False):
        if re.search("[\u4e00-\u9fff]", word):
            said += (" " if said else "") + "".join(_write_bopomofo(word))
        else:
            said += word
    said = re.sub("[A-Za-z]", lambda found: _NAMES[found[0].lower()], said)
    said = _UNIT.sub(lambda found: _LETTERS[found[0]], said)
    said = re.sub("i([aoe])", r"j\1", said)
    said = re.sub("u([aoəe])", r"w\1", said)
    # syllables without a vowel have one that sounds like their consonant
    said = re.sub("([sɹ]`[⁼ʰ]?)([→↓↑ ]+|$)", r"\1ɹ`\2", said).replace("ɻ", "ɹ`")
    return re.sub("(s[⁼ʰ]?)([→↓↑ ]+|$)", r"\1ɹ\2", said)


def _write_bopomofo(word: str) -> list[str]:
    """Return the syllables of a word in bopomofo, the first tone with its mark."""
    library = _pypinyin()
    return [re.sub("([\u3105-\u3129])$", r"\1ˉ", said) for said in library.lazy_pinyin(word, library.BOPOMOFO)]
