"""Detectors that look at a draw while it is made, for loops, silences and runaways: a bad one can be ended early."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from pydantic import Field

from openvalle.config import Config
from openvalle.engines.base import CodecEngine

PERIOD = 48  # steps of the longest pattern that is looked for (1.3 s at 37.5 Hz): a word said again and again
PERIODS = 3  # times that a pattern must come again
SILENT_FRAMES = 16  # enough for the codec's edges to be left behind
MISMATCH = 4  # a step that breaks a pattern undoes this many that kept it: sampled loops are not exact


class FailureOptions(Config):
    """When a draw is given up. Frames are the codec's (75 a second)."""

    ends: bool = Field(True, description="end a bad draw at once; else it is only noted")
    loop_frames: int = Field(90, ge=0, description="frames of one pattern said again and again; 0 never looks")
    silence_frames: int = Field(120, ge=0, description="frames without a sound in one go; 0 never looks")
    runaway_frames: float = Field(20.0, ge=0, description="frames per sound, over the whole line; 0 never looks")
    silent: tuple[int, ...] = Field((), description="entries of codebook 1 that stand for silence")


class Failure(StrEnum):
    """What is wrong with a draw."""

    LOOP = "loop"  # the same codes again and again
    SILENCE = "silence"  # nothing is said for too long
    RUNAWAY = "runaway"  # it takes so long that it cannot become ordinary speech any more


def find_silence_codes(codec: CodecEngine) -> tuple[int, ...]:
    """Return the entries of codebook 1 that the codec gives to digital silence."""
    codes = codec.encode(np.zeros(SILENT_FRAMES * codec.spec.hop, np.float32))
    return tuple(sorted(set(codes[:, 0].tolist())))


class FailureDetector:
    """Looks at one row, step by step. `budget`: the frames that the row may take; None: any number."""

    def __init__(self, options: FailureOptions, step_frames: int, budget: float | None) -> None:
        self.options, self.step_frames, self.budget = options, step_frames, budget
        self.past = np.full(PERIOD, -1)  # codes, the latest first
        self.runs = np.zeros(PERIOD, np.int64)  # per period: steps in a row that repeat the one a period before
        self.periods = np.arange(1, PERIOD + 1)
        self.silent = frozenset(options.silent)
        self.hushed = self.steps = 0

    def push(self, codes: Sequence[int], waiting: int = 0) -> Failure | None:
        """Take the codes (G,) of a step and the number of symbols still to come; return what is wrong, if anything."""
        self.steps += 1
        for code in codes:
            self.runs = np.where(self.past == code, self.runs + 1, np.maximum(self.runs - MISMATCH, 0))
            self.past = np.concatenate([[code], self.past[:-1]])
        frames = self.step_frames / len(codes)
        if (
            self.options.loop_frames
            and (self.runs >= np.maximum(self.options.loop_frames / frames, PERIODS * self.periods)).any()
        ):
            return Failure.LOOP
        self.hushed = self.hushed + 1 if self.silent.issuperset(codes) else 0
        if 0 < self.options.silence_frames < self.hushed * self.step_frames:
            return Failure.SILENCE
        if self.budget is not None and (self.steps + waiting) * self.step_frames > self.budget:
            return Failure.RUNAWAY
        return None
