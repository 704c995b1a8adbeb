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
from openvalle.text.symbols import STRESSES, VOWELS

LETTERS = "'abcdefghijklmnopqrstuvwxyz"
MAX_LETTERS = 24  # longer spellings are read in pieces
NO_STRESS = len(STRESSES)  # the stress input after a chunk without a vowel, or with one of unknown stress
BEAM = 4

Floats = NDArray[np.float32]
Chunk = tuple[str, ...]


class SpellingConfig(Config):
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


class SpellingModel:
    """Letters to stressed phones by a beam search over chunks."""

    def __init__(self, config: SpellingConfig, weights: dict[str, Floats]) -> None:
        self.config = config
        self._weights = weights
        self._vowelled = [any(phone in VOWELS for phone in chunk) for chunk in config.chunks]

    @classmethod
    def load(cls, folder: str | Path) -> SpellingModel:
        """Read `config.json` and `model.safetensors`; `ModelError` if either is missing or damaged."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(folder)
        try:
            config = SpellingConfig.parse(read_mapping(folder / "config.json"), str(folder / "config.json"))
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
        beams = [Beam(0.0, (), ())]
        for _ in letters:
            beams = sorted(self._grown(memory, beams), key=lambda beam: -beam.score)[:BEAM]
        return with_one_primary(self._spell(beams[0].chunks, beams[0].stresses))

    def _grown(self, memory: Floats, beams: Sequence[Beam]) -> list[Beam]:
        """Return each beam grown by its likeliest chunks, with every stress they may carry."""
        first = len(self.config.chunks)  # the chunk "before the first letter"
        chunks = np.array([[first, *beam.chunks] for beam in beams], dtype=np.int64)
        stresses = np.array([[NO_STRESS, *beam.stresses] for beam in beams], dtype=np.int64)
        features = self.decode(memory, chunks, stresses)[:, -1]
        chances = self.chunk_scores(features)
        best = np.argsort(-chances, axis=-1)[:, :BEAM]
        marks = self.stress_scores(features[:, None], best)
        grown = []
        for row, beam in enumerate(beams):
            for place, chunk in enumerate(best[row].tolist()):
                score, spoken = beam.score + float(chances[row, chunk]), (*beam.chunks, chunk)
                if self._vowelled[chunk]:
                    for stress, chance in enumerate(marks[row, place].tolist()):
                        grown.append(Beam(score + chance, spoken, (*beam.stresses, stress)))
                else:
                    grown.append(Beam(score, spoken, (*beam.stresses, NO_STRESS)))
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
            states = self._block(f"encoder.{layer}", states[None], causal=False)[0]
        return states

    def decode(self, memory: Floats, chunks: NDArray[np.int64], stresses: NDArray[np.int64]) -> Floats:
        """Return the features (B, n, D) of the first n letters, given the chunk and stress before each (B, n)."""
        weights = self._weights
        states = memory[None, : chunks.shape[1]] + weights["chunks.weight"][chunks]
        states = states + weights["stresses.weight"][stresses]
        for layer in range(self.config.decoder):
            states = self._block(f"decoder.{layer}", states, causal=True)
        return self._norm("norm", states)

    def chunk_scores(self, features: Floats) -> Floats:
        """Return the log probability of each chunk, (..., C)."""
        return _log_softmax(self._linear("chunk_head", features))

    def stress_scores(self, features: Floats, chunks: NDArray[np.int64]) -> Floats:
        """Return the log probability of each stress of the chunks' vowels, (..., 3)."""
        hidden = _squared_relu(self._linear("stress_hidden", features) + self._weights["stress_chunks.weight"][chunks])
        return _log_softmax(self._linear("stress_head", hidden))

    def _block(self, name: str, states: Floats, causal: bool) -> Floats:
        states = states + self._attend(name, self._norm(f"{name}.norm_attention", states), causal)
        inner = _squared_relu(self._linear(f"{name}.up", self._norm(f"{name}.norm_feed", states)))
        return states + self._linear(f"{name}.down", inner)

    def _attend(self, name: str, states: Floats, causal: bool) -> Floats:
        rows, size, width = states.shape
        mixed = self._linear(f"{name}.mix", states).reshape(rows, size, 3, self.config.heads, -1)
        query, key, value = mixed.transpose(2, 0, 3, 1, 4)  # each (B, H, L, D / H)
        scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(query.shape[-1])
        if causal:
            scores = np.where(np.tri(size, dtype=bool), scores, -np.inf)
        joined = np.exp(_log_softmax(scores)) @ value
        return self._linear(f"{name}.out", joined.transpose(0, 2, 1, 3).reshape(rows, size, width))

    def _linear(self, name: str, states: Floats) -> Floats:
        flat = states.reshape(-1, states.shape[-1])  # one product of matrices: NumPy would loop over the rows of a beam
        mapped = flat @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return mapped.reshape(*states.shape[:-1], -1)

    def _norm(self, name: str, states: Floats) -> Floats:
        centred = states - states.mean(-1, keepdims=True)
        scale = np.sqrt(np.square(centred).mean(-1, keepdims=True) + 1e-5)
        return centred / scale * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def with_one_primary(phones: Sequence[str]) -> list[str]:
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
def shipped() -> SpellingModel:
    """Return the model in the package's assets."""
    return SpellingModel.load(Path(__file__).parents[1] / "assets" / "g2p")


@lru_cache(maxsize=65536)
def spell(word: str) -> tuple[str, ...]:
    """Return the phones the shipped model reads in a word."""
    return shipped()(word)
