"""`Job`: a line that is to be spoken, by whom and how, and the seed that its draws come from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from openvalle.decode.sampling import row_generators
from openvalle.synth.lines import Line
from openvalle.synth.voice import Voice

BATCH = 8  # lines that are spoken at a time, where there are several
USUAL_FRAMES = 8.0  # frames per phone of ordinary speech
MOST_ATTEMPTS = 10  # seeds of a candidate; the next one has others


class PromptMode(StrEnum):
    """How the line follows on the prompt."""

    ZERO_SHOT = "zero-shot"  # another sentence in the prompt's voice
    CONTINUAL = "continual"  # the same recording goes on
    CROSS_LINGUAL = "cross-lingual"  # the prompt's voice in another language


@dataclass(frozen=True)
class Job:
    """A line to speak: by whom (None: a voice that the model makes up), and the numbers its seed comes from."""

    line: Line
    voice: Voice | None
    seed: int
    number: int = 0
    spoken: int = 0  # frames spoken before it in the text, about: a stream's windows begin as long as that
    path: tuple[int, ...] | None = None  # preset index of the symbol of each step of codebook 1; needs alignment
    take: int = 0  # number of the candidate
    mode: PromptMode = PromptMode.ZERO_SHOT
    following: tuple[str, ...] = ()  # symbols of what comes next: read, not spoken; needs alignment


def seeded(jobs: Sequence[Job], attempt: int) -> list[torch.Generator]:
    """Return the generator of each job's attempt."""
    return row_generators([derived_seed(job.seed, job.number, attempt + job.take * MOST_ATTEMPTS) for job in jobs])


def paths_of(jobs: Sequence[Job]) -> list[Tensor] | None:
    """Return the preset path of each job; None if they have none."""
    paths = [torch.tensor(job.path) for job in jobs if job.path is not None]
    assert len(paths) in (0, len(jobs)), "jobs with and without a path cannot go together"
    return paths or None


def jobs_of(
    lines: Iterable[Line],
    voice: Voice | None,
    seed: int,
    cast: Mapping[str, Voice] | None = None,
    mode: PromptMode = PromptMode.ZERO_SHOT,
) -> Iterator[Job]:
    """Yield the jobs of a text's lines in order. `cast`: the voices that lines name."""
    spoken = 0
    for number, line in enumerate(lines):
        own = (cast or {})[line.voice] if line.voice else voice
        if mode is PromptMode.CONTINUAL and number == 0:
            yield Job(line.going_on(), own, seed, number, spoken, mode=mode)
        else:
            how = PromptMode.ZERO_SHOT if mode is PromptMode.CONTINUAL else mode
            yield Job(line, own, seed, number, spoken, mode=how)
        spoken += round(line.phones * USUAL_FRAMES)


def derived_seed(seed: int, number: int, attempt: int) -> int:
    """Return the seed of one attempt at one line: 63 bits of SHA-256("seed/number/attempt")."""
    digest = hashlib.sha256(f"{seed}/{number}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
