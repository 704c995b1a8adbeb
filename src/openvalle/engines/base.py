"""The engine interface: what decoding needs of the networks and the codec. Arrays in, arrays out, all of NumPy.

Letters: B rows, S symbols, N groups, G codes per group, T frames, Q codebooks, V entries. Indices and codes are int64,
scores and samples float32. Rows are padded on the right; nothing may depend on what padding holds, and a row among
others gives what it gives alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

if TYPE_CHECKING:
    from openvalle.model.config import ARConfig, NARConfig
    from openvalle.types import CodecSpec


@dataclass(frozen=True, eq=False)
class ARRows:
    """Texts, and the audio after them, at one position per group of codes."""

    text: np.ndarray  # (B, S)
    text_lens: np.ndarray  # (B,)
    groups: np.ndarray  # (B, N, G); N may be 0
    group_lens: np.ndarray  # (B,)
    aligned: np.ndarray | None  # (B, N + 1) symbol index that enters with <BOS> and each group; -1: none
    languages: np.ndarray  # (B, 1) or (B, N + 1) of <BOS> and the groups; 0 = null
    text_languages: np.ndarray  # (B, 1) or (B, S)
    prompt: np.ndarray | None = None  # (B, T, Q) of prompts that are a part of their own
    prompt_lens: np.ndarray | None = None  # (B,)


@dataclass(frozen=True, eq=False)
class ARScores:
    """Scores of what comes next in each row."""

    codes: np.ndarray  # (B, G, V + 1), the last class is <EOS>
    phonemes: np.ndarray | None  # (B, symbols), with alignment

    def take(self, rows: np.ndarray) -> ARScores:
        """Return the scores of these rows (B',)."""
        return ARScores(self.codes[rows], None if self.phonemes is None else self.phonemes[rows])

    def join(self, other: ARScores) -> ARScores:
        """Return the scores of these rows, then of the others'."""
        phonemes = None
        if self.phonemes is not None and other.phonemes is not None:
            phonemes = np.concatenate([self.phonemes, other.phonemes])
        return ARScores(np.concatenate([self.codes, other.codes]), phonemes)


class EngineState(Protocol):
    """What a step needs of all before it. Only the engine that made it looks inside. It grows as it needs to.

    A state that was joined, kept or stepped is used up: go on with the one returned.
    """

    def fork(self, rows: np.ndarray) -> Self:
        """Return an independent state of these rows (B',): one prefix for many rows."""

    def join(self, other: Self) -> Self:
        """Return the state of these rows, then of the others': rows of any length go on together."""

    def keep(self, rows: np.ndarray) -> Self:
        """Return the state of these rows (B',), each once, in that order; the others leave."""


class AREngine(Protocol):
    """Codebook 1, step by step."""

    @property
    def config(self) -> ARConfig:
        """The network's configuration."""

    def prefill(self, rows: ARRows, room: int) -> tuple[ARScores, EngineState]:
        """Read texts and prompts; return the scores after each row's last group and a state with room for `room` steps
        before it has to grow."""

    def step(
        self, groups: np.ndarray, aligned: np.ndarray | None, languages: np.ndarray, state: EngineState
    ) -> tuple[ARScores, EngineState]:
        """Take one group (B, G) per row with its symbol index (B,) and its language (B,); return the next scores."""


@dataclass(frozen=True, eq=False)
class NARRows:
    """Texts, and frames of which the first `prompt_lens` are the prompt: all its codebooks are known."""

    text: np.ndarray  # (B, S)
    text_lens: np.ndarray  # (B,)
    codes: np.ndarray  # (B, T, Q); of target frames the codebooks before the pass
    lens: np.ndarray  # (B,) frames
    prompt_lens: np.ndarray  # (B,) of which
    alignment: np.ndarray | None  # (B, T) symbol index of each frame; -1: none
    languages: np.ndarray  # (B, 1) or (B, T); 0 = null
    text_languages: np.ndarray  # (B, 1) or (B, S)

    @property
    def is_target(self) -> np.ndarray:
        """Which frames are to be filled, (B, T)."""
        at = np.arange(self.codes.shape[1])
        return (at >= self.prompt_lens[:, None]) & (at < self.lens[:, None])


class NAREngine(Protocol):
    """Codebooks 2..Q, pass by pass."""

    @property
    def config(self) -> NARConfig:
        """The network's configuration; `config.stages` is the number of passes."""

    def predict(self, rows: NARRows, stage: int) -> np.ndarray:
        """Return the codes (M, n) of the M target frames, row by row, from codebook index `stage` on.

        n is 1, but for models whose last pass fills all the codebooks that are left.
        """


class CodecStream(Protocol):
    """Decodes codes block by block; all outputs joined equal the whole decode."""

    def push(self, codes: np.ndarray) -> np.ndarray:
        """Take codes (t, Q) and return the samples (n,) that are final; n may be 0."""

    def flush(self) -> np.ndarray:
        """Return the samples still held back, (n,). The stream is then over."""


class CodecEngine(Protocol):
    """Sound <-> codes, at `spec.rate` and `spec.hop`."""

    @property
    def spec(self) -> CodecSpec:
        """Geometry and identity of the codes."""

    def encode(self, samples: np.ndarray, merge: int = 1) -> np.ndarray:
        """Return codes (ceil(samples / hop), Q); `merge` repeats each code of codebook 1 over that many frames."""

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return samples (T * hop,) for codes (T, Q)."""

    def stream(self) -> CodecStream:
        """Return a fresh streaming decoder."""


def pad(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Return rows (L, ...) of different lengths as one array (B, longest, ...), int64, filled up with zeros."""
    padded = np.zeros((len(rows), max(len(row) for row in rows), *rows[0].shape[1:]), np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded
