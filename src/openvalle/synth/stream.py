"""Segments -> blocks of final sound while it is being made: with the pauses between sentences, and the watermark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from openvalle.audio import Audio, silence
from openvalle.decode.ar import AROptions
from openvalle.decode.nar import Windows
from openvalle.safety.detector import Provenance
from openvalle.safety.watermark import Marker
from openvalle.synth.generate import SpeechGenerator, release_memory
from openvalle.synth.joints import EdgeTrimmer
from openvalle.synth.plan import Segment
from openvalle.synth.speech import Speech


@dataclass(frozen=True, eq=False)
class StreamBlock:
    """Some sound, final. `start`: seconds from the beginning of the stream; `sentence` counts from 0.

    `speech`: in the last block of a sentence, all of it: words and phones in time, codes, and the quality record.
    """

    audio: Audio
    start: float
    sentence: int
    text: str  # of the sentence
    speech: Speech | None = None


def stream_blocks(
    generator: SpeechGenerator,
    segments: Iterator[Segment],
    options: AROptions,
    marker: Marker | None = None,
    provenance: Provenance | None = None,
    windows: Windows | None = None,
) -> Iterator[StreamBlock]:
    """Yield the blocks of all segments, each sentence with its edges made for the pauses between them, and marked."""
    rate, start, lead = generator.spec.rate, 0, None
    segment = next(segments, None)
    while segment is not None:
        number, sentence, speech = segment.number, segment.sentence, None
        given: list[np.ndarray] = []
        trimmer = EdgeTrimmer(rate, lead, sentence.pause)
        mark = marker.stream(rate) if marker else None
        with closing(generator.stream(segment, options, windows)) as pieces:
            for piece in pieces:
                if isinstance(piece, Speech):
                    speech = piece
                    break
                samples = trimmer.push(piece)
                samples = samples if mark is None else mark.push(samples)
                if len(samples):
                    yield StreamBlock(Audio(samples, rate), start / rate, number, sentence.text)
                    given.append(samples)
                    start += len(samples)
        assert speech is not None
        is_flushed = sentence.is_flushed
        following = None if is_flushed else next(segments, None)  # may have to wait for its text
        rest = trimmer.flush(is_last=following is None and not is_flushed)
        given.append(rest if mark is None else np.concatenate([mark.push(rest), mark.flush()]))
        whole = replace(speech.with_samples(np.concatenate(given), trimmer.shift), provenance=provenance)
        yield StreamBlock(Audio(given[-1], rate), start / rate, number, sentence.text, whole)
        start, lead = start + len(given[-1]), sentence.pause
        release_memory()
        segment = next(segments, None) if is_flushed else following


def pad_blocks(blocks: Iterator[StreamBlock], lead: float, tail: float, rate: int) -> Iterator[StreamBlock]:
    """Yield the blocks with seconds of silence before the first and after the last of them."""
    block, end = None, 0.0
    if lead:
        yield StreamBlock(silence(lead, rate), 0.0, 0, "")
    for block in blocks:
        end = block.start + lead + block.audio.seconds
        yield replace(block, start=block.start + lead)
    if tail and block is not None:
        yield StreamBlock(silence(tail, rate), end, block.sentence, block.text)
