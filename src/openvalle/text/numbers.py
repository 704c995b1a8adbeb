"""Rules that read figures aloud in English: numbers, money, dates, times, units, telephone numbers.

Each rule is a function from text to text; `openvalle.text.normalize` applies them in order.
"""

from __future__ import annotations

import re
from functools import lru_cache

from openvalle.number_words import cardinal_words, ordinal_words
from openvalle.number_words import figure_words as digits
from openvalle.number_words import year_words as year

LONGEST = 15  # figures; a longer number is read figure by figure
CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "US$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"),
    "₽": ("rouble", "roubles", "kopeck", "kopecks"),
    "₩": ("won", "won", "jeon", "jeon"),
    "¢": ("cent", "cents", "cent", "cents"),
}
_CODES = {"USD": "$", "GBP": "£", "EUR": "€", "JPY": "¥", "INR": "₹"}
_SCALES = {"k": "thousand", "m": "million", "mn": "million", "bn": "billion", "b": "billion", "tn": "trillion"}
_SCALE = r"hundred|thousand|million|billion|trillion"
_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
_MONTH = r"(?P<month>(?:jan|febr)uary|march|april|may|june|july|august|(?:septem|octo|novem|decem)ber)"
_AMOUNT = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+"
# fmt: off
_UNITS = {
    "km": "kilometer", "cm": "centimeter", "mm": "millimeter", "nm": "nanometer", "µm": "micrometer",
    "m": "meter", "mi": "mile", "ft": "foot", "yd": "yard", "kg": "kilogram", "mg": "milligram", "g": "gram",
    "lb": "pound", "lbs": "pound", "oz": "ounce", "ml": "milliliter", "mL": "milliliter", "l": "liter",
    "L": "liter", "gal": "gallon", "s": "second", "sec": "second", "ms": "millisecond", "min": "minute",
    "h": "hour", "hr": "hour", "hrs": "hour", "kb": "kilobyte", "KB": "kilobyte", "kB": "kilobyte",
    "MB": "megabyte", "GB": "gigabyte", "TB": "terabyte", "Mbps": "megabit per second", "W": "watt",
    "Gbps": "gigabit per second", "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz", "GHz": "gigahertz",
    "kW": "kilowatt", "MW": "megawatt", "kWh": "kilowatt-hour", "V": "volt", "kV": "kilovolt", "mA": "milliamp",
    "dB": "decibel", "mph": "mile per hour", "kph": "kilometer per hour", "km/h": "kilometer per hour",
    "m/s": "meter per second", "°C": "degree Celsius", "°F": "degree Fahrenheit", "°": "degree",
    "ha": "hectare", "hp": "horsepower", "psi": "pound per square inch", "rpm": "revolution per minute",
}
# fmt: on
_UNIT = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
_FOLLOWING = re.compile(r"\s*(\S)")
_UNCHANGED = frozenset({"hertz", "kilohertz", "megahertz", "gigahertz", "horsepower"})
_FRACTIONS = {2: ("half", "halves"), 4: ("quarter", "quarters")}
_ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50}


@lru_cache(maxsize=4096)
def cardinal(number: int) -> str:
    """Return a whole number in words, one of more than `LONGEST` figures figure by figure."""
    if abs(number) >= 10**LONGEST:
        return ("minus " if number < 0 else "") + digits(str(abs(number)))
    return cardinal_words(number)


def ordinal(number: int) -> str:
    """Return an ordinal number in words; one of more than `LONGEST` figures as a cardinal."""
    return ordinal_words(number) if number < 10**LONGEST else cardinal(number)


def is_over(text: str, end: int) -> bool:
    """Whether nothing but space follows in the text."""
    return _FOLLOWING.match(text, end) is None


def amount(figures: str) -> str:
    """Return a number such as 1,234.50 or 007 in words."""
    whole, point, rest = figures.replace(",", "").partition(".")
    spoken = (
        digits(whole) if len(whole) > LONGEST or (whole[:1] == "0" and len(whole) > 1) else cardinal(int(whole or "0"))
    )
    return f"{spoken} point {digits(rest)}" if point and rest else spoken


def telephone(text: str) -> str:
    """Read telephone numbers and like groups of figures one figure at a time, with a pause between groups."""
    local = r"(?:\+\d{1,3}[ .-]?)?(?:\(\d{2,4}\) ?|\d{3}[-. ])?\d{3}[-.]\d{4}(?![\w-]|[.,/]\d)"
    international = r"\+\d[\d -]{6,14}\d(?![\w-])"
    return re.sub(rf"(?<![\w.,/-])(?:{local}|{international})", _telephone, text)


def _telephone(match: re.Match[str]) -> str:
    plus = "plus " if match[0].startswith("+") else ""
    return plus + ", ".join(digits(group) for group in re.findall(r"\d+", match[0]))


def money(text: str) -> str:
    """Read amounts of money, with the sign before or the code after the number."""
    signs = "|".join(map(re.escape, sorted(CURRENCIES, key=len, reverse=True)))
    scale = rf"(?: ?(?P<scale>{_SCALE})\b|(?P<short>bn|tn|mn|[kKmMbB])\b)?"
    text = re.sub(rf"(?P<minus>[-−]?)(?P<sign>{signs}) ?(?P<amount>{_AMOUNT}){scale}", _money, text)  # noqa: RUF001
    return re.sub(
        rf"(?<![\w.,])(?P<minus>-?)(?P<amount>{_AMOUNT}){scale} ?(?P<sign>[¢€£]|(?:{'|'.join(_CODES)})\b)", _money, text
    )


def _money(match: re.Match[str]) -> str:
    sign = _CODES.get(match["sign"], match["sign"])
    one, many, small_one, small_many = CURRENCIES[sign]
    minus = "minus " if match["minus"] else ""
    scale = match["scale"] or _SCALES.get((match["short"] or "").lower())
    if scale:
        return f"{minus}{amount(match['amount'])} {scale} {many}"
    whole, point, rest = match["amount"].replace(",", "").partition(".")
    if point and len(rest) != 2:
        return f"{minus}{amount(match['amount'])} {many}"
    major, minor = int(whole or "0"), int(rest or "0")
    parts = [f"{amount(whole)} {one if major == 1 else many}"] if major or not minor else []
    parts += [f"{cardinal(minor)} {small_one if minor == 1 else small_many}"] if minor else []
    return minus + " and ".join(parts)


def dates(text: str) -> str:
    """Read decades (the 1990s), ISO dates, 3/15/2024 (month first unless it cannot be), and days beside month names."""
    text = re.sub(r"(?<![\w.,])'?((?:1[1-9]|20)?\d0)'?s\b", _decade, text)
    text = re.sub(r"(?<![\w-])(\d{4})-(\d{1,2})-(\d{1,2})(?![\w-])", lambda m: _date(m, m[1], m[2], m[3]), text)
    text = re.sub(r"(?<![\w/])(\d{1,2})/(\d{1,2})/(\d{4}|\d{2})(?![\w/])", _read_slashed, text)
    day = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)?"
    after = r"(?P<year>,? \d{4})?(?![\w:]|[.,/]\d)"
    text = re.sub(rf"\b{_MONTH} {day}{after}", lambda m: _read_named_date(m, "{month} {day}"), text, flags=re.I)
    return re.sub(
        rf"\b(?P<the>the )?{day} (?:of )?{_MONTH}{after}",
        lambda m: _read_named_date(m, (m["the"] or "the ") + "{day} of {month}"),
        text,
        flags=re.I,
    )


def _read_slashed(match: re.Match[str]) -> str:
    first, second, spelled = match.groups()
    if int(first) > 12:
        first, second = second, first
    return _date(match, spelled, first, second)


def _date(match: re.Match[str], spelled_year: str, month: str, day: str) -> str:
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return match[0]
    number = int(spelled_year)
    if len(spelled_year) == 2:
        number += 2000 if number < 70 else 1900  # POSIX: 69 is 2069, but a birth year is likelier from 70 on
    return f"{_MONTHS[int(month) - 1].capitalize()} {ordinal(int(day))}, {year(number)}"


def _read_named_date(match: re.Match[str], form: str) -> str:
    is_verb = match["month"] in ("may", "march") and not match["year"]  # page 5 may be read
    if is_verb or not 1 <= int(match["day"]) <= 31:
        return match[0]
    spoken = form.format(month=match["month"], day=ordinal(int(match["day"])))
    return spoken + (f", {year(int(match['year'][-4:]))}" if match["year"] else "")


def times(text: str) -> str:
    """Read 3:45 pm, 15:30, 1:02:03 and 9 a.m."""
    half = r"(?: ?(?P<half>[AaPp])\.?[Mm]\b(?P<dot>\.?))?"
    text = re.sub(
        rf"(?<![\w:.])(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?{half}(?![\w:])", _time, text
    )
    return re.sub(
        r"(?<![\w:.,])(?P<hour>1[0-2]|0?[1-9]) ?(?P<half>[AaPp])\.?[Mm]\b(?P<dot>\.?)",
        lambda match: f"{cardinal(int(match['hour']))} {_half(match)}",
        text,
    )


def _half(match: re.Match[str]) -> str:
    # the full stop of "p.m." also ends the sentence if a capital or nothing follows
    following = _FOLLOWING.match(match.string, match.end())
    stop = "." if match["dot"] and (following is None or following[1].isupper()) else ""
    return f"{match['half'].upper()}-M{stop}"


def _time(match: re.Match[str]) -> str:
    hour, minute = int(match["hour"]), int(match["minute"])
    if match["second"]:
        pairs = ((hour, "hour"), (minute, "minute"), (int(match["second"]), "second"))
        return " ".join(f"{cardinal(n)} {unit}{'' if n == 1 else 's'}" for n, unit in pairs)
    if minute:
        spoken = f"{cardinal(hour)} {'oh ' if minute < 10 else ''}{cardinal(minute)}"
    else:
        spoken = (
            cardinal(hour)
            if match["half"]
            else f"{cardinal(hour)} o'clock"
            if 0 < hour <= 12
            else f"{cardinal(hour)} hundred"
        )
    return f"{spoken} {_half(match)}" if match["half"] else spoken


def units(text: str) -> str:
    """Read measures: 5 km, 20°C, 60 mph, 3 m², 5'10\"."""
    text = re.sub(
        r"(?<![\w.,'])(\d{1,2})' ?(1[01]|\d)\"",
        lambda m: f"{_count_units(m[1], 'foot')} {_count_units(m[2], 'inch')}",
        text,
    )
    pattern = rf"(?<![\w.,])(?P<minus>-?)(?P<amount>{_AMOUNT})(?: ?|-)(?P<unit>{_UNIT})(?P<power>[²³]?)(?![\w'/]|\.\d)"
    return re.sub(pattern, _unit, text)


def _unit(match: re.Match[str]) -> str:
    power = {"²": "square ", "³": "cubic "}.get(match["power"], "")
    spoken = _count_units(match["amount"], _UNITS[match["unit"]], power)
    return f"minus {spoken}" if match["minus"] else spoken


def _count_units(figures: str, unit: str, power: str = "") -> str:
    head, _, rest = unit.partition(" ")
    if figures != "1" and head not in _UNCHANGED:
        head = {"foot": "feet", "inch": "inches"}.get(head, f"{head}s")
    return f"{amount(figures)} {power}{head}{' ' + rest if rest else ''}"


def fractions(text: str) -> str:
    """Read 3/4 and 2 1/2; larger parts are read with "over"."""
    text = re.sub(r"(?<![\w.,/-])24/7(?![\w/]|[.,]\d)", "twenty-four seven", text)
    return re.sub(r"(?<![\w.,/-])(?:(\d+) )?(\d{1,3})/(\d{1,3})(?![\w/]|[.,]\d)", _fraction, text)


def _fraction(match: re.Match[str]) -> str:
    whole, top, bottom = match[1], int(match[2]), int(match[3])
    if bottom < 2 or bottom > 20 or top >= bottom or top == 0:
        spoken = f"{cardinal(top)} over {cardinal(bottom)}"
        return f"{amount(whole)} {spoken}" if whole else spoken
    one, many = _FRACTIONS.get(bottom, (ordinal(bottom), f"{ordinal(bottom)}s"))
    if whole:
        return f"{amount(whole)} and {'a' if top == 1 else cardinal(top)} {one if top == 1 else many}"
    return f"{cardinal(top)} {one if top == 1 else many}"


def percent(text: str) -> str:
    """Read 5 %, 0.5% and 3-4%."""
    text = re.sub(rf"(?<![\w.,])({_AMOUNT})-({_AMOUNT}) ?%", r"\1 to \2%", text)
    return re.sub(
        rf"(?<![\w.,])(-?)({_AMOUNT}) ?%", lambda m: f"{'minus ' if m[1] else ''}{amount(m[2])} percent", text
    )


def ordinals(text: str) -> str:
    """Read 1st, 22nd and 103rd."""
    return re.sub(r"(?<![\w.,])(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th)\b", _ordinal, text)


def _ordinal(match: re.Match[str]) -> str:
    figures = match[1].replace(",", "")
    return digits(figures) if len(figures) > LONGEST else ordinal(int(figures))


def roman(text: str) -> str:
    """Read Roman numerals after a chapter-like word or a ruler's name (Chapter IV, Henry VIII)."""
    numeral = r"(?P<numeral>X{0,3}(?:IX|IV|V?I{0,3}))\b(?!['-])"
    parts = r"(?P<name>(?:Chapter|Part|Book|Act|Scene|Volume|Section|Phase|Type|World War) )(?=[IVX])"
    rulers = (
        r"(?P<name>(?:Henry|Louis|Charles|George|Edward|James|William|Elizabeth|Richard|Philip|Napoleon|Pope \w+) )"
    )
    text = re.sub(rf"\b{parts}{numeral}", lambda m: m["name"] + cardinal(_roman(m["numeral"])), text)
    return re.sub(
        rf"\b{rulers}(?=[VX]|II)(?P<the>){numeral}", lambda m: f"{m['name']}the {ordinal(_roman(m['numeral']))}", text
    )


def _roman(numeral: str) -> int:
    values = [_ROMAN[letter] for letter in numeral]
    return sum(-value if value < max(values[index:]) else value for index, value in enumerate(values))


def years(text: str) -> str:
    """Read four figures from 1100 to 2099 as years."""
    pattern = r"(?<![\w.,/:-])((?:1[1-9]|20)\d\d)(?:-((?:1[1-9]|20)?\d\d))?(?![\w/:-]|[.,]\d)"
    return re.sub(pattern, lambda m: year(int(m[1])) + (f" to {year(int(m[2]))}" if m[2] else ""), text)


def _decade(match: re.Match[str]) -> str:
    number = int(match[1])
    if number < 10:
        return match[0]
    spoken = year(number) if number > 100 else cardinal(number)
    return re.sub("y$", "ies", spoken) if spoken.endswith("y") else f"{spoken}s"


def numbers(text: str) -> str:
    """Read what figures are left: ranges, decimals, signs, and codes such as 007 figure by figure."""
    text = re.sub(rf"(?<![\w.,-])({_AMOUNT})-({_AMOUNT})(?![\w-]|[.,]\d)", r"\1 to \2", text)
    text = re.sub(rf"(?:(?<=^)|(?<=[\s(=<>]))[-](?={_AMOUNT})", "minus ", text)
    text = re.sub(r"(?<=\d) - (?=\d)", " minus ", re.sub(r"(?<=[A-Za-z])-(?=\d)", " ", text))
    text = re.sub(r"#(?=\d)", "number ", text)
    text = re.sub(r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])", " ", text)
    text = re.sub(r"(?<!\d)\d+(?:\.\d+){2,}", lambda m: " point ".join(amount(part) for part in m[0].split(".")), text)
    return re.sub(_AMOUNT, lambda m: amount(m[0]), text)
