"""Where a speaker breathes in a long stretch without punctuation: before a word that begins a phrase (ours).

Transcripts, captions and what people type in a hurry have no commas; who reads them aloud pauses all the same, every
two or three seconds. Only what is to be spoken gets such pauses: recordings have their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from openvalle.text.language import Word
from openvalle.text.rules import word_set
from openvalle.types import ENGLISH

_CLAUSE = 40  # phones, about 3 s: a longer stretch is cut where a clause begins
_PHRASE = 60  # a longer one where a phrase begins, if no clause does
_LEAST = 12  # phones on each side of a pause, about 1 s
_CLAUSES = {  # words that begin a clause
    ENGLISH: word_set(
        "and but or nor yet so because although though which who whom whose where when while if unless until since "
        "whereas whether that"
    )
}
_PHRASES = {  # words that begin a phrase, where no clause begins
    ENGLISH: word_set(
        "in on at by for from with without into upon under over after before between through during against among "
        "about toward towards across behind beyond within"
    )
}


def add_breaths(words: Sequence[Word], language: str = ENGLISH) -> list[Word]:
    """Return the words with pauses in stretches that are too long for a breath; others as they are.

    A stretch is cut where its halves are most alike, at the beginning of a clause if there is one, else of a phrase,
    and so are its halves. A pause depends on the words of its stretch alone.
    """
    result = list(words)
    start = 0
    for index, word in enumerate(words):
        if word.pause or index + 1 == len(words):
            _breathe(result, start, index + 1, language)
            start = index + 1
    return result


def _breathe(words: list[Word], start: int, end: int, language: str) -> None:
    sizes = [len(word.phones) for word in words[start:end]]
    whole = sum(sizes)
    for heads, longest in ((_CLAUSES, _CLAUSE), (_PHRASES, _PHRASE)):
        if whole <= longest:
            return
        best: tuple[int, int] | None = None
        before = 0
        for index in range(start + 1, end):
            before += sizes[index - 1 - start]
            fits = min(before, whole - before) >= _LEAST
            # "and of the", "that which": the pause is before the first of them
            if fits and _begins(words, index, heads, language) and not _begins(words, index - 1, heads, language):
                best = min(best or (whole, 0), (abs(whole - 2 * before), index))
        if best is not None:
            cut = best[1]
            words[cut - 1] = replace(words[cut - 1], pause=True)
            _breathe(words, start, cut, language)
            _breathe(words, cut, end, language)
            return


def _begins(words: Sequence[Word], index: int, heads: dict[str, frozenset[str]], language: str) -> bool:
    return words[index].text.lower() in heads.get(language, ())
