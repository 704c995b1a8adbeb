"""An inaudible mark in the sound: laid on while it streams, found again in recordings from anywhere.

The mark is a function of the samples alone: it does not matter in which blocks they come, so a stream holds, sample
for sample, what marking the whole at once gives. The networks are PerthNet's (`openvalle.safety.perth`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from openvalle.audio import Audio, is_silent, normalize, resample
from openvalle.errors import AudioError
from openvalle.safety.perth import (
    BANDS,
    CONTEXT,
    HOP,
    RATE,
    SPAN_DB,
    WINDOW,
    Branch,
    empty_history,
    hann,
    load_reader,
    load_writer,
    scaled,
    spectrum,
)

NAME = "perth-implicit"  # of the mark, as written into files
STEP = 10  # frames marked at a time, always the same number: sums of another order would differ in the last bit
HALF = WINDOW // 2
LEAD = 3  # frames before the first sample whose windows still reach it
DELAY = (CONTEXT + LEAD + STEP) * HOP + HALF  # samples that a stream holds back at most, 0.31 s
LARGEST_GAIN = 20.0  # dB that a bin may change by; the mark stays far below

PART_SECONDS = 5.0  # a recording is searched in parts that overlap by half, so that a marked stretch in it is found
SHORTEST_SECONDS = 0.5
FOUND = 0.8  # a part that scores as much carries the mark; `make bench-watermark` shows what clean speech scores


class Marker:
    """Lays the mark on. Holds no state between calls, so threads may share it."""

    name = NAME

    def __init__(self) -> None:
        """Load the network; `ModelError` if its wheel is not installed."""
        self._writer = load_writer()

    def mark(self, audio: Audio) -> Audio:
        """Return the same sound with the mark in it, every sample where it was."""
        stream = self.stream(audio.rate)
        return Audio(np.concatenate([stream.push(audio.samples), stream.flush()]), audio.rate)

    def stream(self, rate: int = RATE) -> MarkStream:
        """Return a fresh stream for sound of `rate` hertz; there is only 24 kHz."""
        assert rate == RATE, rate
        return MarkStream(self._writer)


class MarkStream:
    """Marks a sound block by block; the blocks returned, joined, are as long as those pushed."""

    def __init__(self, writer: Branch) -> None:
        self._writer = writer
        self._history = empty_history()
        self._spectra = np.zeros((CONTEXT, WINDOW // 2 + 1), np.complex64)  # frames whose mark is not known yet
        self._heard = np.zeros(LEAD * HOP + HALF, np.float32)  # from the first sample of the next window on
        self._overlap = np.zeros(WINDOW - HOP, np.float32)  # the mark where windows still to come add to it
        self._plain = np.zeros(0, np.float32)  # samples not returned yet
        self._early = (CONTEXT + LEAD) * HOP + HALF  # samples of the mark that lie before the first sample
        squared = hann() ** 2
        self._envelope = np.array([squared[start::HOP].sum() for start in range(HOP)], np.float32)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take samples (n,) float32 and return those that are final; the last `DELAY` at most are held back."""
        self._plain = np.concatenate([self._plain, samples])
        return self._advance(samples)

    def flush(self) -> np.ndarray:
        """Return the samples still held back. The stream is then over."""
        out = [np.zeros(0, np.float32)]
        while len(self._plain):
            out.append(self._advance(np.zeros(STEP * HOP, np.float32)))
        return np.concatenate(out)

    def _advance(self, samples: np.ndarray) -> np.ndarray:
        self._heard = np.concatenate([self._heard, samples])
        needed, out = WINDOW + (STEP - 1) * HOP, [np.zeros(0, np.float32)]
        while len(self._heard) >= needed:
            mark = self._next(spectrum(self._heard[:needed]))
            self._heard = self._heard[STEP * HOP :]
            early = min(self._early, len(mark))
            self._early -= early
            mark = mark[early:][: len(self._plain)]
            out.append(self._plain[: len(mark)] + mark)
            self._plain = self._plain[len(mark) :]
        return np.concatenate(out)

    def _next(self, spectra: np.ndarray) -> np.ndarray:
        """Return the next samples of the mark, (STEP * HOP,), for the next spectra (STEP, bins)."""
        levels = torch.from_numpy(np.ascontiguousarray(scaled(spectra)[:, :BANDS].T))[None]
        with torch.inference_mode():
            change = self._writer.step(levels, self._history)[0].numpy().T  # (STEP, BANDS), CONTEXT frames late
        queue = np.concatenate([self._spectra, spectra])
        now, self._spectra = queue[:STEP], queue[STEP:]
        gains = np.clip(SPAN_DB * change, -LARGEST_GAIN, LARGEST_GAIN)
        marked = np.zeros_like(now)
        marked[:, :BANDS] = now[:, :BANDS] * (10 ** (gains / 20) - 1)
        waves = np.fft.irfft(marked, n=WINDOW, axis=1).astype(np.float32) * hann()  # (STEP, WINDOW)
        total = np.concatenate([self._overlap, np.zeros(STEP * HOP, np.float32)])
        for index, wave in enumerate(waves):
            total[index * HOP : index * HOP + WINDOW] += wave
        self._overlap = total[STEP * HOP :]
        return total[: STEP * HOP] / np.tile(self._envelope, STEP)


@dataclass(frozen=True)
class Part:
    """A stretch of a recording, in seconds, and how sure the network is of a mark in it, 0 to 1."""

    start: float
    end: float
    score: float

    @property
    def is_marked(self) -> bool:
        """True if the mark was found."""
        return self.score >= FOUND


@dataclass(frozen=True)
class Detection:
    """What was found in a recording. `parts`: the stretches with sound, which overlap by half."""

    parts: tuple[Part, ...]

    @property
    def share(self) -> float:
        """Share of the parts that carry the mark."""
        return sum(part.is_marked for part in self.parts) / len(self.parts)

    @property
    def score(self) -> float:
        """The score of the surest part, 0 to 1."""
        return max(part.score for part in self.parts)

    @property
    def is_marked(self) -> bool:
        """True if the mark was found anywhere."""
        return self.share > 0

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        parts = [
            {"start": round(part.start, 2), "end": round(part.end, 2), "score": round(part.score, 3)}
            for part in self.parts
        ]
        return {
            "marked": self.is_marked,
            "mark": NAME if self.is_marked else None,
            "share": round(self.share, 3),
            "score": round(self.score, 3),
            "threshold": FOUND,
            "parts": parts,
        }


class Detector:
    """Finds the mark. Holds no state between calls."""

    def __init__(self) -> None:
        """Load the network; `ModelError` if its wheel is not installed."""
        self._reader = load_reader()

    def detect(self, audio: Audio) -> Detection:
        """Return what is found in a recording of any rate; `AudioError` if it is silent or under 0.5 s."""
        if audio.seconds < SHORTEST_SECONDS:
            raise AudioError(
                f"{audio.seconds:.2f} s are too short to find a watermark in", "give half a second or more"
            )
        if is_silent(audio):
            raise AudioError("the recording is silent", "give a recording with sound in it")
        audio = normalize(resample(audio, RATE))
        parts = tuple(self._part(audio, *place) for place in _places(len(audio.samples)) if _sounds(audio, *place))
        return Detection(parts)

    def _part(self, audio: Audio, start: int, end: int) -> Part:
        samples = np.pad(audio.samples[start:end], HALF, mode="reflect")
        levels = torch.from_numpy(np.ascontiguousarray(scaled(spectrum(samples)).T))[None]
        with torch.inference_mode():
            score = float(self._reader(levels)[0])
        return Part(start / audio.rate, end / audio.rate, min(max(score, 0.0), 1.0))


def _places(count: int) -> Iterator[tuple[int, int]]:
    """Yield the first sample of each part and the one after its last."""
    size = round(PART_SECONDS * RATE)
    yield 0, min(size, count)
    for start in range(size // 2, count - size + size // 2, size // 2):
        start = min(start, count - size)
        yield start, start + size


def _sounds(audio: Audio, start: int, end: int) -> bool:
    """Return True if there is something to hear in a part."""
    return not is_silent(Audio(audio.samples[start:end], audio.rate))
