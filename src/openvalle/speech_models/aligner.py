"""Forced alignment: when each given phone is spoken, with pocketsphinx's English model, offline.

Pauses at the edges of an aligned clip are found by its level.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from openvalle.audio import Audio, levels, to_model_samples
from openvalle.errors import AudioError, TextError, import_extra
from openvalle.types import CONSONANTS, FRAME_RATE, MERGE, SIL, VOWELS, place_borders

FRAME_SECONDS = 0.01
MIN_PHONE = 0.03  # left to a phone beside a marked pause, in seconds: the shortest the acoustic model has
SPEECH_DB = 40.0  # speech is within this of the loudest frame
NOISE_DB = 8.0  # and this much above the quietest 2 % of frames


def mark_edges(spans: Sequence[PhoneSpan], audio: Audio) -> list[PhoneSpan]:
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
        out[:1] = [PhoneSpan(SIL, first.start, onset), replace(first, start=onset)]
        last = out[-1]
    offset = max((loud[-1] + 1) * FRAME_SECONDS, last.start + MIN_PHONE)
    if last.symbol != SIL and last.end - offset >= MIN_SILENCE:
        out[-1:] = [replace(last, end=offset), PhoneSpan(SIL, offset, last.end)]
    return out


HOP_SECONDS = 0.01  # one feature frame
WINDOW_OFFSET = 0.0078  # a 25.6 ms window starts this long before the 10 ms that it stands for
MIN_SILENCE = 0.06  # shorter silences, in seconds, are closures and belong to the phone before them
POOR_SCORE = -4.0  # right transcripts of clean speech score -1 to -2.5 per frame, wrong ones -5.5 or less
WIDE_BEAM = 1e-100  # of a second try; pocketsphinx gives up at 1e-48
SCORE_NATS = 1024 * math.log(1.0001)  # pocketsphinx's scores are logs to base 1.0001, shifted by 10 bits


@dataclass(frozen=True)
class PhoneSpan:
    """One symbol in time: `start` and `end` in seconds; `word` is the index of its word, -1 for silence."""

    symbol: str
    start: float
    end: float
    word: int = -1

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.end - self.start


@dataclass(frozen=True)
class PhoneAlignment:
    """Spans that tile the clip, and how well the phones fit the sound.

    `score`: mean log-likelihood per 10 ms frame relative to the best model state, in nats, at most 0; below
    `POOR_SCORE` the words are probably not what is said. `word_scores`: the same for each word given.
    """

    spans: tuple[PhoneSpan, ...]
    score: float
    word_scores: tuple[float, ...]

    def word_times(self) -> list[tuple[float, float]]:
        """Return (start, end) in seconds of every word; a word without phones gets an empty stretch."""
        times: list[tuple[float, float]] = []
        for index in range(len(self.word_scores)):
            own = [span for span in self.spans if span.word == index]
            last = times[-1][1] if times else 0.0
            times.append((own[0].start, own[-1].end) if own else (last, last))
        return times


def pocketsphinx_decoder() -> Any:
    """Return pocketsphinx's class of decoders; `MissingExtra` where it is not installed, as on Python 3.14."""
    hint = (
        "run: pip install pocketsphinx; it comes for Python 3.11 to 3.13: a voice made there "
        "(openvalle voice add NAME CLIP) speaks on every Python, as built-in voices do"
    )
    purpose = "pocketsphinx, which finds where each sound of a recording is"
    return import_extra("pocketsphinx", purpose, "", hint).Decoder


Hear = Callable[[str], tuple[str, ...]]


class Aligner:
    """A decoder kept for many utterances. Calls are serialised by a lock; give each process its own.

    `symbols`: the segments of the inventory that it hears: none, it hears ARPAbet.
    """

    symbols: tuple[str, ...] = ()
    poor_score = POOR_SCORE
    digest = ""

    def __init__(self, beam: float | None = None) -> None:
        """`beam`: what may be given up of the likelihood on the way; pocketsphinx's own by default."""
        decoder = pocketsphinx_decoder()
        self._beam = beam
        # The dictionary starts empty: each pronunciation becomes an entry of its own (named by its phones),
        # so that exactly the given phones are aligned. The best path through the lattice must stay off: it
        # gives phones of one frame, which the second pass cannot place.
        beams = dict.fromkeys(("beam", "pbeam", "wbeam"), self._beam) if self._beam else {}
        self._decoder: Any = decoder(lm=None, dict=None, bestpath=False, loglevel="FATAL", **beams)
        self._wider: Aligner | None = None  # made when it is first needed
        self._lock = threading.Lock()

    def align(self, audio: Audio, words: Sequence[tuple[str, tuple[str, ...]]]) -> list[PhoneSpan]:
        """Return spans that tile the clip; see `align_scored`."""
        return list(self.align_scored(audio, words).spans)

    def align_scored(
        self, audio: Audio, words: Sequence[tuple[str, tuple[str, ...]]], hear: Hear | None = None
    ) -> PhoneAlignment:
        """Return when each phone of `words` (text, ARPAbet phones with stress) is spoken, and how surely.

        `hear`: the ARPAbet phones that stand for a symbol of another kind, one at least.

        The spans tile [0, audio.seconds]; silences of `MIN_SILENCE` or more are spans named SIL, equal
        neighbours are one span. Raises `TextError` without phones, `AudioError` if words and sound do not
        match.
        """
        spoken = [index for index, (_, phones) in enumerate(words) if phones]
        if not spoken:
            raise TextError("there are no words to align", "give the words that are spoken in the recording")
        pcm = to_pcm(audio)
        try:
            with self._lock:
                entries = self._decode(pcm, [_spell(words[index][1], hear) for index in spoken])
        except AudioError:
            if self._beam is not None:
                raise
            return self._second_try(audio, words, hear)
        return _build_alignment(entries, words, spoken, audio.seconds, hear)

    def _second_try(
        self, audio: Audio, words: Sequence[tuple[str, tuple[str, ...]]], hear: Hear | None
    ) -> PhoneAlignment:
        """Return an alignment that a wider search finds, which is slower and finds one for wrong words too."""
        with self._lock:
            self._wider = self._wider or Aligner(WIDE_BEAM)
        found = self._wider.align_scored(audio, words, hear)
        if found.score < POOR_SCORE:
            raise mismatch()
        return found

    def _decode(self, pcm: bytes, pronunciations: list[tuple[str, ...]]) -> list[_Entry]:
        """Run both passes (words with optional silences, then phones within them)."""
        names = [self._entry_name(phones) for phones in pronunciations]
        try:
            self._decoder.set_align_text(" ".join(names))
            self._listen(pcm)
            self._decoder.set_alignment()
            self._listen(pcm)
            alignment = self._decoder.get_alignment()
        except RuntimeError:
            raise mismatch() from None
        known = set(names)
        entries = [
            _Entry(word.name in known, word.score, word.duration, [(p.start, p.start + p.duration) for p in word])
            for word in alignment
        ]
        if sum(entry.is_word for entry in entries) != len(names):
            raise mismatch()
        return entries

    def _listen(self, pcm: bytes) -> None:
        self._decoder.reinit_feat()  # else the mean and the noise of earlier clips colour this one
        self._decoder.start_utt()
        try:
            self._decoder.process_raw(pcm, full_utt=True)
        finally:
            self._decoder.end_utt()

    def _entry_name(self, phones: tuple[str, ...]) -> str:
        """Return the name of the dictionary entry for `phones`, adding it if it is new."""
        bare = [phone.rstrip("012") for phone in phones]
        assert {*VOWELS, *CONSONANTS}.issuperset(bare), f"not ARPAbet: {phones}"
        name = "_".join(bare)
        if self._decoder.lookup_word(name) is None:
            self._decoder.add_word(name, " ".join(bare), False)
        return name


def spans_to_durations(
    spans: Sequence[PhoneSpan], frames: int, frame_rate: float = FRAME_RATE, merge: int = MERGE
) -> tuple[list[str], list[int]]:
    """Return the symbols and their whole frames; the durations sum to `frames`.

    Every symbol gets at least `merge` frames and starts on a multiple of them, so that a merged code never
    holds two symbols; where that cannot be, at least one frame. `AudioError` if even that is impossible.
    """
    symbols = [span.symbol for span in spans]
    if len(symbols) > frames or not symbols:
        raise AudioError(f"{len(symbols)} symbols cannot fit {frames} frames", "check the transcript")
    if len(symbols) > frames // merge:
        merge = 1
    last = frames // merge
    starts = np.rint([span.start * frame_rate / merge for span in spans]).astype(int)
    ends = place_borders(np.append(starts[1:], last), last) * merge
    ends[-1] = frames
    return symbols, np.diff(ends, prepend=0).tolist()


@dataclass(frozen=True)
class _Entry:
    """A word or filler as decoded: score, frames and the (start, end) frames of its phones."""

    is_word: bool
    score: int
    frames: int
    phones: list[tuple[int, int]]


def _spell(symbols: tuple[str, ...], hear: Hear | None) -> tuple[str, ...]:
    return symbols if hear is None else tuple(phone for symbol in symbols for phone in hear(symbol))


def mismatch() -> AudioError:
    """Return the error of words that are not what is said."""
    return AudioError("the words do not match the audio", "check the transcript of the recording")


def to_pcm(audio: Audio) -> bytes:
    """Return the sound as pocketsphinx reads it; `AudioError` if it is silent."""
    return (np.clip(to_model_samples(audio), -1, 1) * 32767).astype("<i2").tobytes()


def _seconds(frame: int) -> float:
    return round(frame * HOP_SECONDS + WINDOW_OFFSET, 4)


def _build_alignment(
    entries: list[_Entry],
    words: Sequence[tuple[str, tuple[str, ...]]],
    spoken: list[int],
    seconds: float,
    hear: Hear | None,
) -> PhoneAlignment:
    spans: list[PhoneSpan] = []
    scores = [0.0] * len(words)
    index = iter(spoken)
    for entry in entries:
        word = next(index) if entry.is_word else -1
        symbols = words[word][1] if entry.is_word else (SIL,) * len(entry.phones)
        sizes = [1 if hear is None or not entry.is_word else len(hear(symbol)) for symbol in symbols]
        if sum(sizes) != len(entry.phones):
            raise mismatch()
        if entry.is_word:
            scores[word] = entry.score * SCORE_NATS / max(1, entry.frames)
        own = iter(entry.phones)
        for symbol, size in zip(symbols, sizes, strict=True):
            sounds = [next(own) for _ in range(size)]
            spans.append(PhoneSpan(symbol, _seconds(sounds[0][0]), _seconds(sounds[-1][1]), word))
    total = sum(entry.score for entry in entries) / max(1, sum(entry.frames for entry in entries))
    return PhoneAlignment(tuple(tile(spans, seconds)), total * SCORE_NATS, tuple(scores))


def tile(spans: list[PhoneSpan], seconds: float) -> list[PhoneSpan]:
    """Join equal neighbours and silences that are too short, and stretch the ends to [0, seconds]."""
    spans[0] = replace(spans[0], start=0.0)
    spans[-1] = replace(spans[-1], end=seconds)
    spans = _joined(spans)
    if len(spans) > 1 and spans[0].symbol == SIL and spans[0].seconds < MIN_SILENCE:
        spans = [replace(spans[1], start=0.0), *spans[2:]]
    kept: list[PhoneSpan] = []
    for span in spans:
        if kept and span.symbol == SIL and span.seconds < MIN_SILENCE:
            kept[-1] = replace(kept[-1], end=span.end)
        else:
            kept.append(span)
    return _joined(kept)


def _joined(spans: list[PhoneSpan]) -> list[PhoneSpan]:
    """Return `spans` with equal neighbours made one (the word of the first is kept)."""
    out: list[PhoneSpan] = []
    for span in spans:
        if out and out[-1].symbol == span.symbol:
            out[-1] = replace(out[-1], end=span.end)
        else:
            out.append(span)
    return out
