"""The front end of American English: text -> words with their phones."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from openvalle.errors import find_choice
from openvalle.text.abbreviations import goes_on as sentence_goes_on
from openvalle.text.g2p import keep_one_primary, spell
from openvalle.text.homographs import PAUSE, choose_second, find_readings
from openvalle.text.language import CAPITAL, MORE, PLACEHOLDER, SMALL, UserLexicon, Word
from openvalle.text.lexicon import DEFAULT, LONGEST, cmu_lexicon, letter, lexicon, plural, read_interjection
from openvalle.text.normalize import normalize
from openvalle.text.phones import Phones, ask_espeak, is_vowel
from openvalle.text.rules import word_set
from openvalle.types import VOWELS

log = logging.getLogger(__name__)
_PASSIVE = word_set(
    "am is are was were be been being i'm isn't aren't wasn't weren't he's she's it's"
)  # used to open it
_NEAR = 12  # words of a sentence on each side that tell a homograph's reading
_LETTERS = rf"[^\W\d_{SMALL}{CAPITAL}{MORE}]+"
_PART = rf"{_LETTERS}(?:'{_LETTERS})*'?"
_WORD = re.compile(rf"(?P<given>{PLACEHOLDER.pattern})(?P<ending>'[sS]\b)?|'?{_PART}(?:-{_PART})*")
_PAUSE = re.compile(r"[,;:.!?()\[\]\n]|\s-+\s|\s\"|\"\s")
_STOP = re.compile(r"[.!?\n]")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Backend(StrEnum):
    """Where the pronunciation of English words comes from."""

    BUILTIN = "builtin"  # lexicons and a learned model, in the default install
    ESPEAK = "espeak"  # espeak-ng (GPL-3), for comparison; the extra 'espeak'


@dataclass(frozen=True)
class Token:
    """A word of a normal text."""

    text: str
    pause: bool  # punctuation of any kind follows
    stop: bool  # the sentence ends after it
    letter: bool = False  # one of the letters of a spelled word
    phones: Phones = ()  # if they are given
    start: int = 0  # where the word, or the compound that it is part of, stands in the normal text
    end: int = 0


def goes_on(before: str, after: str, is_whole: bool = True) -> bool | None:
    """Whether a sentence goes on after the full stop that ends `before` (see `FrontEnd`)."""
    return sentence_goes_on(before + after, 0, len(before), is_whole)


def is_word(word: str) -> bool:
    """Whether a lexicon has the word, in small letters."""
    return len(word) < LONGEST and (lexicon().lookup(word) is not None or word in cmu_lexicon())


def read_out(text: str) -> str:
    """Return the text with figures, signs and abbreviations in words."""
    return normalize(text).text


def phonemize(text: str, backend: str, lexicon: UserLexicon, given: Sequence[Word]) -> list[Word]:
    """Return the words of a text with their phones; none if nothing in it can be spoken (see `FrontEnd`)."""
    source = find_choice(Backend, backend, "phoneme back end")
    normal = normalize(text)
    if normal.dropped:
        log.warning("left out what cannot be spoken: %s", " ".join(normal.dropped))
    words = pronounce(tokenize(normal.text, given), lexicon, source)
    for word in words:
        if not word.phones:
            log.warning("left out what cannot be spoken: %s", word.text)
    return [word for word in words if word.phones]


def tokenize(text: str, given: Iterable[Word]) -> list[Token]:
    """Split normal text into words; compounds of the lexicon stay whole, others are split at the hyphen."""
    found = list(_WORD.finditer(text))
    ends = [*(match.start() for match in found[1:]), len(text)][: len(found)]
    tokens, waiting = [], iter(given)
    for match, end in zip(found, ends, strict=True):
        gap = text[match.end() : end]
        if match["given"]:
            word = next(waiting)
            phones = plural(word.phones) if match["ending"] else word.phones
            tokens.append(Token(word.text + (match["ending"] or ""), False, False, False, phones, *match.span()))
        else:
            parts = _parts(match.group())
            spelled = len(parts) > 1
            for part in parts:
                is_letter = spelled and len(part.split("'")[0]) == 1
                tokens.append(Token(part, False, False, is_letter, (), *match.span()))
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


def pronounce(tokens: Sequence[Token], user: UserLexicon, source: Backend = Backend.BUILTIN) -> list[Word]:
    """Return the words with their phones; none for what cannot be spoken."""
    espeak: Mapping[str, Phones] = {}
    if source is Backend.ESPEAK:
        espeak = ask_espeak({token.text.lower() for token in tokens})
    words: list[Word] = []
    for index in reversed(range(len(tokens))):  # backwards: "the" depends on the sound that follows
        token = tokens[index]
        following = words[-1].phones if words and not token.pause else ()
        phones = token.phones or _special(tokens, index, following, user) or espeak.get(token.text.lower())
        phones = phones or _pronounce(tokens, index)
        words.append(Word(token.text, phones, token.pause))
    return words[::-1]


def _special(tokens: Sequence[Token], index: int, following: Phones, user: UserLexicon) -> Phones | None:
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


def name_source(token: Token, user: UserLexicon) -> str:
    """Return where the phones of a word come from, in words for people."""
    lower = token.text.lower()
    if token.phones:
        return "given in the text"
    if lower in user or token.text in user:
        return "your lexicon"
    if token.letter or (len(token.text) == 1 and lower != "a"):
        return "name of a letter"
    readings = lexicon().lookup(token.text) or {}
    if find_readings(lower, readings) or (lower == "used" and "VBD" in readings):
        return "homograph, by its sentence"
    if "None" in readings or "DT" in readings or lower in ("the", "a"):
        return "lexicon, by what follows"
    if readings:
        return "lexicon"
    if read_interjection(token.text):
        return "sound"
    return "CMU dictionary" if lower.removesuffix("'s") in cmu_lexicon() else "guessed from its spelling"


def _pronounce(tokens: Sequence[Token], index: int) -> Phones:
    token = tokens[index]
    starts = index == 0 or tokens[index - 1].stop
    # at the head of a sentence a capital says nothing: polish, not Polish
    readings = lexicon().lookup(token.text.lower()) if starts and token.text.istitle() else None
    readings = readings or lexicon().lookup(token.text)
    if not readings and (sound := read_interjection(token.text)):
        return sound
    if not readings:
        return tuple(phone for part in _CAMEL.split(token.text) for phone in _guess(part))  # iPhone has two parts
    return _choose_reading(tokens, index, readings)


def _choose_reading(tokens: Sequence[Token], index: int, readings: Mapping[str, Phones]) -> Phones:
    """Return the reading that fits the sentence (see `homographs`)."""
    token = tokens[index]
    word, ends = token.text.lower(), token.pause or index + 1 == len(tokens)
    if word == "used" and "VBD" in readings:
        before = tokens[index - 1].text.lower() if index and not tokens[index - 1].stop else ""
        is_habit = not ends and tokens[index + 1].text.lower() == "to" and before not in _PASSIVE
        return readings["VBD" if is_habit else DEFAULT]
    if "None" in readings or "DT" in readings:  # a weak word: its strong form stands at the end of a clause
        return (readings.get("None") or readings["DT"]) if ends else readings[DEFAULT]
    found = find_readings(word, readings)
    if found is None:
        return readings[DEFAULT]
    kind, first, second = found
    return second if choose_second(kind, *_context(tokens, index)) else first


def _context(tokens: Sequence[Token], index: int) -> tuple[list[str], int, bool]:
    """Return the words of the sentence around a word, with its pauses, its place, and whether it has a capital."""
    start = end = index
    while start > max(0, index - _NEAR) and not tokens[start - 1].stop:
        start -= 1
    while end + 1 < min(len(tokens), index + _NEAR) and not tokens[end].stop:
        end += 1
    words: list[str] = []
    at = 0
    for place in range(start, end + 1):
        at = len(words) if place == index else at
        words += [tokens[place].text.lower(), *([PAUSE] if tokens[place].pause else [])]
    return words, at, tokens[index].text[:1].isupper()


def find_homographs(text: str, word: str) -> list[tuple[str, list[str], int, bool]]:
    """Return, for each time that a text has a homograph, what `choose_second` is asked."""
    tokens = tokenize(normalize(text).text, ())
    found = []
    for index, token in enumerate(tokens):
        readings = find_readings(word, lexicon().lookup(word) or {}) if token.text.lower() == word else None
        if readings:
            found.append((readings[0], *_context(tokens, index)))
    return found


def _guess(word: str) -> Phones:
    """Return the phones of a word no lexicon lists: its letters if it has no vowel, else a learned guess."""
    if listed := _look_up(word):
        return listed
    if not re.search("[aeiouy]", word, re.IGNORECASE) or len(word) == 1:
        return tuple(phone for each in word for phone in letter(each) or ())
    end = len(word)
    while end > 3 and word[end - 2 : end].lower() == "'s" and not listed:
        end -= 2
        listed = _look_up(word[:end]) if end <= LONGEST else None
    if not listed:
        stem = word[:end].lower()
        unstressed = cmu_lexicon().get(stem)
        listed = add_stress(unstressed, spell(stem)) if unstressed else spell(stem)
    phones = list(listed)
    for _ in range(end, len(word), 2):
        phones += plural(tuple(phones[-1:]))[1:]
    return tuple(phones)


def _look_up(word: str) -> Phones | None:
    readings = lexicon().lookup(word) if len(word) > 1 else None
    return readings[DEFAULT] if readings else None


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
