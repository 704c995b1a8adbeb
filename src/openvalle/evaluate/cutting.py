"""Prompts that are parts of recordings: cut between words found by forced alignment, so that their text is true."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from openvalle.errors import AudioError, TextError
from openvalle.evaluate.corpus import Utterance
from openvalle.evaluate.items import Stretch
from openvalle.evaluate.protocols import Cut, PromptChoice
from openvalle.listen.aligner import POOR_SCORE, SIL, Aligner, Alignment
from openvalle.text.phonemes import Word, phonemize

TOLERANCE = 0.5  # the nearest word boundary may be this far off, in seconds
LEAD = 0.05  # kept before the first word, in seconds


@dataclass(frozen=True)
class Timed:
    """The words of a recording in time. `starts`, `ends`: (words,) in seconds."""

    words: tuple[Word, ...]
    starts: np.ndarray
    ends: np.ndarray
    lead: float  # silence before the first word, in seconds

    def text(self, first: int, last: int) -> str:
        """Return the words from `first` up to, not including, `last`."""
        return " ".join(word.text for word in self.words[first:last])


@dataclass
class Cutter:
    """Cuts recordings; each is aligned once."""

    aligner: Aligner = field(default_factory=Aligner)
    known: dict[str, Timed | None] = field(default_factory=dict)

    def beginning(self, source: Utterance, choice: PromptChoice) -> Stretch | None:
        """Return the first seconds of speech; None if the words cannot be found in the sound."""
        timed = self._timed(source)
        last = _boundary(timed.ends - timed.lead, choice, 0.0) if timed else None
        if timed is None or last is None:
            return None
        start = max(0.0, float(timed.starts[0]) - LEAD)
        end = float(timed.ends[last]) if choice.cut is Cut.WORD else start + choice.seconds
        return replace(source.whole(), text=timed.text(0, last + 1), start=start, end=end)

    def crop(self, source: Utterance, choice: PromptChoice, place: float) -> Stretch | None:
        """Return seconds that begin with the word at `place` (0 to 1) of those that leave enough room."""
        timed = self._timed(source)
        if timed is None:
            return None
        firsts = np.flatnonzero(timed.starts + choice.seconds - TOLERANCE <= timed.ends[-1])
        if not len(firsts):
            return None
        first = int(firsts[int(place * len(firsts))])
        start = max(0.0, float(timed.starts[first]) - LEAD)
        last = _boundary(timed.ends, choice, start)
        if last is None or last < first:
            return None
        end = float(timed.ends[last]) if choice.cut is Cut.WORD else start + choice.seconds
        return replace(source.whole(), text=timed.text(first, last + 1), start=start, end=end)

    def split(self, source: Utterance, choice: PromptChoice) -> tuple[Stretch, Stretch] | None:
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

    def _timed(self, source: Utterance) -> Timed | None:
        if source.id not in self.known:
            self.known[source.id] = self._align(source)
        return self.known[source.id]

    def _align(self, source: Utterance) -> Timed | None:
        """Return the words in time; None where transcript and sound do not match."""
        try:
            words = phonemize(source.text)
            found = self.aligner.align_scored(source.audio(), [(word.text, word.phones) for word in words])
        except (AudioError, TextError):
            return None
        return None if found.score < POOR_SCORE else _timed(words, found)


def _timed(words: list[Word], found: Alignment) -> Timed:
    times = found.word_times()
    lead = found.spans[0].end if found.spans[0].symbol == SIL else 0.0
    return Timed(tuple(words), np.array([start for start, _ in times]), np.array([end for _, end in times]), lead)


def _boundary(ends: np.ndarray, choice: PromptChoice, start: float) -> int | None:
    """Return the word whose end is nearest to the seconds after `start`; None if it is not near enough."""
    last = int(np.abs(ends - start - choice.seconds).argmin())
    if choice.cut is Cut.WORD and abs(float(ends[last]) - start - choice.seconds) > TOLERANCE:
        return None
    return last
