"""Steps and time that 10 s of speech take the four systems, all of one size, with random weights."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from openvalle.decode.ar import AROptions, Draw, generate
from openvalle.decode.failures import FailureOptions
from openvalle.decode.nar import fill
from openvalle.decode.prompt import ARPrompt, NARPrompt
from openvalle.engines.torch import TorchAR, TorchNAR
from openvalle.model.ar import AR
from openvalle.model.config import ARConfig
from openvalle.model.kinds import Alignment
from openvalle.model.nar import NAR
from openvalle.train.recipe import read_pair
from openvalle.types import Utterance as Row
from report import Report

RECIPES = Path(__file__).parents[1] / "src" / "openvalle" / "recipes"
SYSTEMS = {"valle": "VALL-E", "vallex": "VALL-E X", "valler": "VALL-E R", "valle2": "VALL-E 2"}
SPEECH_SECONDS, FRAME_RATE = 10.0, 75
TO_THE_END = FailureOptions(ends=False)  # nothing is broken off, however it sounds


@dataclass(frozen=True)
class Pace:
    """What 10 s of speech take. Times are in seconds."""

    steps: int
    ar: float
    nar: float
    processor: float  # both networks; less than on the clock on a busy machine

    @property
    def total(self) -> float:
        """Both networks."""
        return self.ar + self.nar


def measure_pace(system: str, size: str, repeats: int) -> Pace:
    """Return the steps and the shortest of `repeats` times of a system of random weights, all of one size."""
    stack = read_pair(RECIPES / f"valle-{size}.yaml")[0].transformer
    changed = {"transformer": stack.model_copy(update={"dropout": 0.0})}
    ar_config, nar_config = read_pair(RECIPES / f"{system}-{size}.yaml")
    torch.manual_seed(0)
    ar = TorchAR(AR(ar_config.model_copy(update=changed)).eval())
    nar = TorchNAR(NAR(nar_config.model_copy(update=changed)).eval())
    rng = np.random.default_rng(0)
    paces = [_pace(ar, nar, rng) for _ in range(repeats)]
    assert len({pace.steps for pace in paces}) == 1, "the length of the speech is fixed"
    least = {name: min(getattr(pace, name) for pace in paces) for name in ("ar", "nar", "processor")}
    return Pace(paces[0].steps, **least)


def _pace(ar: TorchAR, nar: TorchNAR, rng: np.random.Generator) -> Pace:
    """Speak 10 s after a prompt of 3 s, with 12 symbols a second."""
    config = ar.config
    frames = round(SPEECH_SECONDS * FRAME_RATE)
    voice = _random_row(36, 224, config, rng)
    text = rng.integers(2, config.symbols, size=125)
    aligned = config.alignment == Alignment.PHONEME
    prompt = ARPrompt(
        np.concatenate([voice.text, text]),
        len(voice.text),
        voice.codes[:: config.merge, 0],
        np.arange(224 // config.merge) * 36 // (224 // config.merge) if aligned else None,
    )
    per_symbol = frames / len(text)
    options = AROptions(least_frames=per_symbol, most_frames=per_symbol, watch=TO_THE_END)
    steps = frames // config.step_frames
    path = np.arange(steps) * len(text) // steps if aligned else None
    started, processor = time.perf_counter(), time.process_time()
    result = generate(ar, [Draw(prompt, options, 0, path)])[0]
    spoken = time.perf_counter()
    path = np.arange(224 + frames) * len(prompt.text) // (224 + frames)
    first = np.repeat(result.codes, config.merge)
    fill(nar, [NARPrompt(prompt.text, first, len(voice.text), voice.codes, path)])
    ended = time.perf_counter()
    steps = len(result.codes) // config.group
    return Pace(steps, spoken - started, ended - spoken, time.process_time() - processor)


def _random_row(symbols: int, frames: int, config: ARConfig, rng: np.random.Generator) -> Row:
    return Row(rng.integers(2, config.symbols, size=symbols), rng.integers(config.codebook_size, size=(frames, 8)))


def paces(options: argparse.Namespace, report: Report) -> None:
    """Measure all systems in one run, at one size."""
    found = {system: measure_pace(system, options.size, options.repeats) for system in SYSTEMS}
    base = found["valle"]
    stack = read_pair(RECIPES / f"valle-{options.size}.yaml")[0].transformer
    report.table(
        f"{SPEECH_SECONDS:g} s of speech, {stack.depth} layers of {stack.width}, {options.threads} threads",
        ["", "AR steps", "AR s", "ms a step", "NAR s", "total s", "CPU s", "of VALL-E's steps", "of its CPU"],
        [
            [
                SYSTEMS[system],
                str(pace.steps),
                f"{pace.ar:.2f}",
                f"{1000 * pace.ar / pace.steps:.1f}",
                f"{pace.nar:.2f}",
                f"{pace.total:.2f}",
                f"{pace.processor:.2f}",
                f"{100 * pace.steps / base.steps:.0f} %",
                f"{100 * pace.processor / base.processor:.0f} %",
            ]
            for system, pace in found.items()
        ],
    )
    report.values["pace"] = {system: vars(pace) for system, pace in found.items()}
    halves = [found[system].steps / base.steps for system in ("valler", "valle2")]
    names = ("VALL-E R x2, share of VALL-E's steps", "VALL-E 2 G=2, share of VALL-E's steps")
    report.targets([(name, half, "= 0.5", half == 0.5) for name, half in zip(names, halves, strict=True)])
