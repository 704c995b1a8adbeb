"""English in phones of ARPAbet as g2p_en says it, which two projects read their texts with.

It takes a word from the CMU dictionary 0.7a, guesses what is not there, and of words that are said in two ways takes
one by the part of speech. What it says where that is not the first reading of the dictionary 0.7b was recorded
(tools/record_g2p.py); which of two ways a word is said in is told here by the front end of this package.
"""

from __future__ import annotations

import unicodedata
from difflib import SequenceMatcher

from openvalle.text.homographs import find_readings
from openvalle.text.language import Word, phonemize
from openvalle.text.lexicon import lexicon, recorded_readings, stressed_readings
from openvalle.text.phones import Phones


def write_arpabet(text: str, language: str) -> list[str]:
    """Phones of ARPAbet with stress; `_` for each space and each punctuation mark."""
    symbols: list[str] = []
    for word in phonemize(text, language):
        symbols += [*say(word, _simplify(word.text)), *(["_", "_"] * word.pause), "_"]
    return symbols[:-1]


def write_places(text: str, language: str) -> list[str]:
    """Phones of ARPAbet with stress and their place in the word: B first or alone, I inner, E last; `|` between words,
    <BOS> and <EOS> around the text."""
    symbols = ["<BOS>"]
    for word in phonemize(text, language):
        symbols += [*place_phones(word), "|"]
    return [*symbols[:-1], "<EOS>"]


def place_phones(word: Word) -> list[str]:
    """Return a word's phones with their places. Apostrophes are left out there, and compounds are words apart."""
    spelling = _simplify(word.text).replace("'", "")
    parts = spelling.split("-")
    said = [say(word, part) for part in parts] if all(map(_is_listed, parts)) else [say(word, spelling)]
    symbols: list[str] = []
    for phones in said:
        last = len(phones) - 1
        symbols += [phone + ("B" if at == 0 else "E" if at == last else "I") for at, phone in enumerate(phones)]
        symbols.append("|")
    return symbols[:-1]


def say(word: Word, spelling: str) -> Phones:
    """Return what g2p_en says for a word that is written so; its phones here, if that was not recorded."""
    words, twice = recorded_readings()
    if spelling in twice:
        return _choose(word, *twice[spelling])
    return words.get(spelling) or next(iter(stressed_readings().get(spelling, [])), word.phones)


def _simplify(spelling: str) -> str:
    """Return a word in small letters without accents."""
    parts = unicodedata.normalize("NFD", spelling.lower())
    return "".join(sign for sign in parts if unicodedata.category(sign) != "Mn")


def _is_listed(spelling: str) -> bool:
    words, twice = recorded_readings()
    return spelling in twice or spelling in words or spelling in stressed_readings()


def _choose(word: Word, first: Phones, second: Phones) -> Phones:
    """Return the reading of a word that is said in two ways: the first is that of a verb, of a past, of a noun that is
    else an adjective, as those are the second of `find_readings`; where that does not tell, the more alike one."""
    found = find_readings(word.text.lower(), lexicon().lookup(word.text) or {})
    if found and word.phones in found[1:]:
        kind, _, other = found
        return first if (word.phones == other) != (kind == "adjective") else second
    return max((second, first), key=lambda said: SequenceMatcher(None, word.phones, said, False).ratio())
