"""One line and a voice -> its sound: codebook 1 by the AR model, the others by the NAR model, samples by the codec.

Every draw comes from a generator seeded by (seed, number of the line, attempt), so a line sounds the same alone, in
a batch, and in the middle of a book.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openvalle.audio import Audio
from openvalle.codec.base import Codec, CodecSpec
from openvalle.decode.ar import AROptions, ARPrompt, ARResult, StoppedBy, generate
from openvalle.decode.nar import NARPromptRow, fill
from openvalle.decode.sampling import row_generators
from openvalle.model.alignment import durations_of, merge_path
from openvalle.model.ar import AR
from openvalle.model.nar import NAR
from openvalle.synth.lines import Line, times_of
from openvalle.synth.speech import Quality, Speech
from openvalle.synth.voice import Voice
from openvalle.text.symbols import SIL, SymbolTable

LANGUAGE = "en"  # of the text; the front end reads English
ATTEMPTS = 3  # a line that goes wrong is spoken again, with the seed of the next attempt
FAST_FRAMES, SLOW_FRAMES = 3.0, 20.0  # frames per phone (1/75 s) outside of which speech is hardly natural


@dataclass(frozen=True)
class Job:
    """A line to speak: by whom (None: a voice that the model makes up), and the two numbers its seed comes from."""

    line: Line
    voice: Voice | None
    seed: int
    number: int = 0


@dataclass(frozen=True)
class Prompt:
    """A voice as the models read it."""

    symbols: tuple[str, ...]
    codes: Tensor  # (T, Q) int64
    path: Tensor  # (T / merge,) index of each block's symbol
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

    def speak(self, jobs: Sequence[Job], options: AROptions) -> list[Speech]:
        """Return the speech of each job; a line that went wrong is tried again and the best attempt kept."""
        best: dict[int, Speech] = {}
        open_jobs = list(range(len(jobs)))
        for attempt in range(ATTEMPTS):
            results = self._codebook_1([jobs[index] for index in open_jobs], attempt, options)
            for index, result in zip(open_jobs, results, strict=True):
                speech = self._complete(jobs[index], result, attempt)
                if index not in best or badness(speech.quality) < badness(best[index].quality):
                    best[index] = speech
            open_jobs = [index for index in open_jobs if best[index].quality.flags]
            if not open_jobs:
                break
        return [best[index] for index in range(len(jobs))]

    def _codebook_1(self, jobs: Sequence[Job], attempt: int, options: AROptions) -> list[ARResult]:
        """Speak all jobs in one batch."""
        prompts = []
        language = self._language(LANGUAGE)
        for job in jobs:
            prompt = self._prompt(job.voice)
            text = self._ids(job.line, prompt)
            if prompt is None:
                prompts.append(ARPrompt(text, language=language))
                continue
            merged = prompt.codes[:: self.ar.config.merge, 0]
            spoken = self._language(prompt.language)
            prompts.append(ARPrompt(text, len(prompt.symbols), merged, prompt.path, language, spoken))
        seeds = [derived_seed(job.seed, job.number, attempt) for job in jobs]
        return generate(self.ar, prompts, options, row_generators(seeds))

    def _complete(self, job: Job, result: ARResult, attempt: int) -> Speech:
        """Add codebooks 2 to Q and turn the codes into sound. Rows go alone, so that a batch changes no sample."""
        prompt, merge = self._prompt(job.voice), self.ar.config.merge
        before = 0 if prompt is None else len(prompt.symbols)
        first = result.codes.cpu().repeat_interleave(merge)  # (T,)
        path = None if result.path is None else result.path.cpu()
        frames = None if path is None else (path + before).repeat_interleave(merge)
        if frames is not None and prompt is not None:
            frames = torch.cat([prompt.path.repeat_interleave(merge), frames])
        row = NARPromptRow(
            text=self._ids(job.line, prompt),
            first=first,
            prompt_symbols=before,
            prompt=None if prompt is None else prompt.codes,
            path=frames,
            language=self._language(LANGUAGE),
            prompt_language=None if prompt is None else self._language(prompt.language),
        )
        codes = fill(self.nar, [row])[0]
        durations = () if path is None else tuple((durations_of(path, len(job.line.symbols)) * merge).tolist())
        return self._speech(job.line, codes, durations, result.stopped_by, attempt)

    def _speech(
        self, line: Line, codes: Tensor, durations: tuple[int, ...], stopped_by: StoppedBy, attempt: int
    ) -> Speech:
        samples = self.codec.decode(codes[None])[0].float().cpu().numpy()  # (T * hop,)
        audio = Audio(np.ascontiguousarray(samples, np.float32), self.spec.rate)
        words, phones = times_of(line, durations, self.spec.frame_rate, audio.seconds) if durations else ((), ())
        return Speech(
            audio=audio,
            text=line.text,
            words=words,
            phones=phones,
            quality=judged(len(codes), line.phones, stopped_by, attempt + 1),
            codes=codes.cpu().numpy().astype(np.uint16),
            symbols=line.symbols if durations else (),
            durations=durations,
        )

    def _ids(self, line: Line, prompt: Prompt | None) -> Tensor:
        """Return the symbols of prompt and line, (S,)."""
        return torch.tensor(self.table.encode([*(prompt.symbols if prompt else ()), *line.symbols]))

    def _language(self, name: str) -> int:
        """Return the models' number of a language, 0 for one that they do not know by name."""
        is_told = self.ar.config.languages > 0 and name in self.languages
        return self.languages.index(name) + 1 if is_told else 0

    def _prompt(self, voice: Voice | None) -> Prompt | None:
        """Return the voice without its last pause: the line begins with one, and no two neighbours may be equal."""
        if voice is None:
            return None
        symbols, durations = list(voice.symbols), list(voice.durations)
        while len(symbols) > 1 and symbols[-1] == SIL:
            symbols.pop()
            durations.pop()
        merge = self.ar.config.merge
        frames = sum(durations) // merge * merge
        durations[-1] -= sum(durations) - frames
        codes = torch.from_numpy(voice.codes[:frames].astype(np.int64))
        return Prompt(tuple(symbols), codes, merge_path(torch.tensor(durations), merge), voice.language)


def derived_seed(seed: int, number: int, attempt: int) -> int:
    """Return the seed of one attempt at one line: 63 bits of SHA-256("seed/number/attempt")."""
    digest = hashlib.sha256(f"{seed}/{number}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def judged(frames: int, phones: int, stopped_by: StoppedBy, attempts: int) -> Quality:
    """Return the quality record of a line of `frames` frames."""
    pace = frames / max(1, phones)
    checks: dict[str, Any] = {
        "cut": stopped_by is StoppedBy.LIMIT,
        "fast": pace < FAST_FRAMES,
        "slow": pace > SLOW_FRAMES,
    }
    flags = tuple(flag for flag, is_set in checks.items() if is_set)
    return Quality("limit" if checks["cut"] else "end", pace, attempts, flags)


def badness(quality: Quality) -> tuple[int, float]:
    """Return what to minimise among attempts: flags, then the distance from an ordinary pace."""
    return len(quality.flags), abs(np.log(max(quality.frames_per_phone, 1e-3) / 8.0))
