"""Sentences spoken one by one -> one continuous speech: natural pauses, no clicks, memory of one sentence.

Rules of a joint: the silence that each sentence brings along is cut (or filled up) to the pause wanted; the outer
edges are never touched; where the samples would jump by more than the speech itself does, both edges are faded.
Neighbouring spans are never blended into each other, so the length is the sum of the parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from openvalle.audio import RATE, Audio, concatenate, fade, levels, silence
from openvalle.synth.speech import Speech

BELOW_DB = 40.0  # frames this far under the sentence's loudest count as silence
FADE_SECONDS = 0.01
QUIET_STEP = 10 ** (-54 / 20)  # a smaller jump between two samples cannot be heard
SLEW_FACTOR = 2.0  # a jump of up to this many times the largest step nearby is masked by the speech


def join_sentences(pieces: Iterable[tuple[Speech, float]]) -> Iterator[Speech]:
    """Yield each piece once its joint with the next is made; a single piece comes back as it is.

    `pieces`: speech and the pause wanted after it, in seconds. Holds two pieces at most.
    """
    held: tuple[Speech, float] | None = None
    for piece, pause in pieces:
        if held is not None:
            before, piece = joint(held[0], piece, held[1])
            yield before
        held = piece, pause
    if held is not None:
        yield held[0]


def joint(before: Speech, after: Speech, pause: float) -> tuple[Speech, Speech]:
    """Return both with `pause` seconds of silence between them, half on each side, and a smooth border."""
    half = round(pause / 2 * before.audio.rate)
    before = _ended(before, half)
    after = _begun(after, half)
    if is_click(before.audio, after.audio):
        before = replace(before, audio=fade(before.audio, end_seconds=FADE_SECONDS))
        after = replace(after, audio=fade(after.audio, start_seconds=FADE_SECONDS))
    return before, after


def is_click(left: Audio, right: Audio) -> bool:
    """Return True if the step from the last sample of `left` to the first of `right` would be heard."""
    if not len(left.samples) or not len(right.samples):
        return False
    step = abs(float(left.samples[-1]) - float(right.samples[0]))
    near = round(FADE_SECONDS * left.rate)
    slews = [np.abs(np.diff(part)).max(initial=0.0) for part in (left.samples[-near:], right.samples[:near])]
    return step > max(QUIET_STEP, SLEW_FACTOR * max(slews))


def silent_edges(audio: Audio) -> tuple[int, int]:
    """Return the samples of silence at the start and at the end."""
    frames = levels(audio)
    loud = np.flatnonzero(frames > frames.max() - BELOW_DB)
    size = max(1, round(audio.rate * 0.01))
    return int(loud[0]) * size, max(0, len(audio.samples) - (int(loud[-1]) + 1) * size)


def _ended(speech: Speech, wanted: int) -> Speech:
    """Bring the silence at the end to `wanted` samples."""
    count = len(speech.audio.samples)
    extra = silent_edges(speech.audio)[1] - wanted
    if extra >= 0:
        return speech.cut(0, count - extra)
    softened = _softened(speech.audio, at_end=True)
    return replace(speech, audio=concatenate([softened, _hush(-extra, speech.audio.rate)]))


def _begun(speech: Speech, wanted: int) -> Speech:
    """Bring the silence at the start to `wanted` samples."""
    extra = silent_edges(speech.audio)[0] - wanted
    if extra >= 0:
        return speech.cut(extra, len(speech.audio.samples))
    softened = _softened(speech.audio, at_end=False)
    audio = concatenate([_hush(-extra, speech.audio.rate), softened])
    later = -extra / speech.audio.rate
    words = tuple(word.shifted(later) for word in speech.words)
    phones = tuple(phone.shifted(later) for phone in speech.phones)
    return replace(speech, audio=audio, words=words, phones=phones)


def _softened(audio: Audio, *, at_end: bool) -> Audio:
    """Fade the edge that digital silence follows or precedes, if it would click."""
    hush = _hush(1, audio.rate)
    if at_end:
        return fade(audio, end_seconds=FADE_SECONDS) if is_click(audio, hush) else audio
    return fade(audio, start_seconds=FADE_SECONDS) if is_click(hush, audio) else audio


def _hush(samples: int, rate: int = RATE) -> Audio:
    return silence(samples / rate, rate)
