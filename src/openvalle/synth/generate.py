"""Segments -> codes -> samples: codebook 1 by the AR model, the others by the NAR model, samples by the codec.

Every draw is seeded by (seed, number of the segment, attempt), so a segment sounds the same alone, in a batch and in
the middle of a book. Speaking and streaming are one chain of iterators: codebook 1, complete or step by step, then
windows of codes, then samples. Nothing runs before its reader asks, and `close` ends it. With the same windows, or
none, the samples are the same whether codebook 1 comes step by step or is complete.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from openvalle.audio import Audio
from openvalle.decode.alignment import stretch
from openvalle.decode.ar import AROptions, ARResult, ARStep, Draw, StoppedBy, collect, generate, stream
from openvalle.decode.nar import Windows, fill_windows
from openvalle.decode.prompt import SpeechPrompt, continuation, zero_shot
from openvalle.engines.base import AREngine, CodecEngine, NAREngine
from openvalle.errors import ModelError
from openvalle.synth.plan import PromptMode, Segment, place_in_time
from openvalle.synth.speech import LAST_FRAMES, Quality, Speech, assess_quality, rank_attempt
from openvalle.text.symbols import SymbolTable
from openvalle.types import SIL, CodecSpec, Utterance, to_durations

BLOCK_FRAMES = 96  # frames decoded at a time: convolutions prepare themselves for every size they meet, and keep that
EDGE_FRAMES = 75  # of silence around a sentence, if the model has no alignment to tell them

Codebook1 = tuple[np.ndarray, np.ndarray | None]  # codes (n,) of steps, and the sentence's symbol of each (n,)


@dataclass(frozen=True, eq=False)
class EncodedSegment:
    """A segment as the models read it, which may have marks before the symbols of its sentence."""

    segment: Segment
    prompt: SpeechPrompt
    places: np.ndarray  # (L,) where the text to speak holds each symbol of the sentence
    owners: np.ndarray  # (S,) symbol of the sentence that each symbol of the text belongs to

    @property
    def preset(self) -> np.ndarray | None:
        """The segment's alignment (N,) in symbols of the text; None: the model makes its own."""
        alignment = self.segment.alignment
        return None if alignment is None else self.places[np.array(alignment)]

    def to_sentence(self, result: ARResult) -> ARResult:
        """Return a result with its alignment in symbols of the sentence."""
        return result if result.alignment is None else replace(result, alignment=self.owners[result.alignment])


@dataclass(frozen=True, eq=False)
class Attempt:
    """Codebook 1 of one attempt at a segment, its alignment in symbols of the sentence."""

    encoded: EncodedSegment
    result: ARResult
    quality: Quality

    @property
    def rank(self) -> tuple[bool, int, float]:
        """What to minimise among attempts."""
        return rank_attempt(self.quality, self.result.stopped_by is StoppedBy.FAILURE)

    def count_edges(self, *, is_first: bool, is_last: bool) -> int:
        """Return how many codes are silence at the sentence's edges that lie inside a text."""
        symbols, alignment = self.encoded.segment.sentence.symbols, self.result.alignment
        if alignment is None:
            return 0
        ends = [place for place, is_outer in ((0, is_first), (len(symbols) - 1, is_last)) if not is_outer]
        return sum(int((alignment == place).sum()) for place in ends if symbols[place] == SIL)


@dataclass(frozen=True)
class SpeechGenerator:
    """The models that speak. Holds no state between calls, so threads may share it."""

    ar: AREngine
    nar: NAREngine
    codec: CodecEngine
    table: SymbolTable
    languages: tuple[str, ...] = ("en",)  # language n of the models, counted from 1, is the n-th

    @property
    def spec(self) -> CodecSpec:
        """Geometry and identity of the codes."""
        return self.codec.spec

    def speak(self, segments: Sequence[Segment], options: AROptions) -> list[Speech]:
        """Return the speech of each segment; one that went wrong is tried again and the best attempt kept.

        Codebooks 2 to Q are filled row by row: a batch changes no sample.
        """
        speeches = []
        for attempt in self.sample_paced([self.encode(segment) for segment in segments], options):
            codes = [(attempt.result.codes, attempt.result.alignment)]
            *_, speech = self._render(attempt.encoded, codes, [attempt], options, None)
            assert isinstance(speech, Speech)
            speeches.append(speech)
        return speeches

    def stream(
        self, segment: Segment, options: AROptions, windows: Windows | None = None
    ) -> Generator[np.ndarray | Speech]:
        """Yield the samples (n,) of a segment as they become final, then its `Speech`, which holds them all.

        With one attempt they come while codebook 1 is still being drawn. With more, the best is known only after the
        last, and they come from then on. `windows`: in which codebooks 2 to Q are filled; without, the speech is what
        `speak` returns.
        """
        encoded = self.encode(segment)
        drawn: list[Attempt] = []
        return self._render(encoded, self._draw(encoded, options, drawn), drawn, options, windows)

    def fit(self, attempt: Attempt, frames: float) -> Segment:
        """Return the segment with the alignment of an attempt, stretched to `frames`; `ModelError` if it has none."""
        config, segment = self.ar.config, attempt.encoded.segment
        if attempt.result.alignment is None:
            raise ModelError(
                f"the model has no alignment: its pace cannot be changed (line {segment.number + 1})",
                "leave speed and duration away, or use a model with alignment",
            )
        alignment = stretch(attempt.result.alignment[:: config.group], max(1, round(frames / config.step_frames)))
        return replace(segment, alignment=tuple(alignment.tolist()))

    def decode(self, codes: np.ndarray) -> Audio:
        """Return codes (T, Q) as sound."""
        return Audio(self.codec.decode(codes), self.spec.rate)

    def encode(self, segment: Segment) -> EncodedSegment:
        """Return what both networks read for a segment; `ModelError` if its mode forbids the voice's language."""
        config, voice, table, symbols = self.ar.config, segment.voice, self.table, segment.sentence.symbols
        own: Sequence[str] = symbols
        if table.is_spelt:
            joint = table.joint if voice is not None else []
            own = [*joint, *table.pieces(segment.sentence.text, segment.sentence.language)]
        text, language = np.array(table.encode([*own, *segment.following])), self._language(segment.sentence.language)
        recording = None
        if voice is not None:
            if not segment.follows(voice.language, self.languages):
                both = f"speaks {voice.language!r}, the text is {segment.sentence.language!r}"
                raise ModelError(
                    f"the voice {voice.name!r} {both}", f"choose the prompt mode {PromptMode.CROSS_LINGUAL}"
                )
            recording = Utterance(
                np.array(table.encode(voice.symbols)),
                voice.codes.astype(np.int64),
                np.array(table.spread(voice.symbols, voice.durations)) if voice.durations else None,
                self._language(voice.language),
            )
        following = len(table.encode(segment.following))
        if recording is not None and segment.mode is PromptMode.CONTINUAL:
            prompt = continuation(config, recording, text, language, following=following)
        else:
            prompt = zero_shot(config, recording, text, language, following=following)
        places = np.flatnonzero(table.spread(symbols, [1] * len(symbols)))
        return EncodedSegment(segment, prompt, places, np.array(table.owners(symbols)))

    def _language(self, name: str) -> int:
        """Return the models' number of a language, 0 for one that they do not know by name."""
        is_told = self.ar.config.languages > 0 and name in self.languages
        return self.languages.index(name) + 1 if is_told else 0

    def sample_paced(self, rows: Sequence[EncodedSegment], options: AROptions) -> list[Attempt]:
        """Return codebook 1 of each segment, the best of as many attempts as it took.

        A draw that fails is broken off at once, except in the last attempt: something has to be said. What is to be
        faster or slower than the model would say it is then drawn again along its own alignment, stretched.
        """
        attempts = self.sample_natural(rows, options)
        again = [index for index, row in enumerate(rows) if choose_rate(row.segment, options) != 1]
        stretched = [self._stretch(attempts[index], options) for index in again]
        for index, result in zip(again, self._sample(stretched, 0, without_early_stop(options)), strict=True):
            attempts[index] = self._replace_result(attempts[index], result)
        return attempts

    def sample_natural(self, rows: Sequence[EncodedSegment], options: AROptions) -> list[Attempt]:
        """Return the same at the pace that the model, or a segment's own alignment, gives it."""
        best: dict[int, Attempt] = {}
        tried: dict[int, list[str]] = {index: [] for index in range(len(rows))}
        to_do = list(tried)
        for number in range(options.attempts):
            trying = options if number < options.attempts - 1 else without_early_stop(options)
            results = self._sample([rows[index] for index in to_do], number, trying)
            for index, result in zip(to_do, results, strict=True):
                attempt = self._assess(rows[index], result, number)
                tried[index].append(" ".join(attempt.quality.flags))
                if index not in best or attempt.rank < best[index].rank:
                    best[index] = attempt
            to_do = [index for index in to_do if best[index].quality.flags]
            if not to_do:
                break
        attempts = []
        for index, flags in tried.items():  # each with what was wrong with those that were not kept
            quality = best[index].quality
            retries = (*flags[: quality.attempts - 1], *flags[quality.attempts :])
            quality = replace(quality, attempts=len(flags), retries=retries)
            attempts.append(replace(best[index], quality=quality))
        return attempts

    def draw(self, draws: Sequence[Draw]) -> list[ARResult]:
        """Return what each row of codebook 1 says."""
        return generate(self.ar, draws)

    def draw_live(self, draw: Draw) -> Iterator[ARStep]:
        """Yield a row of codebook 1 while it is being drawn."""
        return stream(self.ar, draw)

    def _sample(self, rows: Sequence[EncodedSegment], attempt: int, options: AROptions) -> list[ARResult]:
        """Return codebook 1 of each row."""
        results = self.draw([self._plan_draw(row, attempt, options) for row in rows])
        return [row.to_sentence(result) for row, result in zip(rows, results, strict=True)]

    def _plan_draw(self, row: EncodedSegment, attempt: int, options: AROptions) -> Draw:
        return Draw(row.prompt.ar(self.ar.config), options, row.segment.derive_seed(attempt), row.preset)

    def _stretch(self, attempt: Attempt, options: AROptions) -> EncodedSegment:
        """Return the row with an attempt's alignment, as fast as the options and its sentence want it."""
        rate = choose_rate(attempt.encoded.segment, options)
        fitted = self.fit(attempt, len(attempt.result.codes) * self.ar.config.merge / rate)
        return replace(attempt.encoded, segment=fitted)

    def _draw(self, row: EncodedSegment, options: AROptions, drawn: list[Attempt]) -> Iterator[Codebook1]:
        """Yield codebook 1 as it is decided; append the attempt that it is to `drawn` at the end."""
        if options.attempts > 1:
            drawn += self.sample_paced([row], options)
            yield drawn[0].result.codes, drawn[0].result.alignment
            return
        natural = None
        if choose_rate(row.segment, options) != 1:
            natural = self.sample_natural([row], options)[0]
            row = self._stretch(natural, options)
        steps: list[ARStep] = []
        for step in self.draw_live(self._plan_draw(row, 0, without_early_stop(options))):
            steps.append(step)
            symbols = None if step.symbol is None else np.repeat(row.owners[step.symbol], len(step.codes))
            yield step.codes, symbols
        result = row.to_sentence(collect(steps))
        drawn.append(self._assess(row, result, 0) if natural is None else self._replace_result(natural, result))

    def _render(
        self,
        row: EncodedSegment,
        codebook1: Iterable[Codebook1],
        drawn: Sequence[Attempt],
        options: AROptions,
        windows: Windows | None,
    ) -> Generator[np.ndarray | Speech]:
        """Yield samples as codebook 1 comes, then the speech; `drawn` holds the attempt once codebook 1 is complete."""
        decoder = self.codec.stream()
        codes: list[np.ndarray] = []
        samples: list[np.ndarray] = []
        for window in self._fill(row, codebook1, options, windows):
            codes.append(window)
            for start in range(0, len(window), BLOCK_FRAMES):
                samples.append(decoder.push(window[start : start + BLOCK_FRAMES]))
                yield samples[-1]
        if codes:
            samples.append(decoder.flush())
            yield samples[-1]
        yield self._to_speech(drawn[0], codes, samples)

    def _fill(
        self, row: EncodedSegment, codebook1: Iterable[Codebook1], options: AROptions, windows: Windows | None
    ) -> Iterator[np.ndarray]:
        """Return codes (n, Q) of frames, window by window."""
        merge, target = self.ar.config.merge, row.prompt.nar(self.ar.config, options.accent)
        pieces = (
            (
                np.repeat(codes, merge),
                None if symbols is None else np.repeat(row.places[symbols] + target.prompt_symbols, merge),
            )
            for codes, symbols in codebook1
        )
        return fill_windows(self.nar, target, windows, pieces, row.segment.spoken)

    def _to_speech(self, attempt: Attempt, codes: Sequence[np.ndarray], samples: Sequence[np.ndarray]) -> Speech:
        sentence, alignment = attempt.encoded.segment.sentence, attempt.result.alignment
        audio = Audio(np.concatenate([*samples, np.zeros(0, np.float32)]), self.spec.rate)
        durations: tuple[int, ...] = ()
        if alignment is not None and len(alignment):
            durations = tuple((to_durations(alignment, len(sentence.symbols)) * self.ar.config.merge).tolist())
        words, phones = place_in_time(sentence, durations, self.spec.frame_rate, audio.seconds)
        return Speech(
            audio=audio,
            text=sentence.text,
            words=words,
            phones=phones,
            quality=attempt.quality,
            codes=np.concatenate([*codes, np.zeros((0, self.spec.codebooks), np.int64)]).astype(np.uint16),
            symbols=sentence.symbols if durations else (),
            durations=durations,
            speaker=sentence.voice or "",
            language=sentence.language,
        )

    def _assess(self, row: EncodedSegment, result: ARResult, attempt: int) -> Attempt:
        sentence = row.segment.sentence
        frames, spare = len(result.codes) * self.ar.config.merge, EDGE_FRAMES + LAST_FRAMES
        if result.alignment is not None:  # pauses and edges are known, and tell nothing about the pace
            pauses = np.array([symbol == SIL for symbol in sentence.symbols])
            frames -= int(pauses[result.alignment].sum()) * self.ar.config.merge
            spare = LAST_FRAMES
        quality = assess_quality(frames, sentence.phones, result.stopped_by, attempt + 1, result.noticed, spare)
        return Attempt(row, result, quality)

    def _replace_result(self, natural: Attempt, result: ARResult) -> Attempt:
        """Return an attempt drawn at another pace, with what was wrong with the one whose alignment it took."""
        found = self._assess(natural.encoded, result, 0).quality
        noticed = tuple(flag for flag in found.flags if flag not in ("fast", "slow", "cut"))
        flags = tuple(dict.fromkeys([*natural.quality.flags, *noticed]))
        quality = replace(natural.quality, frames_per_phone=found.frames_per_phone, flags=flags)
        return replace(natural, result=result, quality=quality)


def choose_rate(segment: Segment, options: AROptions) -> float:
    """Return how much faster than the model would say it a segment is spoken; 1 along an alignment of its own."""
    return options.speed * segment.sentence.speed if segment.alignment is None else 1.0


def without_early_stop(options: AROptions) -> AROptions:
    """Return options with which a draw that fails is noted, but goes on."""
    return options.model_copy(update={"watch": options.watch.model_copy(update={"ends": False})})


def release_memory() -> None:
    """Return free memory to the system, where the C library can; a text of 2,000 words takes 160 MB less with it.

    Every sentence has other sizes, and glibc keeps the holes that arrays of many sizes leave.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
