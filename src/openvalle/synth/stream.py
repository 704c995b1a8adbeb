"""Blocks of sound while it is being made. Nothing runs unless the reader asks: who stops reading ends it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from openvalle.audio import Audio, silence
from openvalle.decode.ar import AROptions
from openvalle.decode.windows import Windows
from openvalle.safety.provenance import Provenance
from openvalle.safety.watermark import Marker, MarkStream
from openvalle.synth.edges import EdgeTrimmer
from openvalle.synth.heap import give_back
from openvalle.synth.jobs import Job
from openvalle.synth.long import moved, trimmer_of
from openvalle.synth.speech import Speech
from openvalle.synth.utter import Utterer


@dataclass(frozen=True, eq=False)
class Block:
    """Some sound, final. `start`: seconds from the beginning of the stream; `sentence` counts from 0.

    `speech`: in the last block of a sentence, all of it: words and phones in time, codes, and the quality record.
    """

    audio: Audio
    start: float
    sentence: int
    text: str  # of the sentence
    speech: Speech | None = None


def blocks_of(
    utterer: Utterer,
    jobs: Iterator[Job],
    options: AROptions,
    marker: Marker | None = None,
    provenance: Provenance | None = None,
    windows: Windows | None = None,
) -> Iterator[Block]:
    """Yield the blocks of all jobs, each sentence with its edges made for the pauses between them, and marked."""
    job, lead, start = next(jobs, None), None, 0
    rate = utterer.spec.rate
    while job is not None:
        trimmer = trimmer_of(rate, lead, job.line.pause)
        mark = marker.stream(rate) if marker else None
        given: list[np.ndarray] = []
        with closing(_finished(utterer.stream(job, options, windows), trimmer, mark)) as samples:
            speech = yield from _counted(samples, given, job, start, rate)
        following = next(jobs, None)  # may have to wait for its text
        begun = start + sum(map(len, given))
        rest = trimmer.flush(is_last=following is None)
        given.append(rest if mark is None else np.concatenate([mark.push(rest), mark.flush()]))
        whole = replace(moved(speech, np.concatenate(given), trimmer.shift), provenance=provenance)
        yield Block(Audio(given[-1], rate), begun / rate, job.number, job.line.text, whole)
        start, lead = start + len(whole.audio.samples), job.line.pause
        job = following
        give_back()


def blocks_between(blocks: Iterator[Block], lead: float, tail: float, rate: int) -> Iterator[Block]:
    """Yield the blocks with seconds of silence before the first and after the last of them."""
    block, end = None, 0.0
    if lead:
        yield Block(silence(lead, rate), 0.0, 0, "")
    for block in blocks:
        end = block.start + lead + block.audio.seconds
        yield replace(block, start=block.start + lead)
    if tail and block is not None:
        yield Block(silence(tail, rate), end, block.sentence, block.text)


def _counted(
    samples: Generator[np.ndarray, None, Speech], given: list[np.ndarray], job: Job, start: int, rate: int
) -> Generator[Block, None, Speech]:
    """Yield samples as blocks and keep them in `given`."""
    while True:
        try:
            block = next(samples)
        except StopIteration as end:
            return end.value
        if len(block):
            at = start + sum(map(len, given))
            given.append(block)
            yield Block(Audio(block, rate), at / rate, job.number, job.line.text)


def _finished(
    samples: Generator[np.ndarray, None, Speech], trimmer: EdgeTrimmer, mark: MarkStream | None
) -> Generator[np.ndarray, None, Speech]:
    """Yield samples with their edges trimmed and the mark in them."""
    with closing(samples):
        while True:
            try:
                ready = trimmer.push(next(samples))
            except StopIteration as end:
                return end.value
            yield ready if mark is None else mark.push(ready)
