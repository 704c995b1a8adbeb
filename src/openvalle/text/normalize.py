"""Written English to spoken English: every figure, sign and abbreviation becomes words.

Here are the rules for what is only written (abbreviations, acronyms, addresses, signs), those for figures are in
`openvalle.text.numbers`; `normalize` applies them all. What cannot be spoken is returned beside the text, never lost in
silence.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from openvalle.text import numbers
from openvalle.text.language import CAPITAL, MORE, SMALL
from openvalle.text.lexicon import lexicon
from openvalle.text.numbers import amount, digits, is_over

# fmt: off
_TITLES = {  # a full stop after these never ends a sentence
    "Dr": "Doctor", "Mr": "Mister", "Mrs": "Missus", "Ms": "Miz", "Prof": "Professor", "Rev": "Reverend",
    "Gen": "General", "Col": "Colonel", "Capt": "Captain", "Lt": "Lieutenant", "Sgt": "Sergeant", "Hon": "Honorable",
    "Sen": "Senator", "Gov": "Governor", "Mt": "Mount", "Ft": "Fort", "Messrs": "Messers", "Fr": "Father",
    "Maj": "Major", "Cpl": "Corporal", "Cmdr": "Commander", "Adm": "Admiral", "Pres": "President", "vs": "versus",
}
_WORDS = {  # these may stand at the end of a sentence
    "etc": "et cetera", "approx": "approximately", "dept": "department", "est": "established",
    "Inc": "Incorporated", "Ltd": "Limited", "Corp": "Corporation", "Co": "Company", "Jr": "Junior", "Sr": "Senior",
    "Ave": "Avenue", "Blvd": "Boulevard", "Rd": "Road", "Bros": "Brothers", "Esq": "Esquire",
    "Jan": "January", "Feb": "February", "Apr": "April", "Aug": "August", "Sept": "September",
    "Oct": "October", "Nov": "November", "Dec": "December", "Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday",
    "Wed": "Wednesday", "Thu": "Thursday", "Thur": "Thursday", "Thurs": "Thursday", "Fri": "Friday",
}
_BEFORE_FIGURES = {  # abbreviations only where a number follows
    "no": "number", "nos": "numbers", "vol": "volume", "fig": "figure", "figs": "figures", "p": "page", "pp": "pages",
    "ch": "chapter", "sec": "section", "Mar": "March", "Jun": "June", "Jul": "July", "Sep": "September",
}
_SIGNS = {
    "&": "and", "+": "plus", "=": "equals", "@": "at", "%": "percent", "#": "hash", "°": "degrees",
    "©": "copyright", "®": "registered", "™": "trademark", "<": "less than", ">": "greater than", "\u00d7": "times",
    "÷": "divided by", "±": "plus or minus", "≈": "about", "≤": "at most", "≥": "at least", "≠": "not equal to",
    "√": "square root of", "∞": "infinity", "§": "section", "²": "squared", "³": "cubed", "$": "dollars",
    "£": "pounds", "€": "euros", "¥": "yen", "¢": "cents", "₹": "rupees", "₽": "roubles", "₩": "won",
    "µ": "micro", "→": "to", "∑": "sum of", "∂": "partial", "∫": "integral of", "|": "bar", "^": "to the power of",
}
_IN_ADDRESSES = {
    ".": "dot", "/": "slash", "-": "dash", "_": "underscore", "@": "at", ":": "colon", "?": "question mark",
    "=": "equals", "&": "and", "#": "hash", "%": "percent", "+": "plus", "~": "tilde",
}
# fmt: on
_TOPS = "com|org|net|edu|gov|io|ai|co|uk|us|de|fr|eu|info|biz|dev|app|me|tv|ca|au|nz|in|int|mil"
_MAIL = re.compile(r"(?<![\w.+-])[A-Za-z0-9][\w.+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")
_WEB = re.compile(
    rf"(?i)\b(?:https?|ftp)://[^\s<>\"')\]]+|\bwww\.[^\s<>\"')\]]+|(?<![^\W_]|[@.-])[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:{_TOPS})\b(?:/[^\s<>\"')\]]*)?"
)
_LETTERS_IN_NAMES = re.compile(r"(?<![\w'.-])(?P<letters>[A-Z]{2,})(?P<plural>'?s)?(?![\w])")
_CAPITALS_AFTER = re.compile(r"\W+([A-Z]{2,})\b")
_CAPITAL_FOLLOWS = re.compile(rf"[\"')\]]*\s+[A-Z{CAPITAL}]")
_IN_WORD = re.compile(r"\w")
LONGEST_SPELLED = 5  # an unlisted acronym of more letters is read as a word


def abbreviations(text: str) -> str:
    """Read abbreviations; a full stop stays where it also ends the sentence."""
    text = re.sub(r"\b[Ee]\.\s?g\.(,?)", r"for example\1", text)
    text = re.sub(r"\b[Ii]\.\s?e\.(,?)", r"that is\1", text)
    text = re.sub(r"(?<!\w)(?<!\w\.)(?:[A-Za-z]\.){2,}(?!\w)", _spell_dotted, text)
    text = re.sub(rf"\b({'|'.join(_TITLES)})\.", lambda m: _TITLES[m[1]], text)
    text = re.sub(rf"\b(Dr|Mr|Mrs|Ms)(?= [A-Z{CAPITAL}])", lambda m: _TITLES[m[1]], text)
    text = re.sub(r"(?<=[\w.,] )St\.?(?=[,;:!?]|$|\s+[a-z]|\s*$)|(?<=[a-z] )St\.(?=\s)", _street, text)
    text = re.sub(rf"\bSte?\.? (?=[A-Z{CAPITAL}])", "Saint ", text)
    figures = "|".join(_BEFORE_FIGURES)
    text = re.sub(
        rf"\b({figures})\.? ?(?=\d)",
        lambda m: _match_case(m[1], _BEFORE_FIGURES) + " " if "." in m[0] or m[1][0].isupper() else m[0],
        text,
        flags=re.I,
    )
    return re.sub(rf"\b({'|'.join(_WORDS)})\.", _word, text, flags=re.I)


def _word(match: re.Match[str]) -> str:
    if match[1] not in _WORDS and match[1].lower() not in _WORDS and match[1].capitalize() not in _WORDS:
        return match[0]
    if match[1].lower() in ("mon", "sun", "fri", "wed", "co", "est", "dec", "rd") and match[1][0].islower():
        return match[0]  # ordinary words or parts of words when small
    return _match_case(match[1], _WORDS) + _stop(match)


def _match_case(found: str, table: dict[str, str]) -> str:
    spoken = table.get(found) or table.get(found.lower()) or table.get(found.capitalize()) or found
    return spoken.capitalize() if found[0].isupper() else spoken


def _stop(match: re.Match[str]) -> str:
    """The full stop of an abbreviation also ends the sentence if the text ends or a new one seems to begin."""
    text, end = match.string, match.end()
    is_last = is_over(text, end)
    ends = is_last or _CAPITAL_FOLLOWS.match(text, end) is not None or text.startswith("\n", end)
    name = match[0].split(".")[0] in ("Co", "Bros", "Jan", "Feb", "Apr", "Aug", "Sept", "Oct", "Nov", "Dec")
    return "." if ends and not (name and not is_last) else ""


def _street(match: re.Match[str]) -> str:
    return "Street" + (_stop(match) if match[0].endswith(".") else "")


def _spell_dotted(match: re.Match[str]) -> str:
    """Spell U.S. and a.m.; initials such as J.R.R. before a name do not end a sentence."""
    letters = match[0].replace(".", "").upper()
    text, start, end = match.string, match.start(), match.end()
    if letters in ("AM", "PM") and re.search(r"\d ?$", text[max(0, start - 2) : start]):
        return match[0]  # a time of day
    return "-".join(letters) + ("." if is_over(text, end) or text.startswith("\n", end) else "")


def acronyms(text: str) -> str:
    """Spell acronyms letter by letter unless the lexicon says them as words; F-B-I is read as letters."""
    return _LETTERS_IN_NAMES.sub(_acronym, text)


def _acronym(match: re.Match[str]) -> str:
    letters = match["letters"]
    if is_said_as_word(letters) and not _is_letters(match):
        return match[0]
    return "-".join(letters) + ("'s" if match["plural"] else "")


def _is_letters(match: re.Match[str]) -> bool:
    """Whether a word such as US or IT, said as letters when it is a noun, stands among words in small letters."""
    near = [_capitals_before(match.string, match.start())]
    if after := _CAPITALS_AFTER.match(match.string, match.end()):
        near.append(after[1])
    words = lexicon()
    shouted = any(words.is_checked(word.lower()) and not words.is_checked(word) for word in near if len(word) > 1)
    return words.noun_is_spelled(match["letters"]) and not shouted


def _capitals_before(text: str, end: int) -> str:
    """Return the capitals that stand before the signs and blanks before `end`."""
    last = end
    while last and not _IN_WORD.match(text, last - 1):
        last -= 1
    first = last if last < end else 0
    while first and "A" <= text[first - 1] <= "Z":
        first -= 1
    return text[first:last] if last < end else ""


def is_said_as_word(letters: str) -> bool:
    """Whether capitals are read as a word: the lexicon lists it, or it is too long to spell."""
    words = lexicon()
    if words.is_checked(letters) or words.is_checked(letters.lower()):
        return True
    if len(letters) > 3 and words.lookup(letters.lower()):
        return True
    return len(letters) > LONGEST_SPELLED and re.search("[AEIOUY]", letters) is not None


def addresses(text: str) -> str:
    """Read e-mail and web addresses aloud, without the scheme."""
    text = _MAIL.sub(lambda match: f" {_address(match[0])} ", text)
    return _WEB.sub(_web, text)


def _web(match: re.Match[str]) -> str:
    body = match[0].rstrip(".,;:!?")
    tail = match[0][len(body) :]
    return f" {_address(re.sub(r'^[a-z]+://', '', body, flags=re.I).rstrip('/'))}{tail} "


def _address(address: str) -> str:
    parts = re.findall(r"[A-Za-z]+|\d+|[^A-Za-z\d]", address)
    spoken = []
    for part in parts:
        if part.isdecimal():
            spoken.append(amount(part) if len(part) <= 2 else digits(part))
        elif part.isalpha() and part.isascii():
            short = len(part) < 4 and part.lower() not in ("com", "org", "net", "gov", "edu", "dev", "app", "biz")
            spelled = (short and not lexicon().is_checked(part.lower())) or part.lower() in ("www", "io", "ai", "tv")
            spoken.append("-".join(part.upper()) if spelled else part)
        else:
            spoken.append(_IN_ADDRESSES.get(part, part))
    return " ".join(spoken)


def symbols(text: str) -> str:
    """Read signs and Greek letters as words; marks of emphasis and layout become blanks."""
    text = re.sub(r"(?<=\w)/(?=\w)", " slash ", re.sub(r"\band/or\b", "and or", text, flags=re.I))
    text = re.sub(r"[_*`~\\/{}]+", " ", text)
    return "".join(_sign(sign) for sign in text)


def _sign(sign: str) -> str:
    if sign in _SIGNS:
        return f" {_SIGNS[sign]} "
    name = "" if sign.isascii() else unicodedata.name(sign, "")
    if name.startswith("GREEK") and " LETTER " in name:
        return f" {name.split(' LETTER ')[1].split()[0].lower()} "
    return sign


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
_SILENT = re.compile(rf"[^A-Za-z0-9\s.,;:!?'\"()\[\]{SMALL}{CAPITAL}{MORE}-]")
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
    addresses,
    abbreviations,
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
    acronyms,
    symbols,
)
