"""A model by its numbers: parameters per part, tokens, steps and memory. Nothing is allocated."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from openvalle.model.ar import AR
from openvalle.model.config import ARConfig, NARConfig
from openvalle.model.nar import NAR

FRAME_RATE = 75.0  # frames a second of every codec we use
PROMPT_SECONDS = 3.0
SYMBOLS_A_SECOND = 12.0  # ARPAbet phones with pauses in read English; byte-pair units are a third of that
FLOAT = 4  # bytes: weights and cache are float32 when speaking
PARTS = (  # what the name of a parameter begins with -> part; the first that fits
    ("text.table", "text embedding"),
    ("text.positions", "positions"),
    ("text.", "text: <EOS> and prenet"),
    ("codes", "code embeddings"),
    ("positions", "positions"),
    ("language", "language embedding"),
    ("begin", "<BOS>, <EOS>"),
    ("end", "<BOS>, <EOS>"),
    ("group_", "group layers"),
    ("stage", "stage embedding"),
    ("stack.norm", "norms"),
    ("head", "code heads"),
    ("prenet", "frame prenet"),
    ("project", "code embeddings"),
    ("expect", "expected rest"),
    ("phoneme_head", "phoneme head"),
)
BLOCKS = "attention and feed-forward"  # of all layers: 12 L (D^2) at the papers' shape


@dataclass(frozen=True)
class NetworkNumbers:
    """Parameters of one network."""

    parts: dict[str, int]
    total: int
    blocks: int  # of which in the transformer's blocks, norms included


@dataclass(frozen=True)
class Numbers:
    """What `describe` tells of a model. Sizes are in bytes."""

    ar: NetworkNumbers
    nar: NetworkNumbers
    seconds: float  # of speech that steps and memory are for
    frame_rate: float
    codes_per_second: float  # of all codebooks together
    ar_codes_per_second: float  # of codebook 1, once merged
    ar_steps: int
    nar_passes: int
    positions: int  # that the AR model has seen at the end: text, a prompt of 3 s and the speech
    weights: int
    cache: int

    @property
    def memory(self) -> int:
        """Weights of both networks and the AR model's cache."""
        return self.weights + self.cache

    def values(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return asdict(self) | {"memory": self.memory}


def describe(ar: ARConfig, nar: NARConfig, seconds: float = 10.0) -> Numbers:
    """Return the numbers of a model for `seconds` of speech after a prompt of 3 s."""
    with torch.device("meta"):
        first, second = _numbers(AR(ar)), _numbers(NAR(nar))
    steps = math.ceil(seconds * FRAME_RATE / ar.block)
    prompt = int(PROMPT_SECONDS * FRAME_RATE / ar.block)
    text = math.ceil((seconds + PROMPT_SECONDS) * SYMBOLS_A_SECOND) + 1  # and <EOS>
    positions = text + int(ar.begin) + prompt + steps
    return Numbers(
        ar=first,
        nar=second,
        seconds=seconds,
        frame_rate=FRAME_RATE,
        codes_per_second=FRAME_RATE * nar.codebooks,
        ar_codes_per_second=FRAME_RATE / ar.merge,
        ar_steps=steps,
        nar_passes=nar.stages,
        positions=positions,
        weights=(first.total + second.total) * FLOAT,
        cache=2 * ar.stack.depth * ar.stack.width * positions * FLOAT,
    )


def _numbers(network: nn.Module) -> NetworkNumbers:
    parts: dict[str, int] = {}
    blocks = 0
    for name, parameter in network.named_parameters():
        part = _part(name)
        parts[part] = parts.get(part, 0) + parameter.numel()
        blocks += parameter.numel() * name.startswith("stack.blocks.")
    return NetworkNumbers(parts, sum(parts.values()), blocks)


def _part(name: str) -> str:
    if name.startswith("stack.blocks."):
        return "norms" if "_norm." in name else BLOCKS
    return next(part for start, part in PARTS if name.startswith(start))
