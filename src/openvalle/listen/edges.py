"""The pauses at the edges of an aligned clip, marked by its level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from openvalle.audio import Audio, levels
from openvalle.listen.aligner import MIN_SILENCE, SIL, Span

FRAME_SECONDS = 0.01
MIN_PHONE = 0.03  # left to a phone beside a marked pause, in seconds: the shortest the acoustic model has
SPEECH_DB = 40.0  # speech is within this of the loudest frame
NOISE_DB = 8.0  # and this much above the quietest 2 % of frames


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
