"""One line and a voice -> its sound: codebook 1 by the AR model, the others by the NAR model, samples by the codec.

Every draw comes from a generator seeded by (seed, number of the line, attempt), so a line sounds the same alone, in
a batch, and in the middle of a book.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openvalle.audio import Audio
from openvalle.codec.base import Codec, CodecSpec
from openvalle.decode.ar import AROptions, ARPrompt, ARResult, ARStep, StoppedBy, collect, generate, stream
from openvalle.decode.nar import NARPromptRow
from openvalle.decode.watch import Finding
from openvalle.decode.windows import Windows
from openvalle.errors import ModelError
from openvalle.model.ar import AR
from openvalle.model.batch import Utterance, whole_blocks
from openvalle.model.config import Alignment
from openvalle.model.nar import NAR
from openvalle.synth.jobs import USUAL_FRAMES, Job, PromptMode, paths_of, seeded
from openvalle.synth.render import Renderer
from openvalle.synth.speech import Quality, Speech
from openvalle.text.bpe import pieces
from openvalle.text.symbols import SIL, SymbolTable, TextUnit

LANGUAGE = "en"  # of the text; the front end reads English
SILENT_FRAMES = 16  # enough for the codec's edges to be left behind
FAST_FRAMES, SLOW_FRAMES = 3.0, 20.0  # frames per phone (1/75 s) outside of which speech is hardly natural


@dataclass(frozen=True)
class Draft:
    """Codebook 1 of one attempt."""

    result: ARResult
    quality: Quality

    @property
    def badness(self) -> tuple[bool, int, float]:
        """What to minimise among attempts."""
        return badness(self.quality, self.result.stopped_by is StoppedBy.WATCH)


@dataclass(frozen=True)
class Prompt:
    """A voice as the models read it."""

    symbols: tuple[str, ...]
    codes: Tensor  # (T, Q) int64
    path: Tensor | None  # (T / merge,) index of each block's symbol; None for byte pairs
    language: str


@dataclass(frozen=True)
class Utterer:
    """The models that speak. Holds no state between calls, so threads may share it."""

    ar: AR
    nar: NAR
    codec: Codec
    spec: CodecSpec
    table: SymbolTable
    languages: tuple[str, ...] = ("en",)  # language n of the models, counted from 1, is the n-th
    windows: Windows = field(default_factory=Windows)  # in which codebooks 2 to Q are filled, streamed or not

    def speak(self, jobs: Sequence[Job], options: AROptions) -> list[Speech]:
        """Return the speech of each job; a line that went wrong is tried again and the best attempt kept."""
        return [self._complete(job, draft) for job, draft in zip(jobs, self.drafts(jobs, options), strict=True)]

    def stream(self, job: Job, options: AROptions) -> Generator[np.ndarray, None, Speech]:
        """Yield the samples of a line as they become final; the generator's value is what `speak` returns for it.

        With one attempt they come while codebook 1 is still being drawn. With more, the kept one is known only after
        the last, and they come from then on.
        """
        renderer = self._renderer(job)
        if options.attempts == 1:
            draft = yield from self._live(job, options, renderer)
        else:
            draft = self.drafts([job], options)[0]
            yield from renderer.push(draft.result.codes, draft.result.path)
        yield from renderer.flush()
        return renderer.speech(job.line, self.spec, draft.quality)

    def drafts(self, jobs: Sequence[Job], options: AROptions) -> list[Draft]:
        """Return codebook 1 of each job, the best of as many attempts as it took.

        A bad draw is broken off as soon as it shows, except in the last attempt: something has to be said.
        """
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
        frames = len(result.codes) * self.ar.config.merge
        quality = judged(frames, job.line.phones, result.stopped_by, attempt + 1, result.noticed)
        return Draft(result, quality)

    def _live(self, job: Job, options: AROptions, renderer: Renderer) -> Generator[np.ndarray, None, Draft]:
        """Yield samples while codebook 1 is drawn."""
        steps: list[ARStep] = []
        for step in stream(self.ar, self._prompts([job]), enduring(options), seeded([job], 0), paths_of([job])):
            steps.append(step)
            kept = step.is_emitted[0]  # (G,)
            path = None if step.path is None else step.path.expand(len(kept))[kept]
            yield from renderer.push(step.codes[0][kept], path)
        return self._draft(job, collect(steps)[0], 0)

    def _codebook_1(self, jobs: Sequence[Job], attempt: int, options: AROptions) -> list[ARResult]:
        """Speak all jobs in one batch."""
        return generate(self.ar, self._prompts(jobs), options, seeded(jobs, attempt), paths_of(jobs))

    def _prompts(self, jobs: Sequence[Job]) -> list[ARPrompt]:
        prompts = []
        language = self._language(LANGUAGE)
        for job in jobs:
            prompt = self._prompt(job)
            text = self._ids(job, prompt)
            rate, following = job.line.rate, len(job.following)
            if prompt is None:
                prompts.append(ARPrompt(text, language=language, rate=rate, following_symbols=following))
                continue
            merged = prompt.codes[:: self.ar.config.merge, 0]
            spoken = self._language(prompt.language)
            before = len(prompt.symbols)
            prompts.append(ARPrompt(text, before, merged, prompt.path, language, spoken, rate, following))
        return prompts

    def _complete(self, job: Job, draft: Draft) -> Speech:
        """Add codebooks 2 to Q and turn the codes into sound. Rows go alone, so that a batch changes no sample."""
        renderer = self._renderer(job)
        for _ in chain(renderer.push(draft.result.codes, draft.result.path), renderer.flush()):
            pass  # the renderer keeps what it yields
        return renderer.speech(job.line, self.spec, draft.quality)

    def _renderer(self, job: Job) -> Renderer:
        prompt, merge = self._prompt(job), self.ar.config.merge
        path = None if prompt is None else prompt.path
        frames = torch.zeros(0, dtype=torch.long) if path is None else path.repeat_interleave(merge)
        row = NARPromptRow(
            text=self._ids(job, prompt),
            first=torch.zeros(0, dtype=torch.long),
            prompt_symbols=0 if prompt is None else len(prompt.symbols),
            prompt=None if prompt is None else prompt.codes,
            path=None if self.ar.config.alignment == Alignment.NONE else frames,
            language=self._language(LANGUAGE),
            prompt_language=None if prompt is None else self._language(prompt.language),
        )
        return Renderer(self.nar, self.codec, row, self.windows, merge, job.spoken)

    def _ids(self, job: Job, prompt: Prompt | None) -> Tensor:
        """Return the symbols of prompt, line and what follows, (S,)."""
        before = prompt.symbols if prompt else ()
        own = pieces(job.line.text, self.table) if self.table.unit is TextUnit.BPE else job.line.symbols
        return torch.tensor(self.table.encode([*before, *own, *job.following]))

    def _language(self, name: str) -> int:
        """Return the models' number of a language, 0 for one that they do not know by name."""
        is_told = self.ar.config.languages > 0 and name in self.languages
        return self.languages.index(name) + 1 if is_told else 0

    def _prompt(self, job: Job) -> Prompt | None:
        """Return the voice as the mode wants it: whole if the line goes on from it, else without its last pause,
        because the line begins with one and no two neighbours may be equal."""
        voice, config = job.voice, self.ar.config
        if voice is None:
            return None
        if voice.language != LANGUAGE and job.mode is not PromptMode.CROSS_LINGUAL:
            raise ModelError(
                f"the voice {voice.name!r} speaks {voice.language!r}, the text is {LANGUAGE!r}",
                f"choose the prompt mode {PromptMode.CROSS_LINGUAL}",
            )
        symbols, durations = list(voice.symbols), list(voice.durations)
        while durations and job.mode is not PromptMode.CONTINUAL and len(symbols) > 1 and symbols[-1] == SIL:
            symbols.pop()
            durations.pop()
        frames = sum(durations) if durations else len(voice.codes)
        codes = torch.from_numpy(voice.codes[:frames].astype(np.int64))
        # Both networks get the same whole groups, so that grouped models see one prompt (VALL-E 2 3.1).
        row = Utterance(torch.zeros(len(symbols)), codes, torch.tensor(durations) if durations else None)
        kept, path = whole_blocks(row, config.merge, config.group)
        return Prompt(tuple(symbols), kept, None if path is None else path[:: config.merge], voice.language)


def judged(frames: int, phones: int, stopped_by: StoppedBy, attempts: int, noticed: Finding | None = None) -> Quality:
    """Return the quality record of a line of `frames` frames."""
    pace = frames / max(1, phones)
    is_whole = stopped_by is not StoppedBy.WATCH  # the pace of half a line says nothing
    checks: dict[str, Any] = {
        "cut": stopped_by is StoppedBy.LIMIT,
        "fast": is_whole and pace < FAST_FRAMES,
        "slow": is_whole and pace > SLOW_FRAMES,
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
