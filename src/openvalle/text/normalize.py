"""Written English to spoken English: every figure, sign and abbreviation becomes words.

Here are signs, addresses and capitals, and the order of all rules; `abbreviations`, `dates`, `measures`, `lengths` and
`numbers` hold the others, `layout` those for markup. What cannot be spoken is returned beside the text, never lost in
silence.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from openvalle.text import abbreviations, dates, layout, lengths, measures, numbers, numerals
from openvalle.text.language import CAPITAL, MORE, SMALL
from openvalle.text.lexicon import lexicon
from openvalle.text.numbers import amount, digits
from openvalle.text.rules import Origin, Rule, regex, rewrite, trace, word_set
from openvalle.text.sentences import find_sentences

# fmt: off
_SIGNS = {
    "&": "and", "+": "plus", "=": "equals", "@": "at", "%": "percent", "#": "hash", "°": "degrees",
    "©": "copyright", "®": "registered", "™": "trademark", "<": "less than", ">": "greater than", "\u00d7": "times",
    "÷": "divided by", "±": "plus or minus", "≈": "about", "≤": "at most", "≥": "at least", "≠": "not equal to",
    "√": "square root of", "∞": "infinity", "§": "section", "²": "squared", "³": "cubed", "$": "dollars",
    "£": "pounds", "€": "euros", "¥": "yen", "¢": "cents", "₹": "rupees", "₽": "roubles", "₩": "won", "₱": "pesos",
    "₺": "lira", "₪": "shekels", "₦": "naira", "₴": "hryvnias", "฿": "baht", "₫": "dong", "₿": "bitcoin",
    "µ": "micro", "→": "to", "∑": "sum of", "∂": "partial", "∫": "integral of", "|": "bar", "^": "to the power of",
}
_IN_ADDRESSES = {
    ".": "dot", "/": "slash", "-": "dash", "_": "underscore", "@": "at", ":": "colon", "?": "question mark",
    "=": "equals", "&": "and", "#": "hash", "%": "percent", "+": "plus", "~": "tilde",
}
_LETTERS = {
    "ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "№": "No. ",
    "đ": "d", "Đ": "D", "ð": "th", "Ð": "Th", "þ": "th", "Þ": "Th", "\u0131": "i", "\u3002": ".", "\u03bc": "µ",
}
_OFTEN_LOUD = word_set(  # small words that people stress by capitals, though the letters mean something, too
    """AH ADD ACT AM AS BE CAP DIP HE HI HM HMM IN IS IT LED ME MM OFT OH OR RIP SAT SOB TA WHO ER ELF DEW DAB
    COO"""
)
_SPELLED_AFTER = word_set("the a an our their its his her your my this that new of")
_SPELLED_IT = word_set(
    """department team support staff manager industry sector security company specialist services service
    consultant systems infrastructure guy guys professional professionals people job jobs expert experts skills
    project projects budget policy equipment help"""
)
# fmt: on
_FOLDED = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u00b4\u2032\u02b9\u02ca\u02cb\uff07\ua78c", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033\u2039\u203a", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2212\ufe63\uff0d", "-"),
    **dict.fromkeys("\u2014\u2015", " - "),
    "\u2026": "...",
    "\u00a1": "",
    "\u00bf": "",
    "\u2044": "/",
    "\u00ad": "",
    "\u037e": ";",
    "\u2028": "\n",
    **_LETTERS,
}
_KEPT = "²³µ°©®™"  # signs that compatibility folding would turn into letters or figures
_SILENT = regex(rf"[^A-Za-z0-9\s.,;:!?'\"()\[\]{SMALL}{CAPITAL}{MORE}-]")
_BIG = rf"[A-Z{CAPITAL}]"


def _fold_letter(match: re.Match[str]) -> str:
    plain = unicodedata.normalize("NFKD", match[0]).replace("\u2044", "/")
    bare = "".join(part for part in plain if not unicodedata.combining(part))
    return "".join(_FOLDED.get(sign, sign) for sign in bare)


# The raised figures, in Unicode and as they stand in a text
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+", strict=True))
_RAISED_FIGURES = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_RUN = regex(rf"[⁻⁺]?[{_RAISED_FIGURES}]+(?:[,\u02d2\u2013-][{_RAISED_FIGURES}]+)*")
_BASE = regex(
    r"(?:(?P<unit>[\d/] ?[a-zµ]{1,2}m|[\d/] ?(?:m|s|ft|in|yd|mi|h))|(?P<number>\d[\d,.]*)|(?<![A-Za-z])(?P<name"
    r">[A-Za-z]+)|\))\Z"
)
_NOTE = regex(r"[†‡]+|(?<=[\w.,;:!?])\*+(?=\s|$)")


def _read_raised(match: re.Match[str]) -> str:
    """Read a power; raised figures after a word, a full stop or a year are the mark of a note, and not said."""
    plain = "".join(_RAISED.get(sign, sign) for sign in match[0])
    base = _BASE.search(match.string[max(0, match.start() - 24) : match.start()])
    if base is None or not re.fullmatch(r"[+-]?\d+", plain):
        return ""
    if base["unit"] and match[0] in ("²", "³"):
        return match[0]  # 3 m²
    number, name = base["number"] or "", base["name"] or ""
    if number[-1:] in (".", ",") or re.fullmatch(r"(?:1[1-9]|20)\d\d", number):
        return ""
    if len(name) > 3 or _is_word(name) or (name in ("I", "a") and match[0] not in ("²", "³")):
        return ""
    if match[0] in ("²", "³"):
        return f" {_SIGNS[match[0]]}"
    sign = "minus " if plain.startswith("-") else ""
    return f" to the power of {sign}{amount(plain.lstrip('+-').lstrip('0') or '0')}"


def _is_word(word: str) -> bool:
    return len(word) > 1 and lexicon().is_checked(word.lower())


_FOLD = (
    Rule("raised figures", _RUN, _read_raised),
    Rule("mark of a note", _NOTE, lambda match: ""),
    *numbers.FORMATS,
    Rule("fraction", regex(r"(?<=\d)(?=[¼-¾⅐-⅞])"), lambda match: " ", figures=True),
    Rule("apostrophe", regex(r"(?<=[A-Za-z])[`\u02cb\u02ca\u2035\u0060](?=[A-Za-z]{1,2}\b)"), lambda match: "'"),
    Rule("sign", regex(f"[{re.escape(''.join(_FOLDED))}]"), lambda match: _FOLDED[match[0]]),
    Rule(
        "dash",
        regex(r"(?<=\d)\s?\u2013\s?(?=[\d$£€])|(?<=\w)\u2013(?=[\w$£€])|(?<=[%.])\u2013(?=[\w$£€])"),
        lambda match: "-",
    ),
    Rule("dash", regex(r"\u2013|--+"), lambda match: " - "),
    Rule("letter", regex(rf"[^\x00-\x7f{_KEPT}]"), _fold_letter),
)


def _lower(match: re.Match[str]) -> str:
    """Return a text of capitals (at least four words of them) in small letters, but for its Roman numerals."""
    text = match[0]
    found = re.findall(r"[A-Z]{2,}", text)
    words = lexicon()
    known = sum(words.is_checked(word.lower()) and not words.is_checked(word) for word in found[:64])
    return rewrite(text, numerals.RULES).lower() if len(found) >= 4 and known > 1 else text


_CAPITALS = Rule("text in capitals", regex(r"\A(?=[^A-Z]*[A-Z])[^a-z]+\Z"), _lower)

_TOPS = "com|org|net|edu|gov|io|ai|co|uk|us|de|fr|eu|info|biz|dev|app|me|tv|ca|au|nz|in|int|mil"
_ENDINGS = (
    "js|ts|py|txt|pdf|html|css|json|csv|xml|zip|exe|jpg|jpeg|png|gif|mp3|mp4|wav|doc|docx|xls|xlsx|md|yaml|sh|cpp|ini"
)
_MAIL = regex(r"(?<![\w.+-])[A-Za-z0-9][\w.+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")
_WEB = regex(
    rf"(?i)\b(?:https?|ftp)://[^\s<>\"')\]]+|\bwww\.[^\s<>\"')\]]+|(?<![^\W_]|[@.-])[a-z0-9-]+(?:\.[a-z0-9-]+)*"
    rf"\.(?:{_TOPS}|{_ENDINGS})\b(?:/[^\s<>\"')\]]*)?"
)


def _web(match: re.Match[str]) -> str:
    body = match[0].rstrip(".,;:!?")
    tail = match[0][len(body) :]
    found = re.fullmatch(r"([A-Za-z]+)\.([A-Z][a-z]+)", body)
    if found and found[2].lower() not in ("com", "org", "net", "edu", "gov"):
        return f"{found[1]}. {found[2]}{tail}"  # two sentences without a blank between them
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


_ADDRESSES = (
    Rule("e-mail address", _MAIL, lambda match: f" {_address(match[0])} "),
    Rule("web address", _WEB, _web),
    Rule(
        "end of a sentence without a blank",
        regex(r"(?<=[a-z][a-z])([.!?])(?=[A-Z][a-z])"),
        lambda match: f"{match[1]} ",
    ),
)

LONGEST_SPELLED = 5  # an unlisted acronym of more letters is read as a word
_ACRONYM = regex(r"(?<![\w'.-])(?P<letters>[A-Z]{2,})(?P<plural>'?s)?(?![\w])")
_CAPITALS_AFTER = regex(r"\W+([A-Z]{2,})\b")
_IN_WORD = regex(r"\w")
_BEFORE = regex(r"([\w']+)?(\W{1,3})$")
_AFTER = regex(r"\s+([\w']+)")


def _acronym(match: re.Match[str]) -> str:
    """Spell acronyms letter by letter unless the lexicon says them as words; F-B-I is read as letters."""
    letters = match["letters"]
    if is_said_as_word(letters) and not _is_letters(match):
        return match[0]
    return "-".join(letters) + ("'s" if match["plural"] else "")


def _is_letters(match: re.Match[str]) -> bool:
    """Whether a word such as US or IT, said as letters when it is a noun, is meant so, not stressed by its capitals."""
    text, letters = match.string, match["letters"]
    near = [_capitals_before(text, match.start())]
    if after := _CAPITALS_AFTER.match(text, match.end()):
        near.append(after[1])
    words = lexicon()
    shouted = any(words.is_checked(word.lower()) and not words.is_checked(word) for word in near if len(word) > 1)
    if not words.noun_is_spelled(letters) or shouted:
        return False
    if letters not in _OFTEN_LOUD:
        return True
    before = _BEFORE.search(text[max(0, match.start() - 40) : match.start()])
    following = _AFTER.match(text, match.end())
    if before and before[2].startswith(",") and (before[1] or "")[:1].isupper() and letters in ("IN", "OR", "ME", "HI"):
        return True  # Portland, OR
    if letters == "IT" and following and following[1].lower() in _SPELLED_IT:
        return True
    is_object = before is not None and (before[1] or "").lower() in (("in", "for", "and") if letters == "IT" else ())
    is_noun = (
        before is not None
        and (before[1] or "").lower() in _SPELLED_AFTER
        and letters not in ("OH", "AH", "OR", "IN", "IS", "AS")
    )
    return is_noun or (is_object and following is None)


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
    """Whether capitals are read as a word: the lexicon lists it, or it is too long to spell and can be said."""
    words = lexicon()
    if words.is_checked(letters) or words.is_checked(letters.lower()):
        return True
    if len(letters) > 3 and words.lookup(letters.lower()):
        return True
    return len(letters) > LONGEST_SPELLED and words.can_be_word(letters.lower())


def _sign(match: re.Match[str]) -> str:
    sign = match[0]
    if sign in _SIGNS:
        return f" {_SIGNS[sign]} "
    name = "" if sign.isascii() else unicodedata.name(sign, "")
    if name.startswith("GREEK") and " LETTER " in name:
        return f" {name.split(' LETTER ')[1].split()[0].lower()} "
    return sign


_LAST = (
    Rule(
        "letters with and",
        regex(r"(?<![\w&])([A-Z]{1,3}) ?& ?([A-Z]{1,3})(?![\w&])"),
        lambda m: f"{'-'.join(m[1])} and {'-'.join(m[2])}",
    ),
    Rule("letters of an acronym", _ACRONYM, _acronym),
    Rule("and or", regex(r"(?i)\band/or\b"), lambda match: "and or"),
    Rule("slash between letters", regex(r"(?<=\b[A-Z])/(?=[A-Z]\b)"), lambda match: " "),  # A/C, TCP/IP
    Rule("slash", regex(r"(?<=\w)/(?=\w)"), lambda match: " slash "),
    Rule("mark of emphasis or layout", regex(r"[_*`~\\/{}]+"), lambda match: " "),
    Rule("sign", regex(f"[{re.escape(''.join(_SIGNS))}\u0370-\u03ff\u1f00-\u1fff]"), _sign),
)
_CLEAN = (
    Rule("what cannot be spoken", _SILENT, lambda match: " "),
    Rule("space", regex(r"[^\S\n]+"), lambda match: " "),
    Rule("space", regex(r" *\n *"), lambda match: "\n"),
    Rule("space", regex(r" +(?=[.,;:!?])(?!\.\w)|\A\s+|(?<!\s)\s+\Z"), lambda match: ""),
)
_READING = (  # of a sentence, in the order in which they are applied; before them the rules of `layout`
    *_FOLD,
    _CAPITALS,
    *_ADDRESSES,
    *abbreviations.RULES,
    *numbers.SINGLY,
    *lengths.RULES,
    *dates.RULES,
    *measures.MONEY,
    *numbers.BEFORE_MEASURES,
    *measures.RULES,
    *numerals.RULES,
    *numbers.RULES,
    *_LAST,
)


@dataclass(frozen=True)
class Normalized:
    """A text in spoken form, and what was dropped because it cannot be spoken."""

    text: str
    dropped: tuple[str, ...] = ()


def normalize(text: str) -> Normalized:
    """Return the text in words and plain punctuation; line breaks are kept, other space is one blank.

    Every sentence is read by itself: it does not matter which others stand beside it.
    """
    text = rewrite(text, layout.RULES)
    text = "".join(rewrite(text[start:end], rules) for start, end, rules in _parts(text))
    dropped = dict.fromkeys(sign for sign in _SILENT.findall(text) if unicodedata.category(sign)[0] not in "CZM")
    return Normalized(rewrite(text, _CLEAN), tuple(dropped))


def explain(text: str) -> tuple[str, Sequence[Origin]]:
    """Return the text as `normalize` does, with the origin of each of its signs and the rules behind it."""
    text, origins = trace(text, layout.RULES)
    parts = [trace(text[start:end], rules, origins[start:end]) for start, end, rules in _parts(text)]
    return trace("".join(said for said, _ in parts), _CLEAN, [each for _, own in parts for each in own])


def _parts(text: str) -> Iterator[tuple[int, int, Sequence[Rule]]]:
    """Yield the sentences and the blanks between them, with the rules for each."""
    at = 0
    for start, end in find_sentences(text, _goes_on):
        yield at, start, ()
        yield start, end, _READING
        at = end


def _goes_on(before: str, after: str, is_whole: bool) -> bool | None:
    return abbreviations.goes_on(before + after, 0, len(before), is_whole)
