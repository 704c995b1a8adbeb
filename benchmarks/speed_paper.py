"""Networks of the papers' size (12 layers of 1024), random weights, engine by engine: steps, rows, memory, passes."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.codec.load import find_builtin
from openvalle.engines.base import NARRows
from openvalle.engines.layers import Precision, adds_exactly
from openvalle.engines.onnx import load_codec
from openvalle.engines.onnx_ar import OnnxAR
from openvalle.engines.onnx_nar import OnnxNAR
from openvalle.engines.probe import make_rows
from openvalle.engines.weights import Weights
from openvalle.model.config import ARConfig, NARConfig, TransformerConfig

SHAPE = TransformerConfig(width=1024, heads=16, depth=12, feedforward=4096)
SYMBOLS, PROMPT, FRAMES = 161, 225, 750  # of text and prompt together; 3 s of prompt; 10 s of speech
RATE = 75  # frames a second
INT8 = Precision.INT8 if adds_exactly() else Precision.INT8_NARROW
PRECISIONS = (Precision.FP32, INT8, Precision.INT4)


class RandomWeights(Weights):
    """Weights of any name and shape."""

    def __init__(self) -> None:
        super().__init__({}, Path("random"))
        self._rng = np.random.default_rng(0)

    def take(self, name: str, *shape: int) -> np.ndarray:
        if name not in self.values:
            value = self._rng.standard_normal(shape, np.float32) * np.float32(0.02)
            self.values[name] = value + np.float32("norm.weight" in name)  # type: ignore[index]
        return self.values[name]

    def take_matrix(self, name: str, out: int, inner: int) -> np.ndarray:
        return self.take(name, out, inner)

    def require_all_asked(self) -> None:
        """All that was asked for is there."""


def ar_config(group: int = 1) -> ARConfig:
    return ARConfig(transformer=SHAPE, symbols=512, group=group)


def nar_config() -> NARConfig:
    return NARConfig(transformer=SHAPE, symbols=512)


def least(run: Callable[[], object], times: int) -> float:
    """Return the seconds of the fastest of some runs."""
    found = []
    for _ in range(times):
        started = time.perf_counter()
        run()
        found.append(time.perf_counter() - started)
    return min(found)


def read_bandwidth() -> float:
    """Return how many bytes a second one thread reads from memory: the fastest sum of 512 MB."""
    block = np.ones(1 << 26, np.float64)
    return block.nbytes / least(block.sum, 5)


def weight_bytes(precision: Precision) -> int:
    """Return the bytes of the large layers that a step of one row has to read, at G = 1."""
    width, up = SHAPE.width, SHAPE.feedforward
    count = SHAPE.depth * (4 * width * width + 2 * width * up) + 1025 * width
    bits = {Precision.FP32: 32, Precision.INT4: 4 + 32 / 32}.get(precision, 8)
    return int(count * bits / 8)


def time_steps(engine: Any, rows: int, steps: int) -> float:
    """Return the seconds of the fastest step of so many rows, each after a text and 3 s of prompt."""
    config, rng = engine.config, np.random.RandomState(0)
    text = rng.randint(0, config.symbols, (1, SYMBOLS))
    _, state = engine.prefill(make_rows(config, text, rng, PROMPT // config.group), steps)
    state = state.fork(np.zeros(rows, np.int64)) if rows > 1 else state
    groups = rng.randint(0, config.codebook_size, (rows, config.group))
    aligned, languages = np.zeros(rows, np.int64), np.zeros(rows, np.int64)

    def step() -> None:
        nonlocal state
        _, state = engine.step(groups, aligned, languages, state)

    return least(step, steps)


def measure_ar(precision: Precision, steps: int) -> dict[str, float]:
    """Return what a step takes: seconds of one row and of eight, and the share of the memory's speed."""
    weights = RandomWeights()
    bandwidth = read_bandwidth()
    engine = OnnxAR(ar_config(), weights, precision)
    one = time_steps(engine, 1, steps)
    bandwidth = max(bandwidth, read_bandwidth())
    eight = time_steps(engine, 8, max(4, steps // 3))
    share = weight_bytes(precision) / bandwidth / one
    return {"one": one, "eight": eight, "bandwidth": bandwidth, "share": share, "gain": 8 * one / eight}


def time_pass(rows: NARRows, precision: Precision) -> float:
    """Return the seconds of the fastest of two NAR passes."""
    nar = OnnxNAR(nar_config(), RandomWeights(), precision)
    return least(lambda: nar.predict(rows, 1), 2)


def measure_whole(precision: Precision, steps: int) -> dict[str, float]:
    """Return seconds per second of speech of a model with G = 2 and of the built-in codec: AR steps and one NAR pass,
    each times what 10 s of speech need."""
    ar = OnnxAR(ar_config(2), RandomWeights(), precision)
    step = time_steps(ar, 1, steps)
    del ar
    rng = np.random.RandomState(0)
    rows = NARRows(
        text=rng.randint(0, 512, (1, SYMBOLS)),
        text_lens=np.array([SYMBOLS]),
        codes=rng.randint(0, 1024, (1, PROMPT + FRAMES, 8)),
        lens=np.array([PROMPT + FRAMES]),
        prompt_lens=np.array([PROMPT]),
        alignment=None,
        languages=np.zeros((1, 1), np.int64),
        text_languages=np.zeros((1, 1), np.int64),
    )
    one_pass = time_pass(rows, precision)
    folder = find_builtin()
    assert folder is not None
    codec = load_codec(folder, precision)
    codes = rng.randint(0, codec.spec.entries, (FRAMES, codec.spec.codebooks))
    decode = least(lambda: codec.decode(codes), 2)
    seconds = FRAMES / RATE
    parts = {"ar": step * FRAMES / 2 / seconds, "nar": 7 * one_pass / seconds, "codec": decode / seconds}
    return parts | {"rtf": sum(parts.values())}


def main() -> None:
    """Measure one precision and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("ar", "whole"))
    parser.add_argument("precision", choices=[each.value for each in PRECISIONS])
    parser.add_argument("--steps", type=int, default=30)
    given = parser.parse_args()
    run = measure_ar if given.what == "ar" else measure_whole
    print(json.dumps(run(Precision(given.precision), given.steps)))


if __name__ == "__main__":
    main()
