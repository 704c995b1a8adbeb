"""The front end of American English: text -> words with their phones."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from openvalle.errors import TextError
from openvalle.text.g2p import keep_one_primary, spell
from openvalle.text.homographs import choose_reading
from openvalle.text.language import UserLexicon, Word
from openvalle.text.lexicon import DEFAULT, LONGEST, cmu_lexicon, letter, lexicon, plural
from openvalle.text.normalize import normalize
from openvalle.text.phones import Phones, is_vowel
from openvalle.types import VOWELS

log = logging.getLogger(__name__)
NOT_AN_END = re.compile(  # after these, after one letter or after a number in a list
    r"(?<![^\s(\[\"'])(?:(?:Dr|Mr|Mrs|Ms|Prof|Rev|Gen|Col|Capt|Lt|Sgt|Sen|Rep|Gov|Hon|St|Mt|Ft|Fr|Maj|Messrs|vs|cf|"
    r"No|Nos|Vol|Fig|pp?|e\.g|i\.e|Jan|Feb|Mar|Apr|Aug|Sept?|Oct|Nov|Dec)|(?:[A-Z]\.)*[A-Z])\.$"
)
_WORD = re.compile(r"'?[^\W\d_]+(?:'[^\W\d_]+)*'?(?:-[^\W\d_]+(?:'[^\W\d_]+)*'?)*")
_PAUSE = re.compile(r"[,;:.!?()\[\]\n]|\s-+\s|\s\"|\"\s")
_STOP = re.compile(r"[.!?\n]")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Backend(StrEnum):
    """Where the pronunciation of English words comes from."""

    BUILTIN = "builtin"  # lexicons and a learned model, in the default install
    ESPEAK = "espeak"  # espeak-ng (GPL-3), for comparison; the extra 'espeak'


@dataclass(frozen=True)
class _Token:
    text: str
    pause: bool  # punctuation of any kind follows
    stop: bool  # the sentence ends after it
    letter: bool = False  # one of the letters of a spelled word


def read_out(text: str) -> str:
    """Return the text with figures, signs and abbreviations in words."""
    return normalize(text).text


def phonemize(text: str, backend: str, lexicon: UserLexicon) -> list[Word]:
    """Return the words of a text with their phones; none if nothing in it can be spoken (see `FrontEnd`)."""
    try:
        source = Backend(backend)
    except ValueError:
        raise TextError(f"there is no phoneme back end {backend!r}", f"use {' or '.join(Backend)}") from None
    normal = normalize(text)
    if normal.dropped:
        log.warning("left out what cannot be spoken: %s", " ".join(normal.dropped))
    return _pronounce_all(_tokens(normal.text), lexicon, source)


def _tokens(text: str) -> list[_Token]:
    """Split normal text into words; compounds of the lexicon stay whole, others are split at the hyphen."""
    found = list(_WORD.finditer(text))
    ends = [*(match.start() for match in found[1:]), len(text)][: len(found)]
    tokens = []
    for match, end in zip(found, ends, strict=True):
        gap = text[match.end() : end]
        parts = _parts(match.group())
        spelled = len(parts) > 1
        tokens += [_Token(part, False, False, spelled and len(part.split("'")[0]) == 1) for part in parts]
        tokens[-1] = replace(tokens[-1], pause=bool(_PAUSE.search(gap)), stop=bool(_STOP.search(gap)))
    return tokens


def _parts(word: str) -> list[str]:
    if "-" not in word:
        return [_strip_quotes(word)]
    if lexicon().entry(word):
        return [word]
    return [_strip_quotes(part) for part in word.split("-")]


def _strip_quotes(word: str) -> str:
    """Return the word without quotation marks; apostrophes that belong to it stay ('tis, runnin')."""
    if "'" not in (word[0], word[-1]):
        return word
    for spelling in (word, word.rstrip("'"), word.lstrip("'")):
        if "'" in spelling and lexicon().lookup(spelling):
            return spelling
    return word.strip("'")


def _pronounce_all(tokens: Sequence[_Token], user: UserLexicon, source: Backend) -> list[Word]:
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
        return guess_phones(token.text)
    if len(readings) == 1 and token.text.lower() != "lead":
        return readings[DEFAULT]
    before = [] if starts else [earlier.text.lower() for earlier in _sentence(tokens, index)]
    after = None if token.pause or index + 1 == len(tokens) else tokens[index + 1].text.lower()
    return choose_reading(token.text.lower(), readings, before, after, ends=after is None)


def _sentence(tokens: Sequence[_Token], index: int) -> list[_Token]:
    """Return up to two earlier words of the same sentence."""
    start = index
    while start > max(0, index - 2) and not tokens[start - 1].stop:
        start -= 1
    return list(tokens[start:index])


def guess_phones(word: str) -> Phones:
    """Return the phones of a word no lexicon lists: its letters if it has no vowel, else a learned guess."""
    return tuple(phone for part in _CAMEL.split(word) for phone in _part(part))  # iPhone has two


def _part(word: str) -> Phones:
    if listed := _look_up(word):
        return listed
    if not re.search("[aeiouy]", word, re.IGNORECASE) or len(word) == 1:
        return tuple(phone for each in word for phone in letter(each) or ())
    end = len(word)
    while end > 3 and word[end - 2 : end].lower() == "'s" and not listed:
        end -= 2
        listed = _look_up(word[:end]) if end <= LONGEST else None
    phones = list(listed or _guess(word[:end]))
    for _ in range(end, len(word), 2):
        phones += plural(tuple(phones[-1:]))[1:]
    return tuple(phones)


def _look_up(word: str) -> Phones | None:
    readings = lexicon().lookup(word) if len(word) > 1 else None
    return readings[DEFAULT] if readings else None


def _guess(word: str) -> Phones:
    listed = cmu_lexicon().get(word.lower())
    return add_stress(listed, spell(word.lower())) if listed else spell(word.lower())


def add_stress(phones: Phones, model: Phones) -> Phones:
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
    return tuple(keep_one_primary(found))
