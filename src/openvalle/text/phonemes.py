"""Text to words with their phones, and words to the symbols a model reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openvalle.errors import TextError
from openvalle.text.english import DEFAULT, Phones, lexicon
from openvalle.text.symbols import SIL, is_vowel

UserLexicon = Mapping[str, Phones]
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*'?|'[^\W\d_]+", re.UNICODE)
_PAUSE = re.compile(r"[,;:.!?()\[\]—…\n\"]|--| - ")
_CRUDE = dict(
    zip(
        "abcdefghijklmnopqrstuvwxyz",
        ("AE1 B K D EH1 F G HH IH1 JH K L M N AA1 P K R S T AH1 V W Z IY1 Z").split(),  # noqa: SIM905
        strict=True,
    )
)


@dataclass(frozen=True)
class Word:
    """A spoken word, its phones, and whether the punctuation after it asks for a pause."""

    text: str
    phones: Phones
    pause: bool = False


def phonemize(
    text: str, language: str = "en", backend: str = "builtin", lexicon: UserLexicon | None = None
) -> list[Word]:
    """Return the words of a text with their phones; `TextError` if nothing in it can be spoken."""
    text = text.replace("\u2019", "'")
    if not any(letter.islower() for letter in text):
        text = text.lower()  # a transcript in capitals: no capital there means anything
    found = list(_WORD.finditer(text))
    if not found:
        raise TextError("the text holds no word that can be spoken", "write at least one word")
    ends = [match.start() for match in found[1:]] + [len(text)]
    gaps = [text[match.end() : end] for match, end in zip(found, ends, strict=True)]
    words: list[Word] = []
    for match, gap in zip(reversed(found), reversed(gaps), strict=True):
        following = words[-1].phones if words and not _PAUSE.search(gap) else ()
        phones = _pronounce(match.group(), following, lexicon or {})
        words.append(Word(match.group(), phones, bool(_PAUSE.search(gap))))
    return words[::-1]


def symbols_of(words: Sequence[Word]) -> list[str]:
    """Return the symbols a model reads: SIL first and last and at each pause, equal neighbours as one."""
    symbols = [SIL]
    for word in words:
        symbols += [*word.phones, SIL] if word.pause else word.phones
    symbols.append(SIL)
    # the pointer of VALL-E R cannot tell equal neighbours apart
    return [symbol for index, symbol in enumerate(symbols) if index == 0 or symbol != symbols[index - 1]]


def _pronounce(word: str, following: Phones, user: UserLexicon) -> Phones:
    for spelling in (word, word.lower()):
        if spelling in user:
            return user[spelling]
    lower = word.lower()
    before_vowel = bool(following) and is_vowel(following[0])
    if lower == "the":
        return ("DH", "IY0" if before_vowel else "AH0")
    if lower == "a":
        return ("AH0",)
    readings = lexicon().lookup(word)
    if readings:
        return readings[DEFAULT]
    return tuple(_CRUDE[letter] for letter in lower if letter in _CRUDE) or ("AH0",)
