"""Rules that read dates and times of day. One rule reads all dates, so that no date is made of parts of another."""

from __future__ import annotations

import re

from openvalle.text.numbers import cardinal, ordinal, year
from openvalle.text.rules import Rule, regex

MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_SHORT = {name[:3]: name for name in MONTHS} | {"Sept": "September"}
_DAYS = {
    **dict.fromkeys(("Mon",), "Monday"), **dict.fromkeys(("Tue", "Tues"), "Tuesday"), "Wed": "Wednesday",
    **dict.fromkeys(("Thu", "Thur", "Thurs"), "Thursday"), "Fri": "Friday", "Sat": "Saturday", "Sun": "Sunday",
}  # fmt: skip
_MONTH = rf"(?:(?i:{'|'.join(MONTHS)})|(?:{'|'.join(sorted(_SHORT, key=len, reverse=True))})\b\.?)"
_DAY = r"(?:3[01]|[12]\d|0?[1-9])"
_ORDINAL = rf"{_DAY}(?:st|nd|rd|th)?"
_TO = r"\s?(?:-|to)\s?"
_AFTER = r"(?![\w:]|[.,/]\d|-\d)"
_TIME_OF_DAY = (
    r"(?:T(?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d)(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"
)
_DATE = regex(
    rf"""
    (?<![\w-]) (?P<iso>\d{{4}})(?P<sign>[-/])(?P<iso_month>\d{{1,2}})(?P=sign)(?P<iso_day>\d{{1,2}})
        {_TIME_OF_DAY} (?![\w/-])
    | (?<![\w/]) (?P<first>\d{{1,2}})/(?P<second_part>\d{{1,2}})/(?P<slashed>\d{{4}}|\d{{2}}) (?![\w/])
    | (?<![\w.,]) (?P<dotted_day>{_DAY})\.(?P<dotted_month>0?[1-9]|1[0-2])\.(?P<dotted>(?:19|20)\d\d) (?![\w]|\.\d)
    | \b (?P<from_month>{_MONTH}){_TO}(?P<to_month>{_MONTH}) (?P<months_year>,?\ \d{{4}}\b)? (?![\w]|\ \d)
    | \b (?P<named>{_MONTH})\ (?P<day>{_ORDINAL})(?:{_TO}(?P<last>{_ORDINAL}))? (?P<named_year>,?\ \d{{4}}\b)? {_AFTER}
    | \b (?P<the>the\ )?(?P<low>{_ORDINAL})(?:{_TO}(?P<high>{_ORDINAL}))?\ (?:of\ )?(?P<month>{_MONTH})
        (?P<year>,?\ \d{{4}}\b)? {_AFTER}
    | \b (?P<alone>{_MONTH}),?\ (?P<alone_year>(?:1\d|20)\d\d\b) (?![\w:]|[.,/]\d|-\d)
    """,
    re.VERBOSE,
)


def _month(name: str) -> str:
    bare = name.rstrip(".")
    return _SHORT.get(bare[:1].upper() + bare[1:], bare)


def _day(figures: str) -> str:
    return ordinal(int(re.sub(r"\D", "", figures)))


def _year(figures: str | None) -> str:
    return f", {year(int(figures[-4:]))}" if figures else ""


def _numbered(match: re.Match[str], spelled_year: str, month: str, day: str) -> str:
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return match[0]
    number = int(spelled_year)
    if len(spelled_year) == 2:
        number += 2000 if number < 70 else 1900  # POSIX: 69 is 2069, but a birth year is likelier from 70 on
    return f"{MONTHS[int(month) - 1]} {ordinal(int(day))}, {year(number)}"


def _date(match: re.Match[str]) -> str:
    """Read a date: month first in 3/15/2024 unless it cannot be; a full stop after the month is no end."""
    if match["iso"]:
        spoken = _numbered(match, match["iso"], match["iso_month"], match["iso_day"])
        if match["hour"]:
            spoken += f" {read_time(int(match['hour']), int(match['minute']))}"
            second = int(match["second"] or 0)
            spoken += f" and {cardinal(second)} second{'' if second == 1 else 's'}" if second else ""
        return spoken
    if match["slashed"]:
        first, second_part = match["first"], match["second_part"]
        return _numbered(match, match["slashed"], *((second_part, first) if int(first) > 12 else (first, second_part)))
    if match["dotted"]:
        return _numbered(match, match["dotted"], match["dotted_month"], match["dotted_day"])
    if match["from_month"]:
        if match["from_month"].islower() or match["to_month"].islower():
            return match[0]  # may march
        months = f"{_month(match['from_month'])} to {_month(match['to_month'])}"
        return months + _year(match["months_year"]).replace(",", "")
    if match["alone"]:
        return f"{_month(match['alone'])} {year(int(match['alone_year']))}"
    name = match["named"] or match["month"]
    spelled_year = match["named_year"] or match["year"]
    if name in ("may", "march") and not spelled_year:
        return match[0]  # page 5 may be read
    if match["named"]:
        last = f" to {_day(match['last'])}" if match["last"] else ""
        return f"{_month(name)} {_day(match['day'])}{last}{_year(spelled_year)}"
    the = match["the"] or "the "
    last = f" to the {_day(match['high'])}" if match["high"] else ""
    return f"{the}{_day(match['low'])}{last} of {_month(name)}{_year(spelled_year)}"


def read_time(hour: int, minute: int, is_half: bool = False) -> str:
    """Return a time of day; `is_half`: A-M or P-M follows."""
    if minute:
        return f"{cardinal(hour)} {'oh ' if minute < 10 else ''}{cardinal(minute)}"
    if is_half:
        return cardinal(hour)
    return f"{cardinal(hour)} o'clock" if 0 < hour <= 12 else f"{cardinal(hour)} hundred"


_HALF = r"(?:\s?(?P<{0}>[AaPp])\.?[Mm]\b(?P<{0}_dot>\.?))"
_CLOCK = r"(?P<{0}hour>[01]?\d|2[0-4]):(?P<{0}minute>[0-5]\d)"
_TIME = regex(
    rf"(?<![\w:.]){_CLOCK.format('low_')}{_HALF.format('low_half')}?{_TO}{_CLOCK.format('high_')}"
    rf"{_HALF.format('high_half')}?(?![\w:])"
    rf"|(?<![\w:.]){_CLOCK.format('')}(?::(?P<second>[0-5]\d))?{_HALF.format('half')}?(?![\w:])"
)
_HOUR = r"1[0-2]|0?[1-9]"
_PLAIN = regex(
    rf"(?<![\w:.,])(?:(?P<low>{_HOUR})(?:[:.](?P<low_minute>[0-5]\d))?{_HALF.format('low_half')}?{_TO})?"
    rf"(?P<hour>{_HOUR})(?:[:.](?P<minute>[0-5]\d))?{_HALF.format('half')}"
)
_MILITARY = regex(r"(?<![\w:.,])(?P<hour>[01]\d|2[0-4])(?P<minute>[0-5]\d)\s?(?P<unit>hours|hrs?|h)\b\.?")
_LASTING = regex(
    r"(?<![\w:.,])(\d{1,3})\s?h(?:rs?)?\s?(\d{1,2})\s?m(?:ins?)?(?:\s?(\d{1,2})\s?s(?:ecs?)?)?\b|(?<![\w:.,])("
    r"\d{1,3})m\s?(\d{1,2})s\b"
)


def _half(match: re.Match[str], name: str = "half") -> str:
    # the full stop of "p.m." also ends the sentence if a capital or nothing follows
    from openvalle.text.abbreviations import ends_sentence

    if not match[name]:
        return ""
    stop = "." if match[f"{name}_dot"] and ends_sentence(match.string, match.end(), True) else ""
    return f" {match[name].upper()}-M{stop}"


def _time(match: re.Match[str]) -> str:
    if match["low_hour"]:
        low = read_time(int(match["low_hour"]), int(match["low_minute"]), bool(match["low_half"] or match["high_half"]))
        high = read_time(int(match["high_hour"]), int(match["high_minute"]), bool(match["high_half"]))
        return f"{low}{_half(match, 'low_half')} to {high}{_half(match, 'high_half')}"
    hour, minute = int(match["hour"]), int(match["minute"])
    if match["second"]:
        pairs = ((hour, "hour"), (minute, "minute"), (int(match["second"]), "second"))
        return " ".join(f"{cardinal(n)} {unit}{'' if n == 1 else 's'}" for n, unit in pairs)
    return read_time(hour, minute, bool(match["half"])) + _half(match)


def _plain_time(match: re.Match[str]) -> str:
    low = ""
    if match["low"]:
        low = read_time(int(match["low"]), int(match["low_minute"] or 0), True) + _half(match, "low_half") + " to "
    return low + read_time(int(match["hour"]), int(match["minute"] or 0), True) + _half(match)


def _military(match: re.Match[str]) -> str:
    hour, minute = int(match["hour"]), int(match["minute"])
    oh = "zero " if hour < 10 else ""
    spoken = "hundred" if not minute else f"oh {cardinal(minute)}" if minute < 10 else cardinal(minute)
    stop = "." if match[0].endswith(".") and match.end() == len(match.string) else ""
    return f"{oh}{cardinal(hour)} {spoken} hours{stop}"


def _lasting(match: re.Match[str]) -> str:
    hours, minutes, seconds = (match[1], match[2], match[3]) if match[1] else (None, match[4], match[5])
    pairs = ((hours, "hour"), (minutes, "minute"), (seconds, "second"))
    return " ".join(f"{cardinal(int(n))} {unit}{'' if int(n) == 1 else 's'}" for n, unit in pairs if n)


# fmt: off
_BIBLE = (
    "Genesis|Exodus|Leviticus|Numbers|Deuteronomy|Joshua|Judges|Ruth|Samuel|Kings|Chronicles|Ezra|Nehemiah|Esther|Job|"
    "Psalms?|Proverbs|Ecclesiastes|Isaiah|Jeremiah|Lamentations|Ezekiel|Daniel|Hosea|Joel|Amos|Jonah|Micah|Habakkuk|"
    "Zechariah|Malachi|Matthew|Mark|Luke|John|Acts|Romans|Corinthians|Galatians|Ephesians|Philippians|Colossians|"
    "Thessalonians|Timothy|Titus|Hebrews|James|Peter|Jude|Revelation|Surah?|Quran"
)
# fmt: on


def _verse(match: re.Match[str]) -> str:
    last = f" to {cardinal(int(match['last']))}" if match["last"] else ""
    return f"{match['book']} {cardinal(int(match['chapter']))} {cardinal(int(match['verse']))}{last}"


def _ratio(match: re.Match[str]) -> str:
    parts = [part.replace(",", "") for part in match["ratio"].split(":")]
    if not match["cue"] and len(parts) == 2 and len(parts[1]) == 2 and int(parts[0]) < 25 and int(parts[1]) < 60:
        return match[0]  # a time of day
    if not match["cue"] and re.fullmatch(r"\d{1,2}(?::[0-5]\d){2}", match["ratio"]):
        return match[0]  # hours, minutes, seconds
    return (match["cue"] or "") + " to ".join(cardinal(int(part)) for part in parts)


def _weekday(match: re.Match[str]) -> str:
    from openvalle.text.abbreviations import ends_sentence

    first = _DAYS.get(match["first"], match["first"])
    if not match["last"]:
        return first
    stop = "." if match[0].endswith(".") and ends_sentence(match.string, match.end(), True) else ""
    return f"{first} to {_DAYS[match['last']]}{stop}"


def _to(match: re.Match[str]) -> str:
    """Read the dash between two dates, "June 3-July 5", and leave others."""
    return " to " if _BEFORE_TO.search(match.string[max(0, match.start() - 20) : match.start()]) else match[0]


_BEFORE_TO = regex(rf"(?:{_MONTH} {_ORDINAL}|{_ORDINAL} {_MONTH})(?:,? \d{{4}})?\Z")
_WEEKDAY = "|".join(sorted(_DAYS, key=len, reverse=True))
_FULL = "|".join(dict.fromkeys(_DAYS.values()))
RULES = (
    Rule(
        "day of the week",
        regex(rf"\b(?P<first>{_WEEKDAY}|{_FULL})\b\.?{_TO}(?P<last>{_WEEKDAY})\b\.?"),
        _weekday,
    ),
    Rule(
        "day of the week",
        regex(
            rf"\b(?P<first>{_WEEKDAY})\b(?P<last>)(?=\.?,? (?:{_MONTH} \d|(?:the )?\d{{1,2}}(?:st|nd|rd|th)?,? "
            rf"(?:of )?{_MONTH}|\d{{1,2}}:\d\d|"
            rf"\d{{1,2}}/\d))\.?"
        ),
        _weekday,
        figures=True,
    ),
    Rule(
        "range of dates",
        regex(rf"(?<=\d|[a-z])(?:\s?-\s?|\s{{2}}-\s{{2}})(?=(?:{_MONTH}) {_DAY}\b|{_ORDINAL} {_MONTH})"),
        _to,
    ),
    Rule("date", _DATE, _date),
    Rule(
        "month",
        regex(
            r"(?i:\b(?P<cue>in|by|of|to|since|until|early|late|last|next|this|every|after|from|mid)) "
            r"(?P<short>Feb|Apr|Aug|Sept?|Oct|Nov|Dec)\b(?![.'-])"
        ),
        lambda match: f"{match['cue']} {_SHORT[match['short']]}",
    ),
    Rule(
        "chapter and verse",
        regex(
            rf"\b(?P<book>{_BIBLE}) (?P<chapter>\d{{1,3}}):(?P<verse>\d{{1,3}})(?:-(?P<last>\d{{1,3}}))?(?!"
            rf"[\w:]|\s?[ap]\.?m)"
        ),
        _verse,
        figures=True,
    ),
    Rule(
        "ratio",
        regex(
            r"(?P<cue>\b(?:ratio|scale|odds|score|lead|win|victory|split)(?: of| is| was)? )?(?<![\w:.,])(?P<ra"
            r"tio>\d{1,3}(?::\d{1,3}(?:,\d{3})*(?!\d))+|\d{1,3}:\d{4,7})(?![\w:]|[.,]\d|\s?[AaPp]\.?[Mm]\b|-\d)"
        ),
        _ratio,
        figures=True,
    ),
    Rule("time of day", _TIME, _time, figures=True),
    Rule("time of day", _PLAIN, _plain_time, figures=True),
    Rule(
        "time of day",
        regex(r"(?<![\w:.,])(?P<hour>[01]?\d|2[0-3])h(?P<minute>[0-5]\d)(?![\w:])"),
        lambda match: read_time(int(match["hour"]), int(match["minute"])),
        figures=True,
    ),
    Rule("time of day", _MILITARY, _military, figures=True),
    Rule("time that something takes", _LASTING, _lasting, figures=True),
)
