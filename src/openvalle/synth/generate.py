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
import torch
from torch import Tensor

from openvalle.audio import Audio, silence
from openvalle.codec.base import Codec
from openvalle.decode.alignment import stretched
from openvalle.decode.ar import AROptions, ARPrompt, ARResult, ARStep, StoppedBy, collect, generate, stream
from openvalle.decode.failures import Finding
from openvalle.decode.nar import NARPromptRow, WindowFiller, Windows
from openvalle.decode.prompt import SpeechPrompt, continued, zero_shot
from openvalle.errors import ModelError
from openvalle.model.alignment import durations_of
from openvalle.model.ar import AR
from openvalle.model.batch import Utterance
from openvalle.model.nar import NAR
from openvalle.safety.detector import Provenance
from openvalle.safety.watermark import Marker, MarkStream
from openvalle.synth.joints import EdgeTrimmer, moved, trimmer_of
from openvalle.synth.plan import USUAL_FRAMES, Job, Line, PromptMode, paths_of, seeded, times_of
from openvalle.synth.speech import Quality, Speech
from openvalle.text.symbols import SymbolTable, TextUnit
from openvalle.text.tokenizer import pieces
from openvalle.types import SIL, CodecSpec


def give_back() -> None:
    """Return free memory to the system, where the C library can (glibc); takes a few milliseconds."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


BLOCK = 32  # frames decoded at a time: convolutions prepare themselves for every size they meet, and keep that


class Renderer:
    """One line on its way from codebook 1 to samples."""

    def __init__(
        self,
        nar: NAR,
        codec: Codec,
        row: NARPromptRow,
        windows: Windows | None,
        merge: int,
        spoken: int,
        places: Tensor | None,
    ) -> None:
        """`row`: the line's text and prompt; `windows` None: the line in one go; `merge`: frames per code of codebook
        1; `spoken`: frames before it; `places` (L,): where the row's text holds each symbol of the line; None without
        alignment."""
        self.filler = WindowFiller(nar, row, windows, spoken)
        self.decoder, self.merge, self.device = codec.stream(), merge, nar.codes.device
        self.path = torch.zeros(0, dtype=torch.long)  # (T / merge,) symbol of each step, counted in the line
        self.places = places
        self.blocks: list[np.ndarray] = []  # what was yielded

    @property
    def codes(self) -> Tensor:
        """The codes (T, Q) that are finished."""
        return self.filler.codes

    def push(self, first: Tensor, path: Tensor | None = None) -> Iterator[np.ndarray]:
        """Take steps of codebook 1 (n,) with their symbols (n,); yield the samples that are final."""
        spread = None
        if path is not None:
            assert self.places is not None, "a model without alignment has no path"
            self.path = torch.cat([self.path, path.cpu()])
            spread = self.places[path.cpu()].repeat_interleave(self.merge)
        yield from self._decoded(self.filler.push(first.cpu().repeat_interleave(self.merge), spread))

    def flush(self) -> Iterator[np.ndarray]:
        """Yield the rest of the samples."""
        yield from self._decoded(self.filler.flush())
        if len(self.codes):
            yield self._kept(self.decoder.flush())

    def speech(self, line: Line, spec: CodecSpec, quality: Quality) -> Speech:
        """Return everything as the speech of `line`."""
        audio = Audio(np.concatenate([*self.blocks, np.zeros(0, np.float32)]), spec.rate)
        durations: tuple[int, ...] = ()
        if len(self.path):
            durations = tuple((durations_of(self.path, len(line.symbols)) * self.merge).tolist())
        words, phones = times_of(line, durations, spec.frame_rate, audio.seconds) if durations else ((), ())
        return Speech(
            audio=audio,
            text=line.text,
            words=words,
            phones=phones,
            quality=quality,
            codes=self.codes.numpy().astype(np.uint16),
            symbols=line.symbols if durations else (),
            durations=durations,
            speaker=line.voice or "",
        )

    def _decoded(self, windows: Iterable[Tensor]) -> Iterator[np.ndarray]:
        for codes in windows:
            for block in codes.split(BLOCK):
                yield self._kept(self.decoder.push(block[None].to(self.device)))

    def _kept(self, decoded: Tensor) -> np.ndarray:
        self.blocks.append(np.ascontiguousarray(decoded[0].float().cpu().numpy(), np.float32))
        return self.blocks[-1]


LANGUAGE = "en"  # of the text; the front end reads English
SILENT_FRAMES = 16  # enough for the codec's edges to be left behind
FAST_FRAMES, SLOW_FRAMES = 3.0, 20.0  # frames per phone (1/75 s) outside of which speech is hardly natural
LAST_FRAMES = 30  # more that a line's last sounds take: a word alone is drawn out
EDGE_FRAMES = 75  # of silence around a line, where nobody knows which frames they are


@dataclass(frozen=True)
class Draft:
    """Codebook 1 of one attempt."""

    result: ARResult
    quality: Quality

    @property
    def badness(self) -> tuple[bool, int, float]:
        """What to minimise among attempts."""
        return badness(self.quality, self.result.stopped_by is StoppedBy.WATCH)

    def edges(self, line: Line, *, is_first: bool, is_last: bool) -> int:
        """Return how many codes are silence at a line's edges inside a text."""
        if self.result.path is None:
            return 0
        last = len(line.symbols) - 1
        ends = [place for place, is_outer in ((0, is_first), (last, is_last)) if not is_outer]
        return sum(int((self.result.path == place).sum()) for place in ends if line.symbols[place] == SIL)


@dataclass(frozen=True)
class Utterer:
    """The models that speak. Holds no state between calls, so threads may share it."""

    ar: AR
    nar: NAR
    codec: Codec
    spec: CodecSpec
    table: SymbolTable
    languages: tuple[str, ...] = ("en",)  # language n of the models, counted from 1, is the n-th

    def speak(self, jobs: Sequence[Job], options: AROptions) -> list[Speech]:
        """Return the speech of each job; a line that went wrong is tried again and the best attempt kept."""
        drafts = self.drafts(jobs, options)
        return [self._complete(job, draft, options) for job, draft in zip(jobs, drafts, strict=True)]

    def stream(
        self, job: Job, options: AROptions, windows: Windows | None = None
    ) -> Generator[np.ndarray, None, Speech]:
        """Yield the samples of a line as they become final; without windows the generator's value is what `speak`
        returns for it.

        With one attempt they come while codebook 1 is still being drawn. With more, the kept one is known only after
        the last, and they come from then on. `windows`: in which codebooks 2 to Q are filled.
        """
        renderer = self._renderer(job, options, windows)
        if options.attempts == 1:
            draft = yield from self._live(job, options, renderer)
        else:
            draft = self.drafts([job], options)[0]
            yield from renderer.push(draft.result.codes, draft.result.path)
        yield from renderer.flush()
        return renderer.speech(job.line, self.spec, draft.quality)

    def drafts(self, jobs: Sequence[Job], options: AROptions) -> list[Draft]:
        """Return codebook 1 of each job, the best of as many attempts as it took.

        A bad draw is broken off as soon as it shows, except in the last attempt: something has to be said. What is
        to be faster or slower than the model would say it is then drawn again along its own path, stretched.
        """
        drafts = self.at_own_pace(jobs, options)
        paced = [self.paced(job, draft, options) for job, draft in zip(jobs, drafts, strict=True)]
        again = [index for index, job in enumerate(paced) if job is not jobs[index]]
        if again:
            results = self._codebook_1([paced[index] for index in again], 0, enduring(options))
            for index, result in zip(again, results, strict=True):
                drafts[index] = self._in_place(jobs[index], drafts[index], result)
        return drafts

    def paced(self, job: Job, draft: Draft, options: AROptions) -> Job:
        """Return the job with the path of a draft, as fast as the options and its line want it; itself at rate 1."""
        rate = options.speed * job.line.rate
        if rate == 1 or job.path is not None:
            return job
        return self.fitted(job, draft, len(draft.result.codes) * self.ar.config.merge / rate)

    def fitted(self, job: Job, draft: Draft, frames: float) -> Job:
        """Return the job with the path of a draft, stretched to `frames`; `ModelError` without alignment."""
        config = self.ar.config
        if draft.result.path is None:
            raise ModelError(
                f"the model has no alignment: its pace cannot be changed (line {job.number + 1})",
                "leave speed and duration away, or use a model with alignment",
            )
        path = stretched(draft.result.path[:: config.group], max(1, round(frames / config.block)))
        return replace(job, path=tuple(path.tolist()))

    def at_own_pace(self, jobs: Sequence[Job], options: AROptions) -> list[Draft]:
        """Return codebook 1 of each job, as fast as the model says it or its path is."""
        best: dict[int, Draft] = {}
        tried: dict[int, list[str]] = {index: [] for index in range(len(jobs))}
        open_jobs = list(range(len(jobs)))
        for attempt in range(options.attempts):
            trying = options if attempt < options.attempts - 1 else enduring(options)
            results = self._codebook_1([jobs[index] for index in open_jobs], attempt, trying)
            for index, result in zip(open_jobs, results, strict=True):
                draft = self._draft(jobs[index], result, attempt)
                tried[index].append(" ".join(draft.quality.flags))
                if index not in best or draft.badness < best[index].badness:
                    best[index] = draft
            open_jobs = [index for index in open_jobs if best[index].quality.flags]
            if not open_jobs:
                break
        return [noted(best[index], tried[index]) for index in range(len(jobs))]

    @torch.inference_mode()
    def sound(self, codes: np.ndarray) -> Audio:
        """Return codes (T, Q) as sound."""
        tokens = torch.from_numpy(codes.astype(np.int64))[None].to(self.nar.codes.device)
        samples = self.codec.decode(tokens)[0]
        return Audio(np.ascontiguousarray(samples.float().cpu().numpy(), np.float32), self.spec.rate)

    def _draft(self, job: Job, result: ARResult, attempt: int) -> Draft:
        frames, spare = len(result.codes) * self.ar.config.merge, EDGE_FRAMES + LAST_FRAMES
        if result.path is not None:  # pauses and edges are known, and tell nothing about the pace
            pauses = torch.tensor([symbol == SIL for symbol in job.line.symbols])
            frames -= int(pauses[result.path.cpu()].sum()) * self.ar.config.merge
            spare = LAST_FRAMES
        quality = judged(frames, job.line.phones, result.stopped_by, attempt + 1, result.noticed, spare)
        return Draft(result, quality)

    def _in_place(self, job: Job, natural: Draft, result: ARResult) -> Draft:
        """Return a draft at another pace with what was wrong with the one whose path it took."""
        found = self._draft(job, result, 0).quality
        noticed = tuple(flag for flag in found.flags if flag not in ("fast", "slow", "cut"))
        flags = tuple(dict.fromkeys([*natural.quality.flags, *noticed]))
        quality = replace(natural.quality, frames_per_phone=found.frames_per_phone, flags=flags)
        return Draft(result, quality)

    def _live(self, job: Job, options: AROptions, renderer: Renderer) -> Generator[np.ndarray, None, Draft]:
        """Yield samples while codebook 1 is drawn; at another pace than the model's own, its path comes first."""
        natural = None
        if options.speed * job.line.rate != 1 and job.path is None:
            natural = self.at_own_pace([job], options)[0]
            job = self.paced(job, natural, options)
        steps: list[ARStep] = []
        owners = self._owners(job)
        prompts = [self.prompt(job).ar(self.ar.config)]
        for step in stream(self.ar, prompts, enduring(options), seeded([job], 0), self._preset([job])):
            steps.append(step)
            kept = step.is_emitted[0]  # (G,)
            path = None if step.path is None else owners[step.path.cpu()].expand(len(kept))[kept.cpu()]
            yield from renderer.push(step.codes[0][kept], path)
        result = in_line(collect(steps)[0], owners)
        return self._draft(job, result, 0) if natural is None else self._in_place(job, natural, result)

    def _codebook_1(self, jobs: Sequence[Job], attempt: int, options: AROptions) -> list[ARResult]:
        """Speak all jobs in one batch."""
        prompts: list[ARPrompt] = [self.prompt(job).ar(self.ar.config) for job in jobs]
        results = generate(self.ar, prompts, options, seeded(jobs, attempt), self._preset(jobs))
        return [in_line(result, self._owners(job)) for job, result in zip(jobs, results, strict=True)]

    def _preset(self, jobs: Sequence[Job]) -> list[Tensor] | None:
        """Return the preset paths of the jobs, if they have any, in the symbols that the models read."""
        paths = paths_of(jobs)
        return paths and [self._places(job)[path] for job, path in zip(jobs, paths, strict=True)]

    def _places(self, job: Job) -> Tensor:
        """Return where the model's text holds each symbol of the line, (L,): a table may put marks before it."""
        return (torch.tensor(self.table.spread(job.line.symbols, [1] * len(job.line.symbols))) > 0).nonzero()[:, 0]

    def _owners(self, job: Job) -> Tensor:
        """Return which symbol of the line each symbol that the models read belongs to, (S,)."""
        return torch.tensor(self.table.owners(job.line.symbols))

    def _complete(self, job: Job, draft: Draft, options: AROptions) -> Speech:
        """Add codebooks 2 to Q in one go and turn the codes into sound. Rows go alone: a batch changes no sample."""
        renderer = self._renderer(job, options, None)
        for _ in chain(renderer.push(draft.result.codes, draft.result.path), renderer.flush()):
            pass  # the renderer keeps what it yields
        return renderer.speech(job.line, self.spec, draft.quality)

    def _renderer(self, job: Job, options: AROptions, windows: Windows | None) -> Renderer:
        row = self.prompt(job).nar(None, self.ar.config, options.accent)
        places = None if row.path is None else self._places(job) + row.prompt_symbols
        return Renderer(self.nar, self.codec, row, windows, self.ar.config.merge, job.spoken, places)

    def prompt(self, job: Job) -> SpeechPrompt:
        """Return what both networks read for a job: `ModelError` if the voice speaks another language than its mode
        says."""
        config, voice, following = self.ar.config, job.voice, len(self.table.encode(job.following))
        own = pieces(job.line.text, self.table) if self.table.unit is TextUnit.BPE else job.line.symbols
        text, language = torch.tensor(self.table.encode([*own, *job.following])), self._language(LANGUAGE)
        if voice is None:
            return zero_shot(config, None, text, language, following=following)
        if voice.language != LANGUAGE and job.mode is not PromptMode.CROSS_LINGUAL:
            raise ModelError(
                f"the voice {voice.name!r} speaks {voice.language!r}, the text is {LANGUAGE!r}",
                f"choose the prompt mode {PromptMode.CROSS_LINGUAL}",
            )
        recording = Utterance(
            torch.tensor(self.table.encode(voice.symbols)),
            torch.from_numpy(voice.codes.astype(np.int64)),
            torch.tensor(self.table.spread(voice.symbols, voice.durations)) if voice.durations else None,
            self._language(voice.language),
        )
        build = continued if job.mode is PromptMode.CONTINUAL else zero_shot
        return build(config, recording, text, language, following=following)

    def _language(self, name: str) -> int:
        """Return the models' number of a language, 0 for one that they do not know by name."""
        is_told = self.ar.config.languages > 0 and name in self.languages
        return self.languages.index(name) + 1 if is_told else 0


def in_line(result: ARResult, owners: Tensor) -> ARResult:
    """Return a result whose path goes through the symbols of the line; `owners` (S,): of each that the models read."""
    return result if result.path is None else replace(result, path=owners[result.path.cpu()])


def judged(
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


def badness(quality: Quality, is_broken_off: bool = False) -> tuple[bool, int, float]:
    """Return what to minimise among attempts: half lines, flags, then the distance from an ordinary pace."""
    pace = max(quality.frames_per_phone, 1e-3)
    return is_broken_off, len(quality.flags), abs(np.log(pace / USUAL_FRAMES))


def enduring(options: AROptions) -> AROptions:
    """Return options with which a bad draw is noted, but goes on."""
    return options.model_copy(update={"watch": options.watch.model_copy(update={"ends": False})})


def noted(draft: Draft, tried: Sequence[str]) -> Draft:
    """Return the draft with what was wrong with the attempts that were not kept."""
    kept = draft.quality.attempts - 1
    retries = tuple(flags for attempt, flags in enumerate(tried) if attempt != kept)
    return replace(draft, quality=replace(draft.quality, attempts=len(tried), retries=retries))


@torch.inference_mode()
def silent_entries(codec: Codec) -> tuple[int, ...]:
    """Return the entries of codebook 1 that the codec gives to digital silence."""
    device = next(iter(codec.parameters())).device if isinstance(codec, torch.nn.Module) else torch.device("cpu")
    codes = codec.encode(torch.zeros(1, SILENT_FRAMES * codec.spec.hop, device=device))
    return tuple(sorted(set(codes[0, :, 0].tolist())))


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
