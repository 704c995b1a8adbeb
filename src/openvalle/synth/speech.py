"""`Speech`: the sound together with what is known about it: words and phones in time, and its quality record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.audio import Audio, concatenate
from openvalle.files import Place
from openvalle.media import write
from openvalle.safety.detector import Provenance
from openvalle.synth.quality import Quality, summarise_quality


@dataclass(frozen=True)
class Timed:
    """A word or phone and when it is spoken, in seconds from the start of its `Speech`."""

    text: str
    start: float
    end: float

    def shift(self, seconds: float) -> Timed:
        """Return the same, `seconds` later."""
        return replace(self, start=self.start + seconds, end=self.end + seconds)

    def clip(self, seconds: float) -> Timed:
        """Return the part of it that lies in [0, seconds]."""
        return replace(self, start=min(max(self.start, 0.0), seconds), end=min(max(self.end, 0.0), seconds))

    def as_dict(self) -> dict[str, Any]:
        """Return `{word, start, end}`, rounded to milliseconds."""
        return {"word": self.text, "start": round(self.start, 3), "end": round(self.end, 3)}


@dataclass(frozen=True, eq=False)
class Speech:
    """What `say` returns.

    `codes`: (T, Q) uint16 as they were generated, before silence at joints was cut; `symbols` and `durations`
    (in frames, summing to T) say which symbol each frame speaks.
    """

    audio: Audio
    text: str
    words: tuple[Timed, ...]
    phones: tuple[Timed, ...]
    quality: Quality
    codes: np.ndarray
    symbols: tuple[str, ...]
    durations: tuple[int, ...]
    provenance: Provenance | None = None  # what made it, once it is finished and marked
    speaker: str = ""  # the name of the voice, where a text has several

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.audio.seconds

    def save(self, path: Place, file_format: str | None = None) -> Path:
        """Write the sound (format by ending, or by name) with tags of its provenance, atomically; return the path."""
        return write(path, self.audio, file_format, self.provenance.tags() if self.provenance else None)

    def with_samples(self, samples: np.ndarray, shift: int) -> Speech:
        """Return the speech with other samples, in which everything comes `shift` samples later than before."""
        audio = Audio(samples, self.audio.rate)
        later = shift / audio.rate
        words = tuple(item.shift(later).clip(audio.seconds) for item in self.words)
        phones = tuple(item.shift(later).clip(audio.seconds) for item in self.phones)
        return replace(self, audio=audio, words=words, phones=phones)


def join_speech(pieces: Sequence[Speech]) -> Speech:
    """Return pieces that follow each other as one."""
    assert pieces, "nothing to join"
    if len(pieces) == 1:
        return pieces[0]
    starts = np.cumsum([0.0, *(piece.seconds for piece in pieces[:-1])])
    timed = list(zip(pieces, starts.tolist(), strict=True))
    return Speech(
        audio=concatenate([piece.audio for piece in pieces]),
        text=" ".join(piece.text for piece in pieces),
        words=tuple(word.shift(start) for piece, start in timed for word in piece.words),
        phones=tuple(phone.shift(start) for piece, start in timed for phone in piece.phones),
        quality=summarise_quality([piece.quality for piece in pieces], [len(piece.codes) for piece in pieces]),
        codes=np.concatenate([piece.codes for piece in pieces]),
        symbols=tuple(symbol for piece in pieces for symbol in piece.symbols),
        durations=tuple(frames for piece in pieces for frames in piece.durations),
        provenance=pieces[0].provenance,
        speaker=pieces[0].speaker if len({piece.speaker for piece in pieces}) == 1 else "",
    )
