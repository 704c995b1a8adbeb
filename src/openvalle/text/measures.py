"""Rules that read what is measured or paid: money, units, percent, each with its ranges, its "per" and its singular.

A quantity is an amount, or a range of two, with a unit. Before a noun the unit is singular: "a five kilometer run".
"""

from __future__ import annotations

import re

from openvalle.text.numbers import AMOUNT, SCALE, SCALES, amount, cardinal, read_range
from openvalle.text.rules import Rule, regex, word_set

# fmt: off
_DOLLARS = {
    "US": "", "U.S.": "", "C": "Canadian", "CA": "Canadian", "CAN": "Canadian", "CDN": "Canadian",
    "A": "Australian", "AU": "Australian", "AUS": "Australian", "NZ": "New Zealand", "S": "Singapore",
    "SG": "Singapore", "HK": "Hong Kong", "NT": "New Taiwan", "J": "Jamaican", "BZ": "Belize", "TT": "Trinidad",
    "Z": "Zimbabwe", "N": "Namibian",
}
_CENTS = ("cent", "cents")
_CURRENCIES = {  # sign -> one, many, a hundredth, hundredths; prefix of the country
    "$": ("dollar", "dollars", *_CENTS), "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", *_CENTS), "¥": ("yen", "yen", "sen", "sen"), "₹": ("rupee", "rupees", "paisa", "paise"),
    "₽": ("rouble", "roubles", "kopeck", "kopecks"), "₩": ("won", "won", "jeon", "jeon"), "¢": (*_CENTS, *_CENTS),
    "₱": ("peso", "pesos", *_CENTS), "₺": ("lira", "lira", "kurush", "kurush"),
    "₪": ("shekel", "shekels", "agora", "agorot"), "₦": ("naira", "naira", "kobo", "kobo"),
    "₴": ("hryvnia", "hryvnias", "kopiyka", "kopiykas"), "฿": ("baht", "baht", "satang", "satang"),
    "₫": ("dong", "dong", "xu", "xu"), "₿": ("bitcoin", "bitcoins", *_CENTS), "₡": ("colon", "colones", *_CENTS),
    "₵": ("cedi", "cedis", "pesewa", "pesewas"), "₸": ("tenge", "tenge", "tiyn", "tiyn"),
    "R$": ("real", "reais", "centavo", "centavos"), "MX$": ("Mexican peso", "Mexican pesos", *_CENTS),
    "Rs": ("rupee", "rupees", "paisa", "paise"), "Rs.": ("rupee", "rupees", "paisa", "paise"),
    "CHF": ("Swiss franc", "Swiss francs", "centime", "centimes"),
    "SEK": ("Swedish krona", "Swedish kronor", "öre", "öre"),
    "NOK": ("Norwegian krone", "Norwegian kroner", "øre", "øre"),
    "DKK": ("Danish krone", "Danish kroner", "øre", "øre"), "kr": ("krone", "kroner", "øre", "øre"),
    "PLN": ("zloty", "zlotys", "grosz", "groszy"), "zl": ("zloty", "zlotys", "grosz", "groszy"),
    "CNY": ("yuan", "yuan", "fen", "fen"), "RMB": ("yuan", "yuan", "fen", "fen"),
    "CZK": ("Czech koruna", "Czech koruny", "heller", "hellers"), "HUF": ("forint", "forints", "filler", "fillers"),
    "MXN": ("Mexican peso", "Mexican pesos", *_CENTS), "BRL": ("real", "reais", "centavo", "centavos"),
    "ZAR": ("rand", "rand", *_CENTS), "THB": ("baht", "baht", "satang", "satang"),
    "AED": ("dirham", "dirhams", "fils", "fils"), "SAR": ("riyal", "riyals", "halala", "halalas"),
    "BTC": ("bitcoin", "bitcoins", *_CENTS), "ILS": ("shekel", "shekels", "agora", "agorot"),
    "PHP": ("peso", "pesos", *_CENTS),
}
_CODES = {"USD": "$", "GBP": "£", "EUR": "€", "JPY": "¥", "INR": "₹", "RUB": "₽", "KRW": "₩", "UAH": "₴", "NGN": "₦"}
for _code, _country in (("CAD", "C"), ("AUD", "A"), ("NZD", "NZ"), ("SGD", "S"), ("HKD", "HK"), ("TWD", "NT")):
    _CODES[_code] = f"{_country}$"
for _prefix, _country in _DOLLARS.items():
    _name = f"{_country} dollar".strip()
    _CURRENCIES[f"{_prefix}$"] = (_name, f"{_name}s", *_CENTS)
_UNITS = {
    "km": "kilometer", "cm": "centimeter", "mm": "millimeter", "nm": "nanometer", "µm": "micrometer",
    "dm": "decimeter", "m": "meter", "mi": "mile", "ft": "foot", "yd": "yard", "yds": "yard", "kg": "kilogram",
    "mg": "milligram", "g": "gram", "µg": "microgram", "mcg": "microgram", "lb": "pound", "lbs": "pound",
    "oz": "ounce", "fl oz": "fluid ounce", "ml": "milliliter", "mL": "milliliter", "cl": "centiliter",
    "cL": "centiliter", "dl": "deciliter", "dL": "deciliter", "l": "liter", "L": "liter", "µl": "microliter",
    "µL": "microliter", "hl": "hectoliter", "gal": "gallon", "qt": "quart", "qts": "quart", "tbsp": "tablespoon",
    "tbsps": "tablespoon", "Tbsp": "tablespoon", "tsp": "teaspoon", "tsps": "teaspoon", "s": "second",
    "sec": "second", "secs": "second", "ms": "millisecond", "µs": "microsecond", "ns": "nanosecond",
    "min": "minute", "mins": "minute", "h": "hour", "hr": "hour", "hrs": "hour", "wk": "week", "wks": "week",
    "mo": "month", "mos": "month", "yr": "year", "yrs": "year", "bps": "bit per second", "kb": "kilobyte",
    "KB": "kilobyte", "kB": "kilobyte", "MB": "megabyte", "GB": "gigabyte", "TB": "terabyte", "PB": "petabyte",
    "Mb": "megabit", "Gb": "gigabit", "Mbit": "megabit", "Gbit": "gigabit", "kbit": "kilobit", "KiB": "kibibyte",
    "MiB": "mebibyte", "GiB": "gibibyte", "kbps": "kilobit per second", "Kbps": "kilobit per second",
    "Mbps": "megabit per second", "Gbps": "gigabit per second", "Hz": "hertz", "kHz": "kilohertz",
    "MHz": "megahertz", "GHz": "gigahertz", "THz": "terahertz", "W": "watt", "mW": "milliwatt", "kW": "kilowatt",
    "MW": "megawatt", "GW": "gigawatt", "TW": "terawatt", "Wh": "watt-hour", "kWh": "kilowatt-hour",
    "MWh": "megawatt-hour", "GWh": "gigawatt-hour", "TWh": "terawatt-hour", "V": "volt", "mV": "millivolt",
    "kV": "kilovolt", "mA": "milliamp", "mAh": "milliamp-hour", "Ah": "amp-hour", "amp": "amp", "dB": "decibel",
    "dBA": "decibel", "mph": "mile per hour", "kph": "kilometer per hour", "kmh": "kilometer per hour",
    "mpg": "mile per gallon", "fps": "frame per second", "rpm": "revolution per minute", "bpm": "beat per minute",
    "wpm": "word per minute", "dpi": "dot per inch", "ppm": "part per million", "ppb": "part per billion",
    "psi": "pound per square inch", "°C": "degree Celsius", "°F": "degree Fahrenheit", "°": "degree",
    "ha": "hectare", "hp": "horsepower", "kJ": "kilojoule", "MJ": "megajoule", "cal": "calorie",
    "kcal": "kilocalorie", "kN": "kilonewton", "Nm": "newton meter", "Pa": "pascal", "hPa": "hectopascal",
    "kPa": "kilopascal", "MPa": "megapascal", "mbar": "millibar", "mmHg": "millimeter of mercury",
    "atm": "atmosphere", "Ω": "ohm", "kΩ": "kiloohm", "MΩ": "megaohm", "µF": "microfarad", "nF": "nanofarad",
    "pF": "picofarad", "mol": "mole", "mmol": "millimole", "lm": "lumen", "lx": "lux", "cc": "cubic centimeter",
    "kt": "knot", "kn": "knot", "kts": "knot", "nmi": "nautical mile", "ly": "light-year", "MP": "megapixel",
    "px": "pixel", "t": "tonne", "doz": "dozen", "pcs": "piece", "rps": "revolution per second",
    "sq ft": "square foot", "sq. ft.": "square foot", "sq m": "square meter", "sq mi": "square mile",
    "sq km": "square kilometer", "sq yd": "square yard", "sq in": "square inch", "sq cm": "square centimeter",
    "cu ft": "cubic foot", "cu m": "cubic meter", "cu in": "cubic inch",
}
_AFTER_SLASH = {  # what else stands after "per"
    "day": "day", "week": "week", "month": "month", "year": "year", "hour": "hour", "minute": "minute",
    "second": "second", "night": "night", "person": "person", "unit": "unit", "user": "user", "head": "head",
    "item": "item", "page": "page", "word": "word", "mile": "mile", "acre": "acre", "pound": "pound",
    "gallon": "gallon", "liter": "liter", "litre": "litre", "kilo": "kilo", "seat": "seat", "room": "room",
    "ticket": "ticket", "piece": "piece", "share": "share", "capita": "capita", "d": "day", "w": "week",
    "y": "year", "pp": "person", "m": "meter", "mo": "month", "ton": "ton", "tonne": "tonne", "barrel": "barrel",
    "student": "student", "game": "game", "call": "call",
}
_PLURALS = {"foot": "feet", "inch": "inches"}
_UNCHANGED = ("hertz", "kilohertz", "megahertz", "gigahertz", "terahertz", "horsepower", "kelvin", "lux", "dozen")
NOT_NOUNS = word_set(  # words after a quantity that it does not describe
    """of in for to from and or a an the per each off more less at on as was is are were be been by with worth
    but if when last this today now before after than that which who i he she it we they you not so then there
    here ago away apart back down up out over under until till while because had has have will would can could
    may might must did do does into onto about around across between during every later earlier only just also
    too plus minus times total left went came goes remain remains lay spent paid won lost owed given raised made
    earned saved cost costs equals exactly again together his her its their my our your between above below
    through within without since whereas where"""
)
# fmt: on
DETERMINER = regex(
    r"(?i)(?:^|[\s(\"'-])(?:a|an|the|this|that|my|his|her|our|their|its|your|one|two|three|four|five|six|seven|eight|nine|ten|"
    r"whose|no|these|those)\s(?:[\d.,]+ by ){0,2}$|\w's\s$"
)
_ADJECTIVE_BEFORE = regex(r"(?i)(?:^|\s)(?:a|an|the|one|two|three)\s[\w.,$£€]{1,12}\s?[\w/°]{0,4}\s\($")
NOUN = regex(r"(?P<hyphen>-)?\)?\s?(?P<word>[A-Za-z][a-z']*)?")
_BILLS = regex(r"\s(?:bill|note|coin|ticket|fine|fee|check|cheque|bet|stake|gift card)s?\b")
_SIGN = "|".join(re.escape(sign) for sign in sorted({*_CURRENCIES, *_CODES}, key=len, reverse=True))
_AFTERWARDS = r"[¢€£]|(?:" + "|".join(code for code in sorted({*_CODES, *_CURRENCIES}) if code.isalpha()) + r")\b"
_SCALED = rf"(?:[ -]?(?P<{{0}}scale>{SCALE})\b|(?P<{{0}}short>bn|tn|mn|[kKmMbB])\b)?"
_BETWEEN = r"\s?(?:-|to)\s?"
_PERS = "|".join(sorted({*map(re.escape, _UNITS), *_AFTER_SLASH}, key=len, reverse=True))
_PER = rf"(?P<per>(?:/(?:{_PERS})[²³]?(?![\w]))*)"
_DOUBLED = r"(?P<doubled>\s(?:dollars?|pounds?|euros?|yen|rupees?|cents?|francs?)\b)?"
_MONEY_FIRST = regex(
    rf"(?<![A-Za-z])(?P<minus>-?)(?P<sign>{_SIGN})\s?(?P<low>{AMOUNT}){_SCALED.format('low_')}(?:(?:\s?-\s?(?:(?P=sign)\s?)?|\sto\s(?P=sign)\s?)"
    rf"(?P<amount>{AMOUNT})(?!\d|,\d|:){_SCALED.format('')})?{_PER}{_DOUBLED}"
)
_MONEY_LAST = regex(
    rf"(?<![\w.,])(?P<minus>-?)(?P<low>{AMOUNT}){_SCALED.format('low_')}(?:{_BETWEEN}(?P<amount>{AMOUNT}){_SCALED.format('')})?"
    rf"\s?(?P<sign>{_AFTERWARDS}){_PER}{_DOUBLED}"
)
UNIT = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
_NAMED = r"(?<!Route )(?<!Highway )(?<!Gate )(?<!gate )(?<!Seat )(?<!seat )(?<!Room )(?<!room )(?<!Line )(?<!Row )"
_MEASURE = regex(
    rf"(?<![\w.,]){_NAMED}(?P<minus>-?)(?:(?P<low>{AMOUNT})(?:\s?(?P<low_unit>{UNIT}))?(?:{_BETWEEN})(?P<second_minus>-?))?(?P<amount>{AMOUNT})"
    rf"(?P<join>\s?|-)(?P<unit>{UNIT})(?P<power>[²³]?)(?:\.(?=\s[a-z]|[,;:)]))?{_PER}(?![\w'/]|\.\d)(?P<doubled>\s[a-z]{{3,12}}\b)?"
)


def is_adjective(match: re.Match[str], end: int, is_money: bool = False) -> bool:
    """Whether the quantity describes the noun after it: "a £10 note", "the 100 m dash", "a 10m (32ft) passage"."""
    text = match.string
    following = NOUN.match(text, end)
    assert following is not None
    if following["hyphen"] and following["word"]:
        return True
    if is_money and _BILLS.match(text, end):
        return True
    before = text[max(0, match.start() - 24) : match.start()]
    word = following["word"]
    if text[end : end + 2] == " (":  # the measure again in brackets, and then the noun
        closing = regex(r"\s\([^()\n]{1,24}\)\s(?P<word>[A-Za-z][a-z']*)").match(text, end)
        word = closing["word"] if closing else None
    elif not text[end : end + 1].isspace() and not (text[end : end + 2] == ") " and _ADJECTIVE_BEFORE.search(before)):
        return False
    if not word or word.lower() in NOT_NOUNS or (word.endswith("ed") and word not in ("bed", "speed", "seed")):
        return False
    return bool(DETERMINER.search(before) or (text[end : end + 1] == ")" and _ADJECTIVE_BEFORE.search(before)))


def _money(match: re.Match[str]) -> str:
    sign = _CODES.get(match["sign"], match["sign"])
    one, many, small_one, small_many = _CURRENCIES[sign]
    end = match.end()
    doubled = match["doubled"] or ""
    if doubled.strip() and not many.endswith(doubled.strip().rstrip("s")) and not many.endswith(doubled.strip()):
        end -= len(doubled)  # another currency
    else:
        doubled = ""
    as_adjective = not match["per"] and is_adjective(match, end, True)
    low, high = match["low"], match["amount"]
    low_scale = match["low_scale"] or SCALES.get((match["low_short"] or "").lower())
    scale = match["scale"] or SCALES.get((match["short"] or "").lower())
    name = one if as_adjective else many
    if high:
        first = amount(low) + (f" {low_scale}" if low_scale and low_scale != scale else "")
        spoken = f"{first} to {amount(high)}{' ' + scale if scale else ''} {name}"
        if re.search(r"\.\d\d$", high) and not scale:
            names = (one, many, small_one, small_many)
            spoken = f"{_small_change(low, names)} to {_small_change(high, names)}"
    elif low_scale:
        spoken = f"{amount(low)} {low_scale} {name}"
    else:
        spoken = _small_change(
            low, (name if as_adjective else one, name, small_one, small_one if as_adjective else small_many)
        )
    return f"{'minus ' if match['minus'] else ''}{spoken}{_per(match['per'])}{doubled}"


def _small_change(figures: str, names: tuple[str, str, str, str]) -> str:
    """Return an amount in dollars and cents, or as people have written it if it is no number of cents."""
    one, many, small_one, small_many = names
    whole, point, rest = figures.replace(",", "").partition(".")
    if point and len(rest) != 2:
        return f"{amount(figures)} {many}"
    major, minor = int(whole or "0"), int(rest or "0")
    parts = [f"{amount(whole)} {one if major == 1 else many}"] if major or not minor else []
    parts += [f"{cardinal(minor)} {small_one if minor == 1 else small_many}"] if minor else []
    return " and ".join(parts)


def _per(slashes: str) -> str:
    """Return what stands after the slashes: /month, /s²."""
    spoken = ""
    for part in slashes.split("/")[1:]:
        bare, power = part.rstrip("²³"), part[len(part.rstrip("²³")) :]
        word = _UNITS.get(bare) or _AFTER_SLASH[bare]
        squared = {"²": "squared", "³": "cubed", "": ""}[power]
        if power and word not in ("second", "minute", "hour"):
            spoken += f" per {'square' if power == '²' else 'cubic'} {word}"
        else:
            spoken += f" per {word} {squared}".rstrip()
    return spoken


def _name_unit(unit: str, figures: str, as_adjective: bool, power: str = "") -> str:
    name = _UNITS.get(unit, unit)
    head, middle, rest = name.partition(" ")
    if head in ("square", "cubic", "fluid", "nautical", "newton"):
        return f"{head} {count_unit(rest, figures, as_adjective)}"
    head = count_unit(head, figures, as_adjective)
    return f"{ {'²': 'square ', '³': 'cubic '}.get(power, '') }{head}{middle}{rest}".lstrip()


def count_unit(name: str, figures: str, as_adjective: bool) -> str:
    """Return a unit in the plural, unless it follows a 1, stands before a noun, or has none."""
    if as_adjective or figures == "1" or name in _UNCHANGED:
        return name
    return _PLURALS.get(name, f"{name}s")


def _measure(match: re.Match[str]) -> str:
    unit, low = match["unit"], match["low"]
    join = match["join"]
    doubled = match["doubled"] or ""
    end = match.end() - len(doubled)
    as_adjective = (join == "-" and not match["per"]) or (not match["per"] and is_adjective(match, end))
    name = _name_unit(unit, match["amount"] if not low else "2", as_adjective, match["power"])
    if doubled.strip() in (
        name,
        _name_unit(unit, "2", False, match["power"]),
        _name_unit(unit, "1", False, match["power"]),
    ):
        doubled = ""
    elif match.string[end - 1] == "." and doubled:
        pass
    minus = "minus " if match["minus"] else ""
    if low is None:
        spoken = amount(match["amount"])
    elif match["low_unit"] and match["low_unit"] != unit:
        spoken = f"{amount(low)} {_name_unit(match['low_unit'], low, False)} to {amount(match['amount'])}"
    else:
        spoken = f"{amount(low)} to {'minus ' if match['second_minus'] else ''}{amount(match['amount'])}"
    return f"{minus}{spoken} {name}{_per(match['per'])}{doubled}"


def _alone(match: re.Match[str]) -> str:
    """Read a unit without a figure: per mL, in km/h."""
    if match["per"]:
        return f"per {_name_unit(match['per'], '1', False)}"
    return _name_unit(match["unit"], "2", False) + _per(match["slashes"])


def _percent(match: re.Match[str]) -> str:
    minus = "minus " if match["minus"] else ""
    number = read_range(match["low"], match["amount"]) if match["low"] else amount(match["amount"])
    return f"{minus}{number} {'percent' if match['sign'] == '%' else 'per mille'}"


_WORD_PER = regex(
    rf"(?P<amount>(?<![\w.,]){AMOUNT}|\b(?:one|two|three|four|five|six|seven|eight|nine|ten)) (?P<word>[a-z]{{2,20}})"
    rf"/(?P<per>{_PERS})\b(?!/)"
)
MONEY = (
    Rule(
        "money",
        regex(rf"(?<!\w)(?P<sign>[$£€])(?P<per>/(?:{_PERS})[²³]?)(?![\w])"),
        lambda m: f"{_CURRENCIES[m['sign']][1]}{_per(m['per'])}",
    ),
    Rule("money", _MONEY_FIRST, _money, figures=True),
    Rule("money", _MONEY_LAST, _money, figures=True),
)
RULES = (
    Rule(
        "percent",
        regex(
            rf"(?<![\w.,])(?P<minus>-?)(?:(?P<low>{AMOUNT})\s?%?{_BETWEEN})?(?P<amount>{AMOUNT})\s?(?P<sign>[%\u2030])"
            r"(?:\s(?:percent|per cent)\b)?"
        ),
        _percent,
        figures=True,
    ),
    Rule(
        "unit",
        regex(
            rf"\bper (?P<per>{UNIT})(?![\w'/-])|(?<![\w./])(?P<unit>km|cm|mm|m|mi|ft|kg|mg|g|mL|ml|kB|MB|GB|mol)"
            r"(?P<slashes>/(?:s|h|hr|min|day|L|l|mL|ml|kg|m|cm)[²³]?)(?![\w/²³])"
        ),
        _alone,
    ),
    Rule("per", _WORD_PER, lambda m: f"{m['amount']} {m['word']}{_per('/' + m['per'])}"),
    Rule("measure", _MEASURE, _measure, figures=True),
    Rule(
        "per",
        regex(rf"(?<![\w.,/])({AMOUNT})/(hr|hour|h|min|sec|month|mo|week|wk|day|year|yr|person|night|kg|km|lb)\b(?!/)"),
        lambda m: f"{amount(m[1])}{_per('/' + m[2])}",
        figures=True,
    ),
)
