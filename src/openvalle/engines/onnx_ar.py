"""The AR model on onnxruntime: one graph reads a text with its prompt and takes every step after it.

Keys and values are written where they stay: their memory is the graph's input and output. The text before the audio
sees all of itself, which the causal attention of a step does not give: when a row is read, its text is attended once
more, in full. Rows are read one by one and step together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.engines.base import ARRows, ARScores, EngineState
from openvalle.engines.cache import KVCache
from openvalle.engines.layers import (
    Precision,
    activate,
    layer_norm,
    linear,
    rms_norm,
    turn,
)
from openvalle.engines.vectors import (
    PositionVectors,
    TextEmbedding,
    find_turns,
    gather_symbols,
    language_embedding,
    linear_prenet,
    prompt_table,
    sum_codes,
)
from openvalle.engines.weights import Weights
from openvalle.graphs import Graph, Shape, import_runtime, open_graph
from openvalle.model.config import ARConfig
from openvalle.model.kinds import Activation, Alignment, LanguageOn, NormKind, Positions, Prenet, TextAttention


@dataclass
class OnnxState:
    """What a step needs of all before it."""

    cache: KVCache
    symbols: list[np.ndarray]  # of each row, (S, D): vectors that frames gather
    position: np.ndarray  # (B,) of the next audio input
    bound: Bound | None = field(default=None, repr=False)  # for the rows and the memory that it was made for

    def fork(self, rows: np.ndarray) -> OnnxState:
        chosen = rows.tolist()
        return OnnxState(self.cache.fork(chosen), [self.symbols[row] for row in chosen], self.position[rows])

    def join(self, other: OnnxState) -> OnnxState:
        self.cache.join(other.cache)
        return OnnxState(self.cache, [*self.symbols, *other.symbols], np.concatenate([self.position, other.position]))

    def keep(self, rows: np.ndarray) -> OnnxState:
        chosen = rows.tolist()
        self.cache.keep(chosen)
        return OnnxState(self.cache, [self.symbols[row] for row in chosen], self.position[rows])


class OnnxAR:
    """An `AREngine`."""

    def __init__(
        self, config: ARConfig, weights: Weights, precision: Precision, threads: int = 1, graph: Path | None = None
    ) -> None:
        """`graph`: a file of the transformer, whose weights are then not asked for."""
        self._config = config
        width, classes = config.transformer.width, config.codebook_size + 1
        self.scale = np.float32(math.sqrt(width))
        self.text = TextEmbedding(config, weights, end=config.text_eos)
        self.codes = weights.take("codes.weight", classes if config.tie_output else config.codebook_size, width)
        self.bos = weights.take("bos", width)[None] if config.use_bos else self.codes[:0]
        self.prompts = prompt_table(config, weights)
        self.prenet = linear_prenet(weights, "prenet", width) if config.audio_prenet is Prenet.LINEAR else None
        self.positions = PositionVectors(config, weights, "positions")
        self.language = language_embedding(config, weights)
        self.group_in = weights.take("group_in.weight", width, config.group * width) if config.group > 1 else None
        self.runtime = import_runtime()
        self.session = open_graph(graph or ar_graph(config, weights, precision), threads)
        if graph is None:
            weights.require_all_asked()

    @property
    def config(self) -> ARConfig:
        return self._config

    def prefill(self, rows: ARRows, room: int) -> tuple[ARScores, EngineState]:
        texts = [
            self._text(rows.text[row, : rows.text_lens[row]], rows.text_languages[row]) for row in range(len(rows.text))
        ]
        parts = [self._embed(rows, row, text) for row, text in enumerate(texts)]
        lens = [len(vectors) for vectors, _ in parts]
        shape = self.config.transformer
        cache = KVCache(shape.depth, len(parts), shape.heads, max(lens) + room, shape.width // shape.heads)
        scores = []
        for row, (vectors, prefix) in enumerate(parts):
            bound = Bound(self, cache, row, row + 1, len(vectors))
            scores.append(bound.run(vectors[None], np.zeros(1, np.int64), prefix))
        cache.lens = lens
        position = np.array(lens) if self._is_running else rows.group_lens + int(self.config.use_bos)
        joined = ARScores(
            np.concatenate([each.codes for each in scores]),
            None if scores[0].phonemes is None else np.concatenate([each.phonemes for each in scores]),
        )
        return joined, OnnxState(cache, [text.symbols for text in texts], position)

    def step(
        self, groups: np.ndarray, aligned: np.ndarray | None, languages: np.ndarray, state: EngineState
    ) -> tuple[ARScores, EngineState]:
        assert isinstance(state, OnnxState)
        cache, rows = state.cache, len(groups)
        vectors = np.concatenate([self._enter(groups[[row]]) for row in range(rows)])  # each as if it were alone
        x = vectors + self.positions.of_part(state.position)
        if self._is_aligned:
            assert aligned is not None, "this model needs the symbol of each frame"
            x = x + np.stack([gather_symbols(own, aligned[[row]])[0] for row, own in enumerate(state.symbols)])
        x = self._add_language(x, languages) + self.positions.of_whole(state.position)
        cache.reserve(rows, max(cache.lens) + 1)
        bound = state.bound
        if bound is None or bound.key != (rows, id(cache.tensors[0])):
            bound = Bound(self, cache, 0, rows, 1)
        scores = bound.run(x[:, None], np.array(cache.lens), 0)
        cache.lens = [length + 1 for length in cache.lens]
        return scores, OnnxState(cache, state.symbols, state.position + 1, bound)

    @property
    def _is_running(self) -> bool:
        return self.config.positions is Positions.RUNNING

    @property
    def _is_aligned(self) -> bool:
        return self.config.alignment is Alignment.PHONEME

    def _text(self, text: np.ndarray, languages: np.ndarray) -> Any:
        spoken = languages if len(languages) == 1 else languages[: len(text)]
        return self.text(text, None if self.language is None else self.language(spoken))

    def _group_vectors(self, groups: np.ndarray) -> np.ndarray:
        """Return the vectors (N, D) of groups (N, G)."""
        vectors = self.codes[groups] * self.scale
        if self.group_in is None:
            return vectors[:, 0]
        return vectors.reshape(len(groups), -1) @ self.group_in.T

    def _enter(self, groups: np.ndarray) -> np.ndarray:
        """Return what groups (N, G) are before positions are added, (N, D)."""
        vectors = self._group_vectors(groups)
        return vectors if self.prenet is None or not len(vectors) else self.prenet(vectors)

    def _add_language(self, x: np.ndarray, languages: np.ndarray) -> np.ndarray:
        if self.language is None or self.config.language_on is LanguageOn.TEXT:
            return x
        return x + self.language(languages)

    def _embed(self, rows: ARRows, row: int, text: Any) -> tuple[np.ndarray, int]:
        """Return the vectors (L, D) of a row, and how many of them see each other."""
        count = int(rows.group_lens[row])
        audio = np.concatenate([self.bos, self._group_vectors(rows.groups[row, :count])])
        first = 1 - len(self.bos)  # what belongs to <BOS> belongs to nothing, where there is none
        audio = audio if self.prenet is None or not len(audio) else self.prenet(audio)
        audio = audio + self.positions.of_part(np.arange(len(audio)))
        if self._is_aligned:
            assert rows.aligned is not None, "this model needs the symbol of each frame"
            audio = audio + gather_symbols(text.symbols, rows.aligned[row, first : first + len(audio)])
        languages = rows.languages[row]
        audio = self._add_language(audio, languages if len(languages) == 1 else languages[first:][: len(audio)])
        parts = [text.inputs, audio]
        if self.prompts is not None and rows.prompt is not None and rows.prompt_lens is not None:
            codes = rows.prompt[row, : rows.prompt_lens[row]]
            prompt = sum_codes(self.prompts, codes) + self.positions.of_part(np.arange(len(codes)))
            parts.insert(1, prompt)
        whole = np.concatenate(parts)
        whole = whole + self.positions.of_whole(np.arange(len(whole)))
        is_causal = self.config.text_attention is TextAttention.CAUSAL
        return whole, 0 if is_causal else len(whole) - len(audio)


class Bound:
    """The graph of an `OnnxAR` and memory that it reads and writes where it stands: keys and values of some rows, what
    is given for `length` positions of each, and the scores after them."""

    def __init__(self, engine: OnnxAR, cache: KVCache, start: int, end: int, length: int) -> None:
        config, rows = engine.config, end - start
        shape = config.transformer
        self.key = rows, id(cache.tensors[0])
        self._session, self._binding = engine.session, engine.session.io_binding()
        self._given: dict[str, np.ndarray] = {
            "x": np.empty((rows, length, shape.width), np.float32),
            "last": np.empty(rows, np.int32),
            "longest": np.empty((), np.int32),
        }
        if config.text_attention is TextAttention.BIDIRECTIONAL:
            self._given |= {"prefix": np.empty(1, np.int64), "has_prefix": np.empty((), np.bool_)}
        self._turned = shape.width // shape.heads if config.positions is Positions.ROTARY else 0
        if self._turned:
            sizes = rows, length, 1, self._turned
            self._given |= {"cosines": np.empty(sizes, np.float32), "sines": np.empty(sizes, np.float32)}
        self._codes = np.empty((rows, config.group, config.codebook_size + 1), np.float32)
        self._phonemes = None
        if config.alignment is Alignment.PHONEME:
            self._phonemes = np.empty((rows, config.symbols), np.float32)
        runtime = engine.runtime
        for name, array in self._given.items():
            self._binding.bind_ortvalue_input(name, runtime.OrtValue.ortvalue_from_numpy(array))
        for name, scores in (("codes", self._codes), ("phonemes", self._phonemes)):
            if scores is not None:
                self._binding.bind_ortvalue_output(name, runtime.OrtValue.ortvalue_from_numpy(scores))
        self._memory = cache.views(start, end)
        for index, view in enumerate(self._memory):
            value = runtime.OrtValue.ortvalue_from_numpy(view)
            self._binding.bind_ortvalue_input(f"past_{index}", value)
            self._binding.bind_ortvalue_output(f"present_{index}", value)

    def run(self, x: np.ndarray, before: np.ndarray, prefix: int) -> ARScores:
        """Return the scores after vectors (B, L, D) that follow `before` (B,) positions; the first `prefix` of them see
        each other."""
        given, length = self._given, x.shape[1]
        given["x"][:] = x
        given["last"][:] = before + (length - 1)
        given["longest"][()] = before.max() + length
        if "prefix" in given:
            given["prefix"][0], given["has_prefix"][()] = prefix, prefix > 0
        if self._turned:
            at = before[:, None] + np.arange(length)
            given["cosines"][:], given["sines"][:] = find_turns(at, self._turned)
        self._session.run_with_iobinding(self._binding)
        return ARScores(self._codes.copy(), None if self._phonemes is None else self._phonemes.copy())


def ar_graph(config: ARConfig, weights: Weights, precision: Precision) -> Graph:
    """Return the graph: vectors x (B, L, D) of positions that follow those in the cache -> scores after the last.

    `last` (B,): index of each row's last position in its cache; `longest`: positions of the longest row; `prefix` (1,)
    and `has_prefix`: how many of the first positions see each other, for a row that is read; `past_n`, `present_n`:
    keys (even n) and values of layer n / 2, (B, heads, room, D / heads), the same memory.
    """
    shape, graph = config.transformer, Graph()
    x = graph.input("x", ["rows", "length", shape.width])
    lens = graph.input("last", ["rows"], "int32"), graph.input("longest", [], "int32")
    prefix = None
    if config.text_attention is TextAttention.BIDIRECTIONAL:
        prefix = graph.input("prefix", [1], "int64"), graph.input("has_prefix", [], "bool")
    turns = None
    if config.positions is Positions.ROTARY:
        sizes: Shape = ["rows", "length", 1, shape.width // shape.heads]
        turns = graph.input("cosines", sizes), graph.input("sines", sizes)

    def norm(x: str, name: str) -> str:
        scale = graph.weight(f"{name}.weight", weights.take(f"{name}.weight", shape.width))
        if shape.norm is NormKind.RMS:
            return rms_norm(graph, x, scale)
        return layer_norm(graph, x, scale, graph.weight(f"{name}.bias", weights.take(f"{name}.bias", shape.width)))

    def apply(x: str, name: str, out: int, inner: int) -> str:
        values = weights.take_matrix(f"{name}.weight", out, inner), weights.take(f"{name}.bias", out)
        return linear(graph, x, name, *values, precision)

    up = shape.feedforward * (2 if shape.activation is Activation.GATED_SILU else 1)
    for layer in range(shape.depth):
        name = f"transformer.blocks.{layer}"
        qkv = apply(norm(x, f"{name}.attention_norm"), f"{name}.attention.qkv", 3 * shape.width, shape.width)
        attended = _attend(graph, qkv, config, layer, lens, prefix, turns)
        if layer == shape.depth - 1:  # of the last layer only the last position is asked for
            attended, x = _take_last(graph, attended), _take_last(graph, x)
        x = graph.add("Add", x, apply(attended, f"{name}.attention.out", shape.width, shape.width))
        hidden = activate(
            graph, apply(norm(x, f"{name}.feedforward_norm"), f"{name}.up", up, shape.width), shape.activation
        )
        x = graph.add("Add", x, apply(hidden, f"{name}.down", shape.width, shape.feedforward))
    hidden = graph.add("Squeeze", norm(x, "transformer.norm") if shape.final_norm else x, graph.constant([1]))
    _give_scores(graph, hidden, config, weights, precision)
    return graph


def _take_last(graph: Graph, x: str) -> str:
    return graph.add("Gather", x, graph.constant([-1]), axis=1)


def _attend(
    graph: Graph,
    qkv: str,
    config: ARConfig,
    layer: int,
    lens: tuple[str, str],
    prefix: tuple[str, str] | None,
    turns: tuple[str, str] | None,
) -> str:
    """Return what a layer's attention makes (B, L, D) of queries, keys and values (B, L, 3 D)."""
    shape = config.transformer
    sizes: Shape = ["rows", shape.heads, "room", shape.width // shape.heads]
    pasts = [graph.input(f"past_{2 * layer + index}", sizes) for index in range(2)]
    presents = [f"present_{2 * layer + index}" for index in range(2)]
    for name in presents:
        graph.declare_output(name, sizes)
    query, key, value = graph.add("Split", qkv, count=3, axis=-1, num_outputs=3)
    if turns is not None:
        query, key = turn(graph, query, turns, shape), turn(graph, key, turns, shape)
    attended = f"attended_{layer}"
    inputs = [query, key, value, *pasts, *lens]
    heads = {"num_heads": shape.heads, "kv_num_heads": shape.heads}
    graph.put("GroupQueryAttention", inputs, [attended, *presents], ours=True, **heads)
    if prefix is None:
        return attended
    read, step = graph.branch(), graph.branch()
    start, ones = graph.constant([0]), graph.constant([1])
    parts = [read.add("Slice", part, start, prefix[0], ones) for part in (query, key, value)]
    whole = read.add("MultiHeadAttention", *parts, ours=True, num_heads=shape.heads)
    rest = read.add("Slice", attended, prefix[0], graph.constant([2**31 - 1]), ones)
    joined = read.add("Concat", whole, rest, axis=1)
    return graph.choose(prefix[1], (read, joined), (step, step.add("Identity", attended)))


def _give_scores(graph: Graph, hidden: str, config: ARConfig, weights: Weights, precision: Precision) -> None:
    """Give out the scores of codes (B, G, V + 1) and phonemes (B, S) for hidden states (B, D)."""
    width, classes = config.transformer.width, config.codebook_size + 1
    grouped = hidden
    if config.group > 1:
        size = config.group * width
        grouped = linear(graph, hidden, "group_out", weights.take("group_out.weight", size, width), None, precision)
    grouped = graph.add("Reshape", grouped, graph.constant([-1, config.group, width]))
    table, bias = weights.take("codes.weight" if config.tie_output else "head.weight", classes, width), None
    if config.head_bias:
        bias = weights.take("head.bias", classes)
    graph.output(linear(graph, grouped, "head", table, bias, precision), "codes", ["rows", config.group, classes])
    if config.alignment is Alignment.PHONEME:
        values = (
            weights.take("phoneme_head.weight", config.symbols, width),
            weights.take("phoneme_head.bias", config.symbols),
        )
        scores = linear(graph, hidden, "phoneme_head", *values, precision)
        graph.output(scores, "phonemes", ["rows", config.symbols])
