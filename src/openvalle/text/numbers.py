"""Rules that read figures aloud: numbers as people write them, ordinals, fractions, numerals, years, codes."""

from __future__ import annotations

import re
from functools import lru_cache

from openvalle.number_words import cardinal_words, ordinal_words
from openvalle.number_words import figure_words as digits
from openvalle.number_words import year_words as year
from openvalle.text.rules import Rule, regex

LONGEST = 15  # figures; a longer number is read figure by figure
AMOUNT = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
SCALES = {"k": "thousand", "m": "million", "mn": "million", "bn": "billion", "b": "billion", "tn": "trillion"}
SCALE = "hundred|thousand|million|billion|trillion"
_FRACTIONS = {2: ("half", "halves"), 4: ("quarter", "quarters")}
# fmt: off
PARTS = (  # of books and plays, and other things that are counted: what follows is a number without its zeros
    "Chapter|Part|Book|Act|Scene|Volume|Section|Phase|Type|Stage|Class|Appendix|Article|Title|"
    "Level|Grade|Figure|Table|Canto|Psalm|Season|Episode|Annex|Division|Lesson|Unit|Module|Track|"
    "Step|Page|Exercise|Question|Verse|Schedule|Mark|Week|World War|Super Bowl|Category|Tier|"
    "Round|Version|Disc|Side|Plate|Letter|Sonnet"
)
_CODES = (  # words after which figures are said one by one
    r"(?:zip|postal|post|pin|area|access|security|sort|dialling|dialing|country|pass|verification|confirmation|"
    r"door|gate|entry|error|status|key|discount|promo|flight)?[ -]?codes?|zip|PIN|postcode|passcode|password|"
    r"extension|ext\.?|"
    r"(?:serial|account|phone|telephone|fax|card|routing|tracking|policy|reference|licen[sc]e|passport) "
    r"(?:number|no\.?)|phone|telephone|tel\.?|mobile|fax|ISBN|IMEI|OTP"
)
_STATES = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND|OH|OK|OR|PA|"
    "RI|SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY|DC"
)
# fmt: on


@lru_cache(maxsize=4096)
def cardinal(number: int) -> str:
    """Return a whole number in words, one of more than `LONGEST` figures figure by figure."""
    if abs(number) >= 10**LONGEST:
        return ("minus " if number < 0 else "") + digits(str(abs(number)))
    return cardinal_words(number)


def ordinal(number: int) -> str:
    """Return an ordinal number in words; one of more than `LONGEST` figures as a cardinal."""
    return ordinal_words(number) if number < 10**LONGEST else cardinal(number)


def amount(figures: str) -> str:
    """Return a number such as 1,234.50 or 007 in words."""
    whole, point, rest = figures.replace(",", "").partition(".")
    spoken = (
        digits(whole) if len(whole) > LONGEST or (whole[:1] == "0" and len(whole) > 1) else cardinal(int(whole or "0"))
    )
    return f"{spoken} point {digits(rest)}" if point and rest else spoken


def read_range(low: str, high: str) -> str:
    """Return the two numbers with "to" between them."""
    return f"{amount(low)} to {amount(high)}"


def _decimal_comma(match: re.Match[str]) -> str:
    return match["whole"].replace(".", "").replace(" ", "") + "." + match["part"]


FORMATS = (  # other ways to write a number become 1,234,567.89
    Rule("about", regex(r"(?<![\w~])~ ?(?=[$£€]?\d)"), lambda m: "about ", figures=True),
    Rule(
        "groups of figures as in India",
        regex(r"(?<![\w.,])\d{1,2}(?:,\d\d){1,4},\d{3}(?![\w]|,\d)"),
        lambda match: f"{int(match[0].replace(',', '')):,}",
        figures=True,
    ),
    Rule(
        "groups of three figures",
        regex(
            r"(?<![\w.,'])\d{1,3}(?:(?:[ \u00a0\u2009\u202f]\d{3}){2,5}|(?:[\u00a0\u2009\u202f]\d{3}){1,5}| 000"
            r")(?![\w]|[.,' ]\d)"
        ),
        lambda match: ",".join(match[0].split()) if match[0][0] != "0" else match[0],
        figures=True,
    ),
    Rule(
        "groups of three figures",
        regex(r"(?<![\w.,'])[1-9]\d{0,2}(?:['\u2019]\d{3}){1,5}(?![\w]|['\u2019.,]\d)"),
        lambda match: re.sub("['\u2019]", ",", match[0]),
        figures=True,
    ),
    Rule(
        "groups of three figures",
        regex(r"(?<![\w.,'])(?!(?:\d{1,3}\.){3}\d{1,3}(?![\d.]))[1-9]\d{0,2}(?:\.\d{3}){2,5}(?![\w]|[.,]\d)"),
        lambda match: match[0].replace(".", ","),
        figures=True,
    ),
    Rule(
        "decimal comma",
        regex(
            r"(?<![\w.,])(?P<whole>\d{1,3}(?:[. ]\d{3}){1,5}|\d+),(?P<part>\d{1,2})(?=\s?(?:[€£$%]|(?:EUR|CHF|k"
            r"r|zł|PLN|Euros?|"
            r"euros?|percent|per cent|million|billion|[kcm]?m|[kmc]?g|[mcd]?l|[kM]?W|°)\b))"
        ),
        _decimal_comma,
        figures=True,
    ),
    Rule(
        "decimal comma",
        regex(r"(?<=€)(?P<blank>\s?)(?P<whole>\d{1,3}(?:\.\d{3}){1,5}|\d+),(?P<part>\d{1,2})(?![\d,])"),
        lambda match: match["blank"] + _decimal_comma(match),
        figures=True,
    ),
)


def _telephone(match: re.Match[str]) -> str:
    plus = "plus " if match[0].startswith("+") else ""
    return plus + ", ".join(digits(group) for group in re.findall(r"\d+", match[0]))


def _code(match: re.Match[str]) -> str:
    return f"{match['cue']} {', '.join(digits(group) for group in re.findall(r'[0-9]+', match['figures']))}"


_LOCAL = r"(?:\+\d{1,3}[ .-]?|1[-. ])?(?:\(\d{2,4}\) ?|\d{3}[-. ])?\d{3}[-.]\d{4}(?![\w-]|[.,/]\d)"
_INTERNATIONAL = r"\+\d[\d -]{6,14}\d(?![\w-])"
_NATIONAL = r"0\d{2,4}(?:[ -]\d{3,4}){1,3}(?![\w-]|[.,/]\d)"
SINGLY = (
    Rule(
        "figures said singly",
        regex(r"\b(?P<cue>(?:ISBN(?:-1[03])?|ISSN|SSN)(?: is|:)?) (?P<figures>\d[\d -]{5,15}[\dX])(?![\w-])"),
        lambda match: _code(match) + (", X" if match["figures"].endswith("X") else ""),
        figures=True,
    ),
    Rule(
        "telephone number",
        regex(rf"(?<![\w.,/-])(?:{_LOCAL}|{_INTERNATIONAL}|{_NATIONAL})"),
        _telephone,
        figures=True,
    ),
    Rule(
        "figures said singly",
        regex(
            rf"(?i)\b(?P<cue>(?:{_CODES})(?: ?:| is| was|,)?) (?P<figures>\d{{3,}}(?:[ -]\d{{2,}})*)(?![\w%]|"
            rf"[.,:/]\d|-\d)"
        ),
        _code,
        figures=True,
    ),
    Rule(
        "figures said singly",
        regex(
            r"(?i)\b(?P<cue>call|dial|ring|phone|dialed|dialled|called|text|calling|dialing) "
            r"(?P<figures>(?:999|988|112|1[01][0189]|[2-9]11)(?! (?:people|of|men|[a-z]+s\b))|\d{3,5}(?:[ -]\d{"
            r"3,4})+|\d{5,})"
            r"(?![\w%]|[.,:/]\d)"
        ),
        _code,
        figures=True,
    ),
    Rule(
        "figures said singly",
        regex(r"(?i)\b(?P<cue>flights? (?:number |no\. )?[A-Z]{1,3} ?)(?P<figures>\d{3,4})(?![\w%]|[.,:/]\d|-\d)"),
        _code,
        figures=True,
    ),
    Rule(
        "figures said singly",
        regex(rf"\b(?P<cue>{_STATES}) (?P<figures>\d{{5}}(?:-\d{{4}})?)(?![\w-]|[.,]\d)"),
        _code,
        figures=True,
    ),
)


def _fraction(match: re.Match[str]) -> str:
    whole, top, bottom = match["whole"], int(match["top"]), int(match["bottom"])
    if (top, bottom) in ((24, 7), (9, 11), (50, 50), (20, 20)) and not whole:
        return f"{cardinal(top)} {cardinal(bottom)}"
    if not match["ending"] and (bottom < 2 or 20 < bottom != 100 or top >= bottom or top == 0):
        spoken = f"{cardinal(top)} over {cardinal(bottom)}"
        return f"{amount(whole)} {spoken}" if whole else spoken
    one, many = _FRACTIONS.get(bottom, (ordinal(bottom), f"{ordinal(bottom)}s"))
    if bottom == 100:
        one, many = "hundredth", "hundredths"
    if whole:
        return f"{amount(whole)} and {'a' if top == 1 else cardinal(top)} {one if top == 1 else many}"
    return f"{cardinal(top)} {one if top == 1 else many}"


def _ordinal(match: re.Match[str]) -> str:
    figures = match[1].replace(",", "")
    return digits(figures) if len(figures) > LONGEST else ordinal(int(figures))


def _years(match: re.Match[str]) -> str:
    first, last = int(match["first"]), match["last"]
    spoken = year(first)
    return (
        f"{spoken} to {cardinal(int(last)) if len(last) == 2 and last[0] != '0' else year(int(last))}"
        if last
        else spoken
    )


def _eleventh_century(number: int) -> str:
    return f"ten {'oh-' if number < 1010 else ''}{cardinal(number - 1000)}"


def _read_lines(figures: str) -> str:
    return f"{cardinal(int(figures[:-2]))} {cardinal(int(figures[-2:]))}"


def _decade(match: re.Match[str]) -> str:
    number = int(match[1])
    if number < 10:
        return match[0]
    spoken = year(number) if number > 100 else cardinal(number)
    return re.sub("y$", "ies", spoken) if spoken.endswith("y") else f"{spoken}s"


_YEAR = r"(?:1[1-9]|20)\d\d"
_YEAR_WORD = r"(?i:in|since|until|till|by|before|after|year|circa|anno|AD|about the year)"
_SCALED = {"bn": "billion", "mn": "million", "tn": "trillion", "k": "thousand", "m": "million"}
_COUNTED = (
    "people|users|customers|views|jobs|followers|subscribers|years|homes|children|copies|downloads|members|workers"
)

BEFORE_MEASURES = (
    Rule("range", regex(r"(?<=\d0s)\s?-\s?(?='?\d0s\b)"), lambda m: " to ", figures=True),
    Rule("range", regex(r"\b([A-Z])(\d{1,3})-(?=\1\d{1,3}\b)"), lambda m: f"{m[1]}{m[2]} to ", figures=True),
    Rule(
        "times",
        regex(rf"(?<![\w.,])(?:({AMOUNT})-)?({AMOUNT})x(?=\s[a-z]|[,.;)]|\s?$)"),
        lambda m: f"{amount(m[1]) + ' to ' if m[1] else ''}{amount(m[2])} times",
        figures=True,
    ),
    Rule(
        "out of",
        regex(r"(?<![\w.,/])(\d{1,2}(?:\.\d)?)/(5|10|100)(?= (?:stars?|points)\b)"),
        lambda m: f"{amount(m[1])} out of {amount(m[2])}",
        figures=True,
    ),
    Rule("decade", regex(r"(?<![\w.,])'?((?:1[1-9]|20)?\d0)'?s\b"), _decade, figures=True),
    Rule(
        "scale",
        regex(rf"(?<![\w.,])(?:({AMOUNT})-)?({AMOUNT}) ?(?:(bn|mn|tn)|(k)(?! (?:run|race))|(m)(?= (?:{_COUNTED})))\b"),
        lambda m: f"{amount(m[1]) + ' to ' if m[1] else ''}{amount(m[2])} {_SCALED[m[3] or m[4] or m[5]]}",
        figures=True,
    ),
)
RULES = (
    Rule(
        "zeros before a number",
        regex(rf"\b(?P<name>{PARTS}|{PARTS.upper()}|{PARTS.lower()}) 0+(?=[1-9])"),
        lambda match: f"{match['name']} ",
        figures=True,
    ),
    Rule(
        "fraction",
        regex(
            r"(?<![\w.,/-])(?:(?P<whole>\d+) )?(?P<top>\d{1,3})/(?P<bottom>\d{1,3})(?P<ending>(?:st|nd|rd|th)s?"
            r")?(?![\w/]|[.,]\d)"
        ),
        _fraction,
        figures=True,
    ),
    Rule("ordinal number", regex(r"(?<![\w.,])(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th)\b"), _ordinal, figures=True),
    Rule(
        "year",
        regex(rf"(?<![\w.,/:-])(?P<first>{_YEAR})(?:[-/](?P<last>{_YEAR}|\d\d))?(?![\w/:-]|[.,]\d)"),
        _years,
        figures=True,
    ),
    Rule(
        "year",
        regex(
            rf"\b(?P<cue>{_YEAR_WORD} )(?P<first>10(?!00)\d\d)(?=[,;.)\]]|\s?$|\s(?:the|he|she|it|they|we|when|and|to|"
            r"by|at|but|a|an|his|her|their|[A-Z]))(?![.,]\d)"
        ),
        lambda match: f"{match['cue']}{_eleventh_century(int(match['first']))}",
        figures=True,
    ),
    Rule(
        "year",
        regex(rf"(?<=\b[FC]Y)(?P<first>{_YEAR})(?P<last>)(?!\w|[.,]\d)"),
        lambda match: f" {_years(match)}",
        figures=True,
    ),
    Rule(
        "lines of a picture",
        regex(r"(?<![\w.,])(240|360|480|540|720|1080|1440|2160)([pi])\b"),
        lambda m: f"{_read_lines(m[1])} {m[2].upper()}",  # 1080: ten eighty
        figures=True,
    ),
    Rule(
        "year",
        regex(rf"(?<=[A-Za-z]-)(?P<first>{_YEAR})(?P<last>)(?![\w/:-]|[.,]\d)"),
        _years,
        figures=True,
    ),
    Rule(
        "number of a section",
        regex(r"(?<=\b[A-Z])\.(\d+(?:\.\d+)*)"),
        lambda match: "".join(f" point {amount(part)}" for part in match[1].split(".")),
        figures=True,
    ),
    Rule(
        "power of ten",
        regex(rf"(?<![\w.,])({AMOUNT})[eE]([+-]?)(\d{{1,3}})\b"),
        lambda m: f"{amount(m[1])} e {'minus ' if m[2] == '-' else ''}{amount(m[3])}",
        figures=True,
    ),
    Rule(
        "number of a table",
        regex(r"\b((?:[Tt]able|[Ff]igure|[Ee]xercise|[Ff]orm) \d{1,3})-(?=\d{1,3}(?![\w-]|[.,]\d))"),
        lambda m: f"{m[1]} dash ",
        figures=True,
    ),
    Rule(
        "range",
        regex(rf"(?<![\w.,-])({AMOUNT})-({AMOUNT})(?![\w-]|[.,]\d)"),
        lambda m: read_range(m[1], m[2]),
        figures=True,
    ),
    Rule("minus", regex(rf"(?:(?<=^)|(?<=[\s(=<>]))[-](?={AMOUNT})"), lambda m: "minus ", figures=True),
    Rule("number after a letter", regex(r"(?<=[A-Za-z])-(?=\d)"), lambda m: " ", figures=True),
    Rule("minus", regex(r"(?<=\d) - (?=\d)"), lambda m: " minus ", figures=True),
    Rule("number sign", regex(r"# ?(?=\d)"), lambda m: "number ", figures=True),
    Rule("sharp", regex(r"(?<=\b[CF])#(?!\w)"), lambda m: " sharp"),
    Rule("hashtag", regex(r"(?<![\w&])#(?=[A-Za-z]\w)"), lambda m: "hashtag "),
    Rule("number beside a letter", regex(r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])"), lambda m: " ", figures=True),
    Rule(
        "address of a machine",
        regex(r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w]|\.\d)"),
        lambda m: " dot ".join(digits(part) for part in m[0].split(".")),
        figures=True,
    ),
    Rule(
        "figures with points",
        regex(r"(?<!\d)\d+(?:\.\d+){2,}"),
        lambda m: " point ".join(amount(part) for part in m[0].split(".")),
        figures=True,
    ),
    Rule("number", regex(AMOUNT), lambda m: amount(m[0]), figures=True),
)
