"""Parts of recordings that end between words, which forced alignment finds: prompts whose text is true."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from openvalle.errors import AudioError, TextError
from openvalle.evaluate.corpus import CorpusUtterance
from openvalle.evaluate.protocols import Cut, PromptChoice
from openvalle.evaluate.test_list import CorpusExcerpt
from openvalle.speech_models.aligners import Aligners
from openvalle.text.language import Word, phonemize
from openvalle.text.nearest import find_ears, to_units
from openvalle.text.sentences import join_words
from openvalle.types import SIL

TOLERANCE = 0.5  # the nearest word boundary may be this far off, in seconds
LEAD = 0.05  # kept before the first word, in seconds


@dataclass(frozen=True)
class WordTimes:
    """The words of a recording in time. `starts`, `ends`: (words,) in seconds."""

    words: tuple[Word, ...]
    starts: np.ndarray
    ends: np.ndarray
    lead: float  # silence before the first word, in seconds

    def begin(self, first: int) -> float:
        """Return where a part begins whose first word this is, in seconds."""
        return max(0.0, float(self.starts[first]) - LEAD)

    def text(self, first: int, last: int) -> str:
        """Return the words from `first` up to, not including, `last`, as they are written together."""
        return join_words(word.text for word in self.words[first:last])


@dataclass
class Cutter:
    """Cuts recordings; each is aligned once."""

    aligners: Aligners = field(default_factory=Aligners)
    known: dict[str, WordTimes | None] = field(default_factory=dict)

    def cut_beginning(self, source: CorpusUtterance, choice: PromptChoice) -> CorpusExcerpt | None:
        """Return the first seconds of speech; None if the words cannot be found in the sound."""
        timed = self._timed(source)
        return _cut(source, timed, choice, 0, timed.lead) if timed else None

    def crop(self, source: CorpusUtterance, choice: PromptChoice, place: float) -> CorpusExcerpt | None:
        """Return seconds that begin with the word at `place` (0 to 1) of those that leave enough room."""
        timed = self._timed(source)
        if timed is None:
            return None
        firsts = np.flatnonzero(timed.starts + choice.seconds - TOLERANCE <= timed.ends[-1])
        if not len(firsts):
            return None
        first = int(firsts[int(place * len(firsts))])
        return _cut(source, timed, choice, first, timed.begin(first))

    def split(self, source: CorpusUtterance, choice: PromptChoice) -> tuple[CorpusExcerpt, CorpusExcerpt] | None:
        """Return the first seconds of the recording as it is, and the rest."""
        timed = self._timed(source)
        last = _boundary(timed.ends, choice, 0.0) if timed else None
        if timed is None or last is None or last + 1 >= len(timed.words):
            return None
        # Between two words the cut is in the middle of the pause, so that neither side loses sound.
        edge = float(timed.ends[last] + timed.starts[last + 1]) / 2 if choice.cut is Cut.WORD else choice.seconds
        whole = source.whole()
        prompt = replace(whole, text=timed.text(0, last + 1), end=edge)
        return prompt, replace(whole, text=timed.text(last + 1, len(timed.words)), start=edge)

    def _timed(self, source: CorpusUtterance) -> WordTimes | None:
        if source.id not in self.known:
            self.known[source.id] = self._align(source)
        return self.known[source.id]

    def _align(self, source: CorpusUtterance) -> WordTimes | None:
        """Return the words in time; None where transcript and sound do not match."""
        try:
            words = phonemize(source.text, source.language)
            units = [(word.text, to_units(word.phones)) for word in words]
            aligner = self.aligners[source.language]
            found = aligner.align_scored(source.audio(), units, find_ears(source.language, aligner.symbols))
        except (AudioError, TextError):
            return None
        starts, ends = np.array(found.word_times()).T
        lead = found.spans[0].end if found.spans[0].symbol == SIL else 0.0
        return None if found.score < aligner.poor_score else WordTimes(tuple(words), starts, ends, lead)


def _cut(
    source: CorpusUtterance, timed: WordTimes, choice: PromptChoice, first: int, since: float
) -> CorpusExcerpt | None:
    """Return the part from the word `first` to the boundary nearest to the seconds after `since`; None without one."""
    last = _boundary(timed.ends, choice, since)
    if last is None or last < first:
        return None
    start = timed.begin(first)
    end = float(timed.ends[last]) if choice.cut is Cut.WORD else start + choice.seconds
    return replace(source.whole(), text=timed.text(first, last + 1), start=start, end=end)


def _boundary(ends: np.ndarray, choice: PromptChoice, start: float) -> int | None:
    """Return the word whose end is nearest to the seconds after `start`; None if it is not near enough."""
    last = int(np.abs(ends - start - choice.seconds).argmin())
    if choice.cut is Cut.WORD and abs(float(ends[last]) - start - choice.seconds) > TOLERANCE:
        return None
    return last
