"""Learned English spelling to phones for words no lexicon lists; runs on NumPy alone.

One letter yields one chunk of zero to two phones and, if the chunk holds a vowel, its stress. A bidirectional
Transformer reads the letters; a causal one reads them again together with the chunks already chosen (the
many-to-one alignment of Jiampojamarn et al. 2007, with a neural tagger as in Yao and Zweig 2015).
`openvalle.train.g2p` trains it. Letters: L letters, D width, C chunks, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from openvalle.config import Config, read_mapping
from openvalle.errors import ModelError, UserError
from openvalle.types import STRESSES, VOWELS

LETTERS = "'abcdefghijklmnopqrstuvwxyz"
MAX_LETTERS = 24  # longer spellings are read in pieces
NO_STRESS = len(STRESSES)  # the stress input after a chunk without a vowel, or with one of unknown stress
BEAM = 3
ROWS = 3  # multiplied at a time: OpenBLAS would wake its threads for more, which costs more than the product

Floats = NDArray[np.float32]
Chunk = tuple[str, ...]


class G2PConfig(Config):
    """The shape of a grapheme-to-phoneme model and the chunks it chooses from."""

    width: int = Field(description="D, the width of every layer")
    heads: int = Field(description="attention heads")
    encoder: int = Field(description="bidirectional layers over the letters")
    decoder: int = Field(description="causal layers over letters and chosen chunks")
    chunks: tuple[tuple[str, ...], ...] = Field(description="phones without stress, one chunk for each letter")


@dataclass(frozen=True)
class Beam:
    """A half-read word: its log probability, and a chunk and a stress for each letter so far."""

    score: float
    chunks: tuple[int, ...]
    stresses: tuple[int, ...]
    parent: int = 0  # the row of the beam it grew from


class G2PModel:
    """Letters to stressed phones by a beam search over chunks."""

    def __init__(self, config: G2PConfig, weights: dict[str, Floats]) -> None:
        self.config = config
        self._weights = weights
        linear = [name.removesuffix(".weight") for name in weights if name.endswith(".weight")]
        self._maps = {
            name: np.ascontiguousarray(weights[f"{name}.weight"].T)
            for name in linear
            if f"{name}.bias" in weights and weights[f"{name}.weight"].ndim == 2
        }
        self._vowelled = [any(phone in VOWELS for phone in chunk) for chunk in config.chunks]

    @classmethod
    def load(cls, folder: str | Path) -> G2PModel:
        """Read `config.json` and `model.safetensors`; `ModelError` if either is missing or damaged."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(folder)
        try:
            config = G2PConfig.parse(read_mapping(folder / "config.json"), str(folder / "config.json"))
            stored = load_file(folder / "model.safetensors")
        except (OSError, SafetensorError, UserError) as error:
            raise ModelError(f"cannot read the pronunciation model in {folder}: {error}", "reinstall it") from None
        return cls(config, {name: values.astype(np.float32) for name, values in stored.items()})

    def __call__(self, word: str) -> tuple[str, ...]:
        """Return the phones of a spelling; letters outside `LETTERS` are ignored, none at all gives ()."""
        letters = [LETTERS.index(letter) for letter in word.lower() if letter in LETTERS]
        phones: list[str] = []
        for start in range(0, len(letters), MAX_LETTERS):
            phones += self._piece(letters[start : start + MAX_LETTERS])
        return tuple(phones)

    def _piece(self, letters: Sequence[int]) -> list[str]:
        memory = self.encode(letters)
        beams, past = [Beam(0.0, (), ())], self.no_past()
        for state in memory:
            before = [beam.chunks[-1] if beam.chunks else len(self.config.chunks) for beam in beams]
            marks = [beam.stresses[-1] if beam.stresses else NO_STRESS for beam in beams]
            features, past = self.step(state, np.array(before), np.array(marks), past)
            beams = sorted(self._grow(features, beams), key=lambda beam: -beam.score)[:BEAM]
            parents = [beam.parent for beam in beams]
            past = [layer[:, parents] for layer in past]
        return keep_one_primary(self._spell(beams[0].chunks, beams[0].stresses))

    def _grow(self, features: Floats, beams: Sequence[Beam]) -> list[Beam]:
        """Return each beam grown by its likeliest chunks, with every stress they may carry."""
        chances = self.chunk_scores(features)
        best = np.argsort(-chances, axis=-1)[:, :BEAM]
        marks = self.stress_scores(features[:, None], best)
        grown = []
        for row, beam in enumerate(beams):
            for place, chunk in enumerate(best[row].tolist()):
                score, spoken = beam.score + float(chances[row, chunk]), (*beam.chunks, chunk)
                if self._vowelled[chunk]:
                    for stress, chance in enumerate(marks[row, place].tolist()):
                        grown.append(Beam(score + chance, spoken, (*beam.stresses, stress), row))
                else:
                    grown.append(Beam(score, spoken, (*beam.stresses, NO_STRESS), row))
        return grown

    def _spell(self, chunks: Sequence[int], stresses: Sequence[int]) -> list[str]:
        phones = []
        for chunk, stress in zip(chunks, stresses, strict=True):
            for phone in self.config.chunks[chunk]:
                phones.append(phone + STRESSES[stress] if phone in VOWELS else phone)
        return phones

    def encode(self, letters: Sequence[int], source: int = 0) -> Floats:
        """Return what the encoder reads in the letters, (L, D)."""
        weights, size = self._weights, len(letters)
        states = weights["letters.weight"][list(letters)] + weights["starts.weight"][:size]
        states = states + weights["ends.weight"][size - 1 :: -1] + weights["sources.weight"][source]
        for layer in range(self.config.encoder):
            states = self._block(f"encoder.{layer}", states[None])[0][0]
        return states

    def no_past(self) -> list[Floats]:
        """Return the keys and values of no letters, one (2, B, H, 0, D / H) for each decoder layer."""
        shape = (2, 1, self.config.heads, 0, self.config.width // self.config.heads)
        return [np.zeros(shape, dtype=np.float32)] * self.config.decoder

    def step(
        self, state: Floats, chunks: NDArray[np.int64], stresses: NDArray[np.int64], past: Sequence[Floats]
    ) -> tuple[Floats, list[Floats]]:
        """Return the features (B, D) of one letter and the past with it added.

        `state` (D,) is what the encoder read in the letter; `chunks` and `stresses` (B,) are those just before it.
        """
        states = state + self._weights["chunks.weight"][chunks] + self._weights["stresses.weight"][stresses]
        states, kept = states[:, None], []
        for layer in range(self.config.decoder):
            states, seen = self._block(f"decoder.{layer}", states, past[layer])
            kept.append(seen)
        return self._norm("norm", states[:, 0]), kept

    def chunk_scores(self, features: Floats) -> Floats:
        """Return the log probability of each chunk, (..., C)."""
        return _log_softmax(self._linear("chunk_head", features))

    def stress_scores(self, features: Floats, chunks: NDArray[np.int64]) -> Floats:
        """Return the log probability of each stress of the chunks' vowels, (..., 3)."""
        hidden = _squared_relu(self._linear("stress_hidden", features) + self._weights["stress_chunks.weight"][chunks])
        return _log_softmax(self._linear("stress_head", hidden))

    def _block(self, name: str, states: Floats, past: Floats | None = None) -> tuple[Floats, Floats]:
        """Return new states (B, L, D), which see each other and the past, and the past with them added."""
        rows, size, width = states.shape
        mixed = self._linear(f"{name}.mix", self._norm(f"{name}.norm_attention", states))
        mixed = mixed.reshape(rows, size, 3, self.config.heads, -1).transpose(2, 0, 3, 1, 4)
        seen = mixed[1:] if past is None else np.concatenate([past, mixed[1:]], axis=3)
        query, (key, value) = mixed[0], seen  # each (B, H, L, D / H)
        scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(query.shape[-1])
        joined = (np.exp(_log_softmax(scores)) @ value).transpose(0, 2, 1, 3).reshape(rows, size, width)
        states = states + self._linear(f"{name}.out", joined)
        inner = _squared_relu(self._linear(f"{name}.up", self._norm(f"{name}.norm_feed", states)))
        return states + self._linear(f"{name}.down", inner), seen

    def _linear(self, name: str, states: Floats) -> Floats:
        flat, weight = states.reshape(-1, states.shape[-1]), self._maps[name]
        parts = [flat[start : start + ROWS] @ weight for start in range(0, len(flat), ROWS)]
        mapped = np.concatenate(parts) + self._weights[f"{name}.bias"]
        return mapped.reshape(*states.shape[:-1], -1)

    def _norm(self, name: str, states: Floats) -> Floats:
        centred = states - states.mean(-1, keepdims=True)
        scale = np.sqrt(np.square(centred).mean(-1, keepdims=True) + 1e-5)
        return centred / scale * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def keep_one_primary(phones: Sequence[str]) -> list[str]:
    """Return the phones with exactly one primary stress: the first one kept, or the strongest vowel raised."""
    marks = [phone[-1] for phone in phones]
    if "1" in marks:
        first = marks.index("1")
        return [
            phone[:-1] + "2" if mark == "1" and index != first else phone
            for index, (phone, mark) in enumerate(zip(phones, marks, strict=True))
        ]
    for mark in ("2", "0"):
        if mark in marks:
            at = marks.index(mark)
            return [*phones[:at], phones[at][:-1] + "1", *phones[at + 1 :]]
    return list(phones)


def _log_softmax(scores: Floats) -> Floats:
    shifted = scores - scores.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _squared_relu(values: Floats) -> Floats:
    return np.square(np.maximum(values, 0))


@cache
def load_shipped() -> G2PModel:
    """Return the model in the package's assets."""
    return G2PModel.load(Path(__file__).parents[1] / "assets" / "g2p")


@lru_cache(maxsize=65536)
def spell(word: str) -> tuple[str, ...]:
    """Return the phones the shipped model reads in a word."""
    return load_shipped()(word)
