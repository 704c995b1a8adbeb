"""Layers of the networks as nodes of a graph, in float32 or with weights of 8 or 4 bits.

`Precision.INT8`: a linear layer divides every position by its own largest value, rounds it to 8 bits and multiplies
whole numbers. A sum of whole numbers is exact and no position knows of another, so a row among others gives to the last
bit what it gives alone. Letters: B rows, L positions, D width.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache

import numpy as np

from openvalle.graphs import Graph, open_graph
from openvalle.model.config import TransformerConfig
from openvalle.model.kinds import Activation, NormKind
from openvalle.model.rounding import SMALLEST, TOP, RoundedWeight, round_rows

EPSILON, RMS_EPSILON = 1e-5, 1e-6  # as in `openvalle.model.transformer`
NARROW = 63  # the largest whole number of `Precision.INT8_NARROW`
BLOCK = 32  # weights that share a scale in `Precision.INT4`


class Precision(StrEnum):
    """How linear layers compute."""

    FP32 = "fp32"  # as the networks were trained
    INT8 = "int8"  # weights and inputs of 8 bits
    INT8_NARROW = "int8-7bit"  # weights of 7: CPUs without VNNI add two products in 16 bits, which 8 would overflow
    INT4 = "int4"  # weights of 4 bits, in blocks of 32


def linear(
    graph: Graph, x: str, name: str, weight: np.ndarray | RoundedWeight, bias: np.ndarray | None, precision: Precision
) -> str:
    """Return x (..., K) times the weight (N, K), plus the bias (N,)."""
    if precision in (Precision.INT8, Precision.INT8_NARROW):
        y = _linear8(graph, x, name, weight, NARROW if precision is Precision.INT8_NARROW else TOP)
    else:
        y = _multiply(graph, x, name, weight.restore() if isinstance(weight, RoundedWeight) else weight, precision)
    return y if bias is None else graph.add("Add", y, graph.weight(f"{name}.bias", bias))


def _multiply(graph: Graph, x: str, name: str, weight: np.ndarray, precision: Precision) -> str:
    out, inner = weight.shape
    if precision is Precision.FP32 or inner % BLOCK:
        return graph.add("FusedMatMul", x, graph.weight(name, weight), ours=True, transB=1)
    packed, scales = pack_blocks(weight)
    weights = graph.weight(f"{name}.packed", packed), graph.weight(f"{name}.scales", scales)
    return graph.add("MatMulNBits", x, *weights, ours=True, K=inner, N=out, bits=4, block_size=BLOCK, accuracy_level=4)


def _linear8(graph: Graph, x: str, name: str, weight: np.ndarray | RoundedWeight, top: int) -> str:
    largest = graph.add("ReduceMax", graph.add("Abs", x), graph.constant([-1]), keepdims=1)
    largest = graph.add("Add", largest, graph.constant(SMALLEST, "float32"))  # a position may hold zeros
    step, zero = graph.constant(1 / 127, "float32"), graph.constant(128, "uint8")
    divided = graph.add("QuantizeLinear", graph.add("Div", x, largest), step, zero)
    if f"{name}.rounded" not in graph.weights:
        rounded = round_rows(weight, top)
        graph.weight(f"{name}.rounded", rounded.values.T)
        graph.weight(f"{name}.scales", rounded.scales)
    weights = f"{name}.rounded", step, f"{name}.scales", zero
    return graph.add("Mul", graph.add("MatMulIntegerToFloat", divided, *weights, ours=True), largest)


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
