"""The front end of Japanese: text -> words with their phones, long vowels and pitch accents among them.

pyopenjtalk-plus (the extra `ja`) finds words, readings, counters and the accent of each phrase; the dictionary lies in
its wheel. What it does not read is written out here first: money, degrees, times, ranges. Latin words that its
dictionary does not have are read as English.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from openvalle.errors import import_extra
from openvalle.text.kana import LENGTH, STOP, count_morae, read_morae, split_morae
from openvalle.text.language import PLACEHOLDER, UserLexicon, Word, find_longest, keep_apart, phonemize_part
from openvalle.text.phones import BORDER
from openvalle.text.spans import HAN, KANA
from openvalle.types import ENGLISH

log = logging.getLogger(__name__)

_LATIN = "A-Za-zＡ-Ｚａ-ｚ"
_LATIN_WORD = re.compile(rf"[{_LATIN}][{_LATIN}'’+.-]*(?:[ \t]+[{_LATIN}][{_LATIN}'’+.-]*)*")
_PAUSE = re.compile(r"[,;:.!?()\[\]\n、。，．！？：；（）【】…—「」『』]")
_GOES_ON = "とってなのをがはもにで、"  # what follows a quotation inside a sentence
_BLANK = re.compile(rf"(?<=[{HAN}{KANA}、。])[ \t\n\u3000]+(?=[{HAN}{KANA}])")  # where a line was broken
_CURRENCIES = {"$": "ドル", "＄": "ドル", "€": "ユーロ", "£": "ポンド", "¥": "円", "￥": "円", "₩": "ウォン"}
_SUM = r"\d[\d,]*(?:\.\d+)?"
_RULES: tuple[tuple[re.Pattern[str], Any], ...] = (
    (
        re.compile(
            rf"(?P<sign>[{''.join(_CURRENCIES)}])\s*(?P<sum>{_SUM})(?P<unit>[万億兆]*)(?:円|ドル|ユーロ|ポンド)?"
        ),
        lambda match: f"{match['sum']}{match['unit']}{_CURRENCIES[match['sign']]}",
    ),
    (re.compile(r"(?<![\d:])(\d{1,2}):([0-5]\d)(?![\d:])"), lambda match: _tell_time(match)),
    (re.compile(r"(?<![\d/])(\d{4})[/-](\d{1,2})[/-](\d{1,2})(?![\d/])"), r"\1年\2月\3日"),
    (re.compile(r"(?<![\d/])(\d{1,4})/(\d{1,4})(?![\d/])"), r"\2分の\1"),
    (re.compile(r"(?<![\d-])(0\d{1,4})-(\d{1,4})-(\d{3,4})(?![\d-])"), lambda match: "の".join(match.groups())),
    (re.compile(r"(?<=\d)\s*[〜～~]\s*(?=\d)"), "から"),
    (re.compile(r"(?<=\d)\s*-\s*(?=\d+[時日月年人個本枚分歳回円度])"), "から"),
    (re.compile(r"(?<![0-9A-Za-z.])[-−](?=\d)"), "マイナス"),
    (re.compile(r"(?<=\d)\s*[°℃](?:C)?"), "度"),
    (
        re.compile(r"辛(?=[いくさ].{0,3}?(?:料理|物|もの|味|食|鍋|カレー|ラーメン|ソース|スープ))"),
        "から",
    ),  # not hard, hot
    (re.compile(r"&|＆"), "アンド"),
    (re.compile(r"(?<=\d)\s*[×x]\s*(?=\d)"), "かける"),
    (re.compile(r"(?<=\d)\s*[+＋]\s*(?=\d)"), "たす"),
    (re.compile(r"(?<=\d)\s*[=＝]\s*(?=\d)"), "は"),
)


def _tell_time(match: re.Match[str]) -> str:
    hour, minute = int(match[1]), int(match[2])
    return f"{hour}時" + (f"{minute}分" if minute else "")


def goes_on(before: str, after: str, is_whole: bool = True) -> bool | None:
    """Whether a sentence goes on after the full stop that ends `before` (see `FrontEnd`)."""
    if before[-1:] in tuple("」』）") and after.lstrip()[:1] in tuple(_GOES_ON):
        return True  # 「行く。」と言った
    if not before.rstrip("\"')]\u2019\u201d」』").endswith("."):
        return False
    from openvalle.text import english

    return english.goes_on(before, after, is_whole)


def is_word(word: str) -> bool:
    """Whether English has the word: only Latin words are divided at the ends of lines."""
    from openvalle.text import english

    return english.is_word(word)


def read_out(text: str) -> str:
    """Return the text with money, times, ranges and signs in words; plain numbers are read with their counters."""
    for pattern, said in _RULES:
        text = pattern.sub(said, text)
    return text


@dataclass(frozen=True)
class _Token:
    """A word of the dictionary: as written, in kana as said, the accent of its phrase, and morae before it there."""

    text: str
    kana: str
    accent: int
    before: int
    is_sign: bool
    is_unknown: bool


def to_kana(text: str) -> str:
    """Return what is said of a text in kana, however it is written; signs are left out."""
    return "".join(token.kana for token in _look_up(read_out(text)) if not token.is_sign) if text.strip() else ""


def phonemize(text: str, backend: str, lexicon: UserLexicon, given: Sequence[Word]) -> list[Word]:
    """Return the words of a text with their phones; none if nothing in it can be spoken (see `FrontEnd`)."""
    waiting = iter(given)
    words: list[Word] = []
    for part in re.split(f"({PLACEHOLDER.pattern})", _BLANK.sub("", text)):
        if PLACEHOLDER.fullmatch(part):
            words.append(next(waiting))
            continue
        for piece in find_longest(part, lexicon):
            if piece in lexicon and not piece.isascii():
                words.append(Word(piece, lexicon[piece]))
            else:
                words = _mark_pause(words, re.match(r"\s*(\S?)", piece)[1])  # type: ignore[index]
                words += _read(piece, lexicon)
    return keep_apart(words)


def _mark_pause(words: list[Word], sign: str) -> list[Word]:
    if words and sign and _PAUSE.match(sign):
        return [*words[:-1], replace(words[-1], pause=True)]
    return words


def _read(text: str, lexicon: UserLexicon) -> Iterator[Word]:
    """Yield the words of a part of a text without given ones."""
    words: list[Word] = []
    normal = read_out(text)
    at = 0
    for found in _LATIN_WORD.finditer(normal):
        if not _is_english(found.group()):
            continue
        words += _read_japanese(normal[at : found.start()], bool(words))
        words += phonemize_part(_narrow(found.group()), ENGLISH, lexicon)
        at = found.end()
        words = _mark_pause(words, normal[at : at + 1])
    yield from [*words, *_read_japanese(normal[at:], bool(words))]


def _is_english(run: str) -> bool:
    """Whether Latin words are none that the Japanese dictionary reads in kana."""
    if run.isupper() and len(run) < 6:
        return False
    return any(token.is_unknown for token in _look_up(run))


def _narrow(text: str) -> str:
    return "".join(chr(ord(sign) - 0xFEE0) if "！" <= sign <= "～" else sign for sign in text)


def _read_japanese(text: str, follows: bool) -> list[Word]:
    words: list[Word] = []
    tokens = _look_up(text) if text.strip() else []
    is_stopped = False  # the word before ends with a stop that doubles the consonant of this one
    for index, token in enumerate(tokens):
        if token.is_sign:
            words = _mark_pause(words, token.text[:1])
            continue
        morae, before = split_morae(token.kana), token.before
        if is_stopped:
            morae, before = [STOP, *morae], before - 1
        is_stopped = morae[-1:] == [STOP] and tokens[index + 1 : index + 2] != [] and tokens[index + 1].before > 0
        phones = read_morae(morae[:-1] if is_stopped else morae, token.accent, before)
        if not phones:
            log.warning("left out what cannot be spoken: %s", token.text)
            continue
        is_phrase = token.before == 0 and bool(words or follows) and not (words and words[-1].pause)
        words.append(Word(token.text, (*([BORDER] if is_phrase else []), *phones)))
    return words


def _look_up(text: str) -> list[_Token]:
    """Return the words of a text as the dictionary reads them."""
    tokens: list[_Token] = []
    accent = before = 0
    openjtalk = import_extra("pyopenjtalk", "pyopenjtalk-plus (readings and accents of Japanese)", "ja")
    for word in openjtalk.run_frontend(text):
        kana = word["pron"]
        if kana.startswith(LENGTH) and tokens and not tokens[-1].is_sign:  # う, which makes the word before longer
            tokens[-1] = replace(
                tokens[-1], text=tokens[-1].text + _narrow(word["string"]), kana=tokens[-1].kana + kana
            )
            before += count_morae(kana)
            continue
        is_sign = word["pos"] == "記号" or not count_morae(kana)
        if word["chain_flag"] != 1 or is_sign:
            accent, before = word["acc"], 0
        tokens.append(
            _Token(
                _narrow(word["string"]),
                kana,
                accent,
                before,
                is_sign,
                word["pos"] == "フィラー" and _has_latin(word["string"]),
            )
        )
        before += count_morae(kana)
    return tokens


def _has_latin(text: str) -> bool:
    return re.search(f"[{_LATIN}]", text) is not None
