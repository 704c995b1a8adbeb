"""Rules that read Roman numerals: of chapters, of kings and queens, of films, of years."""

from __future__ import annotations

import re

from openvalle.text.lexicon import lexicon
from openvalle.text.numbers import PARTS, cardinal, ordinal, year
from openvalle.text.rules import Rule, regex, word_set

_ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_NUMERAL = regex("M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})")
# fmt: off
_THINGS = word_set(  # names after which a numeral counts: Rocky IV
    """Rocky Fantasy Wars War Bowl Godfather Rambo Saw Halloween Civilization Effect Souls Quest Apollo Saturn
    Ariane Trek Auto Kombat Olympiad Terminator Alien Jaws Creed Theft Warcraft Starcraft Diablo Fallout Doom
    Quake Crysis Portal Gemini Soyuz Windows Pentium Panzer Century Symphony Sonata Opus Titan Dogma Vatican
    Factor Division Schedule"""
)
_RULERS = word_set(  # names whose bearers are counted, though some are ordinary words or names of things
    """Henry Louis Charles George Edward James William Elizabeth Richard Philip Napoleon John Paul Francis
    Ferdinand Christian Victor Pius Leo Clement Innocent Urban Boniface Benedict Gregory Alexander Peter
    Catherine Frederick Rudolf Otto Gustav Ivan Albert Harald Olaf Haakon Ramesses Xerxes Darius Cyrus Ptolemy
    Cleopatra Murad Mehmed Selim Suleiman Baldwin Malcolm Kenneth Robert David Edmund Stephen Mary Victoria
    Isabella Margaret Carlos Felipe Alfonso Pedro Manuel Wilhelm Friedrich Maximilian Leopold Nicholas Frederik
    Carl Karl Harold Constantine Theodore Julius Sixtus Callixtus Celestine Adrian Martin Eugene Nero
    Constantius Justinian Antiochus Seleucus Amenhotep Seti"""
)
_CROWNED = "King|Queen|Pope|Tsar|Czar|Emperor|Empress|Prince|Princess|Sultan|Pharaoh|Kaiser|Shah|Duke|Saint"
# fmt: on


def read_numeral(numeral: str) -> int:
    """Return the number of a Roman numeral, 0 if it is none."""
    if not numeral or not _NUMERAL.fullmatch(numeral):
        return 0
    values = [_ROMAN[letter] for letter in numeral]
    return sum(-value if value < max(values[index:]) else value for index, value in enumerate(values))


def _part(match: re.Match[str]) -> str:
    numeral = match["numeral"]
    number = read_numeral(numeral.upper())
    is_letter = numeral in ("C", "D", "L", "M") or (numeral.islower() and (len(numeral) < 2 or match["name"].istitle()))
    if not number or is_letter or not (numeral.isupper() or numeral.islower()):
        return match[0]
    return f"{match['name']} {cardinal(number)}"


def _named(match: re.Match[str]) -> str:
    """Read the numeral after a name: Henry VIII is a person, Rocky IV a thing."""
    name, numeral = match["name"], match["numeral"]
    number = read_numeral(numeral)
    is_crowned = match["crowned"] is not None or name in _RULERS
    if not number or number > 99 or (not is_crowned and len(numeral) < 2):
        return match[0]
    if len(numeral) == 1 and not (
        numeral in "VX" or match["crowned"] or re.match(r"(?:'s| of)\b", match.string[match.end() :][:4])
    ):
        return match[0]  # Elizabeth I was told
    if name == "Malcolm" and numeral == "X":
        return match[0]
    is_thing = name in _THINGS or (not is_crowned and lexicon().is_checked(name.lower()))
    spoken = cardinal(number) if is_thing else f"the {ordinal(number)}"
    return f"{match['crowned'] or ''}{name} {spoken}"


RULES = (
    Rule(
        "Roman numeral of a part",
        regex(
            rf"\b(?P<name>{PARTS}|{PARTS.upper()}|{PARTS.lower()}|Parts|Chapters|Books|Acts) (?P<numeral>"
            rf"[IVXLCDM]+|[ivxlc]+)\b(?!-)"
        ),
        _part,
    ),
    Rule(
        "Roman numeral of a name",
        regex(
            rf"(?P<crowned>\b(?:{_CROWNED}) )?\b(?P<name>[A-Z][a-z]{{1,20}}) (?P<numeral>[IVX]+|L[IVX]+)\b(?!-|"
            rf"'(?!s\b))"
        ),
        _named,
    ),
    Rule(
        "World War",
        regex(r"\bWW(I{1,3}|1|2)(?![\w])"),
        lambda match: f"World War {cardinal(read_numeral(match[1]) or int(match[1]))}",
    ),
    Rule(
        "Roman numeral of a year",
        regex(r"\bM[MDCLXVI]{3,}\b"),
        lambda match: year(number) if 1000 < (number := read_numeral(match[0])) < 2100 else match[0],
    ),
)
