"""Readings that nobody can be sure of: words that no lexicon lists, foreign scripts, odd numbers.

They are written as a lexicon: each unknown word with the phones that it is spoken with now, under a line that says how
often and where it stands. Whoever corrects a line and gives the file as `--lexicon` has mended the reading.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from openvalle.files import write_text
from openvalle.synth.plan import ENGLISH_ALONE, Sentence
from openvalle.text.lexicon import cmu_lexicon, lexicon
from openvalle.text.spans import CHINESE, JAPANESE, Languages
from openvalle.types import ENGLISH, SIL

AROUND = 30  # characters of the text on each side of what is shown
MOST = 1000  # foreign words and odd numbers that are listed
_FOREIGN = re.compile(r"[^\W\d_\u0000-\u024f\u0250-\u02ff\u1e00-\u1eff\u2070-\u218f\ufb00-\ufb06\uff21-\uff5a]+")
_NUMBER = re.compile(r"(?<![\w.,:/-])[\w.,:/-]*\d[\w.,:/-]*\w|\d(?!\w)")
_USUAL = re.compile(  # numbers as books write them: 7, 1,234.5, 3rd, 1990s, 12:30, 1/2, 10-12, 5km
    r"\d{1,6}|\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.\d+|\d*(?:1st|2nd|3rd|\dth)|\d{2,4}'?s|\d{1,2}[:.]\d{2}(?:[ap]m)?|"
    r"\d{1,2}/\d{1,2}(?:/\d{2,4})?|\d{1,4}[-\u2013]\d{1,4}|\d+(?:\.\d+)?[a-zA-Z]{1,4}|[a-zA-Z]{1,4}-?\d{1,4}|\d{4}-\d{2}-\d{2}|"
    r"\d{1,3}-[a-zA-Z-]+|\d+(?:\.\d+)?[km]?m[/]h"
)


@dataclass
class Doubt:
    """Something whose reading is not sure. `phones`: of a word, as it is spoken now."""

    written: str
    place: str
    phones: tuple[str, ...] = ()
    count: int = 1


class Doubts:
    """Collects what is not sure in a book. `sure`: words whose pronunciation a person gave."""

    def __init__(self, sure: Collection[str] = ()) -> None:
        self._sure = {word.casefold() for word in sure}
        self.words: dict[str, Doubt] = {}
        self.foreign: dict[str, Doubt] = {}
        self.numbers: dict[str, Doubt] = {}

    def __len__(self) -> int:
        return len(self.words) + len(self.foreign) + len(self.numbers)

    def read_chapter(self, place: str, text: str, languages: Languages = ENGLISH_ALONE) -> None:
        """Look for foreign scripts and odd numbers in a chapter's text, if it is English."""
        if languages.find(text) in (CHINESE, JAPANESE):  # whose own signs are not foreign
            return
        for match in _FOREIGN.finditer(text):
            _note(self.foreign, match[0], f"{place}: {_show(text, *match.span())}")
        for match in _NUMBER.finditer(text):
            if not _USUAL.fullmatch(match[0].strip(".,:/-")):
                _note(self.numbers, match[0], f"{place}: {_show(text, *match.span())}")

    def read_sentence(self, place: str, sentence: Sentence, given: Collection[str] = ()) -> None:
        """Look for words that no lexicon lists, in English. `given`: words that the text gives the phones of."""
        if sentence.language != ENGLISH:
            return
        for index, word in enumerate(sentence.words):
            key = word.casefold().strip("'")
            if key in self._sure or word in given or is_listed(word):
                continue
            if key in self.words:
                self.words[key].count += 1
                continue
            phones = tuple(
                symbol
                for symbol, owner in zip(sentence.symbols, sentence.owners, strict=True)
                if owner == index and symbol != SIL
            )
            at = sentence.text.find(word)
            shown = _show(sentence.text, at, at + len(word)) if at >= 0 else sentence.text[: 2 * AROUND]
            self.words[key] = Doubt(word.strip("'"), f"{place}: {shown}", phones)

    def write(self, path: Path, title: str) -> Path:
        """Write the report, a lexicon; return its path."""
        return write_text(path, "\n".join(self._lines(title)) + "\n")

    def _lines(self, title: str) -> Iterator[str]:
        yield f"# Readings in {title} that are not sure. Correct the phones and give this file with --lexicon."
        for doubt in sorted(self.words.values(), key=lambda doubt: -doubt.count):
            yield f"# {_times(doubt)} {doubt.place}"
            yield f"{doubt.written}\t{' '.join(doubt.phones)}"
        if self.foreign:
            yield "# Letters that cannot be read: they are left out. Write them in Latin letters in the book."
        for doubt in self.foreign.values():
            script = unicodedata.name(doubt.written[0], "UNKNOWN").partition(" ")[0].capitalize()
            yield f"# {script}, {_times(doubt)} {doubt.place}"
        if self.numbers:
            yield "# Numbers of an unusual form: write them in the book as they are to be said."
        for doubt in self.numbers.values():
            yield f"# {_times(doubt)} {doubt.place}"


def is_listed(word: str) -> bool:
    """Return True if a lexicon lists a word, or what it is a form of; a letter needs no list."""
    bare = word.strip("'")
    return len(bare) < 2 or lexicon().lookup(bare) is not None or bare.lower() in cmu_lexicon()


def _note(doubts: dict[str, Doubt], written: str, place: str) -> None:
    if written in doubts:
        doubts[written].count += 1
    elif len(doubts) < MOST:
        doubts[written] = Doubt(written, place)


def _times(doubt: Doubt) -> str:
    return "once, in" if doubt.count == 1 else f"{doubt.count} times, first in"


def _show(text: str, start: int, end: int) -> str:
    """Return what stands at a place with a little of what is around it, on one line."""
    before, after = text[max(0, start - AROUND) : start], text[end : end + AROUND]
    shown = f"{before[before.find(' ') + 1 :] if start > AROUND else before}{text[start:end][:80]}{after}"
    return f'"{" ".join(shown.split())}"'
