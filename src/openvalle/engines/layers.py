"""Layers of the networks as nodes of a graph, in float32 or with weights of 8 or 4 bits.

`Precision.INT8`: a linear layer divides every position by its own largest value, rounds it to 8 bits and multiplies
whole numbers. A sum of whole numbers is exact and no position knows of another, so a row among others gives to the last
bit what it gives alone. Letters: B rows, L positions, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from pathlib import Path

import numpy as np

from openvalle.errors import ModelError
from openvalle.graphs import Graph, open_graph
from openvalle.model.config import TransformerConfig
from openvalle.model.kinds import Activation, NormKind

EPSILON, RMS_EPSILON = 1e-5, 1e-6  # as in `openvalle.model.transformer`
ROWS = 256  # of a weight that are rounded at a time
BLOCK = 32  # weights that share a scale in `Precision.INT4`
SMALLEST = 1e-20  # is added to what a position is divided by: it may hold zeros, and else this changes nothing


class Precision(StrEnum):
    """How linear layers compute."""

    FP32 = "fp32"  # as the networks were trained
    INT8 = "int8"  # weights and inputs of 8 bits
    INT8_NARROW = "int8-7bit"  # weights of 7: CPUs without VNNI add two products in 16 bits, which 8 would overflow
    INT4 = "int4"  # weights of 4 bits, in blocks of 32


def linear(graph: Graph, x: str, name: str, weight: np.ndarray, bias: np.ndarray | None, precision: Precision) -> str:
    """Return x (..., K) times the weight (N, K), plus the bias (N,)."""
    out, inner = weight.shape
    if precision is Precision.FP32 or (precision is Precision.INT4 and inner % BLOCK):
        y = graph.add("FusedMatMul", x, graph.weight(name, weight), ours=True, transB=1)
    elif precision is Precision.INT4:
        packed, scales = pack_blocks(weight)
        weights = graph.weight(f"{name}.packed", packed), graph.weight(f"{name}.scales", scales)
        y = graph.add("MatMulNBits", x, *weights, ours=True, K=inner, N=out, bits=4, block_size=BLOCK, accuracy_level=4)
    else:
        y = _linear8(graph, x, name, weight, 63 if precision is Precision.INT8_NARROW else 127)
    return y if bias is None else graph.add("Add", y, graph.weight(f"{name}.bias", bias))


def _linear8(graph: Graph, x: str, name: str, weight: np.ndarray, top: int) -> str:
    largest = graph.add("ReduceMax", graph.add("Abs", x), graph.constant([-1]), keepdims=1)
    largest = graph.add("Add", largest, graph.constant(SMALLEST, "float32"))
    step, zero = graph.constant(1 / 127, "float32"), graph.constant(128, "uint8")
    rounded = graph.add("QuantizeLinear", graph.add("Div", x, largest), step, zero)
    if f"{name}.rounded" not in graph.weights:
        values, scales = round_rows(weight, top)
        graph.weight(f"{name}.rounded", values)
        graph.weight(f"{name}.scales", scales)
    weights = f"{name}.rounded", step, f"{name}.scales", zero
    return graph.add("Mul", graph.add("MatMulIntegerToFloat", rounded, *weights, ours=True), largest)


def round_rows(weight: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a weight (N, K) in whole numbers up to `top`, (K, N) int8, and the scale of each row, (N,)."""
    values, scales = np.empty(weight.shape[::-1], np.int8), np.empty(len(weight), np.float32)
    for start in range(0, len(weight), ROWS):  # part by part: what stays in the processor's cache takes half the time
        part = slice(start, start + ROWS)
        buffer = np.abs(weight[part])
        scales[part] = np.maximum(buffer.max(1), np.float32(SMALLEST)) / np.float32(top)
        np.divide(weight[part], scales[part, None], out=buffer)
        values[:, part] = np.rint(buffer, out=buffer).astype(np.int8).T
    return values, scales


def pack_blocks(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a weight (N, K) in 4 bits, (N, K / BLOCK, BLOCK / 2) uint8, and a scale for each block, (N, K / BLOCK)."""
    blocks = weight.reshape(len(weight), -1, BLOCK)
    ends = np.take_along_axis(blocks, np.abs(blocks).argmax(2)[..., None], 2)
    scales = ends / -8  # the largest value of a block, with its sign, becomes -8: one more step than to 7
    scales[scales == 0] = 1
    values = (np.clip(np.rint(blocks / scales), -8, 7) + 8).astype(np.uint8)
    return values[..., 0::2] | values[..., 1::2] << 4, np.ascontiguousarray(scales[..., 0], np.float32)


def layer_norm(graph: Graph, x: str, scale: str, shift: str) -> str:
    """Return LayerNorm(x) * scale + shift."""
    return graph.add("LayerNormalization", x, scale, shift, axis=-1, epsilon=EPSILON)


def rms_norm(graph: Graph, x: str, scale: str) -> str:
    """Return x over its root mean square, times scale."""
    return graph.add("SimplifiedLayerNormalization", x, scale, axis=-1, epsilon=RMS_EPSILON)


def bent_norm(graph: Graph, x: str, scale: str, shift: str, width: int) -> str:
    """Return 2 (1 - n / 10) n * scale + shift, n = LayerNorm(x) (`NormKind.ADANORM`)."""
    ones, zeros = np.ones(width, np.float32), np.zeros(width, np.float32)
    normal = layer_norm(graph, x, graph.weight("ones", ones), graph.weight("zeros", zeros))
    less = graph.add("Sub", graph.constant(2.0, "float32"), graph.add("Mul", normal, graph.constant(0.2, "float32")))
    return graph.add("Add", graph.add("Mul", graph.add("Mul", less, normal), scale), shift)


def activate(graph: Graph, x: str, activation: Activation) -> str:
    """Return what the feed-forward part does between its layers."""
    if activation is Activation.GATED_SILU:
        gate, through = graph.add("Split", x, count=2, axis=-1, num_outputs=2)
        return graph.add("Mul", graph.add("Mul", gate, graph.add("Sigmoid", gate)), through)
    return graph.add("Relu", x) if activation is Activation.RELU else graph.add("Gelu", x, ours=True)


def turn(graph: Graph, vectors: str, turns: tuple[str, str], config: TransformerConfig) -> str:
    """Return queries or keys (B, L, D) turned by rotary positions: cosines and sines (B or 1, L, 1, D / heads)."""
    width = config.width // config.heads
    apart = graph.add("Reshape", vectors, graph.constant([0, 0, config.heads, width]))
    first, second = graph.add("Split", apart, count=2, axis=-1, num_outputs=2)
    crossed = graph.add("Concat", graph.add("Neg", second), first, axis=-1)
    turned = graph.add("Add", graph.add("Mul", apart, turns[0]), graph.add("Mul", crossed, turns[1]))
    return graph.add("Reshape", turned, graph.constant([0, 0, config.width]))


class Weights:
    """The weights of one network by name; every one is asked for by its shape, and all of them have to be."""

    def __init__(self, values: Mapping[str, np.ndarray], source: Path) -> None:
        self.values, self.source = values, source
        self.asked: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def take(self, name: str, *shape: int) -> np.ndarray:
        """Return a weight in float32; `ModelError` unless it is there, of that shape, and holds finite numbers."""
        if name not in self.values:
            raise ModelError(f"{self.source} has no weight {name}", "its config.json is of another model")
        self.asked.add(name)
        value = self.values[name]
        if value.shape != shape:
            shapes = f"{value.shape} and config.json says {shape}"
            raise ModelError(f"{self.source}: {name} is {shapes}", "its config.json is of another model")
        value = value.astype(np.float32, copy=False)
        # a sum of squares is quick, and finite unless a value is not, or they are huge
        flat = value.reshape(-1)
        if not np.isfinite(np.dot(flat, flat)) and not np.isfinite(value).all():
            raise ModelError(f"{self.source}: {name} holds values that are no finite numbers", "copy or train it again")
        return value

    def require_all_asked(self) -> None:
        """Raise `ModelError` if there are weights that the network does not have."""
        if extra := sorted(set(self.values) - self.asked):
            raise ModelError(
                f"{self.source} has a weight {extra[0]} that the model does not", "its config.json is of another model"
            )


def norm_width(kind: NormKind) -> int:
    """Return how many vectors a norm is conditioned by: a scale and a shift, or a scale alone."""
    return 1 if kind is NormKind.RMS else 2


@cache
def adds_exactly() -> bool:
    """Whether this CPU multiplies and adds bytes without overflow, as those with VNNI or dot products do."""
    graph = Graph()
    x = graph.input("x", [1, 64], "uint8")
    weight = graph.weight("weight", np.full((64, 16), 127, np.int8))
    graph.output(graph.add("MatMulInteger", x, weight), "y", [1, 16], "int32")
    found = open_graph(graph).run(["y"], {"x": np.full((1, 64), 255, np.uint8)})[0]
    return bool((found == 64 * 255 * 127).all())
