"""The front end of American English: text -> words with their phones.

Some words sound as their neighbours ask for: read, live, use, record, close, used to. The lexicon gives such words one
reading per part of speech. Rules over the word before and after guess the part of speech; they are ordered from the
surest to the least sure, and where none applies the lexicon's default is taken.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from openvalle.errors import find_choice
from openvalle.text.abbreviations import goes_on as sentence_goes_on
from openvalle.text.g2p import keep_one_primary, spell
from openvalle.text.language import CAPITAL, MORE, PLACEHOLDER, SMALL, UserLexicon, Word
from openvalle.text.lexicon import DEFAULT, LONGEST, cmu_lexicon, letter, lexicon, plural, read_interjection
from openvalle.text.normalize import normalize
from openvalle.text.phones import Phones, ask_espeak, is_vowel
from openvalle.types import VOWELS

# fmt: off
_ARTICLES = frozenset({
    "a", "an", "the", "this", "these", "those", "my", "your", "his", "its", "our", "their", "no", "every", "each",
    "some", "any", "another", "whose", "both", "many", "much", "more", "most", "few", "several", "all", "her", "such",
})
_MODALS = frozenset({
    "to", "will", "would", "can", "could", "shall", "should", "may", "might", "must", "do", "does", "did", "don't",
    "doesn't", "didn't", "won't", "wouldn't", "can't", "cannot", "couldn't", "shouldn't", "let's", "please",
    "i'll", "you'll", "he'll", "she'll", "it'll", "we'll", "they'll", "i'd", "you'd", "he'd", "she'd", "we'd",
    "they'd", "help", "let", "lets", "gonna", "wanna",
})
_HAVE = frozenset({"have", "has", "had", "having", "i've", "you've", "we've", "they've", "haven't", "hasn't", "hadn't"})
_BE = frozenset({
    "am", "is", "are", "was", "were", "be", "been", "being", "i'm", "you're", "he's", "she's", "it's", "we're",
    "they're", "isn't", "aren't", "wasn't", "weren't", "get", "gets", "got", "getting", "become", "becomes",
    "became", "seem", "seems", "seemed", "stay", "stayed", "very", "too", "so", "quite",
})
_SUBJECTS = frozenset({"i", "you", "he", "she", "it", "we", "they", "who", "which", "people", "there"})
_PREPOSITIONS = frozenset({
    "of", "in", "on", "at", "by", "for", "with", "from", "into", "about", "after", "before", "under", "over",
    "without", "through", "between", "against", "during", "near", "like", "than", "as", "up", "out", "off", "down",
})
_OBJECTS = frozenset({"it", "them", "him", "me", "us", "you", "this", "that", "these", "those", "her", "himself"})
_ADVERBS = frozenset({"not", "never", "also", "always", "often", "just", "still", "now", "ever", "even", "both", "all"})
_CLOSERS = frozenset({  # words after which a phrase is over: what stands before them is no adjective
    "is", "are", "was", "were", "be", "been", "has", "have", "had", "will", "would", "can", "could", "may", "should",
    "and", "or", "but", "that", "which", "who", "to", "when", "while", "if", "because", "where", "then", "does", "did",
})
_METAL = frozenset({
    "pipe", "pipes", "paint", "poisoning", "acid", "bullet", "bullets", "pencil", "pencils", "shot", "ore", "mine",
    "mines", "weights", "weight", "balloon", "roof", "crystal", "oxide", "solder",
})
_USED_TO_AFTER = frozenset({"am", "i'm", "we're", "they're", "get", "gets", "got", "getting", "become", "not"})
_PARTICLES = frozenset({"up", "down", "off", "apart", "away", "open"})
_DEGREE = frozenset({"very", "so", "too", "quite", "most", "more"})
_DEFINITE = frozenset({"a", "an", "the", "its", "their"})
_RARE = {  # readings that need one of these words before them
    "close": ("NOUN", _DEFINITE), "closer": ("NOUN", _DEFINITE), "minute": ("ADJ", _DEGREE),
    "minutes": ("ADJ", frozenset[str]()), "learned": ("ADJ", _DEFINITE | _DEGREE | {"his", "my", "our", "your", "her"}),
}
_NEARBY = frozenset({"to", "by", "at", "together", "behind", "beside", "enough", "upon", "beneath", "under"})
# fmt: on
_LEAD_METAL: Phones = ("L", "EH1", "D")


def choose_reading(
    word: str, readings: Mapping[str, Phones], before: list[str], after: str | None, ends: bool = False
) -> Phones:
    """Return the reading that fits.

    `before` holds up to two earlier words of the sentence (nearest last), `after` the next one, None at the end of
    the clause; all in small letters. `ends` says that a pause follows.
    """
    if word == "lead" and (after in _METAL or before[-2:] == ["made", "of"] or before[-1:] == ["molten"]):
        return _LEAD_METAL
    if len(readings) == 1:
        return readings[DEFAULT]
    if word == "used":
        passive = before and before[-1] in _BE and before[-1] not in _USED_TO_AFTER
        return readings.get("VBD" if after == "to" and not passive else DEFAULT, readings[DEFAULT])
    if "None" in readings or "DT" in readings:  # a weak word: its strong form stands at the end of a clause
        strong = readings.get("None") or readings["DT"]
        return strong if ends else readings[DEFAULT]
    rare, needed = _RARE.get(word, ("", frozenset()))
    for tag in _tags(word, readings, before, after):
        if tag in readings and (tag != rare or (before[-1:] and before[-1] in needed)):
            return readings[tag]
    return readings[DEFAULT]


def _tags(word: str, readings: Mapping[str, Phones], before: list[str], after: str | None) -> tuple[str, ...]:
    """Return the parts of speech to try, likeliest first."""
    previous = _head(before)
    if previous in _MODALS:
        return ("VERB", DEFAULT)
    if word == "close" and after in _NEARBY:
        return (DEFAULT,)  # close to the door
    if word in ("tear", "wind", "bow", "close") and after in _PARTICLES:
        return ("VERB", DEFAULT)
    if previous is None:
        imperative = after in _ARTICLES or after in _OBJECTS
        return ("VERB", DEFAULT) if imperative else ("NOUN",) if after in _CLOSERS else ("ADJ", DEFAULT)
    if previous in _HAVE:
        return ("VBN", "VERB") if after in _ARTICLES or after in _OBJECTS else ("VBN", DEFAULT)
    if previous in _BE:
        return ("VBN", "ADJ", DEFAULT)
    if previous in _SUBJECTS:
        return ("VBD", "VERB", DEFAULT)
    # "that close friend", "Anna's use of it", "in use"
    if previous in _ARTICLES or previous in _PREPOSITIONS or previous == "that" or previous.endswith("'s"):
        return _noun_or_modifier(readings, after)
    return _loose(word, readings, before, after)


def _head(before: list[str]) -> str | None:
    """Return the nearest earlier word that is not an adverb."""
    for word in reversed(before):
        if word not in _ADVERBS and not (word.endswith("ly") and len(word) > 4):
            return word
    return before[0] if before else None


def _noun_or_modifier(readings: Mapping[str, Phones], after: str | None) -> tuple[str, ...]:
    phrase_over = after is None or after in _CLOSERS or after in _PREPOSITIONS or after in _ARTICLES
    if phrase_over or ("ADJ" not in readings and "VERB" not in readings):
        return ("NOUN", DEFAULT)
    return ("ADJ", DEFAULT)


def _loose(word: str, readings: Mapping[str, Phones], before: list[str], after: str | None) -> tuple[str, ...]:
    """Guess from the next word and the shape of the phrase, after a noun, an adjective or an unknown word."""
    previous = before[-1]
    plural = previous.endswith("s") and not previous.endswith(("ss", "us", "is", "ous"))
    if (
        (plural or previous in ("men", "women", "children"))
        and after in _PREPOSITIONS
        and word not in ("present", "close")
    ):
        return ("VERB", DEFAULT)
    if not plural and len(before) > 1 and (before[-2] in _ARTICLES or before[-2] in _PREPOSITIONS):
        return _noun_or_modifier(readings, after)  # the upper house
    if after in _ARTICLES or (after in _OBJECTS and after != "that"):
        return ("VERB", DEFAULT)
    if previous in ("and", "or", "but", "then", "not"):
        return ("VERB", DEFAULT) if word == "live" else (DEFAULT,)
    return ("NOUN", DEFAULT) if after is None or after in _CLOSERS else (DEFAULT,)


log = logging.getLogger(__name__)
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
class _Token:
    text: str
    pause: bool  # punctuation of any kind follows
    stop: bool  # the sentence ends after it
    letter: bool = False  # one of the letters of a spelled word
    phones: Phones = ()  # if they are given


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
    return _pronounce_all(_tokens(normal.text, given), lexicon, source)


def _tokens(text: str, given: Iterable[Word]) -> list[_Token]:
    """Split normal text into words; compounds of the lexicon stay whole, others are split at the hyphen."""
    found = list(_WORD.finditer(text))
    ends = [*(match.start() for match in found[1:]), len(text)][: len(found)]
    tokens, waiting = [], iter(given)
    for match, end in zip(found, ends, strict=True):
        gap = text[match.end() : end]
        if match["given"]:
            word = next(waiting)
            phones = plural(word.phones) if match["ending"] else word.phones
            tokens.append(_Token(word.text + (match["ending"] or ""), False, False, phones=phones))
        else:
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
        espeak = ask_espeak({token.text.lower() for token in tokens})
    words: list[Word] = []
    for index in reversed(range(len(tokens))):  # backwards: "the" depends on the sound that follows
        token = tokens[index]
        following = words[-1].phones if words and not token.pause else ()
        phones = token.phones or _special(tokens, index, following, user) or espeak.get(token.text.lower())
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
    if not readings and (sound := read_interjection(token.text)):
        return sound
    if not readings:
        return tuple(phone for part in _CAMEL.split(token.text) for phone in _guess(part))  # iPhone has two parts
    if len(readings) == 1 and token.text.lower() != "lead":
        return readings[DEFAULT]
    start = index
    while start > max(0, index - 2) and not tokens[start - 1].stop:
        start -= 1
    before = [earlier.text.lower() for earlier in tokens[start:index]]  # up to two words of the same sentence
    after = None if token.pause or index + 1 == len(tokens) else tokens[index + 1].text.lower()
    return choose_reading(token.text.lower(), readings, before, after, ends=after is None)


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
