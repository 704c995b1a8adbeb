"""The languages that can be spoken, a row each, and what the front end of a language gives: words with their phones.

To add a language: a file with its front end (see `FrontEnd`), and a row here (docs/extending.md).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from typing import Any, Protocol, cast

from openvalle.errors import TextError
from openvalle.text.phones import BORDER, Phones
from openvalle.text.spans import find_spans
from openvalle.types import ENGLISH, PHONES, SIL

UserLexicon = Mapping[str, Phones]


@dataclass(frozen=True)
class Word:
    """A spoken word, its phones, and whether the punctuation after it asks for a pause."""

    text: str
    phones: Phones
    pause: bool = False


# What stands in a text for a word that is given with its phones: letters, so that every rule sees a word there, with or
# without a capital, as long as the word takes to say. They are of the Deseret script, which nobody needs to have read.
SMALL, CAPITAL, MORE = "\U00010428", "\U00010400", "\U00010429"
PLACEHOLDER = re.compile(f"[{SMALL}{CAPITAL}]{MORE}*")


def hold_place(word: Word) -> str:
    """Return what stands in a text for a word that is given with its phones."""
    return (CAPITAL if word.text[:1].isupper() else SMALL).ljust(max(len(word.text), len(word.phones)), MORE)


def fill_in(text: str, given: Iterable[Word]) -> str:
    """Return the text with the given words in their places, in order."""
    names = (word.text for word in given)
    return PLACEHOLDER.sub(lambda _: next(names), text).replace(MORE, "") if given else text


def clear_places(text: str) -> str:
    """Return a text as people write it, in which nothing may be taken for a given word."""
    return re.sub(f"[{SMALL}{CAPITAL}{MORE}]", "\ufffd", text)


class FrontEnd(Protocol):
    """What reads the texts of one language: a module, or an object."""

    def goes_on(self, before: str, after: str, is_whole: bool = True) -> bool | None:
        """Whether the sentence goes on after the full stop with which `before` ends: "Dr.", "p.".

        `before`: the beginning of the sentence, or, after a NUL, what is near; `after`: what follows. None: more of it
        is to come (not `is_whole`) and will decide.
        """

    def is_word(self, word: str) -> bool:
        """Whether the language has the word, which is in small letters."""

    def read_out(self, text: str) -> str:
        """Return the text with figures, signs and abbreviations in words."""

    def phonemize(self, text: str, backend: str, lexicon: UserLexicon, given: Sequence[Word]) -> list[Word]:
        """Return the words of the text; none if nothing in it can be spoken.

        `backend`: "builtin", or another maker of phones that the language has; `lexicon`: pronunciations that beat
        those of the language; `given`: the words for which each `PLACEHOLDER` of the text stands, in order.
        """


@dataclass(frozen=True)
class Language:
    """A row of the table. `code`: as models and voices store it; `load`: imports its front end, when it is used."""

    code: str
    name: str
    load: Callable[[], Any]
    aliases: tuple[str, ...] = ()

    @property
    def front_end(self) -> FrontEnd:
        """What reads its texts."""
        return cast(FrontEnd, self.load())


LANGUAGES = {
    row.code: row
    for row in (
        Language(
            ENGLISH, "American English", lambda: import_module("openvalle.text.english"), ("english", "en-us", "eng")
        ),
        Language(
            "zh",
            "Mandarin Chinese",
            lambda: import_module("openvalle.text.mandarin"),
            ("chinese", "mandarin", "cmn", "zho", "zh-cn", "zh-hans", "zh-tw", "zh-hant", "zh-sg"),
        ),
        Language("ja", "Japanese", lambda: import_module("openvalle.text.japanese"), ("japanese", "jpn", "ja-jp")),
    )
}


def find_language(name: str) -> Language:
    """Return the language of a name such as `en` or `en-US`; `TextError` for one that has no front end.

    A row of the table, or what the user's folder of languages says of it (`openvalle.text.plain`), or a language that
    espeak-ng reads (`openvalle.text.espeak`).
    """
    key = name.strip().lower().replace("_", "-")
    for row in LANGUAGES.values():
        if key in (row.code, *row.aliases):
            return row
    for source in ("plain", "espeak"):
        if found := import_module(f"openvalle.text.{source}").find(key):
            return cast(Language, found)
    raise TextError(
        f"the language {name!r} cannot be read",
        f"use {', '.join(LANGUAGES)}, a language of espeak-ng, or give it a lexicon (docs/languages.md)",
    )


def phonemize(
    text: str,
    language: str = ENGLISH,
    backend: str = "builtin",
    lexicon: UserLexicon | None = None,
    given: Sequence[Word] = (),
    spoken: Collection[str] = (),
) -> list[Word]:
    """Return the words of a text with their phones; `TextError` if nothing in it can be spoken.

    `lexicon` (see `openvalle.text.lexicon`) beats what the language says, `given` (see `FrontEnd`) both. `spoken`:
    other languages, whose words are read as theirs where their script shows them.
    """
    row = find_language(language)
    text = text if given else clear_places(text)
    lexicon, waiting = lower_keys(lexicon or {}), deque(given)
    words: list[Word] = []
    for code, part in find_spans(text, row.code, spoken):
        own = [waiting.popleft() for _ in PLACEHOLDER.findall(part)] if given else []
        words += (row if code == row.code else find_language(code)).front_end.phonemize(part, backend, lexicon, own)
    if not words:
        what = f"nothing in the text {text.strip()[:40]!r} can be spoken" if text.strip() else "the text is empty"
        raise TextError(what, f"write at least one word or number of {row.name}")
    return words


def phonemize_part(text: str, language: str, lexicon: UserLexicon) -> list[Word]:
    """Return the words of what stands in another language inside a text; none if nothing in it can be spoken."""
    if language == ENGLISH and len(text) == 1:  # a letter, no article
        text = f"{text.upper()}."
    words = find_language(language).front_end.phonemize(text, "builtin", lexicon, ())
    return [*words[:-1], *(replace(word, pause=False) for word in words[-1:])]


def find_longest(text: str, lexicon: UserLexicon) -> Iterator[str]:
    """Yield a text whose words are not set apart in parts: the longest words of the lexicon, and what is between."""
    longest = lexicon.longest if isinstance(lexicon, _Lowered) else max(map(len, lexicon), default=0)
    at = start = 0
    while at < len(text) and longest:
        word = next((text[at : at + size] for size in range(longest, 0, -1) if text[at : at + size] in lexicon), "")
        if word and not word.isascii():
            yield from filter(None, (text[start:at], word))
            start = at + len(word)
        at += len(word) or 1
    if text[start:]:
        yield text[start:]


def keep_apart(words: Sequence[Word]) -> list[Word]:
    """Return the words with a border where the last sound of one is the first of the next: else they were one."""
    apart = list(words[:1])
    for word in words[1:]:
        last = apart[-1]
        meets = not last.pause and last.phones[-1:] == word.phones[:1] and word.phones[0] not in PHONES
        apart.append(replace(word, phones=(BORDER, *word.phones)) if meets else word)
    return apart


def read_out(text: str, language: str = ENGLISH) -> str:
    """Return the words of a text for byte pairs: as they are said where the language has a row, else as written."""
    return " ".join((LANGUAGES[language].front_end.read_out(text) if language in LANGUAGES else text).split())


def to_symbols(words: Sequence[Word]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the symbols a model reads, SIL first, last and at each pause, and the word of each, -1 for a pause.

    Equal neighbours are one symbol, of the first of them: the pointer of VALL-E R cannot tell them apart.
    """
    owned = [(SIL, -1)]
    for index, word in enumerate(words):
        owned += [(phone, index) for phone in word.phones] + [(SIL, -1)] * word.pause
    owned.append((SIL, -1))
    kept = [item for index, item in enumerate(owned) if index == 0 or item[0] != owned[index - 1][0]]
    return tuple(symbol for symbol, _ in kept), tuple(owner for _, owner in kept)


class _Lowered(dict[str, Phones]):
    """Pronunciations that can be found in small letters, too."""

    @cached_property
    def longest(self) -> int:
        """Signs of the longest word that no blanks set apart, 0 for none."""
        return max((len(word) for word in self if not word.isascii()), default=0)


def lower_keys(lexicon: UserLexicon) -> UserLexicon:
    """Return the pronunciations, to be found in small letters, too; as they are if that was done before."""
    if isinstance(lexicon, _Lowered):
        return lexicon
    return _Lowered({**{word.lower(): phones for word, phones in lexicon.items()}, **lexicon})
