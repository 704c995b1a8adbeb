"""Markup in text: pauses, voices, rates, pronunciations. What is no markup is text; what cannot be honoured is noted.

`[pause:0.8s]`, `[voice:name]`, `[rate:0.9]`, `[lang:zh]`, `[word](/IPA/)`, `[word](=respelling)`, `[S1]` for
speakers; `\\[` is a bracket.
Tags are read into passages, each said in one manner, and so is SSML by `openvalle.text.ssml`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain

from openvalle.errors import TextError, find_choice
from openvalle.text.language import Word, clear_places, find_language, hold_place
from openvalle.text.phones import Phones, UnknownSound, read_pronunciation, read_respelling
from openvalle.text.rules import regex
from openvalle.text.written import read_written

LONGEST_PAUSE = 60.0  # seconds
SPEEDS = (0.5, 2.0)
_SECONDS = regex(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s)?")


@dataclass(frozen=True)
class Passage:
    """Text to say in one manner. `place` is where its voice was named, for messages."""

    text: str
    voice: str | None = None
    speed: float = 1.0  # of speaking; 2 is twice as fast
    pause: float | None = None  # seconds of silence after it; None: what its punctuation asks for
    place: str = ""
    language: str | None = None  # None: that of the text
    given: tuple[Word, ...] = ()  # words with their phones, for which the `PLACEHOLDER`s of the text stand


@dataclass(frozen=True)
class MarkedText:
    """A text without its markup."""

    passages: tuple[Passage, ...]
    notes: tuple[str, ...] = ()  # what could not be honoured, with its place
    lead: float = 0.0  # seconds of silence before the first passage


class Builder:
    """Collects passages while markup is read."""

    def __init__(self) -> None:
        self.voice: str | None = None
        self.speed = 1.0
        self.language: str | None = None
        self.place = ""
        self.lead = 0.0
        self.passages: list[Passage] = []
        self.notes: list[str] = []
        self.text: list[str] = []
        self.given: list[Word] = []

    def say(self, text: str) -> None:
        """Add text in the present manner."""
        self.text.append(clear_places(text))

    def mark(self, word: str, phones: Phones) -> None:
        """Add a word that sounds as given."""
        self.given.append(Word(word, phones))
        self.text.append(hold_place(self.given[-1]))

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
        text, given = "".join(self.text), tuple(self.given)
        self.text, self.given = [], []
        if text.strip():
            where = self.place if self.voice else ""
            self.passages.append(Passage(text, self.voice, self.speed, None, where, self.language, given))
        self.place = place or self.place

    def note(self, place: str, what: str) -> None:
        """Remember what is not honoured."""
        self.notes.append(f"{place}: {what}")

    def finish(self) -> MarkedText:
        """Return what was read."""
        self.turn()
        return MarkedText(tuple(self.passages), tuple(self.notes), self.lead)


class Places:
    """Names the places of a text."""

    def __init__(self, text: str) -> None:
        self._breaks = [found.start() for found in re.finditer("\n", text)]

    def at(self, offset: int) -> str:
        """Return `line 2, column 5`."""
        line = bisect_left(self._breaks, offset)
        return f"line {line + 1}, column {offset - (self._breaks[line - 1] if line else -1)}"


def read_seconds(value: str) -> float | None:
    """Return the seconds of `0.8s`, `800ms` or `0.8`; None for anything else or more than a minute."""
    found = _SECONDS.fullmatch(value.strip())
    if not found:
        return None
    seconds = float(found[1]) / (1000 if found[2] == "ms" else 1)
    return seconds if seconds <= LONGEST_PAUSE else None


def read_speed(value: str) -> float | None:
    """Return the speed of `0.9` or `90%`; None for anything else or outside of `SPEEDS`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)(%?)", value.strip())
    speed = float(found[1]) / (100 if found[2] else 1) if found else 0.0
    return speed if SPEEDS[0] <= speed <= SPEEDS[1] else None


def read_phones(transcription: str, place: str) -> Phones:
    """Return the phones of a transcription; `TextError` names the sign that stands for no sound."""
    try:
        phones = read_written(transcription) or read_pronunciation(transcription)
    except UnknownSound as error:
        raise TextError(
            f"{place}: {error.sign!r} in /{transcription}/ stands for no English sound",
            "use IPA, ARPAbet, pinyin or kana, for example /f\u0259\u02c8ni\u02d0mz/ or /F AH0 N IY1 M Z/",
        ) from None
    if not phones:
        raise TextError(f"{place}: /{transcription}/ holds no sound", "write the pronunciation between the slashes")
    return phones


def change_language(builder: Builder, name: str, place: str) -> None:
    """Go on in another language, or with no name in the text's own; one that cannot be read is noted."""
    try:
        code = find_language(name).code if name else None
    except TextError as error:
        builder.note(place, f"{error.what}: its words are read as those around them")
        return
    builder.turn()
    builder.language = code


NAMES = ("pause", "voice", "rate", "lang")
SOUNDS = "laugh laughs laughter chuckle sigh sighs gasp cough coughs breath sniff groan yawn music applause whisper"
_TOKEN = regex(
    r"\\(?P<bracket>[\[\]])"
    r"|\[(?P<word>[^\[\]\n]+)\]\((?:/(?P<sounds>[^/\n\[\]]*)(?P<closed>/\))?|=(?P<respelling>[^()\n\[\]]*)(?P<ended>\))?)"
    r"|\[(?P<name>[a-z]+):(?P<value>(?=[^\s\]])[^\[\]\n]*|)(?P<end>\])?"
    r"|\[(?P<speaker>S\d+)\]"
    r"|\[(?P<bare>pause)\]"
    rf"|\[(?P<sound>{'|'.join(SOUNDS.split())})\]"
)


class Markup(StrEnum):
    """How a text is marked up."""

    AUTO = "auto"  # SSML if the text begins with <speak>, else tags
    TAGS = "tags"
    SSML = "ssml"
    NONE = "none"  # the text is read as it stands


def choose_markup(text: str, markup: Markup | str = Markup.AUTO) -> Markup:
    """Return the markup of a text, by its name or, for `auto`, as the text begins; `ConfigError` if unknown."""
    chosen = find_choice(Markup, markup, "markup")
    if chosen is not Markup.AUTO:
        return chosen
    return Markup.SSML if re.match(r"\s*(<\?xml[^>]*>\s*)?<speak[\s>/]", text) else Markup.TAGS


def parse_tags(text: str) -> MarkedText:
    """Return the passages of a text with tags; `TextError` says where one is malformed."""
    builder, places = Builder(), Places(text)
    at = 0
    for found in _TOKEN.finditer(text):
        builder.say(text[at : found.start()])
        at = found.end()
        _apply(builder, found, places.at(found.start()))
    builder.say(text[at:])
    return builder.finish()


def _apply(builder: Builder, found: re.Match[str], place: str) -> None:
    """Do what a tag says."""
    if found["bracket"]:
        builder.say(found["bracket"])
    elif found["word"]:
        builder.mark(found["word"].strip(), _read_given(found, place))
    elif found["speaker"]:
        builder.turn(place)
        builder.voice = found["speaker"]
    elif found["sound"]:
        builder.note(place, f"{found.group()} cannot be made: it is left out")
    elif found["bare"]:
        raise TextError(f"{place}: [pause] has no length", "write for example [pause:0.8s]")
    else:
        _set(builder, found, place)


def _read_given(found: re.Match[str], place: str) -> Phones:
    """Return the phones that a word is given: `(/IPA/)` or `(=respelling)`."""
    if not found["closed"] and not found["ended"]:
        sign = "/)" if found["respelling"] is None else ")"
        raise TextError(f"{place}: the pronunciation of {found['word']!r} does not end", f"close it with {sign}")
    if found["respelling"] is None:
        return read_phones(found["sounds"], place)
    try:
        phones = read_respelling(found["respelling"])
    except UnknownSound as error:
        what = f"{place}: {error.sign!r} in ={found['respelling']} stands for no English sound"
        raise TextError(what, "write syllables such as tuh-MAH-toh") from None
    if not phones:
        raise TextError(
            f"{place}: the respelling of {found['word']!r} holds no sound", "write for example (=tuh-MAH-toh)"
        )
    return phones


class ArrivingMarkup:
    """A text that arrives in pieces, in which words are given their pronunciation; `given`: the words, as they come."""

    def __init__(self, pieces: Iterable[str]) -> None:
        self._pieces = pieces
        self.given: deque[Word] = deque()

    def __iter__(self) -> Iterator[str]:
        waiting = ""
        for piece in chain(self._pieces, (None,)):
            waiting += piece or ""
            opened = waiting.rfind("[")
            is_open = piece is not None and opened >= 0 and _OPEN.fullmatch(waiting, opened) is not None
            ready, waiting = (waiting[:opened], waiting[opened:]) if is_open else (waiting, "")
            if ready:
                yield _PRONUNCIATION.sub(self._mark, clear_places(ready))

    def _mark(self, found: re.Match[str]) -> str:
        word = Word(found["word"].strip(), _read_given(found, "the text"))
        self.given.append(word)
        return hold_place(word)


_PRONUNCIATION = regex(
    r"\[(?P<word>[^\[\]\n]+)\]\((?:/(?P<sounds>[^/\n\[\]]*)(?P<closed>/\))|=(?P<respelling>[^()\n\[\]]*)(?P<ended>\)))"
)
_OPEN = regex(r"\[[^\[\]\n]{0,80}(?:\](?:\((?:/[^/\n\[\]]{0,80}/?|=[^()\n\[\]]{0,80})?)?)?")  # the beginning of one


def _set(builder: Builder, found: re.Match[str], place: str) -> None:
    """Apply `[name:value]`."""
    name, value = found["name"], found["value"].strip()
    if not found["end"]:
        if name in NAMES:
            raise TextError(f"{place}: the tag [{name}: does not end", "close it with ]")
        builder.say(found.group())
        return
    if name == "pause":
        builder.pause(_require(read_seconds(value), found, place, f"0 to {LONGEST_PAUSE:.0f} seconds, as [pause:0.8s]"))
    elif name == "rate":
        speed = _require(read_speed(value), found, place, f"a rate from {SPEEDS[0]} to {SPEEDS[1]}, as [rate:0.9]")
        builder.turn()
        builder.speed = speed
    elif name == "voice":
        builder.turn(place)
        builder.voice = value or None
    elif name == "lang":
        change_language(builder, value, place)
    else:
        builder.note(place, f"{found.group()} is not known: it is left out")


def _require(value: float | None, found: re.Match[str], place: str, what: str) -> float:
    if value is None:
        raise TextError(f"{place}: {found.group()} cannot be read", f"write {what}")
    return value
