"""Long utterances are cut where the speaker pauses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openvalle.errors import AudioError
from openvalle.listen.aligner import SIL, Span


@dataclass(frozen=True)
class Piece:
    """A stretch [start, end) of an utterance, in seconds, with the spans that tile it."""

    start: float
    end: float
    spans: tuple[Span, ...]


def cut(spans: Sequence[Span], min_seconds: float, max_seconds: float) -> list[Piece]:
    """Return the utterance whole if it lasts up to `max_seconds`, else in pieces that do.

    Each cut lies in the middle of the longest pause that leaves a piece of at least half of `max_seconds`, or,
    failing that, any piece of `min_seconds`. `AudioError` if there is no pause where one is needed.
    """
    rest = list(spans)
    pieces: list[Piece] = []
    while rest[-1].end - rest[0].start > max_seconds:
        place = _place(rest, min_seconds, max_seconds)
        pause = rest[place]
        middle = (pause.start + pause.end) / 2
        head = [*rest[:place], Span(SIL, pause.start, middle)]
        pieces.append(Piece(rest[0].start, middle, tuple(head)))
        rest = [Span(SIL, middle, pause.end), *rest[place + 1 :]]
    pieces.append(Piece(rest[0].start, rest[-1].end, tuple(rest)))
    return pieces


def _place(spans: Sequence[Span], min_seconds: float, max_seconds: float) -> int:
    """Return the index of the pause to cut at."""
    start, end = spans[0].start, spans[-1].end
    for least in (max_seconds / 2, min_seconds):
        pauses = [
            (span.seconds, index)
            for index, span in enumerate(spans)
            if span.symbol == SIL
            and 0 < index < len(spans) - 1
            and least <= (span.start + span.end) / 2 - start <= max_seconds
            and end - (span.start + span.end) / 2 >= min_seconds
        ]
        if pauses:
            return max(pauses)[1]
    raise AudioError(
        f"no pause to cut at between {start + min_seconds:.1f} s and {start + max_seconds:.1f} s",
        "cut the recording by hand",
    )
