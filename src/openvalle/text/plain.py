"""A language that has only a lexicon, or a table of what its letters say: enough where spelling is regular.

A folder `languages/eo` in the folder of the user's data makes the language `eo`: `lexicon.tsv` (word, tab, phones) and
`letters.tsv` (letters, tab, phones; the longest letters first, none: they are silent), one of them at least. Phones
are IPA (openvalle.text.ipa). A word with a mark of stress in neither is stressed nowhere.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from openvalle.errors import TextError, UserError
from openvalle.hub import home
from openvalle.pipes import read_given_text
from openvalle.text.ipa import from_ipa
from openvalle.text.language import PLACEHOLDER, Language, UserLexicon, Word, keep_apart
from openvalle.text.phones import Phones, UnknownSound

log = logging.getLogger(__name__)

LEXICON, LETTERS = "lexicon.tsv", "letters.tsv"
_WORD = re.compile(rf"(?P<given>{PLACEHOLDER.pattern})|\w[\w\u0300-\u036f'\u2019-]*")
_PAUSE = re.compile(r"[,;:.!?()\[\]\n\u2026\u2014\u3001\u3002]")
_CODE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{1,8}){0,3}")


def find(code: str) -> Language | None:
    """Return the row of a language of the user's folder; None if it is not there."""
    if not _CODE.fullmatch(code):
        return None
    try:
        folder = home() / "languages" / code
    except UserError:
        return None
    return read_language(code, folder) if folder.is_dir() else None


@cache
def read_language(code: str, folder: Path) -> Language:
    """Return the row of a language from its folder; `TextError` if the folder holds neither of the two files."""
    if not any((folder / name).is_file() for name in (LEXICON, LETTERS)):
        raise TextError(f"{folder} holds no language", f"put a {LEXICON} or a {LETTERS} into it")
    tables = [_read_table(folder / name) if (folder / name).is_file() else {} for name in (LEXICON, LETTERS)]
    return Language(code, f"{code} (from {folder.name})", lambda: PlainFrontEnd(*tables))


def _read_table(path: Path) -> dict[str, Phones]:
    """Return what stands before and after the tab of each line; `TextError` names the line that is none."""
    table: dict[str, Phones] = {}
    for number, line in enumerate(read_given_text(path, "the table").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        written, tab, sounds = line.partition("\t")
        if not tab or not written.strip():
            raise TextError(f"{path}, line {number}: not letters, a tab and their phones", "write for example: ŝ<TAB>ʃ")
        try:
            table[written.strip().lower()] = from_ipa(sounds.strip(), is_strict=True)
        except UnknownSound as error:
            raise TextError(f"{path}, line {number}: {error.sign!r} stands for no sound", "write IPA") from None
    return table


@dataclass(frozen=True)
class PlainFrontEnd:
    """Reads words by a lexicon, and others by their letters."""

    words: Mapping[str, Phones] = field(default_factory=dict)
    letters: Mapping[str, Phones] = field(default_factory=dict)

    def goes_on(self, before: str, after: str, is_whole: bool = True) -> bool | None:
        """Whether a sentence goes on after a full stop: after a single letter."""
        return re.search(r"(?:^|\W)[^\W\d_]\.$", before) is not None

    def is_word(self, word: str) -> bool:
        """Whether the lexicon has the word."""
        return word in self.words

    def read_out(self, text: str) -> str:
        """Return the text as it is."""
        return text

    def phonemize(self, text: str, backend: str, lexicon: UserLexicon, given: Sequence[Word]) -> list[Word]:
        """Return the words of a text with their phones; none if nothing in it can be spoken (see `FrontEnd`)."""
        found = list(_WORD.finditer(text))
        ends = [*(match.start() for match in found[1:]), len(text)][: len(found)]
        waiting, words = iter(given), []
        for match, end in zip(found, ends, strict=True):
            pause = _PAUSE.search(text[match.end() : end]) is not None
            if match["given"]:
                word = next(waiting)
                words.append(Word(word.text, word.phones, pause))
                continue
            spelling = match.group()
            key = spelling.lower()
            phones = lexicon.get(spelling) or lexicon.get(key) or self.words.get(key) or self._spell(key)
            if phones:
                words.append(Word(spelling, phones, pause))
            else:
                log.warning("left out what cannot be spoken: %s", spelling)
        return keep_apart(words)

    def _spell(self, word: str) -> Phones:
        """Return the phones of a word's letters, the longest that the table has first."""
        return tuple(phone for piece in self._pieces(word) for phone in self.letters[piece])

    def _pieces(self, word: str) -> Iterator[str]:
        longest, at = max(map(len, self.letters), default=0), 0
        while at < len(word):
            piece = next(
                (word[at : at + size] for size in range(longest, 0, -1) if word[at : at + size] in self.letters), ""
            )
            if piece:
                yield piece
            at += len(piece) or 1
