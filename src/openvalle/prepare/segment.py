"""The segment step: recordings without words, of any length, cut where nobody speaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from pydantic import Field

from openvalle.audio import Audio
from openvalle.config import Config
from openvalle.data.shards import Row
from openvalle.errors import AudioError
from openvalle.prepare.sources import read_row
from openvalle.prepare.units import Target, try_each

PIECE_SECONDS = 600.0  # of a long recording that is heard at once, so that a day of it needs no more memory


class SpeechDetector(Protocol):
    """Anything that tells where somebody speaks."""

    hop: float  # seconds between two probabilities

    def probabilities(self, audio: Audio) -> np.ndarray:
        """Return the probability that somebody speaks, (windows,), every `hop`."""
        ...


class SegmentSettings(Config):
    """How recordings without words are cut."""

    threshold: float = Field(default=0.5, gt=0, lt=1, description="probability from which on somebody speaks")
    min_pause: float = Field(default=0.25, gt=0, description="shorter pauses do not end a segment, in seconds")
    margin: float = Field(default=0.1, ge=0, description="kept around a segment, in seconds")
    min_seconds: float = Field(default=1.0, gt=0, description="shorter segments are left out")
    max_seconds: float = Field(default=20.0, gt=0, description="longer ones are cut at their longest pause")


def find_segments(voiced: np.ndarray, hop: float, settings: SegmentSettings) -> list[tuple[float, float]]:
    """Return the start and end of each segment, in seconds, from the probabilities (windows,) every `hop` seconds.

    Neighbouring stretches of speech are one segment while together they last up to `max_seconds`. One that lasts longer
    without any pause is cut where speech is least likely.
    """
    stretches = _stretches(voiced > settings.threshold, max(1, round(settings.min_pause / hop)))
    most = max(1, int((settings.max_seconds - 2 * settings.margin) / hop))
    cut = [piece for start, end in stretches for piece in _cut(voiced, start, end, most)]
    joined: list[tuple[int, int]] = []
    for start, end in cut:
        if joined and end - joined[-1][0] <= most:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    total = len(voiced) * hop
    found = []
    for number, (start, end) in enumerate(joined):
        # The margin never reaches into the segment beside.
        before = joined[number - 1][1] if number else 0
        after = joined[number + 1][0] if number + 1 < len(joined) else len(voiced)
        first = max(start * hop - settings.margin, (before + start) / 2 * hop if number else 0.0)
        last = min(end * hop + settings.margin, (end + after) / 2 * hop if number + 1 < len(joined) else total)
        if last - first >= settings.min_seconds:
            found.append((round(first, 3), round(last, 3)))
    return found


def _stretches(speaks: np.ndarray, pause: int) -> list[tuple[int, int]]:
    """Return the windows [start, end) of speech between pauses of at least `pause` windows."""
    edges = np.flatnonzero(np.diff(speaks.astype(np.int8), prepend=0, append=0)).reshape(-1, 2).tolist()
    found: list[tuple[int, int]] = []
    for start, end in edges:
        if found and start - found[-1][1] < pause:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def _cut(voiced: np.ndarray, start: int, end: int, most: int) -> list[tuple[int, int]]:
    """Return a stretch in pieces of at most `most` windows, cut where speech is least likely."""
    pieces = []
    while end - start > most:
        low = start + most // 2
        place = low + int(np.argmin(voiced[low : start + most]))
        pieces.append((start, place))
        start = place
    return [*pieces, (start, end)]


@dataclass(frozen=True)
class SegmentWork:
    """Work of the segment step on one unit. Rows with words stay as they are; for others `load` is called, once."""

    settings: SegmentSettings
    load: Callable[[], SpeechDetector]

    @cached_property
    def detector(self) -> SpeechDetector:
        """What hears where somebody speaks."""
        return self.load()

    def __call__(self, target: Target, rows: list[Row]) -> tuple[list[Row], list[Row]]:
        """Return a row for each segment and the rejected recordings."""
        done, rejected = try_each(rows, lambda _, row: self._segments(row))
        return [piece for _, pieces in done for piece in pieces], rejected

    def _segments(self, row: Row) -> list[Row]:
        if row["text"]:
            return [row]
        found = []
        for start in np.arange(0.0, row["seconds"], PIECE_SECONDS).tolist():
            seconds = min(PIECE_SECONDS, row["seconds"] - start)
            audio = read_row(row | {"start": row["start"] + start, "seconds": seconds})
            for first, last in find_segments(self.detector.probabilities(audio), self.detector.hop, self.settings):
                found.append((start + first, min(start + last, row["seconds"])))
        if not found:
            raise AudioError("nobody speaks in it")
        return [
            row
            | {"id": f"{row['id']}-{number:04d}", "recording": row["id"]}
            | {"start": round(row["start"] + first, 3), "seconds": round(last - first, 3)}
            for number, (first, last) in enumerate(found)
        ]


def load_detector() -> SpeechDetector:
    """Return Silero VAD; `MissingExtra` says how to bring it."""
    from openvalle.speech_models.vad import SileroVAD

    return SileroVAD()
