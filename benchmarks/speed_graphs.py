"""Torch as the networks are written against memory of fixed shapes, which CUDA graphs take on a GPU.

Run by itself as `python benchmarks/speed_graphs.py cuda`; `make bench-speed` does where there is a GPU. On a CPU, where
nothing is captured, `--small` shows what the fixed shapes cost.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from openvalle import Synthesizer
from openvalle.engines.captured import CHOICE, Way
from openvalle.engines.probe import make_rows
from openvalle.engines.torch import TorchAR
from openvalle.engines.torch_static import StaticAR
from openvalle.model.ar import AR
from openvalle.model.config import ARConfig, TransformerConfig
from speed_paper import PROMPT, SYMBOLS, ar_config

LINE = "The quick brown fox jumps over the lazy dog, and the judge said nothing at all about it."
ROWS = (1, 8, 16)
SMALL = ARConfig(transformer=TransformerConfig(width=256, heads=4, depth=6, feedforward=1024), symbols=512)


def time_steps(engine: TorchAR, rows: int, steps: int) -> float:
    """Return the seconds of a step, the middle one of some, of rows after the papers' text and prompt; the steps before
    them, in which graphs are captured, do not count."""
    config, rng = engine.config, np.random.RandomState(0)
    text = rng.randint(0, config.symbols, (1, SYMBOLS))
    _, state = engine.prefill(make_rows(config, text, rng, PROMPT // config.group), 2 * steps)
    state = state.fork(np.zeros(rows, np.int64))
    groups = rng.randint(0, config.codebook_size, (rows, config.group))
    found = []
    for _ in range(2 * steps):
        started = time.perf_counter()
        _, state = engine.step(groups, np.zeros(rows, np.int64), np.zeros(rows, np.int64), state)
        found.append(time.perf_counter() - started)  # scores are on the CPU: the device is done
    return float(np.median(found[steps:]))


def measure_steps(config: ARConfig, device: str, steps: int) -> list[list[Any]]:
    """Return rows, steps a second eager and static, and whether they were captured."""
    torch.manual_seed(0)
    network = AR(config).eval().to(device)
    eager, static = TorchAR(network), StaticAR(network)
    found = []
    for rows in ROWS:
        rates = [1 / time_steps(engine, rows, steps) for engine in (eager, static)]
        found.append([rows, *rates, static.capturer.captures])
    return found


def measure_whole(device: str, repeats: int) -> dict[str, dict[str, float]]:
    """Return the built-in model's seconds per second of sound, and to a stream's first block, by `Way`."""
    found = {}
    for way in Way:
        with patch.dict(os.environ, {CHOICE: way.value}):
            tts = Synthesizer.load(engine="torch", device=device)
        tts.say(LINE)  # captures
        list(tts.stream(LINE))
        rates, first = [], []
        for seed in range(repeats):
            started = time.perf_counter()
            speech = tts.say(LINE, seed=seed)
            rates.append((time.perf_counter() - started) / speech.seconds)
            started = time.perf_counter()
            next(tts.stream(LINE, seed=seed))
            first.append(time.perf_counter() - started)
        found[way.value] = {"rtf": min(rates), "first": min(first)}
    return found


def main(given: Sequence[str] | None = None) -> None:
    """Measure on one device and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("device")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="6 layers of 256 in place of 12 of 1024")
    options = parser.parse_args(given)
    config = SMALL if options.small else ar_config()
    steps = measure_steps(config, options.device, options.steps)
    name = torch.cuda.get_device_name(options.device) if options.device.startswith("cuda") else options.device
    print(json.dumps({"name": name, "steps": steps, "whole": measure_whole(options.device, options.repeats)}))


if __name__ == "__main__":
    main()
