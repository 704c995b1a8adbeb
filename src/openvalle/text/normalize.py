"""Written English to spoken English: every figure, sign and abbreviation becomes words.

What cannot be spoken is returned beside the text, never lost in silence.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import Field

from openvalle.config import Config
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
_SPOKEN = re.compile(r"[A-Za-z0-9\s.,;:!?'\"()\[\]-]")
_KEPT = "²³µ°©®™"  # signs that compatibility folding would turn into letters or figures


class NormalizeOptions(Config):
    """One switch for each rule, in the order in which they are applied."""

    unicode: bool = Field(default=True, description="fold Unicode punctuation and accents to ASCII")
    capitals: bool = Field(default=True, description="read a text all in capitals as one without")
    addresses: bool = Field(default=True, description="read e-mail and web addresses")
    emoji: bool = Field(default=True, description="drop emoji and other pictures")
    abbreviations: bool = Field(default=True, description="read Dr., St., e.g., Feb.")
    telephone: bool = Field(default=True, description="read telephone numbers figure by figure")
    money: bool = Field(default=True, description="read amounts of money")
    dates: bool = Field(default=True, description="read dates")
    times: bool = Field(default=True, description="read times of day")
    percent: bool = Field(default=True, description="read percentages")
    units: bool = Field(default=True, description="read units of measure after a number")
    fractions: bool = Field(default=True, description="read 3/4")
    ordinals: bool = Field(default=True, description="read 3rd")
    roman: bool = Field(default=True, description="read Chapter IV and Henry VIII")
    years: bool = Field(default=True, description="read 1984 and the 1990s as years")
    numbers: bool = Field(default=True, description="read all other numbers")
    acronyms: bool = Field(default=True, description="spell FBI, but say NASA")
    symbols: bool = Field(default=True, description="read & + = @ and other signs, and Greek letters")


@dataclass(frozen=True)
class Normalized:
    """A text in spoken form, and what was dropped because it cannot be spoken."""

    text: str
    dropped: tuple[str, ...] = ()


def normalize(text: str, options: NormalizeOptions | None = None) -> Normalized:
    """Return the text in words and plain punctuation; line breaks are kept, other space is one blank."""
    options = options or NormalizeOptions()
    dropped: dict[str, None] = {}
    for name, rule in _RULES.items():
        if getattr(options, name):
            text = rule(text)
    if options.emoji:
        text = _take_out(text, _is_picture, dropped)
    if options.symbols:
        text = _take_out(text, lambda sign: not _SPOKEN.match(sign), dropped)
    text = re.sub(r"[^\S\n]+", " ", text)
    text = re.sub(r" *\n *", "\n", text)
    return Normalized(re.sub(r" +(?=[.,;:!?])(?!\.\w)", "", text).strip(), tuple(dropped))


def _take_out(text: str, unwanted: Callable[[str], bool], dropped: dict[str, None]) -> str:
    """Return the text with a blank for each unwanted character; visible ones are noted in `dropped`."""
    kept = []
    for sign in text:
        if not unwanted(sign):
            kept.append(sign)
            continue
        kept.append(" ")
        if unicodedata.category(sign)[0] not in "CZM":
            dropped[sign] = None
    return "".join(kept)


def _is_picture(sign: str) -> bool:
    return sign not in _KEPT and unicodedata.category(sign) in ("So", "Sk", "Cs", "Co", "Cn")


def fold(text: str) -> str:
    """Return the text with ASCII punctuation and letters without accents; other scripts stay."""
    text = re.sub(r"(?<=\d)([¼-¾⅐-⅞])", r" \1", text.translate(_FOLDED))
    text = re.sub(r"(?<=\d)\s?\u2013\s?(?=\d)", "-", text)
    text = re.sub(r"(?<=\w)\u2013(?=\w)", "-", text).replace("\u2013", " - ").replace("--", " - ")
    folded = []
    for letter in text:
        if letter.isascii() or letter in _KEPT:
            folded.append(letter)
            continue
        plain = unicodedata.normalize("NFKD", letter).replace("\u2044", "/")
        bare = "".join(part for part in plain if not unicodedata.combining(part))
        folded.append(bare.translate(_FOLDED))
    return "".join(folded)


def lower_capitals(text: str) -> str:
    """Return a text of capitals (at least four words of them) in small letters, else the text itself."""
    shouted = not any(letter.islower() for letter in text) and len(re.findall(r"[^\W\d_]{2,}", text)) >= 4
    return text.lower() if shouted else text


# "emoji" has no entry: what is dropped has to be noted, see `normalize`
_RULES: dict[str, Callable[[str], str]] = {
    "unicode": fold,
    "capitals": lower_capitals,
    "addresses": abbreviations.addresses,
    "abbreviations": abbreviations.abbreviations,
    "telephone": numbers.telephone,
    "money": numbers.money,
    "dates": numbers.dates,
    "times": numbers.times,
    "percent": numbers.percent,
    "units": numbers.units,
    "fractions": numbers.fractions,
    "ordinals": numbers.ordinals,
    "roman": numbers.roman,
    "years": numbers.years,
    "numbers": numbers.numbers,
    "acronyms": abbreviations.acronyms,
    "symbols": abbreviations.symbols,
}
