"""Rules that read feet and inches, which have the signs of minutes and quotations, and "by" between lengths."""

from __future__ import annotations

import re

from openvalle.text.measures import DETERMINER, NOT_NOUNS, NOUN, UNIT, count_unit, is_adjective
from openvalle.text.numbers import AMOUNT, amount
from openvalle.text.rules import Rule, regex

_ADJECTIVES = "wide|long|tall|thick|deep|high"  # after a length, of which it is no adjective

_QUOTATION = regex(r"(?:^|[\s(])\"(?=\S)[^\"]*\Z")  # that is still open


def _feet(match: re.Match[str]) -> str:
    feet, inches = (match[1], match[2]) if match[1] else (match[3], match[4])
    if is_adjective(match, match.end()):
        return f"{amount(feet)} foot {amount(inches)}"
    return f"{amount(feet)} {count_unit('foot', feet, False)} {amount(inches)} {count_unit('inch', inches, False)}"


def _inches(match: re.Match[str]) -> str:
    before = match.string[max(0, match.start() - 24) : match.start()]
    return f"{amount(match[1])} {count_unit('inch', match[1], DETERMINER.search(before) is not None)}"


def _size(match: re.Match[str]) -> str:
    """Read a fraction of an inch: 5/8" bolts, 3 1/2" long."""
    before = match.string[max(0, match.start() - 200) : match.start()]
    if match["sign"] == '"' and _QUOTATION.search(before):
        return match[0]
    following = NOUN.match(match.string, match.end())
    word = following["word"] if following else None
    as_adjective = word and word not in NOT_NOUNS and word not in _ADJECTIVES.split("|")
    is_one = as_adjective or not re.search("[ -]", match["size"])
    return f"{match['size'].replace('-', ' ')} {'inch' if is_one else 'inches'}"


RULES = (  # before times, which have the same signs
    Rule(
        "inches",
        regex(
            r"(?<![\w.,/])(?P<size>(?:\d{1,3}[ -])?\d{1,2}/\d{1,2}) ?(?P<sign>\"|''|in\b(?:\.(?=\s[a-z]|[,;)]))?)(?!\w)"
        ),
        _size,
        figures=True,
    ),
    Rule(
        "feet and inches",
        regex(
            r"(?<![\w.,'])(?:(\d{1,2})' ?(1[01]|\d)(?:\"|'')|(\d{1,2}) ?ft\.? (1[01]|\d) ?in\b(?:\.(?=[,;)]|\s[a-z]))?)"
        ),
        _feet,
        figures=True,
    ),
    Rule(
        "inches",
        regex(
            rf"(?<![\w.,'\"])(\d{{1,3}}(?:\.\d+)?)(?:\"(?=\s(?:{_ADJECTIVES}|screen|pipe|TV|monitor|by|x)\b)|"
            rf" ?in\.?(?=\s(?:{_ADJECTIVES}|diameter)\b)| ?in\.(?=\s(?:of|by|and|or|to)\b|[,;)]))"
        ),
        _inches,
        figures=True,
    ),
    Rule(
        "feet or inches before a noun",
        regex(r"(?<=\b[Aa] )(\d{1,3}(?:\.\d)?)([\"'])(?=[ -][a-z]{3})|(?<=\b[Tt]he )(\d{1,3})([\"'])(?=-[a-z]{3})"),
        lambda m: f"{amount(m[1] or m[3])} {'foot' if (m[2] or m[4]) == chr(39) else 'inch'}",
        figures=True,
    ),
    Rule(
        "by",
        regex(rf"(?<=\d)\s?[x\u00d7]\s?(?={AMOUNT}\s?(?:{UNIT}|x|\u00d7)(?![\w]))|(?<=\d)x(?=\d)"),
        lambda m: " by ",
        figures=True,
    ),
)
