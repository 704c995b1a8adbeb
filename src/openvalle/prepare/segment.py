"""Pauses at the edges are marked, and long utterances are cut where the speaker pauses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from openvalle.audio import Audio, levels
from openvalle.errors import AudioError
from openvalle.listen.aligner import MIN_SILENCE, SIL, Span

FRAME_SECONDS = 0.01
MIN_PHONE = 0.03  # left to a phone beside a marked pause, in seconds: the shortest the acoustic model has
SPEECH_DB = 40.0  # speech is within this of the loudest frame
NOISE_DB = 8.0  # and this much above the quietest 2 % of frames


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


def mark_edges(spans: Sequence[Span], audio: Audio) -> list[Span]:
    """Return the spans with the silence before the first phone and after the last one as spans of their own.

    The acoustic model gives a short silence at an edge to the phone beside it. What a model is asked to speak
    begins and ends with a pause, so recordings should too wherever their level shows one of `MIN_SILENCE`.
    """
    frames = levels(audio, FRAME_SECONDS)
    loudest, quietest = float(frames.max()), float(np.percentile(frames, 2))
    quiet = max(loudest - SPEECH_DB, min(quietest, loudest - 2 * NOISE_DB) + NOISE_DB)
    loud = np.flatnonzero(frames > quiet)
    out = list(spans)
    first, last = out[0], out[-1]
    onset = min(loud[0] * FRAME_SECONDS, first.end - MIN_PHONE)
    if first.symbol != SIL and onset >= MIN_SILENCE:
        out[:1] = [Span(SIL, first.start, onset), replace(first, start=onset)]
        last = out[-1]
    offset = max((loud[-1] + 1) * FRAME_SECONDS, last.start + MIN_PHONE)
    if last.symbol != SIL and last.end - offset >= MIN_SILENCE:
        out[-1:] = [replace(last, end=offset), Span(SIL, offset, last.end)]
    return out
