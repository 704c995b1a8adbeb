"""The NAR model on onnxruntime, row by row: on a CPU a batch takes as long as its rows one after the other.

What a norm knows of the stage is computed once and given to the graph, so that one graph serves all the ways of telling
it. Letters: L positions, T frames, Q codebooks, D width.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from openvalle.engines.base import NARRows
from openvalle.engines.layers import (
    Precision,
    activate,
    bent_norm,
    layer_norm,
    linear,
    norm_width,
    rms_norm,
    turn,
)
from openvalle.engines.vectors import (
    Network,
    PositionVectors,
    TextEmbedding,
    conv_prenet,
    find_turns,
    gather_symbols,
    language_embedding,
    linear_prenet,
    prompt_table,
    sum_codes,
)
from openvalle.engines.weights import Weights
from openvalle.graphs import Graph, Shape, open_graph
from openvalle.model.config import NARConfig
from openvalle.model.kinds import (
    FRAME_KERNEL,
    Activation,
    Alignment,
    LanguageOn,
    NormKind,
    Positions,
    Prenet,
    PromptKind,
    StageConditioning,
)


class OnnxNAR:
    """A `NAREngine`."""

    def __init__(
        self, config: NARConfig, weights: Weights, precision: Precision, threads: int = 1, graph: Path | None = None
    ) -> None:
        """`graph`: a file of the transformer, whose weights are then not asked for."""
        self._config = config
        width, books, size = config.transformer.width, config.codebooks, config.latent or config.transformer.width
        self.is_token = config.conditioning is StageConditioning.TOKEN
        self.text = TextEmbedding(config, weights, end=self.is_token or config.text_eos)
        self.codes = weights.take("codes", books, config.codebook_size, size)
        self.scale, self.project = np.float32(math.sqrt(width)), None
        if config.latent is not None:  # codebook 1's vectors are about as long as learnt ones begin
            self.scale /= np.sqrt(np.square(self.codes[0]).sum(-1).mean(dtype=np.float64)).astype(np.float32)
            self.project = weights.take("project.weight", width, size)
        self.head = _Head(config, weights, self.codes, self._to_width)
        self.prompts = prompt_table(config, weights)
        self.bos = weights.take("bos", width)[None] if config.prompt_codebooks else None
        self.positions = PositionVectors(config, weights, "positions")
        self.prenet = None
        if config.frame_prenet is Prenet.CONV:
            self.prenet = conv_prenet(weights, "prenet", width, FRAME_KERNEL)
        elif config.frame_prenet is Prenet.LINEAR:
            self.prenet = linear_prenet(weights, "linear", width)
        self.language = language_embedding(config, weights)
        self.end = weights.take("end", width)[None] if self.is_token else None
        self.stage = None
        if config.conditioning is not StageConditioning.SEPARATE:
            self.stage = weights.take("stage.weight", config.stages, config.stage_width or width)
        self.conditions = _find_conditions(config, weights, self.stage)
        self.session = open_graph(graph or nar_graph(config, weights, precision), threads)
        if graph is None:
            weights.require_all_asked()

    @property
    def config(self) -> NARConfig:
        return self._config

    def predict(self, rows: NARRows, stage: int) -> np.ndarray:
        conditions = None if self.conditions is None else self.conditions[stage - 1]
        return np.concatenate([self._predict_row(rows, row, stage, conditions) for row in range(len(rows.text))])

    def _predict_row(self, rows: NARRows, row: int, stage: int, conditions: np.ndarray | None) -> np.ndarray:
        config, count, prompt = self.config, int(rows.lens[row]), int(rows.prompt_lens[row])
        languages, text_languages = rows.languages[row], rows.text_languages[row]
        symbols = rows.text[row, : rows.text_lens[row]]
        spoken = text_languages if len(text_languages) == 1 else text_languages[: len(symbols)]
        text = self.text(symbols, None if self.language is None else self.language(spoken))
        codes = rows.codes[row, :count]
        audio = self._frame_vectors(codes, prompt, stage)
        if config.alignment is Alignment.PHONEME:
            assert rows.alignment is not None, "this model needs the symbol of each frame"
            audio = audio + gather_symbols(text.symbols, rows.alignment[row, :count])
        if self.prenet is not None:
            audio = self.prenet(audio)
        at = np.arange(count)
        restarts = config.prompt in (PromptKind.SEGMENT, PromptKind.SENTENCE) and config.restart_positions
        places = self.positions.of_part(np.where(at >= prompt, at - prompt, at) if restarts else at)
        audio = audio + places
        if self.language is not None and config.language_on is not LanguageOn.TEXT:
            audio = audio + self.language(languages if len(languages) == 1 else languages[:count])
        parts = [text.inputs, audio]
        if self.prompts is not None and self.bos is not None:
            given = sum_codes(self.prompts, codes) + places
            parts = [text.inputs, given[:prompt], self.bos, audio[prompt:]]
        end = sum(len(part) for part in parts)
        if self.end is not None and self.stage is not None:
            parts += [self.end, self.stage[[stage - 1]]]
        x = np.concatenate(parts)
        hidden = self._run(x + self.positions.of_whole(np.arange(len(x))), end - (count - prompt), end, conditions)
        return self.head(hidden, stage)

    def _run(self, x: np.ndarray, start: int, end: int, conditions: np.ndarray | None) -> np.ndarray:
        """Return the hidden states (end - start, D) of a sequence of vectors (L, D)."""
        given = {"x": x[None], "start": np.array([start]), "end": np.array([end])}
        if conditions is not None:
            given["conditions"] = conditions
        if self.config.positions is Positions.ROTARY:
            shape = self.config.transformer
            given["cosines"], given["sines"] = find_turns(np.arange(len(x))[None], shape.width // shape.heads)
        return self.session.run(["hidden"], given)[0][0]

    def _frame_vectors(self, codes: np.ndarray, prompt: int, stage: int) -> np.ndarray:
        """Return the sum of the vectors of the known codebooks of frames (T, Q), (T, D)."""
        if self.config.prompt is PromptKind.STAGED:
            return self._to_width(sum_codes(self.codes, codes[:, :stage]))
        parts = sum_codes(self.codes, codes[:prompt]), sum_codes(self.codes, codes[prompt:, :stage])
        return self._to_width(np.concatenate(parts))

    def _to_width(self, vectors: np.ndarray) -> np.ndarray:
        """Return code vectors, or sums of them, (..., L or D) as they enter, (..., D)."""
        scaled = vectors * self.scale
        return scaled if self.project is None else scaled @ self.project.T


class _Head:
    """From hidden states to codes (see `openvalle.model.heads`)."""

    def __init__(self, config: NARConfig, weights: Weights, codes: np.ndarray, to_width: Network) -> None:
        """`codes`: the code vectors (Q, V, L); `to_width`: makes them as they enter, (Q, V, D)."""
        self.config, self.codes, width, size = config, codes, config.transformer.width, codes.shape[2]
        heads = config.codebooks - 1, config.codebook_size
        own = None if config.tie_output else weights.take("code_head.weight", *heads, width)
        self.bias = weights.take("code_head.bias", *heads) if config.head_bias else None
        self.tables = own
        if own is None and not (config.residual and config.residual.predicts):
            self.tables = to_width(codes[1:]) / np.float32(math.sqrt(width))
        self.linear = None
        if config.residual is not None:
            self.linear = weights.take("residual_head.linear.weight", size, width)
            self.linear_bias = weights.take("residual_head.linear.bias", size)

    def __call__(self, hidden: np.ndarray, stage: int) -> np.ndarray:
        """Return the codes (M, n) of a pass for hidden states (M, D)."""
        residual = self.config.residual
        if residual is None or not residual.predicts:
            assert self.tables is not None
            scores = hidden @ self.tables[stage - 1].T
            scores = scores if self.bias is None else scores + self.bias[stage - 1]
            return scores.argmax(-1)[:, None]
        assert self.linear is not None
        last = self.config.codebooks if stage == self.config.stages else stage + 1
        size = np.sqrt(np.square(self.codes[stage:]).mean((1, 2)).sum())
        left, codes = (hidden @ self.linear.T + self.linear_bias) * size * np.float32(residual.gain), []
        for table in self.codes[stage:last]:
            codes.append((left @ table.T - 0.5 * np.square(table).sum(-1)).argmax(-1))
            left = left - table[codes[-1]]
        return np.stack(codes, axis=-1)


def _norm_names(config: NARConfig) -> list[str]:
    """Return the names of the norms, in the order of `conditions`."""
    shape = config.transformer
    inner = [
        f"transformer.blocks.{layer}.{part}_norm"
        for layer in range(shape.depth)
        for part in ("attention", "feedforward")
    ]
    return [*inner, "transformer.norm"] if shape.final_norm else inner


def _find_conditions(config: NARConfig, weights: Weights, stages: np.ndarray | None) -> list[np.ndarray] | None:
    """Return the scales and shifts of all norms (norms, n, D) in each stage; None: nothing is told to the norms.

    Nothing else is made of the projections, which are as large as a quarter of the other weights: they are not kept.
    `stages`: the vector of each.
    """
    shape, names, count = config.transformer, _norm_names(config), norm_width(config.transformer.norm)
    if config.conditioning is StageConditioning.TOKEN:
        return None
    found = np.empty((config.stages, len(names), count, shape.width), np.float32)
    for place, name in enumerate(names):
        if stages is None:
            for index, kind in enumerate(("weight", "bias")):
                found[:, place, index] = weights.take(f"{name}.{kind}", config.stages, shape.width)
            continue
        weight = weights.take(f"{name}.project.weight", count * shape.width, stages.shape[1])
        bias = weights.take(f"{name}.project.bias", count * shape.width)
        for stage, vector in enumerate(stages):
            found[stage, place] = (weight @ vector + bias).reshape(count, shape.width)
    if stages is not None and shape.norm is not NormKind.RMS:
        found[:, :, 0] += 1
    return list(found)


def nar_graph(config: NARConfig, weights: Weights, precision: Precision) -> Graph:
    """Return the graph: vectors x (1, L, D) of a whole sequence -> hidden states of its positions from `start` (1,) to
    `end` (1,); `conditions`: scales and shifts of the norms (norms, n, D), where they know the stage."""
    shape, graph = config.transformer, Graph()
    x = graph.input("x", [1, "length", shape.width])
    cut = graph.input("start", [1], "int64"), graph.input("end", [1], "int64")
    names, count = _norm_names(config), norm_width(shape.norm)
    conditions = None
    if config.conditioning is not StageConditioning.TOKEN:
        conditions = graph.input("conditions", [len(names), count, shape.width])
    turns = None
    if config.positions is Positions.ROTARY:
        sizes: Shape = [1, "length", 1, shape.width // shape.heads]
        turns = graph.input("cosines", sizes), graph.input("sines", sizes)

    def norm(x: str, name: str) -> str:
        if conditions is None:
            own = [f"{name}.{kind}" for kind in ("weight", "bias")[:count]]
            given = [graph.weight(each, weights.take(each, shape.width)) for each in own]
        else:
            place = graph.constant(names.index(name))
            own = graph.add("Gather", conditions, place, axis=0)
            given = [graph.add("Gather", own, graph.constant(index), axis=0) for index in range(count)]
        if shape.norm is NormKind.RMS:
            return rms_norm(graph, x, given[0])
        if shape.norm is NormKind.ADANORM:
            return bent_norm(graph, x, given[0], given[1], shape.width)
        return layer_norm(graph, x, given[0], given[1])

    def apply(x: str, name: str, out: int, inner: int) -> str:
        values = weights.take_matrix(f"{name}.weight", out, inner), weights.take(f"{name}.bias", out)
        return linear(graph, x, name, *values, precision)

    def cut_out(x: str) -> str:
        return graph.add("Slice", x, *cut, graph.constant([1]))

    up = shape.feedforward * (2 if shape.activation is Activation.GATED_SILU else 1)
    for layer in range(shape.depth):
        name = f"transformer.blocks.{layer}"
        qkv = apply(norm(x, f"{name}.attention_norm"), f"{name}.attention.qkv", 3 * shape.width, shape.width)
        query, key, value = graph.add("Split", qkv, count=3, axis=-1, num_outputs=3)
        if turns is not None:
            query, key = turn(graph, query, turns, shape), turn(graph, key, turns, shape)
        if layer == shape.depth - 1:  # of the last layer only these positions are asked for
            query, x = cut_out(query), cut_out(x)
        attended = graph.add("MultiHeadAttention", query, key, value, ours=True, num_heads=shape.heads)
        x = graph.add("Add", x, apply(attended, f"{name}.attention.out", shape.width, shape.width))
        hidden = apply(norm(x, f"{name}.feedforward_norm"), f"{name}.up", up, shape.width)
        down = apply(activate(graph, hidden, shape.activation), f"{name}.down", shape.width, shape.feedforward)
        x = graph.add("Add", x, down)
    graph.output(norm(x, "transformer.norm") if shape.final_norm else x, "hidden", [1, "frames", shape.width])
    return graph
