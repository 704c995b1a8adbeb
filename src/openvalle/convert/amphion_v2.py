"""open-mmlab/Amphion, VALLE_V2: two networks of Llama's kind, in two files. It is not the VALL-E 2 of the paper.

One table holds codes, phones and marks of both networks' sequences: codes from 0 on, phones after them, and ten places
for marks from `MARKS` on. What is folded away: embeddings are not scaled there; queries, keys and values are three
matrices, and gate and `up` two; layers have no biases.
"""

from __future__ import annotations

import math
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from openvalle.config import Config
from openvalle.convert.base import Converted, Given, Source, State
from openvalle.convert.weights import StoredWeights
from openvalle.errors import ModelError
from openvalle.model.config import ARConfig, NARConfig
from openvalle.types import CONSONANTS, STRESSES, VOWELS, Vocabulary

NOTATION = "arpabet-places"
PHONES, MARKS = 300, 10  # places for phones and for marks
BOS_TARGET, EOS_TARGET, BOS_PHONE, EOS_PHONE = 1, 2, 3, 4  # marks: the first place is padding's
PLACES = ("B", "E", "I")
AR_TABLE, NAR_PHONES = "model.model.embed_tokens.weight", "phone_embedder.weight"


def list_phones(count: int) -> tuple[str, ...]:
    """Return the symbols of texts by their ids. There are two tables, of 220 and of 219: the larger one has UH2B, which
    stands out of order."""
    places = [sound + place for sound in CONSONANTS for place in PLACES]
    places += [vowel + stress + place for vowel in VOWELS for stress in STRESSES for place in PLACES]
    signs = ("!", ",", ".", ".B", ":", "<BOS>", "<EOS>", "<PAD>", "<UNK>", "?", "|", "AO1", "L")
    ordered = sorted({*signs, *places} - {"UH2B"})
    if count == len(ordered) + 1:
        ordered.insert(ordered.index("UH1B") + 1, "UH2B")
    return tuple(ordered)


class AmphionSettings(Config):
    """What the weights do not say."""

    heads: int = Field(16, gt=0, description="attention heads of both networks")
    phones: int = Field(220, description="symbols of texts: 220, or 219 for weights trained with the older table")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.phones not in (219, 220):
            raise ValueError("phones should be 219 or 220")
        return self


def convert(given: Given) -> Converted:
    """Return the model of two files."""
    (ar, nar), settings = given.two(is_nar), given.parse(AmphionSettings)
    symbols = list_phones(settings.phones)
    entries = nar.shape("prompt_embedder.embeddings.0.weight")[0]
    if ar.shape(AR_TABLE)[0] != entries + PHONES + MARKS:
        raise ModelError(
            f"{ar.source} has a table of {ar.shape(AR_TABLE)[0]} entries, not of {entries} codes, {PHONES} phones and "
            f"{MARKS} marks",
            "both files must be of one model",
        )
    shared = {"symbols": len(symbols), "codebook_size": entries, "tie_output": False, "positions": "rotary"}
    ar_config = ARConfig.parse(
        shared
        | {"transformer": _sizes(ar, settings.heads), "text_attention": "causal", "text_bos": True, "use_bos": True},
        ar.source,
    )
    books = max(nar.count("prompt_embedder.embeddings.{}."), nar.count("model.lm_head.{}.") + 1)
    nar_config = NARConfig.parse(
        shared | {"transformer": _sizes(nar, settings.heads), "codebooks": books, "prompt": "prefix"}, nar.source
    )
    notes = [f"its texts are read with the table of {settings.phones} phones; which one it was trained with cannot be "
             "seen: if it speaks gibberish, convert it with the other (--set phones=219)"]  # fmt: skip
    state = _ar_state(ar, ar_config, len(symbols)), _nar_state(nar, nar_config, len(symbols))
    vocabulary = Vocabulary(symbols, notation=NOTATION)
    return Converted(ar_config, state[0], nar_config, state[1], vocabulary, ("en",), GENERATION, tuple(notes))


GENERATION: dict[str, Any] = {
    "sampling": {"repetition_aware": False, "temperature": 0.95, "top_k": 5, "top_p": 0.9},
    "least_frames": 0.0,
}


def _sizes(weights: StoredWeights, heads: int) -> dict[str, Any]:
    width = weights.shape("model.model.embed_tokens.weight")[1]
    if width % (2 * heads):
        raise ModelError(f"{heads} heads cannot share a width of {width}", "give --set heads=NUMBER")
    return {
        "width": width,
        "heads": heads,
        "depth": weights.count("model.model.layers.{}."),
        "feedforward": weights.shape("model.model.layers.0.mlp.up_proj.weight")[0],
        "activation": "gated-silu",
        "norm": "rms",
    }


def _expected_layers(config: ARConfig | NARConfig) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the layers but for their norms."""
    d, ff = config.transformer.width, config.transformer.feedforward
    named: dict[str, tuple[int, ...]] = {}
    for layer in range(config.transformer.depth):
        own = f"model.model.layers.{layer}"
        named |= {f"{own}.self_attn.{part}_proj.weight": (d, d) for part in "qkvo"}
        named |= {f"{own}.mlp.{part}_proj.weight": (ff, d) for part in ("gate", "up")}
        named[f"{own}.mlp.down_proj.weight"] = (d, ff)
    return named


def _norms(config: ARConfig | NARConfig) -> dict[str, str]:
    """Return their names of all norms, and ours."""
    kinds = {"input_layernorm": "attention_norm", "post_attention_layernorm": "feedforward_norm"}
    blocks = {
        f"model.model.layers.{layer}.{theirs}": f"transformer.blocks.{layer}.{ours}"
        for layer in range(config.transformer.depth)
        for theirs, ours in kinds.items()
    }
    return blocks | {"model.model.norm": "transformer.norm"}


def _layers(weights: StoredWeights, config: ARConfig | NARConfig) -> State:
    d, ff = config.transformer.width, config.transformer.feedforward
    state: State = {}
    for layer in range(config.transformer.depth):
        theirs, ours = f"model.model.layers.{layer}", f"transformer.blocks.{layer}"

        def read(*names: str, own: str = theirs) -> Tensor:
            return torch.cat([weights.read(f"{own}.{name}_proj.weight") for name in names])

        state |= {
            f"{ours}.attention.qkv.weight": read("self_attn.q", "self_attn.k", "self_attn.v"),
            f"{ours}.attention.qkv.bias": torch.zeros(3 * d),
            f"{ours}.attention.out.weight": read("self_attn.o"),
            f"{ours}.attention.out.bias": torch.zeros(d),
            f"{ours}.up.weight": read("mlp.gate", "mlp.up"),
            f"{ours}.up.bias": torch.zeros(2 * ff),
            f"{ours}.down.weight": read("mlp.down"),
            f"{ours}.down.bias": torch.zeros(d),
        }
    return state


def _ar_state(weights: StoredWeights, config: ARConfig, symbols: int) -> State:
    d, entries = config.transformer.width, config.codebook_size
    rows, marks = entries + PHONES + MARKS, entries + PHONES
    expected = _expected_layers(config) | {f"{norm}.weight": (d,) for norm in _norms(config)}
    turns = tuple(
        f"model.model.layers.{layer}.self_attn.rotary_emb.inv_freq" for layer in range(config.transformer.depth)
    )
    weights.check(expected | {AR_TABLE: (rows, d), "model.lm_head.weight": (rows, d)}, turns)
    table, head, scale = weights.read(AR_TABLE), weights.read("model.lm_head.weight"), math.sqrt(d)
    state = _layers(weights, config)
    state |= {f"{ours}.weight": weights.read(f"{theirs}.weight") for theirs, ours in _norms(config).items()}
    return state | {
        "text.table.weight": table[entries : entries + symbols] / scale,
        "text.bos": table[marks + BOS_PHONE],
        "text.end": table[marks + EOS_PHONE],
        "bos": table[marks + BOS_TARGET],
        "codes.weight": table[:entries] / scale,
        "head.weight": torch.cat([head[:entries], head[marks + EOS_TARGET][None]]),
    }


def _nar_state(weights: StoredWeights, config: NARConfig, symbols: int) -> State:
    d, entries, books = config.transformer.width, config.codebook_size, range(config.codebooks)
    expected = _expected_layers(config)
    expected |= {f"{norm}.to_weight.weight": (d, d) for norm in _norms(config)}
    expected |= {f"{norm}.to_weight.bias": (d,) for norm in _norms(config)}
    expected |= {f"model.lm_head.{stage}.weight": (entries + PHONES + MARKS, d) for stage in books[:-1]}
    expected |= {f"prompt_embedder.embeddings.{book}.weight": (entries, d) for book in books}
    expected |= {NAR_PHONES: (PHONES + MARKS, d), "model.model.embed_cond.weight": (config.codebooks, d)}
    weights.check(expected, (AR_TABLE,))  # a table that nothing uses there
    scale, state = math.sqrt(d), _layers(weights, config)
    for theirs, ours in _norms(config).items():
        state |= {f"{ours}.project.{kind}": weights.read(f"{theirs}.to_weight.{kind}") for kind in ("weight", "bias")}
    codes = [weights.read(f"prompt_embedder.embeddings.{book}.weight") for book in books]
    heads = [weights.read(f"model.lm_head.{stage}.weight")[:entries] for stage in books[:-1]]
    return state | {
        "text.table.weight": weights.read(NAR_PHONES)[:symbols] / scale,
        "codes": torch.stack(codes) / scale,
        "code_head.weight": torch.stack(heads),
        "stage.weight": weights.read("model.model.embed_cond.weight")[1:],
    }


def is_nar(weights: StoredWeights) -> bool:
    """Whether these are weights of the second network, whose stages scale its norms and have a head each."""
    return any(".to_weight." in name for name in weights.tensors) or weights.has("model.lm_head.0.")


def recognise(weights: StoredWeights) -> bool:
    """Whether these are weights of one of the two networks."""
    return weights.has("model.model.layers.0.")


SOURCE = Source(
    "amphion-v2",
    "https://github.com/open-mmlab/Amphion",
    "6b1411c7a415af40a775dc940c3b29fc18d37970",  # the last that has it
    "MIT",
    "speechtokenizer",
    recognise,
    convert,
    ("amphion/valle",),
)
