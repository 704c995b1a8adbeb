"""Text -> lines: what is spoken in one go, with its symbols, and where each word's symbols are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from openvalle.errors import TextError
from openvalle.synth.speech import Timed
from openvalle.text.chunks import NONE, Chunk, split, split_arriving
from openvalle.text.markup import written
from openvalle.text.phonemes import UserLexicon, Word, lower_keys, phonemize, symbols_of
from openvalle.text.phones import SIL

MAX_CHARACTERS = 200  # about 13 s of speech, as long as what the models were trained on


@dataclass(frozen=True)
class Line:
    """A sentence, or part of a long one. `owners`: the word of each symbol, -1 for a pause."""

    text: str
    words: tuple[str, ...]
    symbols: tuple[str, ...]
    owners: tuple[int, ...]
    pause: float = 0.0  # seconds of silence wanted after it
    voice: str | None = None  # the name of another voice than the text's
    rate: float = 1.0  # of speaking; 2 is twice as fast

    @property
    def phones(self) -> int:
        """Number of symbols that are sounds."""
        return sum(symbol != SIL for symbol in self.symbols)

    def going_on(self) -> Line:
        """Return the line without its first pause, to follow directly on what was said before."""
        return replace(self, symbols=self.symbols[1:], owners=self.owners[1:]) if self.symbols[0] == SIL else self


def lines_of(
    text: str | Iterable[str],
    lexicon: UserLexicon | None = None,
    shown: Mapping[str, str] | None = None,
    *,
    as_one: bool = False,
) -> Iterator[Line]:
    """Yield the lines of a text one after the other; `TextError` if nothing in it can be spoken.

    A text that arrives in pieces gives a line for every sentence, as soon as it is complete. `lexicon`:
    pronunciations that beat all others; `shown`: what made-up words of the text stand for; `as_one`: the text is one
    line.
    """
    is_empty, lexicon = True, lower_keys(lexicon or {})
    if as_one:
        whole = text if isinstance(text, str) else "".join(text)
        chunks: Iterable[Chunk] = [Chunk(whole, NONE)]
    else:
        chunks = split(text, MAX_CHARACTERS) if isinstance(text, str) else split_arriving(text, MAX_CHARACTERS)
    for chunk in chunks:
        try:
            words = phonemize(chunk.text, lexicon=lexicon)
        except TextError:  # signs that turned out to be silent, between chunks that are not
            continue
        is_empty = False
        words = [replace(word, text=(shown or {}).get(word.text, word.text)) for word in words]
        yield line_of(written(chunk.text, shown or {}), words, chunk.pause)
    if is_empty:
        raise TextError("the text holds nothing that can be spoken", "write at least one word")


def faster(lines: Iterable[Line], speed: float) -> Iterator[Line]:
    """Yield the lines with the pauses between them as fast as what is said."""
    for line in lines:
        yield line if speed == 1 else replace(line, pause=line.pause / speed)


def line_of(text: str, words: Sequence[Word], pause: float = 0.0) -> Line:
    """Return the line that speaks `words`."""
    owned = [(SIL, -1)]
    for index, word in enumerate(words):
        owned += [(phone, index) for phone in word.phones]
        if word.pause:
            owned.append((SIL, -1))
    owned.append((SIL, -1))
    # as `symbols_of`: equal neighbours are one symbol, which stays with the first of them
    kept = [item for index, item in enumerate(owned) if index == 0 or item[0] != owned[index - 1][0]]
    symbols, owners = zip(*kept, strict=True)
    assert list(symbols) == symbols_of(words), (symbols, words)
    return Line(text, tuple(word.text for word in words), symbols, owners, pause)


def times_of(
    line: Line, durations: Sequence[int], frame_rate: float, seconds: float
) -> tuple[tuple[Timed, ...], tuple[Timed, ...]]:
    """Return words and phones in time for `durations` (S,) in frames; the last ends with the sound, `seconds`."""
    edges = np.minimum(np.cumsum([0, *durations]) / frame_rate, seconds).tolist()
    phones = tuple(
        Timed(symbol, start, end) for symbol, start, end in zip(line.symbols, edges, edges[1:], strict=False)
    )
    words, last = [], 0.0
    for index, text in enumerate(line.words):
        own = [phone for phone, owner in zip(phones, line.owners, strict=True) if owner == index]
        start, end = (own[0].start, own[-1].end) if own else (last, last)
        words.append(Timed(text, start, end))
        last = end
    return tuple(words), phones
