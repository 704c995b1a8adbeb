"""What will be said for a text and why: each word with what is written for it, the rules that fired, and its phones."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from openvalle.text import english
from openvalle.text.language import UserLexicon, Word, fill_in, find_language, phonemize
from openvalle.text.normalize import explain as trace_rules
from openvalle.text.phones import Phones
from openvalle.text.phrasing import add_breaths
from openvalle.text.sentences import find_spoken
from openvalle.text.spans import find_spans
from openvalle.types import ENGLISH


@dataclass(frozen=True)
class ExplainedWord:
    """A word that is said. `start` and `end`: what of the text it is said for; `source`: where its phones come from."""

    said: str
    phones: Phones
    pause: bool
    written: str
    start: int
    end: int
    rules: tuple[str, ...]
    source: str


def explain(
    text: str, lexicon: UserLexicon, given: Sequence[Word] = (), language: str = ENGLISH, spoken: Collection[str] = ()
) -> list[ExplainedWord]:
    """Return the words of a text as they are spoken, each with its account.

    `given`, `spoken`: as for `phonemize`. The words of "$5" have the same `written`, `start` and `end`. Of languages
    but English, and of texts in several, is known what is said and in which language it is read, no rules.
    """
    spans = [code for code, _ in find_spans(text, language, spoken)]
    if spans != [ENGLISH]:
        words = add_breaths(phonemize(text, language, lexicon=lexicon, given=given, spoken=spoken), language)
        return list(_account(text, words, lexicon, find_language(language).name))
    normal, origins = trace_rules(text)
    tokens = english.tokenize(normal, given)
    found = []
    waiting = list(given)
    for token, word in zip(tokens, add_breaths(english.pronounce(tokens, lexicon)), strict=True):
        own = origins[token.start : token.end]
        start, end = min(origin.start for origin in own), max(origin.end for origin in own)
        rules = tuple(dict.fromkeys(name for origin in own for name in origin.rules if name not in _SILENT))
        written = fill_in(text[start:end], [waiting.pop(0)] if token.phones and waiting else [])
        if word.pause and not token.pause:
            rules += ("a breath after it",)
        if word.phones:
            source = english.name_source(token, lexicon)
            found.append(ExplainedWord(word.text, word.phones, word.pause, written, start, end, rules, source))
    return found


def _account(text: str, words: Sequence[Word], lexicon: UserLexicon, language: str) -> Iterator[ExplainedWord]:
    """Yield the words with what is written for them: the word itself, where the text has it as it is said."""
    for word, start in zip(words, find_spoken(text, [word.text for word in words]), strict=True):
        at = start + len(word.text) if text.startswith(word.text, start) else start
        source = "your lexicon" if lexicon.get(word.text) == word.phones else language
        written = text[start:at] or word.text
        yield ExplainedWord(word.text, word.phones, word.pause, written, start, max(start + 1, at), (), source)


_SILENT = ("space", "what cannot be spoken")  # rules that say nothing
