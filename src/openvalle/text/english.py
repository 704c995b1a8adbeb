"""Text to words with their phones, and words to the symbols a model reads."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from openvalle.errors import TextError
from openvalle.text.g2p import spell, with_one_primary
from openvalle.text.homographs import choose
from openvalle.text.language import language as language_of
from openvalle.text.lexicon import DEFAULT, LONGEST, cmu_lexicon, letter, lexicon, plural
from openvalle.text.normalize import NormalizeOptions, normalize
from openvalle.text.phones import is_vowel
from openvalle.types import SIL, VOWELS

log = logging.getLogger(__name__)
Phones = tuple[str, ...]
UserLexicon = Mapping[str, Phones]
_WORD = re.compile(r"'?[^\W\d_]+(?:'[^\W\d_]+)*'?(?:-[^\W\d_]+(?:'[^\W\d_]+)*'?)*")
_PAUSE = re.compile(r"[,;:.!?()\[\]\n]|\s-+\s|\s\"|\"\s")
_STOP = re.compile(r"[.!?\n]")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Backend(StrEnum):
    """Where the pronunciation of English words comes from."""

    BUILTIN = "builtin"  # lexicons and a learned model, in the default install
    ESPEAK = "espeak"  # espeak-ng (GPL-3), for comparison; the extra 'espeak'


@dataclass(frozen=True)
class Word:
    """A spoken word, its phones, and whether the punctuation after it asks for a pause."""

    text: str
    phones: Phones
    pause: bool = False


@dataclass(frozen=True)
class _Token:
    text: str
    pause: bool  # punctuation of any kind follows
    stop: bool  # the sentence ends after it
    letter: bool = False  # one of the letters of a spelled word


def phonemize(
    text: str,
    language: str = "en",
    backend: str = "builtin",
    lexicon: UserLexicon | None = None,
    options: NormalizeOptions | None = None,
) -> list[Word]:
    """Return the words of a text with their phones; `TextError` if nothing in it can be spoken.

    The text is normalised first. `lexicon` (see `openvalle.text.lexicon`) beats every other source.
    """
    language_of(language)
    source = _backend(backend)
    normal = normalize(text, options)
    if normal.dropped:
        log.warning("left out what cannot be spoken: %s", " ".join(normal.dropped))
    tokens = _tokens(normal.text)
    words = _pronounced(tokens, lower_keys(lexicon or {}), source)
    if not words:
        what = f"nothing in the text {text.strip()[:40]!r} can be spoken" if text.strip() else "the text is empty"
        raise TextError(what, "write at least one English word or number")
    return words


def symbols_of(words: Sequence[Word]) -> list[str]:
    """Return the symbols a model reads: SIL first and last and at each pause, equal neighbours as one."""
    symbols = [SIL]
    for word in words:
        symbols += [*word.phones, SIL] if word.pause else word.phones
    symbols.append(SIL)
    # the pointer of VALL-E R cannot tell equal neighbours apart
    return [symbol for index, symbol in enumerate(symbols) if index == 0 or symbol != symbols[index - 1]]


def _backend(name: str) -> Backend:
    try:
        return Backend(name)
    except ValueError:
        raise TextError(f"there is no phoneme back end {name!r}", f"use {' or '.join(Backend)}") from None


class _Lowered(dict[str, Phones]):
    """Pronunciations that can be found in small letters, too."""


def lower_keys(user: UserLexicon) -> UserLexicon:
    """Return the pronunciations, to be found in small letters, too; as they are if that was done before."""
    if isinstance(user, _Lowered):
        return user
    return _Lowered({**{word.lower(): phones for word, phones in user.items()}, **user})


def _tokens(text: str) -> list[_Token]:
    """Split normal text into words; compounds of the lexicon stay whole, others are split at the hyphen."""
    found = list(_WORD.finditer(text))
    ends = [*(match.start() for match in found[1:]), len(text)][: len(found)]
    tokens = []
    for match, end in zip(found, ends, strict=True):
        gap = text[match.end() : end]
        parts = _parts(match.group())
        spelled = len(parts) > 1
        tokens += [_Token(part, False, False, spelled and len(part.split("'")[0]) == 1) for part in parts[:-1]]
        last = parts[-1]
        tokens.append(
            _Token(last, bool(_PAUSE.search(gap)), bool(_STOP.search(gap)), spelled and len(last.split("'")[0]) == 1)
        )
    return tokens


def _parts(word: str) -> list[str]:
    if "-" not in word:
        return [_unquoted(word)]
    if lexicon().entry(word):
        return [word]
    return [_unquoted(part) for part in word.split("-")]


def _unquoted(word: str) -> str:
    """Return the word without quotation marks; apostrophes that belong to it stay ('tis, runnin')."""
    if "'" not in (word[0], word[-1]):
        return word
    for spelling in (word, word.rstrip("'"), word.lstrip("'")):
        if "'" in spelling and lexicon().lookup(spelling):
            return spelling
    return word.strip("'")


def _pronounced(tokens: Sequence[_Token], user: UserLexicon, source: Backend) -> list[Word]:
    espeak: Mapping[str, Phones] = {}
    if source is Backend.ESPEAK:
        from openvalle.text.espeak import pronunciations

        espeak = pronunciations({token.text.lower() for token in tokens})
    words: list[Word] = []
    for index in reversed(range(len(tokens))):  # backwards: "the" depends on the sound that follows
        token = tokens[index]
        following = words[-1].phones if words and not token.pause else ()
        phones = _special(tokens, index, following, user) or espeak.get(token.text.lower())
        phones = phones or _pronounce(tokens, index)
        if phones:
            words.append(Word(token.text, phones, token.pause))
        else:
            log.warning("left out what cannot be spoken: %s", token.text)
    return words[::-1]


def _special(tokens: Sequence[_Token], index: int, following: Phones, user: UserLexicon) -> Phones | None:
    """Return the phones of a user's word, of "the" and "a", of a letter's name; None for other words."""
    token = tokens[index]
    lower = token.text.lower()
    phones = user.get(token.text) or user.get(lower)
    if phones:
        return phones
    if lower == "the":
        return ("DH", "IY0" if following and is_vowel(following[0]) else "AH0")
    starts = index == 0 or tokens[index - 1].stop
    if lower == "a" and not token.letter and (token.text == "a" or (starts and not token.pause)):
        return ("AH0",)
    if token.letter or len(token.text) == 1:
        return letter(token.text)
    return None


def _pronounce(tokens: Sequence[_Token], index: int) -> Phones:
    token = tokens[index]
    starts = index == 0 or tokens[index - 1].stop
    # at the head of a sentence a capital says nothing: polish, not Polish
    readings = lexicon().lookup(token.text.lower()) if starts and token.text.istitle() else None
    readings = readings or lexicon().lookup(token.text)
    if not readings:
        return unlisted(token.text)
    if len(readings) == 1 and token.text.lower() != "lead":
        return readings[DEFAULT]
    before = [] if starts else [earlier.text.lower() for earlier in _sentence(tokens, index)]
    after = None if token.pause or index + 1 == len(tokens) else tokens[index + 1].text.lower()
    return choose(token.text.lower(), readings, before, after, ends=after is None)


def _sentence(tokens: Sequence[_Token], index: int) -> list[_Token]:
    """Return up to two earlier words of the same sentence."""
    start = index
    while start > max(0, index - 2) and not tokens[start - 1].stop:
        start -= 1
    return list(tokens[start:index])


def unlisted(word: str) -> Phones:
    """Return the phones of a word no lexicon lists: its letters if it has no vowel, else a learned guess."""
    parts = _CAMEL.split(word)
    if len(parts) > 1:  # iPhone
        return tuple(phone for part in parts for phone in _part(part))
    return _part(word)


def _part(word: str) -> Phones:
    if listed := _listed(word):
        return listed
    if not re.search("[aeiouy]", word, re.IGNORECASE) or len(word) == 1:
        return tuple(phone for each in word for phone in letter(each) or ())
    end = len(word)
    while end > 3 and word[end - 2 : end].lower() == "'s" and not listed:
        end -= 2
        listed = _listed(word[:end]) if end <= LONGEST else None
    phones = list(listed or _guessed(word[:end]))
    for _ in range(end, len(word), 2):
        phones += plural(tuple(phones[-1:]))[1:]
    return tuple(phones)


def _listed(word: str) -> Phones | None:
    readings = lexicon().lookup(word) if len(word) > 1 else None
    return readings[DEFAULT] if readings else None


def _guessed(word: str) -> Phones:
    listed = cmu_lexicon().get(word.lower())
    return stressed(listed, spell(word.lower())) if listed else spell(word.lower())


def stressed(phones: Phones, model: Phones) -> Phones:
    """Return phones without stress with the stress of another transcription of the word.

    Where the two have different numbers of vowels, the first vowel carries the stress.
    """
    marks = [phone[-1] for phone in model if is_vowel(phone)]
    vowels = [index for index, phone in enumerate(phones) if phone in VOWELS]
    if len(marks) != len(vowels):
        marks = ["1" if number == 0 else "0" for number in range(len(vowels))]
    found = list(phones)
    for index, mark in zip(vowels, marks, strict=True):
        found[index] += mark
    return tuple(with_one_primary(found))
