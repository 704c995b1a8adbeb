"""Words whose times a recogniser tells -> their sounds, evenly: where forced alignment finds no path.

Some of what a recogniser writes down is not what was said, and then no path through the sounds may be found; when each
word was heard is still known, to a tenth of a second or so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openvalle.speech_models.aligner import MIN_SILENCE, PhoneSpan
from openvalle.synth.speech import Timed
from openvalle.text.language import Word
from openvalle.text.nearest import to_units
from openvalle.types import SIL


def spread_sounds(words: Sequence[Word], heard: Sequence[Timed], seconds: float) -> list[PhoneSpan]:
    """Return the sounds of `words` with pauses, which tile a clip of so many seconds.

    `heard`: the same text in the recogniser's words, in seconds of the clip; both are matched by where they stand among
    their letters.
    """
    edges = _places([word.text for word in heard])
    places = _places([word.text for word in words])
    firsts = np.clip(np.searchsorted(edges, places[:-1] + 1e-9, side="right") - 1, 0, len(heard) - 1)
    lasts = np.clip(np.searchsorted(edges, places[1:] - 1e-9, side="left") - 1, 0, len(heard) - 1)
    spans: list[PhoneSpan] = []
    at = 0.0
    for index, (first, last) in enumerate(zip(firsts, lasts, strict=True)):
        start = max(at, _time(heard[first], edges, first, places[index]))
        end = max(start, min(seconds, _time(heard[last], edges, last, places[index + 1])))
        if start - at >= MIN_SILENCE:
            spans.append(PhoneSpan(SIL, at, start))
        else:
            start = at
        units = to_units(words[index].phones)
        borders = np.linspace(start, end, len(units) + 1).tolist()
        spans += [PhoneSpan(unit, borders[place], borders[place + 1], index) for place, unit in enumerate(units)]
        at = end
    return [*spans, PhoneSpan(SIL, at, seconds)] if seconds - at >= MIN_SILENCE else spans


def _places(texts: Sequence[str]) -> np.ndarray:
    """Return where each text begins among all letters, and the end, (texts + 1,) from 0 to 1."""
    counts = [max(1, sum(map(str.isalnum, text))) for text in texts]
    return np.cumsum([0, *counts]) / sum(counts)


def _time(word: Timed, edges: np.ndarray, index: int, place: float) -> float:
    """Return when a place among all letters is said, which lies in the word `index`."""
    within = (place - edges[index]) / (edges[index + 1] - edges[index])
    return float(word.start + within * (word.end - word.start))
