"""Names and shapes of the weights of lifeiteng/vall-e, by the sizes of its networks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from openvalle.convert.weights import StoredWeights
from openvalle.errors import ModelError
from openvalle.model.kinds import NARROW

BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class NetworkLayout:
    """Sizes of one network, `part` "ar" or "nar", read from its weights; `heads` cannot be seen there."""

    part: str
    width: int
    heads: int
    depth: int
    feedforward: int
    text_rows: int
    entries: int
    codebooks: int
    has_prenet: bool
    has_bos: bool  # of the audio
    languages: int

    @classmethod
    def read(cls, weights: StoredWeights, part: str, heads: int) -> NetworkLayout:
        """Return the sizes; `ModelError` for a kind of network that is not this one."""
        if weights.has(f"{part}_decoder.layers.0.multihead_attn."):
            raise ModelError(f"{weights.source} is a VALL-F, whose text is attended to apart", "convert a VALL-E")
        rows, width = weights.shape(f"{part}_text_embedding.word_embeddings.weight")
        if f"{part}_decoder.layers.0.self_attn.in_proj_weight" in weights and not weights.has(f"{part}_decoder.norm."):
            raise ModelError(f"{weights.source} has its norms after the layers (norm_first false)", "it cannot be used")
        entries = weights.shape("ar_predict_layer.weight")[0] - 1
        language = f"{part}_language_embedding.word_embeddings.weight"
        return cls(
            part,
            width,
            heads,
            weights.count(f"{part}_decoder.layers.{{}}."),
            weights.shape(f"{part}_decoder.layers.0.linear1.weight")[0],
            rows,
            entries,
            max(weights.count("nar_audio_embeddings.{}."), weights.count("nar_stage_embeddings.{}.") + 1),
            weights.has(f"{part}_text_prenet."),
            weights.shape("ar_audio_embedding.word_embeddings.weight")[0] > entries + 1,
            weights.shape(language)[0] if language in weights else 0,
        )

    @property
    def transformer(self) -> dict[str, Any]:
        """Its settings here."""
        sizes = {"width": self.width, "heads": self.heads, "depth": self.depth, "feedforward": self.feedforward}
        return sizes | {"activation": "relu"}

    @property
    def order(self) -> Tensor:
        """For each value of a hidden state here, its place there: first the sines, then the cosines."""
        places = torch.arange(self.width)
        return torch.cat([places[0::2], places[1::2]])

    def list_weights(self) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of all weights."""
        part, d, ff = self.part, self.width, self.feedforward
        named: dict[str, tuple[int, ...]] = {
            f"{part}_text_embedding.word_embeddings.weight": (self.text_rows, d),
            f"{part}_text_position.alpha": (1,),
            f"{part}_audio_position.alpha": (1,),
        }
        for layer in range(self.depth):
            own = f"{part}_decoder.layers.{layer}."
            named |= {
                f"{own}self_attn.in_proj_weight": (3 * d, d),
                f"{own}self_attn.in_proj_bias": (3 * d,),
                f"{own}self_attn.out_proj.weight": (d, d),
                f"{own}self_attn.out_proj.bias": (d,),
                f"{own}linear1.weight": (ff, d),
                f"{own}linear1.bias": (ff,),
                f"{own}linear2.weight": (d, ff),
                f"{own}linear2.bias": (d,),
            }
        for norm in self.norms:
            is_plain = part == "ar"
            named |= (
                {f"{norm}.weight": (d,), f"{norm}.bias": (d,)}
                if is_plain
                else {
                    f"{norm}.project_layer.weight": (2 * d, d),
                    f"{norm}.project_layer.bias": (2 * d,),
                    f"{norm}.norm.weight": (d,),
                    f"{norm}.norm.bias": (d,),
                }
            )
        if self.languages:
            named[f"{part}_language_embedding.word_embeddings.weight"] = (self.languages, d)
        return named | (self._expected_prenets() if self.has_prenet else {}) | self._expected_codes()

    @property
    def norms(self) -> list[str]:
        """Names of all norms, that after the last layer last."""
        layers = [f"{self.part}_decoder.layers.{layer}.norm{norm}" for layer in range(self.depth) for norm in (1, 2)]
        return [*layers, f"{self.part}_decoder.norm"]

    def _expected_codes(self) -> dict[str, tuple[int, ...]]:
        d, entries, books = self.width, self.entries, self.codebooks
        if self.part == "ar":
            return {
                "ar_audio_embedding.word_embeddings.weight": (entries + 1 + self.has_bos, d),
                "ar_predict_layer.weight": (entries + 1, d),
            }
        named: dict[str, tuple[int, ...]] = {}
        for book in range(books):
            named[f"nar_audio_embeddings.{book}.word_embeddings.weight"] = (entries + (book == 0), d)
        for stage in range(books - 1):
            named[f"nar_predict_layers.{stage}.weight"] = (entries, d)
            named[f"nar_stage_embeddings.{stage}.word_embeddings.weight"] = (1, d)
        return named

    def _expected_prenets(self) -> dict[str, tuple[int, ...]]:
        d = self.width
        named: dict[str, tuple[int, ...]] = {}
        for conv in (1, 5, 9):
            text = f"{self.part}_text_prenet"
            named |= {f"{text}.{conv}.weight": (d, d, 5), f"{text}.{conv}.bias": (d,)}
            named |= {f"{text}.{conv + 1}.{name}": (d,) for name in BATCH_NORM}
            named[f"{text}.{conv + 1}.num_batches_tracked"] = ()
        named |= {f"{text}.14.weight": (d, d), f"{text}.14.bias": (d,)}
        sizes = (d, NARROW, NARROW, d)
        for number, (into, out) in enumerate(pairwise(sizes)):
            audio = f"{self.part}_audio_prenet.{3 * number}"
            named |= {f"{audio}.weight": (out, into), f"{audio}.bias": (out,)}
        return named


def restore_tied(weights: StoredWeights) -> StoredWeights:
    """Return weights in which both names of each shared one are there: files may hold one only.

    There a head shares the table of the codebook after its own.
    """
    tensors = dict(weights.tensors)
    for stage in range(weights.count("nar_stage_embeddings.{}.") - 1):
        head, table = f"nar_predict_layers.{stage}.weight", f"nar_audio_embeddings.{stage + 2}.word_embeddings.weight"
        for missing, there in ((head, table), (table, head)):
            if missing not in tensors and there in tensors:
                tensors[missing] = tensors[there]
    return StoredWeights(weights.source, tensors, weights.settings)
