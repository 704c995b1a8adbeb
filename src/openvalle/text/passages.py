"""What markup is read into: passages, each said in one manner, with pronunciations, pauses and notes."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from openvalle.errors import TextError
from openvalle.text.language import find_language
from openvalle.text.phones import Phones, UnknownSound, read_pronunciation

LONGEST_PAUSE = 60.0  # seconds
RATES = (0.5, 2.0)
_STAND_IN = re.compile(r"[Qq]z([a-p]{8,64})zq")
_STAND_INS = re.compile(rf"(?={_STAND_IN.pattern})")
_SECONDS = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s)?")


@dataclass(frozen=True)
class Passage:
    """Text to say in one manner. `place` is where its voice was named, for messages."""

    text: str
    voice: str | None = None
    rate: float = 1.0
    pause: float | None = None  # seconds of silence after it; None: what its punctuation asks for
    place: str = ""


@dataclass(frozen=True)
class Marked:
    """A text without its markup.

    Words that were given a pronunciation stand in the passages as made-up words: `lexicon` says how these sound and
    `shown` what they stand for.
    """

    passages: tuple[Passage, ...]
    lexicon: Mapping[str, Phones] = field(default_factory=dict)
    shown: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what could not be honoured, with its place
    lead: float = 0.0  # seconds of silence before the first passage


class Builder:
    """Collects passages while markup is read."""

    def __init__(self, source: str) -> None:
        self.taken = {found[1] for found in _STAND_INS.finditer(source.lower())}  # made-up words of the text itself
        self.voice: str | None = None
        self.rate = 1.0
        self.place = ""
        self.lead = 0.0
        self.passages: list[Passage] = []
        self.notes: list[str] = []
        self.lexicon: dict[str, Phones] = {}
        self.shown: dict[str, str] = {}
        self.text: list[str] = []

    def say(self, text: str) -> None:
        """Add text in the present manner."""
        self.text.append(text)

    def mark(self, word: str, phones: Phones) -> None:
        """Add a word that sounds as given."""
        stand_in = self._stand_in(word, phones)
        self.lexicon[stand_in] = phones
        self.shown[stand_in] = word
        self.say(stand_in)

    def pause(self, seconds: float, at_least: bool = False) -> None:
        """Be silent; pauses that follow each other add up, or with `at_least` the longer one counts."""
        self.turn()
        if not self.passages:
            self.lead = max(self.lead, seconds) if at_least else self.lead + seconds
            return
        last = self.passages[-1]
        before = last.pause or 0.0
        self.passages[-1] = replace(last, pause=max(before, seconds) if at_least else before + seconds)

    def turn(self, place: str = "") -> None:
        """End the passage, because what follows is said in another manner."""
        text = "".join(self.text)
        self.text = []
        if text.strip():
            self.passages.append(Passage(text, self.voice, self.rate, None, self.place if self.voice else ""))
        self.place = place or self.place

    def note(self, place: str, what: str) -> None:
        """Remember what is not honoured."""
        self.notes.append(f"{place}: {what}")

    def finish(self) -> Marked:
        """Return what was read."""
        self.turn()
        return Marked(tuple(self.passages), self.lexicon, self.shown, tuple(self.notes), self.lead)

    def _stand_in(self, word: str, phones: Phones) -> str:
        """Return a made-up word that the text does not hold, with a capital where the marked word has one."""
        letters = str.maketrans("0123456789", "ghijklmnop")
        digest = hashlib.sha256(f"{word} {' '.join(phones)}".encode()).hexdigest().translate(letters)
        ends = (end for end in range(8, len(digest)) if digest[:end] not in self.taken)
        made_up = f"qz{digest[: next(ends)]}zq"
        return made_up.capitalize() if word[:1].isupper() else made_up


class Places:
    """Names the places of a text."""

    def __init__(self, text: str) -> None:
        self._breaks = [found.start() for found in re.finditer("\n", text)]

    def at(self, offset: int) -> str:
        """Return `line 2, column 5`."""
        line = bisect_left(self._breaks, offset)
        return f"line {line + 1}, column {offset - (self._breaks[line - 1] if line else -1)}"


def restore_words(text: str, shown: Mapping[str, str]) -> str:
    """Return a text with the words for which made-up ones stand."""
    return _STAND_IN.sub(lambda found: shown.get(found[0], found[0]), text) if shown else text


def read_seconds(value: str) -> float | None:
    """Return the seconds of `0.8s`, `800ms` or `0.8`; None for anything else or more than a minute."""
    found = _SECONDS.fullmatch(value.strip())
    if not found:
        return None
    seconds = float(found[1]) / (1000 if found[2] == "ms" else 1)
    return seconds if seconds <= LONGEST_PAUSE else None


def read_rate(value: str) -> float | None:
    """Return the rate of `0.9` or `90%`; None for anything else or outside of `RATES`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)(%?)", value.strip())
    rate = float(found[1]) / (100 if found[2] else 1) if found else 0.0
    return rate if RATES[0] <= rate <= RATES[1] else None


def read_phones(transcription: str, place: str) -> Phones:
    """Return the phones of a transcription; `TextError` names the sign that stands for no sound."""
    try:
        phones = read_pronunciation(transcription)
    except UnknownSound as error:
        raise TextError(
            f"{place}: {error.sign!r} in /{transcription}/ stands for no English sound",
            "use IPA or ARPAbet, for example /f\u0259\u02c8ni\u02d0mz/ or /F AH0 N IY1 M Z/",
        ) from None
    if not phones:
        raise TextError(f"{place}: /{transcription}/ holds no sound", "write the pronunciation between the slashes")
    return phones


def note_language(builder: Builder, name: str, place: str) -> None:
    """Note a language that cannot be spoken."""
    try:
        find_language(name)
    except TextError as error:
        builder.note(place, f"{error.what}: it is read as English")
