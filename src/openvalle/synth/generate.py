"""Blocks of sound while it is being made. Nothing runs unless the reader asks: who stops reading ends it.

Memory that stays constant over a long text: what the C library keeps after each line goes back to the system.

Every line has other sizes, and glibc's allocator keeps the holes that tensors of many sizes leave: without this a
text of 2 000 words takes 160 MB more than one of 350.

Codebook 1 of a line, as it comes -> its sound: codebooks 2..Q in one go or in windows, the codec in blocks.

With the same windows, or none, the samples are the same whether codebook 1 comes step by step or is complete.

One line and a voice -> its sound: codebook 1 by the AR model, the others by the NAR model, samples by the codec.

Every draw comes from a generator seeded by (seed, number of the line, attempt), so a line sounds the same alone, in
a batch, and in the middle of a book.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from openvalle.audio import Audio, silence
from openvalle.decode.alignment import stretch
from openvalle.decode.ar import AROptions, ARPrompt, ARResult, ARStep, StoppedBy, collect, generate, stream
from openvalle.decode.failures import Finding
from openvalle.decode.nar import NARPromptRow, WindowFiller, Windows
from openvalle.decode.prompt import SpeechPrompt, continued, zero_shot
from openvalle.engines.base import AREngine, CodecEngine, NAREngine
from openvalle.errors import ModelError
from openvalle.safety.detector import Provenance
from openvalle.safety.watermark import Marker, MarkStream
from openvalle.synth.joints import EdgeTrimmer
from openvalle.synth.plan import (
    USUAL_FRAMES,
    PromptMode,
    Segment,
    Sentence,
    make_generators,
    place_in_time,
    preset_paths,
)
from openvalle.synth.speech import Quality, Speech
from openvalle.text.symbols import SymbolTable, TextUnit
from openvalle.types import SIL, CodecSpec, Utterance, to_durations


def release_memory() -> None:
    """Return free memory to the system, where the C library can (glibc); takes a few milliseconds."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


BLOCK = 32  # frames decoded at a time: convolutions prepare themselves for every size they meet, and keep that


class NARDecoder:
    """One line on its way from codebook 1 to samples."""

    def __init__(
        self,
        nar: NAREngine,
        codec: CodecEngine,
        row: NARPromptRow,
        windows: Windows | None,
        merge: int,
        spoken: int,
        places: np.ndarray | None,
    ) -> None:
        """`row`: the line's text and prompt; `windows` None: the line in one go; `merge`: frames per code of codebook
        1; `spoken`: frames before it; `places` (L,): where the row's text holds each symbol of the line; None without
        alignment."""
        self.filler = WindowFiller(nar, row, windows, spoken)
        self.decoder, self.merge = codec.stream(), merge
        self.path = np.zeros(0, np.int64)  # (T / merge,) symbol of each step, counted in the line
        self.places = places
        self.blocks: list[np.ndarray] = []  # what was yielded

    @property
    def codes(self) -> np.ndarray:
        """The codes (T, Q) that are finished."""
        return self.filler.codes

    def push(self, first: np.ndarray, path: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Take steps of codebook 1 (n,) with their symbols (n,); yield the samples that are final."""
        spread = None
        if path is not None:
            assert self.places is not None, "a model without alignment has no path"
            self.path = np.concatenate([self.path, path])
            spread = np.repeat(self.places[path], self.merge)
        yield from self._decoded(self.filler.push(np.repeat(first, self.merge), spread))

    def flush(self) -> Iterator[np.ndarray]:
        """Yield the rest of the samples."""
        yield from self._decoded(self.filler.flush())
        if len(self.codes):
            yield self._kept(self.decoder.flush())

    def speech(self, line: Sentence, spec: CodecSpec, quality: Quality) -> Speech:
        """Return everything as the speech of `line`."""
        audio = Audio(np.concatenate([*self.blocks, np.zeros(0, np.float32)]), spec.rate)
        durations: tuple[int, ...] = ()
        if len(self.path):
            durations = tuple((to_durations(self.path, len(line.symbols)) * self.merge).tolist())
        words, phones = place_in_time(line, durations, spec.frame_rate, audio.seconds) if durations else ((), ())
        return Speech(
            audio=audio,
            text=line.text,
            words=words,
            phones=phones,
            quality=quality,
            codes=self.codes.astype(np.uint16),
            symbols=line.symbols if durations else (),
            durations=durations,
            speaker=line.voice or "",
        )

    def _decoded(self, windows: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for codes in windows:
            for start in range(0, len(codes), BLOCK):
                yield self._kept(self.decoder.push(codes[start : start + BLOCK]))

    def _kept(self, decoded: np.ndarray) -> np.ndarray:
        self.blocks.append(decoded)
        return decoded


SILENT_FRAMES = 16  # enough for the codec's edges to be left behind
FAST_FRAMES, SLOW_FRAMES = 3.0, 20.0  # frames per phone (1/75 s) outside of which speech is hardly natural
LAST_FRAMES = 30  # more that a line's last sounds take: a word alone is drawn out
EDGE_FRAMES = 75  # of silence around a line, where nobody knows which frames they are


@dataclass(frozen=True)
class Attempt:
    """Codebook 1 of one attempt."""

    result: ARResult
    quality: Quality

    @property
    def rank(self) -> tuple[bool, int, float]:
        """What to minimise among attempts."""
        return rank_attempt(self.quality, self.result.stopped_by is StoppedBy.WATCH)

    def edges(self, line: Sentence, *, is_first: bool, is_last: bool) -> int:
        """Return how many codes are silence at a line's edges inside a text."""
        if self.result.path is None:
            return 0
        last = len(line.symbols) - 1
        ends = [place for place, is_outer in ((0, is_first), (last, is_last)) if not is_outer]
        return sum(int((self.result.path == place).sum()) for place in ends if line.symbols[place] == SIL)


@dataclass(frozen=True)
class SpeechGenerator:
    """The models that speak. Holds no state between calls, so threads may share it."""

    ar: AREngine
    nar: NAREngine
    codec: CodecEngine
    spec: CodecSpec
    table: SymbolTable
    languages: tuple[str, ...] = ("en",)  # language n of the models, counted from 1, is the n-th

    def speak(self, segments: Sequence[Segment], options: AROptions) -> list[Speech]:
        """Return the speech of each segment; a line that went wrong is tried again and the best attempt kept."""
        kept = self.sample_codebook1(segments, options)
        return [self._complete(segment, attempt, options) for segment, attempt in zip(segments, kept, strict=True)]

    def stream(
        self, segment: Segment, options: AROptions, windows: Windows | None = None
    ) -> Generator[np.ndarray, None, Speech]:
        """Yield the samples of a line as they become final; without windows the generator's value is what `speak`
        returns for it.

        With one attempt they come while codebook 1 is still being drawn. With more, the kept one is known only after
        the last, and they come from then on. `windows`: in which codebooks 2 to Q are filled.
        """
        renderer = self._renderer(segment, options, windows)
        if options.attempts == 1:
            attempt = yield from self._live(segment, options, renderer)
        else:
            attempt = self.sample_codebook1([segment], options)[0]
            yield from renderer.push(attempt.result.codes, attempt.result.path)
        yield from renderer.flush()
        return renderer.speech(segment.sentence, self.spec, attempt.quality)

    def sample_codebook1(self, segments: Sequence[Segment], options: AROptions) -> list[Attempt]:
        """Return codebook 1 of each segment, the best of as many attempts as it took.

        A bad draw is broken off as soon as it shows, except in the last attempt: something has to be said. What is
        to be faster or slower than the model would say it is then drawn again along its own path, stretched.
        """
        kept = self.sample_natural(segments, options)
        paced = [self.paced(segment, attempt, options) for segment, attempt in zip(segments, kept, strict=True)]
        again = [index for index, segment in enumerate(paced) if segment is not segments[index]]
        if again:
            results = self._sample([paced[index] for index in again], 0, without_early_stop(options))
            for index, result in zip(again, results, strict=True):
                kept[index] = self._in_place(segments[index], kept[index], result)
        return kept

    def paced(self, segment: Segment, attempt: Attempt, options: AROptions) -> Segment:
        """Return the segment with the path of an attempt, as fast as options and sentence want it; itself at rate 1."""
        rate = options.speed * segment.sentence.rate
        if rate == 1 or segment.path is not None:
            return segment
        return self.fitted(segment, attempt, len(attempt.result.codes) * self.ar.config.merge / rate)

    def fitted(self, segment: Segment, attempt: Attempt, frames: float) -> Segment:
        """Return the segment with the path of an attempt, stretched to `frames`; `ModelError` without alignment."""
        config = self.ar.config
        if attempt.result.path is None:
            raise ModelError(
                f"the model has no alignment: its pace cannot be changed (line {segment.number + 1})",
                "leave speed and duration away, or use a model with alignment",
            )
        path = stretch(attempt.result.path[:: config.group], max(1, round(frames / config.block)))
        return replace(segment, path=tuple(path.tolist()))

    def sample_natural(self, segments: Sequence[Segment], options: AROptions) -> list[Attempt]:
        """Return codebook 1 of each segment, as fast as the model says it or its path is."""
        best: dict[int, Attempt] = {}
        tried: dict[int, list[str]] = {index: [] for index in range(len(segments))}
        open_segments = list(range(len(segments)))
        for number in range(options.attempts):
            trying = options if number < options.attempts - 1 else without_early_stop(options)
            results = self._sample([segments[index] for index in open_segments], number, trying)
            for index, result in zip(open_segments, results, strict=True):
                drawn = self._assess(segments[index], result, number)
                tried[index].append(" ".join(drawn.quality.flags))
                if index not in best or drawn.rank < best[index].rank:
                    best[index] = drawn
            open_segments = [index for index in open_segments if best[index].quality.flags]
            if not open_segments:
                break
        return [with_retries(best[index], tried[index]) for index in range(len(segments))]

    def sound(self, codes: np.ndarray) -> Audio:
        """Return codes (T, Q) as sound."""
        return Audio(self.codec.decode(codes), self.spec.rate)

    def _assess(self, segment: Segment, result: ARResult, attempt: int) -> Attempt:
        frames, spare = len(result.codes) * self.ar.config.merge, EDGE_FRAMES + LAST_FRAMES
        if result.path is not None:  # pauses and edges are known, and tell nothing about the pace
            pauses = np.array([symbol == SIL for symbol in segment.sentence.symbols])
            frames -= int(pauses[result.path].sum()) * self.ar.config.merge
            spare = LAST_FRAMES
        quality = assess_quality(frames, segment.sentence.phones, result.stopped_by, attempt + 1, result.noticed, spare)
        return Attempt(result, quality)

    def _in_place(self, segment: Segment, natural: Attempt, result: ARResult) -> Attempt:
        """Return an attempt at another pace with what was wrong with the one whose path it took."""
        found = self._assess(segment, result, 0).quality
        noticed = tuple(flag for flag in found.flags if flag not in ("fast", "slow", "cut"))
        flags = tuple(dict.fromkeys([*natural.quality.flags, *noticed]))
        quality = replace(natural.quality, frames_per_phone=found.frames_per_phone, flags=flags)
        return Attempt(result, quality)

    def _live(self, segment: Segment, options: AROptions, renderer: NARDecoder) -> Generator[np.ndarray, None, Attempt]:
        """Yield samples while codebook 1 is drawn; at another pace than the model's own, its path comes first."""
        natural = None
        if options.speed * segment.sentence.rate != 1 and segment.path is None:
            natural = self.sample_natural([segment], options)[0]
            segment = self.paced(segment, natural, options)
        steps: list[ARStep] = []
        owners = self._owners(segment)
        prompts = [self.prompt(segment).ar(self.ar.config)]
        for step in stream(
            self.ar, prompts, without_early_stop(options), make_generators([segment], 0), self._preset([segment])
        ):
            steps.append(step)
            kept = step.is_emitted[0]  # (G,)
            path = None if step.path is None else np.repeat(owners[step.path], len(kept))[kept]
            yield from renderer.push(step.codes[0][kept], path)
        result = in_line(collect(steps)[0], owners)
        return self._assess(segment, result, 0) if natural is None else self._in_place(segment, natural, result)

    def _sample(self, segments: Sequence[Segment], attempt: int, options: AROptions) -> list[ARResult]:
        """Speak all segments in one batch."""
        prompts: list[ARPrompt] = [self.prompt(segment).ar(self.ar.config) for segment in segments]
        results = generate(self.ar, prompts, options, make_generators(segments, attempt), self._preset(segments))
        return [in_line(result, self._owners(segment)) for segment, result in zip(segments, results, strict=True)]

    def _preset(self, segments: Sequence[Segment]) -> list[np.ndarray] | None:
        """Return the preset paths of the segments, if they have any, in the symbols that the models read."""
        paths = preset_paths(segments)
        return paths and [self._places(segment)[path] for segment, path in zip(segments, paths, strict=True)]

    def _places(self, segment: Segment) -> np.ndarray:
        """Return where the model's text holds each symbol of the line, (L,): a table may put marks before it."""
        symbols = segment.sentence.symbols
        return np.flatnonzero(self.table.spread(symbols, [1] * len(symbols)))

    def _owners(self, segment: Segment) -> np.ndarray:
        """Return which symbol of the line each symbol that the models read belongs to, (S,)."""
        return np.array(self.table.owners(segment.sentence.symbols))

    def _complete(self, segment: Segment, attempt: Attempt, options: AROptions) -> Speech:
        """Add codebooks 2 to Q in one go and turn the codes into sound. Rows go alone: a batch changes no sample."""
        renderer = self._renderer(segment, options, None)
        for _ in chain(renderer.push(attempt.result.codes, attempt.result.path), renderer.flush()):
            pass  # the renderer keeps what it yields
        return renderer.speech(segment.sentence, self.spec, attempt.quality)

    def _renderer(self, segment: Segment, options: AROptions, windows: Windows | None) -> NARDecoder:
        row = self.prompt(segment).nar(None, self.ar.config, options.accent)
        places = None if row.path is None else self._places(segment) + row.prompt_symbols
        return NARDecoder(self.nar, self.codec, row, windows, self.ar.config.merge, segment.spoken, places)

    def prompt(self, segment: Segment) -> SpeechPrompt:
        """Return what both networks read for a segment: `ModelError` if the voice speaks another language than its mode
        says."""
        config, voice, following = self.ar.config, segment.voice, len(self.table.encode(segment.following))
        own = self.table.pieces(segment.sentence.text) if self.table.unit is TextUnit.BPE else segment.sentence.symbols
        text, language = (
            np.array(self.table.encode([*own, *segment.following])),
            self._language(segment.sentence.language),
        )
        if voice is None:
            return zero_shot(config, None, text, language, following=following)
        if voice.language != segment.sentence.language and segment.mode is not PromptMode.CROSS_LINGUAL:
            raise ModelError(
                f"the voice {voice.name!r} speaks {voice.language!r}, the text is {segment.sentence.language!r}",
                f"choose the prompt mode {PromptMode.CROSS_LINGUAL}",
            )
        recording = Utterance(
            np.array(self.table.encode(voice.symbols)),
            voice.codes.astype(np.int64),
            np.array(self.table.spread(voice.symbols, voice.durations)) if voice.durations else None,
            self._language(voice.language),
        )
        build = continued if segment.mode is PromptMode.CONTINUAL else zero_shot
        return build(config, recording, text, language, following=following)

    def _language(self, name: str) -> int:
        """Return the models' number of a language, 0 for one that they do not know by name."""
        is_told = self.ar.config.languages > 0 and name in self.languages
        return self.languages.index(name) + 1 if is_told else 0


def in_line(result: ARResult, owners: np.ndarray) -> ARResult:
    """Return a result whose path goes through the symbols of the line; `owners` (S,): of each that the models read."""
    return result if result.path is None else replace(result, path=owners[result.path])


def assess_quality(
    frames: int,
    phones: int,
    stopped_by: StoppedBy,
    attempts: int,
    noticed: Finding | None = None,
    spare: int = LAST_FRAMES,
) -> Quality:
    """Return the quality record of a line whose phones take `frames` frames, up to `spare` of them for its end."""
    pace = frames / max(1, phones)
    is_whole = stopped_by is not StoppedBy.WATCH  # the pace of half a line says nothing
    checks: dict[str, Any] = {
        "cut": stopped_by is StoppedBy.LIMIT,
        "fast": is_whole and pace < FAST_FRAMES,
        "slow": is_whole and frames > SLOW_FRAMES * phones + spare,
    } | {finding.value: finding is noticed for finding in Finding}
    flags = tuple(flag for flag, is_set in checks.items() if is_set)
    return Quality("limit" if checks["cut"] else "end", pace, attempts, flags)


def rank_attempt(quality: Quality, is_broken_off: bool = False) -> tuple[bool, int, float]:
    """Return what to minimise among attempts: half lines, flags, then the distance from an ordinary pace."""
    pace = max(quality.frames_per_phone, 1e-3)
    return is_broken_off, len(quality.flags), abs(np.log(pace / USUAL_FRAMES))


def without_early_stop(options: AROptions) -> AROptions:
    """Return options with which a bad draw is noted, but goes on."""
    return options.model_copy(update={"watch": options.watch.model_copy(update={"ends": False})})


def with_retries(attempt: Attempt, tried: Sequence[str]) -> Attempt:
    """Return the attempt with what was wrong with the attempts that were not kept."""
    kept = attempt.quality.attempts - 1
    retries = tuple(flags for attempt, flags in enumerate(tried) if attempt != kept)
    return replace(attempt, quality=replace(attempt.quality, attempts=len(tried), retries=retries))


def silence_codes(codec: CodecEngine) -> tuple[int, ...]:
    """Return the entries of codebook 1 that the codec gives to digital silence."""
    codes = codec.encode(np.zeros(SILENT_FRAMES * codec.spec.hop, np.float32))
    return tuple(sorted(set(codes[:, 0].tolist())))


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
    segment, lead, start = next(segments, None), None, 0
    rate = generator.spec.rate
    while segment is not None:
        trimmer = EdgeTrimmer(rate, lead, segment.sentence.pause)
        mark = marker.stream(rate) if marker else None
        given: list[np.ndarray] = []
        with closing(_finished(generator.stream(segment, options, windows), trimmer, mark)) as samples:
            speech = yield from _counted(samples, given, segment, start, rate)
        following = next(segments, None)  # may have to wait for its text
        begun = start + sum(map(len, given))
        rest = trimmer.flush(is_last=following is None)
        given.append(rest if mark is None else np.concatenate([mark.push(rest), mark.flush()]))
        whole = replace(speech.with_samples(np.concatenate(given), trimmer.shift), provenance=provenance)
        yield StreamBlock(Audio(given[-1], rate), begun / rate, segment.number, segment.sentence.text, whole)
        start, lead = start + len(whole.audio.samples), segment.sentence.pause
        segment = following
        release_memory()


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


def _counted(
    samples: Generator[np.ndarray, None, Speech], given: list[np.ndarray], segment: Segment, start: int, rate: int
) -> Generator[StreamBlock, None, Speech]:
    """Yield samples as blocks and keep them in `given`."""
    while True:
        try:
            block = next(samples)
        except StopIteration as end:
            return end.value
        if len(block):
            at = start + sum(map(len, given))
            given.append(block)
            yield StreamBlock(Audio(block, rate), at / rate, segment.number, segment.sentence.text)


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
