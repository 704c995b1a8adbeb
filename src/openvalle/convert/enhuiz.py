"""enhuiz/vall-e: two networks in two files. Its own files are pickles of whole networks, which are not opened: what can
be converted is their `state_dict()`, saved there, and the table of symbols (`phone_symmap`) as lines `symbol number`.

The prompt is a part of its own there, of all eight codebooks, between text and speech, in both networks; its words are
not read. What is folded away: embeddings are not scaled there, queries, keys and values have no biases, one head serves
all stages, and scales of norms are logarithms.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from openvalle.config import Config
from openvalle.convert.base import Converted, Given, Source, State
from openvalle.convert.weights import StoredWeights
from openvalle.errors import ModelError
from openvalle.model.config import ARConfig, NARConfig
from openvalle.pipes import read_text
from openvalle.types import PAD, Vocabulary

NOTATION = "arpabet"
GENERATION: dict[str, Any] = {"sampling": {"repetition_aware": False}, "least_frames": 0.0, "most_frames": 64.0}


class EnhuizSettings(Config):
    """What the weights do not say."""

    n_heads: int | None = Field(None, gt=0, description="attention heads; by default 64 values of the width for each")


def convert(given: Given) -> Converted:
    """Return the model of two files."""
    (ar, nar), settings = given.two(is_nar), given.parse(EnhuizSettings)
    entries = nar.shape("classifier.weight")[0]
    codebooks, stages = ar.shape("proms_emb.weight", 3)[0], nar.shape("resps_emb.weight", 3)[0]
    if codebooks != stages + 1:
        what = (
            f"{ar.source} has proms_emb.weight of {codebooks} codebooks, and {nar.source} resps_emb.weight of {stages}"
        )
        raise ModelError(what, "the second has one less: both files must be whole, and of one model")
    symbols = read_symmap(given.symbols, ar.source, entries)
    shared: dict[str, Any] = {
        "symbols": len(symbols),
        "codebook_size": entries,
        "positions": "running",
        "prompt_codebooks": codebooks,
        "tie_output": False,
        "head_bias": True,
        "text_eos": True,
    }
    ar_config = ARConfig.parse(
        shared | {"transformer": _sizes(ar, settings.n_heads, "layer"), "text_attention": "causal"}, ar.source
    )
    nar_config = NARConfig.parse(
        shared
        | {"transformer": _sizes(nar, settings.n_heads, "adanorm"), "conditioning": "separate"}
        | {"prompt": "sentence", "text": "target", "codebooks": codebooks},
        nar.source,
    )
    notes = ("there the NAR model draws its codes (temperature 0.2); here it takes the likeliest, as in the papers",)
    vocabulary = Vocabulary(symbols, notation=NOTATION)
    states = _ar_state(ar, ar_config, len(symbols)), _nar_state(nar, nar_config, len(symbols))
    return Converted(ar_config, states[0], nar_config, states[1], vocabulary, ("en",), GENERATION, notes)


def read_symmap(path: Path | None, source: str, most: int) -> tuple[str, ...]:
    """Return the symbols by their numbers, which count from 1: 0 is padding."""
    if path is None:
        raise ModelError(f"{source} does not hold the symbols of its texts", "give its phone_symmap: --symbols FILE")
    try:
        pairs = [line.split() for line in read_text(path).splitlines() if line.strip()]
        numbered = {int(number): symbol for symbol, number in pairs}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is no table of symbols ({error})", "give a text of lines `symbol number`") from None
    if sorted(numbered) != list(range(1, len(numbered) + 1)) or len(numbered) >= most:
        raise ModelError(f"the numbers in {path} are not 1 to {len(numbered)}", "give a text of lines `symbol number`")
    return (PAD, *(numbered[number] for number in sorted(numbered)))


def _sizes(weights: StoredWeights, heads: int | None, norm: str) -> dict[str, Any]:
    width = weights.shape("text_emb.weight")[1]
    heads = heads or max(1, width // 64)
    if width % (2 * heads):
        raise ModelError(f"{heads} heads cannot share a width of {width}", "give --set n_heads=NUMBER")
    depth, feedforward = weights.count("blocks.{}."), weights.shape("blocks.0.ffn.block.0.weight")[0]
    sizes = {"width": width, "heads": heads, "depth": depth, "feedforward": feedforward}
    return sizes | {"norm": norm, "final_norm": False}


def _list_weights(config: ARConfig | NARConfig, levels: int, stops: int) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of all weights but norms; `levels` of codes that were spoken, `stops` tokens beside."""
    d, ff, entries = config.transformer.width, config.transformer.feedforward, config.codebook_size
    named: dict[str, tuple[int, ...]] = {
        "text_emb.weight": (entries, d),
        "proms_emb.weight": (config.prompt_codebooks, entries, d),
        "resps_emb.weight": (levels, entries + stops, d),
        "sep": (d,),
        "classifier.weight": (entries + stops, d),
        "classifier.bias": (entries + stops,),
    }
    for layer in range(config.transformer.depth):
        own = f"blocks.{layer}"
        named |= {f"{own}.attn.block.to_qkv.weight": (3 * d, d)}
        named |= {f"{own}.attn.block.to_out.weight": (d, d), f"{own}.attn.block.to_out.bias": (d,)}
        named |= {f"{own}.ffn.block.0.weight": (ff, d), f"{own}.ffn.block.0.bias": (ff,)}
        named |= {f"{own}.ffn.block.3.weight": (d, ff), f"{own}.ffn.block.3.bias": (d,)}
    return named


def _norms(config: ARConfig | NARConfig) -> dict[str, str]:
    """Return their names of all norms, and ours."""
    kinds = {"attn.norm": "attention_norm", "ffn.norm": "feedforward_norm"}
    return {
        f"blocks.{layer}.{theirs}": f"transformer.blocks.{layer}.{ours}"
        for layer in range(config.transformer.depth)
        for theirs, ours in kinds.items()
    }


def _shared_state(weights: StoredWeights, config: ARConfig | NARConfig, symbols: int) -> State:
    d = config.transformer.width
    separator, scale = weights.read("sep"), math.sqrt(d)
    state: State = {
        "text.table.weight": weights.read("text_emb.weight")[:symbols] / scale,
        "text.end": separator,
        "bos": separator.clone(),
        "prompts.table": weights.read("proms_emb.weight") / scale,
    }
    for layer in range(config.transformer.depth):
        theirs, ours = f"blocks.{layer}", f"transformer.blocks.{layer}"
        state |= {
            f"{ours}.attention.qkv.weight": weights.read(f"{theirs}.attn.block.to_qkv.weight"),
            f"{ours}.attention.qkv.bias": torch.zeros(3 * d),
            f"{ours}.attention.out.weight": weights.read(f"{theirs}.attn.block.to_out.weight"),
            f"{ours}.attention.out.bias": weights.read(f"{theirs}.attn.block.to_out.bias"),
            f"{ours}.up.weight": weights.read(f"{theirs}.ffn.block.0.weight"),
            f"{ours}.up.bias": weights.read(f"{theirs}.ffn.block.0.bias"),
            f"{ours}.down.weight": weights.read(f"{theirs}.ffn.block.3.weight"),
            f"{ours}.down.bias": weights.read(f"{theirs}.ffn.block.3.bias"),
        }
    return state


def _ar_state(weights: StoredWeights, config: ARConfig, symbols: int) -> State:
    kinds = ("weight", "bias")
    norms = {f"{norm}.{kind}": (config.transformer.width,) for norm in _norms(config) for kind in kinds}
    weights.check(_list_weights(config, 1, 1) | norms)
    state = _shared_state(weights, config, symbols)
    state["codes.weight"] = weights.read("resps_emb.weight")[0, : config.codebook_size] / math.sqrt(
        config.transformer.width
    )
    state |= {f"head.{kind}": weights.read(f"classifier.{kind}") for kind in kinds}
    return state | {
        f"{ours}.{kind}": weights.read(f"{theirs}.{kind}") for theirs, ours in _norms(config).items() for kind in kinds
    }


def _nar_state(weights: StoredWeights, config: NARConfig, symbols: int) -> State:
    d, stages = config.transformer.width, config.codebooks - 1
    norms: dict[str, tuple[int, ...]] = {f"{norm}.emb.weight": (stages, 2 * d) for norm in _norms(config)}
    weights.check(_list_weights(config, stages, 0) | norms)
    state = _shared_state(weights, config, symbols)
    codes = weights.read("resps_emb.weight") / math.sqrt(d)
    unread: Tensor = torch.zeros(1, config.codebook_size, d)  # no pass follows that of the last codebook
    state["codes"] = torch.cat([codes, unread])
    state["code_head.weight"] = weights.read("classifier.weight").expand(stages, -1, -1).clone()
    state["code_head.bias"] = weights.read("classifier.bias").expand(stages, -1).clone()
    for theirs, ours in _norms(config).items():
        logarithms, shifts = weights.read(f"{theirs}.emb.weight").chunk(2, dim=1)
        state |= {f"{ours}.weight": logarithms.exp(), f"{ours}.bias": shifts}
    return state


def is_nar(weights: StoredWeights) -> bool:
    """Whether these are weights of the second network, whose stages have norms of their own."""
    return any(name.endswith(".norm.emb.weight") for name in weights.tensors)


def recognise(weights: StoredWeights) -> bool:
    """Whether these are weights of one of the two networks."""
    return weights.has("blocks.0.") and any(name in weights for name in ("proms_emb.weight", "resps_emb.weight"))


SOURCE = Source(
    "enhuiz",
    "https://github.com/enhuiz/vall-e",
    "3476d393d2133fa9b50d5ad999ca13b95fc22060",
    "MIT",
    "encodec",
    recognise,
    convert,
)
