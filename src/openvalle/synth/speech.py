"""`Speech`: the sound together with what is known about it: words and phones in time, and its quality record.

`Quality` says how the decoding of a sentence went, and by what the best of several attempts is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.audio import Audio, concatenate
from openvalle.decode.ar import StoppedBy
from openvalle.decode.failures import Failure
from openvalle.files import Place
from openvalle.media import write
from openvalle.safety.detector import Provenance
from openvalle.text.sentences import join_words
from openvalle.types import ENGLISH

USUAL_FRAMES = 8.0  # frames per phone of ordinary speech
FAST_FRAMES, SLOW_FRAMES = 3.0, 20.0  # frames per phone (1/75 s) outside of which speech is hardly natural
LAST_FRAMES = 30  # more that a sentence's last sounds take: a word alone is drawn out


@dataclass(frozen=True)
class Quality:
    """How the decoding went. One per sentence; joined speech takes the worst of each."""

    stopped_by: str  # "end" (the last symbol was spoken) or "limit" (the decoder was cut off)
    frames_per_phone: float  # codec frames (1/75 s) per phone, known pauses left out; ordinary speech has 5 to 12
    attempts: int = 1
    flags: tuple[str, ...] = ()  # "fast", "slow", "cut", "loop", "silence", "runaway": what a listener may notice
    retries: tuple[str, ...] = ()  # what was wrong with the attempts that were thrown away
    candidates: int = 1  # how many were spoken; this is the best of them
    agreement: float | None = None  # share of the words that speech recognition heard, if it was asked
    similarity: float | None = None  # cosine with the prompt's voice, if it was asked

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        measures = {"agreement": self.agreement, "similarity": self.similarity}
        known = {key: round(value, 3) for key, value in measures.items() if value is not None}
        return {
            "stopped_by": self.stopped_by,
            "frames_per_phone": round(self.frames_per_phone, 2),
            "attempts": self.attempts,
            "flags": list(self.flags),
            "retries": list(self.retries),
        } | ({"candidates": self.candidates, **known} if self.candidates > 1 else {})


def assess_quality(
    frames: int,
    phones: int,
    stopped_by: StoppedBy,
    attempts: int,
    noticed: Failure | None = None,
    spare: int = LAST_FRAMES,
) -> Quality:
    """Return the quality record of a sentence whose phones take `frames` frames, up to `spare` of them for its end."""
    pace = frames / max(1, phones)
    is_whole = stopped_by is not StoppedBy.FAILURE  # the pace of half a sentence says nothing
    checks: dict[str, bool] = {
        "cut": stopped_by is StoppedBy.LIMIT,
        "fast": is_whole and pace < FAST_FRAMES,
        "slow": is_whole and frames > SLOW_FRAMES * phones + spare,
    } | {failure.value: failure is noticed for failure in Failure}
    flags = tuple(flag for flag, is_set in checks.items() if is_set)
    return Quality("limit" if checks["cut"] else "end", pace, attempts, flags)


def rank_attempt(quality: Quality, is_broken_off: bool = False) -> tuple[bool, int, float]:
    """Return what to minimise among attempts: half sentences, flags, then the distance from an ordinary pace."""
    pace = max(quality.frames_per_phone, 1e-3)
    return is_broken_off, len(quality.flags), abs(np.log(pace / USUAL_FRAMES))


def summarise_quality(qualities: Sequence[Quality], frames: Sequence[int]) -> Quality:
    """Return the record of sentences of so many `frames`, joined: the worst of each."""
    phones = sum(count / quality.frames_per_phone for quality, count in zip(qualities, frames, strict=True))
    return Quality(
        stopped_by="limit" if any(quality.stopped_by == "limit" for quality in qualities) else "end",
        frames_per_phone=sum(frames) / max(phones, 1e-9),
        attempts=max(quality.attempts for quality in qualities),
        flags=tuple(dict.fromkeys(flag for quality in qualities for flag in quality.flags)),
        retries=tuple(retry for quality in qualities for retry in quality.retries),
        candidates=max(quality.candidates for quality in qualities),
        agreement=_least([quality.agreement for quality in qualities]),
        similarity=_least([quality.similarity for quality in qualities]),
    )


def _least(values: Sequence[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


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
    language: str = ENGLISH

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
        text=join_words(piece.text for piece in pieces),
        words=tuple(word.shift(start) for piece, start in timed for word in piece.words),
        phones=tuple(phone.shift(start) for piece, start in timed for phone in piece.phones),
        quality=summarise_quality([piece.quality for piece in pieces], [len(piece.codes) for piece in pieces]),
        codes=np.concatenate([piece.codes for piece in pieces]),
        symbols=tuple(symbol for piece in pieces for symbol in piece.symbols),
        durations=tuple(frames for piece in pieces for frames in piece.durations),
        provenance=pieces[0].provenance,
        speaker=pieces[0].speaker if len({piece.speaker for piece in pieces}) == 1 else "",
        language=pieces[0].language,
    )
