"""What enters the transformers, in NumPy: symbols, positions and languages as vectors of one row, without padding.

What `openvalle.model.embeddings` is to the reference engine. Letters: S symbols, L positions, T frames, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from openvalle.engines.layers import Precision, linear
from openvalle.engines.weights import Weights
from openvalle.errors import ModelError
from openvalle.graphs import Graph, open_graph
from openvalle.model.config import LanguageModelConfig
from openvalle.model.kinds import NARROW, TEXT_KERNEL, LanguageOn, Positions, Prenet

Network = Callable[[np.ndarray], np.ndarray]  # (L, D) -> (L, D)


def waves(positions: np.ndarray, width: int) -> np.ndarray:
    """Return sines and cosines (L, D) of positions (L,)."""
    half = np.arange(0, width, 2, dtype=np.float32)
    angles = positions[:, None].astype(np.float32) * np.exp(half * np.float32(-math.log(10_000.0) / width))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def find_turns(positions: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return cosines and sines (*positions, 1, width) of rotary positions, as `engines.layers.turn` takes them."""
    rates = np.exp(np.arange(0, width, 2, dtype=np.float32) * np.float32(-math.log(10_000.0) / width))
    angles = np.tile(positions[..., None].astype(np.float32) * rates, 2)[..., None, :]
    return np.cos(angles), np.sin(angles)


class PositionVectors:
    """Vectors (L, D) for positions (L,) of one part of the sequence, or of the whole."""

    def __init__(self, config: LanguageModelConfig, weights: Weights, name: str) -> None:
        self.kind, self.width = config.positions, config.transformer.width
        self.factor = weights.take(f"{name}.factor") if config.scale_positions else np.float32(1)
        self.table: np.ndarray | None = None
        if config.positions is Positions.LEARNT:
            self.table = weights.take(f"{name}.table", config.max_positions or 0, self.width)

    def of_part(self, positions: np.ndarray) -> np.ndarray:
        """Return what is added to a part of the sequence; `ModelError` beyond what the model learnt."""
        if self.table is not None:
            longest = int(positions.max(initial=-1)) + 1
            if longest > len(self.table):
                raise ModelError(
                    f"{longest} positions are more than the {len(self.table)} that this model learnt",
                    "give a shorter text or prompt",
                )
            return self.table[positions]
        if self.kind is not Positions.SINUSOIDAL:
            return np.zeros((), np.float32)
        return self.factor * waves(positions, self.width)

    def of_whole(self, positions: np.ndarray) -> np.ndarray:
        """Return what is added to the whole sequence."""
        return waves(positions, self.width) if self.kind is Positions.RUNNING else np.zeros((), np.float32)


@dataclass(frozen=True, eq=False)
class TextVectors:
    """`inputs` (S + edges, D) enter the sequence; `symbols` (S, D) are what frames gather by their alignment."""

    inputs: np.ndarray
    symbols: np.ndarray


class TextEmbedding:
    """Symbols -> vectors."""

    def __init__(self, config: LanguageModelConfig, weights: Weights, *, end: bool) -> None:
        width = config.transformer.width
        self.scale = np.float32(math.sqrt(width))
        self.table = weights.take("text.table.weight", config.symbols, width)
        self.positions = PositionVectors(config, weights, "text.positions")
        self.bos = weights.take("text.bos", width)[None] if config.text_bos else self.table[:0]
        self.end = weights.take("text.end", width)[None] if end else self.table[:0]
        self.prenet = self.stack = None
        if config.text_prenet is Prenet.CONV:
            self.prenet = conv_prenet(weights, "text.prenet", width, TEXT_KERNEL)
        elif config.text_prenet is Prenet.STACK:
            self.stack = stacked_prenet(weights, "text.stack", width, TEXT_KERNEL)
        self.with_language = config.languages > 0 and config.language_on is not LanguageOn.AUDIO

    def __call__(self, text: np.ndarray, languages: np.ndarray | None) -> TextVectors:
        """Return the vectors of symbols (S,); `languages`: vectors (1 or S, D)."""
        symbols = self.table[text] * self.scale
        if self.with_language and languages is not None:
            symbols = symbols + languages
        symbols = symbols if self.prenet is None else self.prenet(symbols)
        inputs = np.concatenate([self.bos, symbols, self.end])
        inputs = inputs if self.stack is None else self.stack(inputs)
        return TextVectors(inputs + self.positions.of_part(np.arange(len(inputs))), symbols)


class LanguageEmbedding:
    """Vectors of languages; number 0 is none."""

    def __init__(self, config: LanguageModelConfig, weights: Weights) -> None:
        self.table = weights.take("language.table.weight", config.languages + 1, config.transformer.width)

    def __call__(self, languages: np.ndarray) -> np.ndarray:
        return self.table[languages]


def language_embedding(config: LanguageModelConfig, weights: Weights) -> LanguageEmbedding | None:
    """Return the table of a model that knows languages."""
    return LanguageEmbedding(config, weights) if config.languages else None


def prompt_table(config: LanguageModelConfig, weights: Weights) -> np.ndarray | None:
    """Return the vectors (Q, V, D) of prompts that are a part of their own, scaled."""
    if not config.prompt_codebooks:
        return None
    width = config.transformer.width
    table = weights.take("prompts.table", config.prompt_codebooks, config.codebook_size, width)
    return table * np.float32(math.sqrt(width))


def sum_codes(table: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the sum (T, D) of the vectors of codes (T, q) of the first q tables of (Q, V, D)."""
    total = np.zeros((len(codes), table.shape[2]), np.float32)
    for book in range(codes.shape[1]):
        total += table[book, codes[:, book]]
    return total


def gather_symbols(symbols: np.ndarray, alignment: np.ndarray) -> np.ndarray:
    """Return the vector of each frame's symbol (T, D) for an alignment (T,) to (S, D); index -1 gives zeros."""
    return symbols[np.maximum(alignment, 0)] * (alignment >= 0)[:, None].astype(np.float32)


# Prenets: small graphs of their own, in float32.


def conv_prenet(weights: Weights, name: str, width: int, kernel: int) -> Network:
    """Return a network that adds to each vector what a convolution over its neighbours makes of it."""
    graph = Graph()
    x = graph.input("x", [1, "l", width])
    hidden = graph.add("Gelu", convolve(graph, weights, f"{name}.conv", x, width, kernel), ours=True)
    added = linear(graph, hidden, f"{name}.out", *_linear_weights(weights, f"{name}.out", width, width), Precision.FP32)
    return _open(graph, graph.add("Add", x, added), width)


def stacked_prenet(weights: Weights, name: str, width: int, kernel: int) -> Network:
    """Return a network of three convolutions and a linear layer."""
    graph = Graph()
    x = graph.input("x", [1, "l", width])
    for layer in range(3):
        x = graph.add("Relu", convolve(graph, weights, f"{name}.convs.{layer}", x, width, kernel))
    x = linear(graph, x, f"{name}.out", *_linear_weights(weights, f"{name}.out", width, width), Precision.FP32)
    return _open(graph, x, width)


def linear_prenet(weights: Weights, name: str, width: int) -> Network:
    """Return a network of three linear layers, the inner ones narrow."""
    graph = Graph()
    x = graph.input("x", [1, "l", width])
    sizes = [(NARROW, width), (NARROW, NARROW), (width, NARROW)]
    for place, (out, inner) in zip((0, 2, 4), sizes, strict=True):
        x = linear(
            graph, x, f"{name}.{place}", *_linear_weights(weights, f"{name}.{place}", out, inner), Precision.FP32
        )
        x = x if place == 4 else graph.add("Relu", x)
    return _open(graph, x, width)


def convolve(graph: Graph, weights: Weights, name: str, x: str, width: int, kernel: int) -> str:
    """Return the centred convolution of x (1, L, D) as one product of every vector with its neighbours."""
    weight = weights.take(f"{name}.weight", width, width, kernel)
    side = kernel // 2
    padded = graph.add("Pad", x, graph.constant([0, side, 0, 0, side, 0]))
    length = graph.add("Shape", x, start=1, end=2)
    seen = [
        graph.add(
            "Slice", padded, graph.constant([at]), graph.add("Add", length, graph.constant([at])), graph.constant([1])
        )
        for at in range(kernel)
    ]
    flat = np.ascontiguousarray(weight.transpose(0, 2, 1)).reshape(width, kernel * width)
    joined = graph.add("Concat", *seen, axis=2)
    return linear(graph, joined, name, flat, weights.take(f"{name}.bias", width), Precision.FP32)


def _linear_weights(weights: Weights, name: str, out: int, inner: int) -> tuple[np.ndarray, np.ndarray]:
    return weights.take(f"{name}.weight", out, inner), weights.take(f"{name}.bias", out)


def _open(graph: Graph, result: str, width: int) -> Network:
    graph.output(result, "y", [1, "l", width])
    session = open_graph(graph)
    return lambda vectors: session.run(["y"], {"x": vectors[None]})[0][0]
