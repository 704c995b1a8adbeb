"""Written English to spoken English: every figure, sign and abbreviation becomes words.

What cannot be spoken is returned beside the text, never lost in silence.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from openvalle.text import abbreviations, numbers

_LETTERS = {
    "ß": "ss",
    "æ": "ae",
    "Æ": "AE",
    "œ": "oe",
    "Œ": "OE",
    "ø": "o",
    "Ø": "O",
    "ł": "l",
    "Ł": "L",
    "№": "No. ",
    "đ": "d",
    "Đ": "D",
    "ð": "th",
    "Ð": "Th",
    "þ": "th",
    "Þ": "Th",
    "\u0131": "i",
    "\u3002": ".",
}
_FOLDED = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u00b4\u2032", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033\u2039\u203a", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2212\ufe63\uff0d", "-"),
        **dict.fromkeys("\u2014\u2015", " - "),
        "\u2026": "...",
        "\u00a1": "",
        "\u00bf": "",
        "\u2044": "/",
        "\u00ad": "",
        "\u037e": ";",
        **_LETTERS,
    }
)
_SILENT = re.compile(r"[^A-Za-z0-9\s.,;:!?'\"()\[\]-]")
_KEPT = "²³µ°©®™"  # signs that compatibility folding would turn into letters or figures


@dataclass(frozen=True)
class Normalized:
    """A text in spoken form, and what was dropped because it cannot be spoken."""

    text: str
    dropped: tuple[str, ...] = ()


def normalize(text: str) -> Normalized:
    """Return the text in words and plain punctuation; line breaks are kept, other space is one blank."""
    for rule in _RULES:
        text = rule(text)
    dropped = dict.fromkeys(sign for sign in _SILENT.findall(text) if unicodedata.category(sign)[0] not in "CZM")
    text = _SILENT.sub(" ", text)
    text = re.sub(r"[^\S\n]+", " ", text)
    text = re.sub(r" *\n *", "\n", text)
    return Normalized(re.sub(r" +(?=[.,;:!?])(?!\.\w)", "", text).strip(), tuple(dropped))


def fold(text: str) -> str:
    """Return the text with ASCII punctuation and letters without accents; other scripts stay."""
    text = re.sub(r"(?<=\d)([¼-¾⅐-⅞])", r" \1", text.translate(_FOLDED))
    text = re.sub(r"(?<=\d)\s?\u2013\s?(?=\d)", "-", text)
    text = re.sub(r"(?<=\w)\u2013(?=\w)", "-", text).replace("\u2013", " - ").replace("--", " - ")
    return re.sub(rf"[^\x00-\x7f{_KEPT}]", _fold_letter, text)


def _fold_letter(match: re.Match[str]) -> str:
    plain = unicodedata.normalize("NFKD", match[0]).replace("\u2044", "/")
    bare = "".join(part for part in plain if not unicodedata.combining(part))
    return bare.translate(_FOLDED)


def lower_capitals(text: str) -> str:
    """Return a text of capitals (at least four words of them) in small letters, else the text itself."""
    shouted = not any(letter.islower() for letter in text) and len(re.findall(r"[^\W\d_]{2,}", text)) >= 4
    return text.lower() if shouted else text


_RULES: tuple[Callable[[str], str], ...] = (  # in the order in which they are applied
    fold,
    lower_capitals,
    abbreviations.addresses,
    abbreviations.abbreviations,
    numbers.telephone,
    numbers.money,
    numbers.dates,
    numbers.times,
    numbers.percent,
    numbers.units,
    numbers.fractions,
    numbers.ordinals,
    numbers.roman,
    numbers.years,
    numbers.numbers,
    abbreviations.acronyms,
    abbreviations.symbols,
)
