"""Sentences spoken one by one -> one continuous speech: natural pauses, no clicks, memory of two sentences.

Rules of a joint: the silence that each sentence brings along is cut (or filled up) to half the pause wanted; the
outer edges are never touched; an edge that would jump by more than the speech itself does is faded. Neighbouring
spans are never blended into each other, so the length is the sum of the parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from openvalle.audio import Audio, concatenate, silence
from openvalle.synth.edges import EdgeTrimmer
from openvalle.synth.speech import Speech


def join_sentences(pieces: Iterable[tuple[Speech, float]], lead: float | None = None) -> Iterator[Speech]:
    """Yield each piece with its edges made for the joints; a single piece comes back as it is.

    `pieces`: speech and the pause wanted after it, in seconds; `lead`: the pause after what was spoken before them,
    None if nothing was. Holds two pieces at most.
    """
    held: tuple[Speech, float] | None = None
    for piece, pause in pieces:
        if held is not None:
            yield trimmed(held[0], lead, held[1])
            lead = held[1]
        held = piece, pause
    if held is not None:
        yield trimmed(held[0], lead, None)


def trimmed(speech: Speech, lead: float | None, tail: float | None) -> Speech:
    """Return the speech between pauses of `lead` and `tail` seconds, half of each its own; None: an outer edge."""
    if lead is None and tail is None:
        return speech
    trimmer = trimmer_of(speech.audio.rate, lead, tail or 0.0)
    samples = [trimmer.push(speech.audio.samples), trimmer.flush(is_last=tail is None)]
    return moved(speech, np.concatenate(samples), trimmer.shift)


def between_silences(pieces: Iterable[Speech], lead: float, tail: float) -> Iterator[Speech]:
    """Yield the pieces with seconds of silence before the first and after the last of them."""
    held: Speech | None = None
    for piece in pieces:
        if held is not None:
            yield held
        elif lead:
            rate = piece.audio.rate
            samples = np.concatenate([silence(lead, rate).samples, piece.audio.samples])
            piece = moved(piece, samples, round(lead * rate))
        held = piece
    if held is not None:
        yield replace(held, audio=concatenate([held.audio, silence(tail, held.audio.rate)])) if tail else held


def trimmer_of(rate: int, lead: float | None, tail: float) -> EdgeTrimmer:
    """Return what makes a line's edges, for the pauses before and after it in seconds."""
    return EdgeTrimmer(rate, None if lead is None else round(lead / 2 * rate), round(tail / 2 * rate))


def moved(speech: Speech, samples: np.ndarray, shift: int) -> Speech:
    """Return the speech with its trimmed samples, which came `shift` samples later than before."""
    audio = Audio(samples, speech.audio.rate)
    later = shift / audio.rate
    words = tuple(item.shifted(later).clipped(audio.seconds) for item in speech.words)
    phones = tuple(item.shifted(later).clipped(audio.seconds) for item in speech.phones)
    return replace(speech, audio=audio, words=words, phones=phones)
