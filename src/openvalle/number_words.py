"""English number words: cardinals, ordinals and years.

Numbers are said in the short scale, with "and" before what is less than a hundred and "-" inside a pair: 1,205,017 is
"one million two hundred and five thousand and seventeen", 45th is "forty-fifth".
"""

from __future__ import annotations

import re

NAMED = 66  # figures; English has no settled names for longer numbers

# fmt: off
_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_THOUSANDS = ("", " thousand", *(  # the names of the powers of a thousand
    f" {name}illion" for name in (
        "m", "b", "tr", "quadr", "quint", "sext", "sept", "oct", "non", "dec", "undec", "duodec", "tredec",
        "quattuordec", "quindec", "sexdec", "septendec", "octodec", "novemdec", "vigint",
    )
))
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}
# fmt: on


def cardinal_words(number: int) -> str:
    """Return a whole number in words; at most `NAMED` figures (`ValueError`)."""
    size = abs(number)
    if size >= 10**NAMED:
        raise ValueError(f"a number of more than {NAMED} figures has no name")
    groups = [(size // 1000**power % 1000, power) for power in reversed(range(len(_THOUSANDS)))]
    parts = [_below_thousand(group) + _THOUSANDS[power] for group, power in groups if group]
    if len(parts) > 1 and 0 < size % 1000 < 100:
        parts[-1] = f"and {parts[-1]}"
    spoken = " ".join(parts) or _SMALL[0]
    return f"minus {spoken}" if number < 0 else spoken


def figure_words(figures: str) -> str:
    """Return figures read one by one; whatever else is in the text is left out."""
    return " ".join(_SMALL[int(figure)] for figure in figures if figure.isdecimal())


def _below_thousand(number: int) -> str:
    hundreds, rest = divmod(number, 100)
    tens, ones = divmod(rest, 10)
    small = _SMALL[rest] if rest < 20 else _TENS[tens] + (f"-{_SMALL[ones]}" if ones else "")
    if not hundreds:
        return small
    return f"{_SMALL[hundreds]} hundred" + (f" and {small}" if rest else "")


def ordinal_words(number: int) -> str:
    """Return any ordinal number in words (twenty-first)."""
    head, last = re.fullmatch(r"(.*?)([a-z]+)", cardinal_words(number)).groups()  # type: ignore[union-attr]
    if last.endswith("y"):
        return f"{head}{last[:-1]}ieth"
    return head + _ORDINALS.get(last, f"{last}th")


def year_words(number: int) -> str:
    """Return a year in words (1905: nineteen oh-five); 2005 and what has not three or four figures as a number."""
    century, rest = divmod(number, 100)
    if not 1 <= century < 100 or (century % 10 == 0 and rest < 10):
        return cardinal_words(number)
    spoken = "hundred" if not rest else f"oh-{_SMALL[rest]}" if rest < 10 else cardinal_words(rest)
    return f"{cardinal_words(century)} {spoken}"
