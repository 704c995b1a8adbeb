"""The front end of Mandarin: text -> words with their phones, tones as they are said beside each other.

Figures, money, dates and units are read by wetext, words found by jieba, their syllables by pypinyin (the extra `zh`).
What no dictionary tells is decided here: numbers that are said figure by figure, signs of many readings that stand
alone, an 儿 that curls the syllable before it, and tones (`openvalle.text.pinyin`). Latin words are read as English.
"""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from typing import Any

from openvalle.errors import import_extra
from openvalle.text.language import PLACEHOLDER, UserLexicon, Word, find_longest, keep_apart, phonemize_part
from openvalle.text.pinyin import apply_sandhi, join_syllables
from openvalle.text.polyphones import ALONE, MENDED, NEUTRAL, WHOLE
from openvalle.text.spans import HAN
from openvalle.types import ENGLISH

log = logging.getLogger(__name__)

_BLANK = re.compile(f"(?<=[{HAN}，。、])[ \\t\\n\u3000]+(?=[{HAN}])")  # where a line was broken
_LATIN = "[A-Za-z\u00c0-\u024f]"
_REST = "[A-Za-z\u00c0-\u024f0-9'\u2019&+.-]*(?<=[A-Za-z\u00c0-\u024f0-9+])"
_TOKEN = re.compile(
    rf"(?P<given>{PLACEHOLDER.pattern})|(?P<han>[{HAN}]+)"
    rf"|(?P<latin>{_LATIN}{_REST}(?:[ \t]+{_LATIN}{_REST})*)"
)
_PAUSE = re.compile(r"[,;:.!?()\[\]\n，、；：。！？（）【】…—]")
_NAMED = re.compile(rf"(?<![A-Za-z0-9]){_LATIN}+[-\u2013]?\d[A-Za-z0-9-]*")  # COVID-19, MP3: a name, not a sum

# Numbers that are said figure by figure; one is then yao1, as on the telephone.
_SPELLED = re.compile(
    r"(?P<what>电话|手机|热线|邮编|房间?号?|航班|车牌|学号|编号|号码|密码|验证码|QQ|qq|拨打|拨)(?P<link>号码|号)?(?P<is>[是为:：\s]{0,3})"
    r"(?P<figures>\d[\d\- ]{1,18}\d)(?![\d.]|[年月%个元])"
    r"|(?<![\d.,])(?P<mobile>1[3-9]\d{9}|0\d{2,3}-\d{7,8}|400-?\d{3}-?\d{4})(?![\d.])"
)
_FIGURES = dict(zip("0123456789- ", [*"零幺二三四五六七八九", "", ""], strict=True))
_HELD = "\ue000\ue001"  # stand for what is no number
_COUNTED = re.compile(
    "([零一二三四五六七八九十百千万两几]{2,})([只行种重])"
)  # words of which the last sign has many readings
_RANGE = re.compile(r"(?<=\d)\s*[~～]\s*(?=\d)")
_MONEY = re.compile(r"[¥￥]\s*(?P<sum>\d[\d,]*(?:\.\d+)?)\s*元?")


def goes_on(before: str, after: str, is_whole: bool = True) -> bool | None:
    """Whether a sentence goes on after the full stop that ends `before` (see `FrontEnd`)."""
    if not before.rstrip("\"')]\u2019\u201d").endswith("."):
        return False
    from openvalle.text import english

    return english.goes_on(before, after, is_whole)


def is_word(word: str) -> bool:
    """Whether English has the word: only Latin words are divided at the ends of lines."""
    from openvalle.text import english

    return english.is_word(word)


def read_out(text: str) -> str:
    """Return the text with figures, money, dates and units in words."""
    held: list[str] = []

    def hold(match: re.Match[str]) -> str:
        held.append(match.group())
        return _HELD[0] + _HELD[1] * len(held) + _HELD[0]

    text = _NAMED.sub(hold, text)
    text = _SPELLED.sub(_spell_figures, text)
    text = _MONEY.sub(lambda match: f"{match['sum']}元", _RANGE.sub("到", text))
    said = "".join(_normalizer().normalize(part) if part.strip() else part for part in re.split(r"(\n+)", text))
    return re.sub(f"{_HELD[0]}({_HELD[1]}+){_HELD[0]}", lambda match: held[len(match[1]) - 1], said)


def _spell_figures(match: re.Match[str]) -> str:
    figures = "".join(_FIGURES[sign] for sign in (match["figures"] or match["mobile"]))
    return f"{match['what'] or ''}{match['link'] or ''}{match['is'] or ''}{figures}"


def phonemize(text: str, backend: str, lexicon: UserLexicon, given: Sequence[Word]) -> list[Word]:
    """Return the words of a text with their phones; none if nothing in it can be spoken (see `FrontEnd`)."""
    waiting = iter(given)
    normal = "".join(
        part if PLACEHOLDER.fullmatch(part) else read_out(part)
        for part in re.split(f"({PLACEHOLDER.pattern})", _BLANK.sub("", text))
        if part
    )
    found = list(_TOKEN.finditer(normal))
    ends = [*(match.start() for match in found[1:]), len(normal)][: len(found)]
    words: list[Word] = []
    clause: list[Word] = []  # words of Chinese whose tones depend on each other; their phones come last
    for match, end in zip(found, ends, strict=True):
        gap = normal[match.end() : end]
        if match["han"]:
            clause += [Word(word, ()) for word in _segment(match["han"], lexicon)]
        else:
            words += _pronounce(clause, lexicon)
            clause = []
            words += [next(waiting)] if match["given"] else phonemize_part(match["latin"], ENGLISH, lexicon)
        if _PAUSE.search(gap):
            words += _pronounce(clause, lexicon)
            clause = []
            words[-1:] = [replace(word, pause=True) for word in words[-1:]]
    return keep_apart([*words, *_pronounce(clause, lexicon)])


def _segment(run: str, lexicon: UserLexicon) -> Iterator[str]:
    """Yield the words of a run of signs: those of the lexicon as they are, the others as jieba cuts them."""
    for part in find_longest(run, lexicon):
        if part in lexicon:
            yield part
            continue
        held: list[str] = []
        for word in _cutter().cut(part, HMM=False):
            if word == "儿" and held:
                held[-1] += word
            elif counted := _COUNTED.fullmatch(word):
                held += counted.groups()
            else:
                held.append(word)
        yield from held


def _pronounce(clause: Sequence[Word], lexicon: UserLexicon) -> list[Word]:
    """Return the words of a clause with their phones; those that no dictionary has are left out with a word."""
    read: list[tuple[str, list[str]]] = []
    for index, word in enumerate(clause):
        read.append((word.text, _syllables([each.text for each in clause], index)))
    said = apply_sandhi(read) if read else []
    words = []
    for word, syllables in zip(clause, said, strict=True):
        phones = lexicon.get(word.text) or join_syllables(_curl(word.text, syllables))
        if phones:
            words.append(Word(word.text, phones))
        else:
            log.warning("left out what cannot be spoken: %s", word.text)
    return words


def _curl(text: str, syllables: Sequence[str]) -> list[str]:
    """Return the syllables of a word with a last 儿 as the curled end of the one before, where it is no child."""
    if text.endswith("儿") and len(text) > 1 and text not in WHOLE:
        return [*syllables[:-2], f"{syllables[-2][:-1]}r{syllables[-2][-1]}"]
    return list(syllables)


def _syllables(words: Sequence[str], index: int) -> list[str]:
    """Return a syllable with its tone for each sign of a word; an empty tone for what no dictionary has."""
    word = words[index]
    alone = ALONE.get(word)
    if alone is not None:
        before, after = words[index - 1] if index else "", words[index + 1] if index + 1 < len(words) else ""
        for reading, is_before, is_after in alone:
            if re.search(is_before, before) and re.search(is_after, after):
                return [reading]
    if word in MENDED:
        return MENDED[word].split()
    pypinyin = import_extra("pypinyin", "pypinyin (readings of Chinese signs)", "zh")
    style = pypinyin.Style.TONE3
    found = pypinyin.lazy_pinyin(
        word, style=style, neutral_tone_with_five=True, v_to_u=True, errors=lambda signs: list("?" * len(signs))
    )
    if len(found) != len(word):  # a sign of two syllables, such as 瓩
        found = ["?5"] * len(word)
    read = [each if each[-1:] in tuple("12345") else each + "5" for each in found]
    return [*read[:-1], read[-1][:-1] + "5"] if word in NEUTRAL else read


def _normalizer() -> Any:
    return _load_normalizer(import_extra("wetext", "wetext (numbers in Chinese)", "zh").Normalizer)


@cache
def _load_normalizer(kind: Any) -> Any:
    return kind(lang="zh", operator="tn")


def _cutter() -> Any:
    with warnings.catch_warnings() if "jieba" not in sys.modules else nullcontext():
        if "jieba" not in sys.modules:  # of its old way to find its own files
            warnings.simplefilter("ignore")
        jieba = import_extra("jieba", "jieba (words of Chinese)", "zh")
    return _load_cutter(jieba.Tokenizer)


@cache
def _load_cutter(kind: Any) -> Any:
    """Return jieba's tokenizer with its dictionary, which takes two seconds and, unlike its own way, writes no file."""
    cutter = kind()
    cutter.FREQ, cutter.total = cutter.gen_pfdict(cutter.get_dict_file())
    cutter.initialized = True
    return cutter
