"""Speech put into a recording: decoded with what is around it, crossfaded at its joins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from openvalle.audio import Audio
from openvalle.synth.recording import FADE_SECONDS, Recording, crossfade
from openvalle.synth.speech import Speech

if TYPE_CHECKING:
    from openvalle.synth.pipeline import Synthesizer

PAD_FRAMES = 32  # of the recording's own codes on either side that the codec decodes along


@dataclass(frozen=True)
class Splice:
    """Samples [start, end) of the recording that became [new_start, new_end); joins included."""

    start: int
    end: int
    new_start: int
    new_end: int


def joined(
    synthesizer: Synthesizer, recording: Recording, span: tuple[int, int], speech: Speech | None
) -> tuple[np.ndarray, int, int]:
    """Return the samples of the symbols `span`, [first, last), with their joins, and the recording's samples
    [start, end) that they stand for. Without `speech` the symbols are left out."""
    clip, edges = recording.clip, recording.edges
    start, end = (recording.sample(int(edges[index])) for index in span)
    half = round(FADE_SECONDS / 2 * clip.rate)
    left, right = min(half, start), min(half, len(clip.frames) - end)
    if speech is None:
        both = min(left, right)
        piece = crossfade(clip.frames[start - both : start + both], clip.frames[end - both : end + both])
        return piece, start - both, end + both
    sound, before, after = _decoded(synthesizer, recording, span, speech)
    spare = len(sound) - before - after
    left, right = min(left, spare // 2), min(right, spare // 2)
    inner = sound[before - left : len(sound) - after + right]
    first = crossfade(clip.frames[start - left : start + left], inner[: 2 * left])
    last = crossfade(inner[len(inner) - 2 * right :], clip.frames[end - right : end + right])
    piece = np.concatenate([first, inner[2 * left : len(inner) - 2 * right], last])
    return piece, start - left, end + right


def _decoded(
    synthesizer: Synthesizer, recording: Recording, span: tuple[int, int], speech: Speech
) -> tuple[np.ndarray, int, int]:
    """Return the span's sound with the recording's own around it, at the clip's rate and level, and how many samples
    before and after the span these are."""
    edges, clip = recording.edges, recording.clip
    start, end = (int(edges[index]) for index in span)
    before = recording.codes[max(0, start - PAD_FRAMES) : start]
    after = recording.codes[end : end + PAD_FRAMES]
    codes = np.concatenate([before, speech.codes, after])
    sound = decoded(synthesizer, recording, codes)
    return sound, round(len(before) * clip.rate / 75), round(len(after) * clip.rate / 75)


def decoded(synthesizer: Synthesizer, recording: Recording, codes: np.ndarray) -> np.ndarray:
    """Return codes (T, Q) as (samples, channels) at the clip's rate and level."""
    sound = synthesizer.utterer.sound(codes)
    marked = synthesizer.marker.mark(sound) if synthesizer.marker else sound
    return recording.clip.spread(Audio(marked.samples / np.float32(recording.gain), marked.rate))
