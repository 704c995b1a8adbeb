"""lifeiteng/vall-e, and the trainers that took its networks over: icefall, Amphion (VALLE), Plachtaa/VALL-E-X.

Both networks are in one file. What differs from ours and is folded away:

- sines and cosines of positions alternate there and lie in two halves here: the order of a hidden state's values
- embeddings are not scaled there: here they are divided by what they are multiplied by
- the affine LayerNorm inside AdaLN becomes part of the projection
- batch normalisation in prenets becomes part of the convolutions
- the rows of <bos> and <eos> of the text become the vectors around it, that of the audio's <bos> likewise
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from openvalle.config import Config
from openvalle.convert.base import Converted, Given, Source, State, read_symbols
from openvalle.convert.layout import BATCH_NORM, NetworkLayout, restore_tied
from openvalle.convert.weights import StoredWeights
from openvalle.errors import ModelError
from openvalle.model.config import ARConfig, NARConfig
from openvalle.types import Vocabulary

BOS, EOS = "<bos>", "<eos>"
BATCH_EPSILON = 1e-5
# What texts were read with there -> the notation here (`openvalle.text.notations`).
EXTRACTORS = {"espeak": "espeak", "pypinyin": "pinyin", "pypinyin_initials_finals": "pinyin-parts"}
GENERATION: dict[str, Any] = {
    "sampling": {"repetition_aware": False, "likeliest_eos_ends": True},
    "least_frames": 0.0,
}


TEXT_AUDIO = ("text", "audio")
PREFIX_MODES: dict[int, dict[str, Any]] = {
    0: {"prompt": "staged", "text": "both"},
    1: {"prompt": "prefix", "text": "both"},
    2: {"prompt": "segment", "text": "target", "restart_positions": False},
    4: {"prompt": "segment", "text": "target", "restart_positions": False},
}


def convert_pair(
    weights: StoredWeights,
    heads: tuple[int, int],
    symbols: tuple[str, ...],
    prefix_mode: int,
    *,
    edges: bool = True,
) -> tuple[ARConfig, State, NARConfig, State]:
    """Return both networks, here's settings and weights of each.

    `heads`: of the AR and the NAR model; `symbols`: in the order of the rows of the text tables, of which rows after
    the last are left out; `prefix_mode`: how the NAR model was trained; `edges`: whether texts are put between <bos>
    and <eos>.
    """
    weights = restore_tied(weights)
    if not weights.has("nar_decoder."):
        raise ModelError(f"{weights.source} has no NAR model, so it cannot speak", "give one that was trained with it")
    ar, nar = (NetworkLayout.read(weights, part, own) for part, own in zip(("ar", "nar"), heads, strict=True))
    # what one network has the other has too, so that what it lacks is told
    has_prenet, languages = ar.has_prenet or nar.has_prenet, max(ar.languages, nar.languages)
    ar, nar = (replace(layout, has_prenet=has_prenet, languages=languages) for layout in (ar, nar))
    for layout in (ar, nar):
        if layout.width % (2 * layout.heads):
            raise ModelError(f"{layout.heads} heads cannot share a width of {layout.width}", "give --set nhead=NUMBER")
    weights.check(ar.list_weights() | nar.list_weights())
    if len(symbols) > ar.text_rows:
        raise ModelError(
            f"the symbol table has {len(symbols)} symbols, and {weights.source} has room for {ar.text_rows}",
            "give the table that it was trained with",
        )
    shared: dict[str, Any] = {"symbols": len(symbols), "codebook_size": ar.entries, "tie_output": False}
    shared |= {"text_bos": edges, "text_eos": edges, "text_prenet": "stack" if ar.has_prenet else "none"}
    if ar.languages:
        shared |= {"languages": ar.languages, "language_on": "text"}
    linear = "linear" if ar.has_prenet else "none"
    scaled = [
        float(weights.read(f"{part}_{kind}_position.alpha")) != 1 for part in ("ar", "nar") for kind in TEXT_AUDIO
    ]
    ar_config = ARConfig.parse(
        shared
        | {
            "transformer": ar.transformer,
            "use_bos": ar.has_bos,
            "needs_prompt": not ar.has_bos,
            "audio_prenet": linear,
            "scale_positions": any(scaled[:2]),
        },
        weights.source,
    )
    nar_config = NARConfig.parse(
        shared
        | PREFIX_MODES[prefix_mode]
        | {
            "transformer": nar.transformer,
            "codebooks": nar.codebooks,
            "frame_prenet": linear,
            "scale_positions": any(scaled[2:]),
        },
        weights.source,
    )
    return (
        ar_config,
        _ar_state(weights, ar, ar_config, symbols),
        nar_config,
        _nar_state(weights, nar, nar_config, symbols),
    )


def _ar_state(weights: StoredWeights, layout: NetworkLayout, config: ARConfig, symbols: tuple[str, ...]) -> State:
    order, scale = layout.order, math.sqrt(layout.width)
    codes = weights.read("ar_audio_embedding.word_embeddings.weight")[:, order]
    state = _shared_state(weights, layout, symbols, config.text_bos)
    state["codes.weight"] = codes[: layout.entries] / scale
    state["head.weight"] = weights.read("ar_predict_layer.weight")[:, order]
    if config.use_bos:
        state["bos"] = codes[layout.entries + 1]
    if config.scale_positions:
        state |= _factors(weights, "ar")
    if layout.has_prenet:
        state |= _linear_prenet(weights, "ar_audio_prenet", "prenet", order)
    for norm, name in zip(_norm_names(layout), layout.norms, strict=True):
        state |= {f"{norm}.{kind}": weights.read(f"{name}.{kind}")[order] for kind in ("weight", "bias")}
    return state


def _nar_state(weights: StoredWeights, layout: NetworkLayout, config: NARConfig, symbols: tuple[str, ...]) -> State:
    order, scale, books = layout.order, math.sqrt(layout.width), range(layout.codebooks)
    tables = [weights.read(f"nar_audio_embeddings.{book}.word_embeddings.weight")[: layout.entries] for book in books]
    heads = [weights.read(f"nar_predict_layers.{stage}.weight") for stage in books[:-1]]
    stages = [weights.read(f"nar_stage_embeddings.{stage}.word_embeddings.weight") for stage in books[:-1]]
    state = _shared_state(weights, layout, symbols, config.text_bos)
    state["codes"] = torch.stack(tables)[..., order] / scale
    state["code_head.weight"] = torch.stack(heads)[..., order]
    state["stage.weight"] = torch.cat(stages)
    if config.scale_positions:
        state |= _factors(weights, "nar")
    if layout.has_prenet:
        state |= _linear_prenet(weights, "nar_audio_prenet", "linear", order)
    for norm, name in zip(_norm_names(layout), layout.norms, strict=True):
        scales, shifts = weights.read(f"{name}.project_layer.weight").chunk(2)
        scale_bias, shift_bias = weights.read(f"{name}.project_layer.bias").chunk(2)
        gain, offset = weights.read(f"{name}.norm.weight"), weights.read(f"{name}.norm.bias")
        # w * (gain * x + offset) + b, with w and b linear in the stage; here it is (1 + w') * x + b'
        own_scales, own_shifts = gain[:, None] * scales, offset[:, None] * scales + shifts
        state[f"{norm}.project.weight"] = torch.cat([own_scales[order], own_shifts[order]])
        own_bias, own_shift = gain * scale_bias - 1, offset * scale_bias + shift_bias
        state[f"{norm}.project.bias"] = torch.cat([own_bias[order], own_shift[order]])
    return state


def _shared_state(weights: StoredWeights, layout: NetworkLayout, symbols: tuple[str, ...], edges: bool) -> State:
    """Return text embedding, language embedding and the layers but for their norms."""
    part, order = layout.part, layout.order
    text = weights.read(f"{part}_text_embedding.word_embeddings.weight")[: len(symbols), order]
    state = {"text.table.weight": text / math.sqrt(layout.width)}
    if edges:
        state |= {"text.bos": text[symbols.index(BOS)], "text.end": text[symbols.index(EOS)]}
    if layout.languages:  # the null language, number 0 here, adds nothing
        table = weights.read(f"{part}_language_embedding.word_embeddings.weight")[:, order]
        state["language.table.weight"] = torch.cat([torch.zeros(1, layout.width), table])
    if layout.has_prenet:
        state |= _stacked_prenet(weights, f"{part}_text_prenet", order)
    for layer in range(layout.depth):
        theirs, ours = f"{part}_decoder.layers.{layer}", f"transformer.blocks.{layer}"
        state |= {
            f"{ours}.attention.qkv.weight": weights.read(f"{theirs}.self_attn.in_proj_weight")[:, order],
            f"{ours}.attention.qkv.bias": weights.read(f"{theirs}.self_attn.in_proj_bias"),
            f"{ours}.attention.out.weight": weights.read(f"{theirs}.self_attn.out_proj.weight")[order],
            f"{ours}.attention.out.bias": weights.read(f"{theirs}.self_attn.out_proj.bias")[order],
            f"{ours}.up.weight": weights.read(f"{theirs}.linear1.weight")[:, order],
            f"{ours}.up.bias": weights.read(f"{theirs}.linear1.bias"),
            f"{ours}.down.weight": weights.read(f"{theirs}.linear2.weight")[order],
            f"{ours}.down.bias": weights.read(f"{theirs}.linear2.bias")[order],
        }
    return state


def _norm_names(layout: NetworkLayout) -> list[str]:
    """Return our names of all norms, in the order of `NetworkLayout.norms`."""
    kinds = ("attention_norm", "feedforward_norm")
    blocks = [f"transformer.blocks.{layer}.{kind}" for layer in range(layout.depth) for kind in kinds]
    return [*blocks, "transformer.norm"]


def _factors(weights: StoredWeights, part: str) -> State:
    names = {"text": "text.positions.factor", "audio": "positions.factor"}
    return {name: weights.read(f"{part}_{kind}_position.alpha").reshape(()) for kind, name in names.items()}


def _stacked_prenet(weights: StoredWeights, theirs: str, order: Tensor) -> State:
    state: State = {}
    for number, conv in enumerate((1, 5, 9)):
        norm = {name: weights.read(f"{theirs}.{conv + 1}.{name}") for name in BATCH_NORM}
        gain = norm["weight"] / (norm["running_var"] + BATCH_EPSILON).sqrt()
        bias = (weights.read(f"{theirs}.{conv}.bias") - norm["running_mean"]) * gain + norm["bias"]
        weight = weights.read(f"{theirs}.{conv}.weight") * gain[:, None, None]
        state[f"text.stack.convs.{number}.weight"] = weight[order][:, order]
        state[f"text.stack.convs.{number}.bias"] = bias[order]
    state["text.stack.out.weight"] = weights.read(f"{theirs}.14.weight")[order][:, order]
    state["text.stack.out.bias"] = weights.read(f"{theirs}.14.bias")[order]
    return state


def _linear_prenet(weights: StoredWeights, theirs: str, ours: str, order: Tensor) -> State:
    pairs = {"0": "0", "3": "2", "6": "4"}
    state = {
        f"{ours}.{mine}.{kind}": weights.read(f"{theirs}.{their}.{kind}")
        for their, mine in pairs.items()
        for kind in ("weight", "bias")
    }
    state[f"{ours}.0.weight"] = state[f"{ours}.0.weight"][:, order]
    state[f"{ours}.4.weight"], state[f"{ours}.4.bias"] = (
        state[f"{ours}.4.weight"][order],
        state[f"{ours}.4.bias"][order],
    )
    return state


class LifeitengSettings(Config):
    """What a checkpoint says beside its weights; older ones do not, and their settings are given."""

    nhead: int = Field(16, gt=0, description="attention heads of the AR model")
    scale_factor: float = Field(1.0, gt=0, description="heads of the NAR model, compared with it")
    prefix_mode: int = Field(1, description="how the NAR model was trained: 0, 1, 2 or 4")
    text_extractor: str | None = Field(
        None, description=f"what texts were read with: {', '.join(EXTRACTORS)}; by default told by the symbols"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.prefix_mode not in PREFIX_MODES:
            raise ValueError(f"prefix_mode should be one of {', '.join(map(str, PREFIX_MODES))}")
        if self.text_extractor not in (None, *EXTRACTORS):
            raise ValueError(f"text_extractor should be one of {', '.join(EXTRACTORS)}")
        return self


def convert(given: Given) -> Converted:
    """Return the model of a checkpoint and its symbol table."""
    weights, settings = given.one(), given.parse(LifeitengSettings)
    symbols = read_symbols(given.symbols or given.find("unique_text_tokens.k2symbols", "*.k2symbols"), weights.source)
    extractor = settings.text_extractor or guess_extractor(symbols)
    heads = settings.nhead, int(settings.nhead * settings.scale_factor)
    networks = convert_pair(weights, heads, symbols, settings.prefix_mode)
    notes = []
    if weights.settings.get("train_stage") == 1:
        notes.append("its last training was of the AR model alone (train_stage 1): the NAR model may know nothing")
    if extractor != "espeak":
        notes.append("its texts are Mandarin: the extra zh reads them, with figures in words as amounts")
    language = "en" if extractor == "espeak" else "zh"
    vocabulary = Vocabulary(symbols, notation=EXTRACTORS[extractor])
    return Converted(*networks, vocabulary, (language,), GENERATION, tuple(notes))


def guess_extractor(symbols: Sequence[str]) -> str:
    """Return what texts were read with by the symbols they became: pinyin has the figures of tones."""
    syllables = [symbol for symbol in symbols if re.fullmatch("[a-zü]+[1-5]", symbol)]
    if 4 * len(syllables) < len(symbols):
        return "espeak"
    return "pypinyin_initials_finals" if {"zh", "ch", "sh"} & set(symbols) else "pypinyin"


def has_languages(weights: StoredWeights) -> bool:
    """Whether the text has a table of languages, in either network."""
    return weights.has("ar_language_embedding.") or weights.has("nar_language_embedding.")


def recognise(weights: StoredWeights) -> bool:
    """Whether these are weights of such networks, which know one language."""
    return weights.has("ar_decoder.layers.") and not has_languages(weights)


SOURCE = Source(
    "lifeiteng",
    "https://github.com/lifeiteng/vall-e",
    "9c69096d603ce13174fb5cb025f185e2e9b36ac7",
    "Apache-2.0",
    "encodec",
    recognise,
    convert,
)
