"""What enters the transformer: symbols, positions and languages as vectors, and parts joined into one sequence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvalle.errors import ModelError
from openvalle.model.batch import Batch
from openvalle.model.config import LanguageModelConfig
from openvalle.model.kinds import NARROW, TEXT_KERNEL, LanguageOn, Positions, Prenet
from openvalle.model.linear import Linear


class PositionEmbedding(nn.Module):
    """Vectors (..., D) for positions (...,) of one part of the sequence."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.width = config.transformer.width
        self.of_parts = config.positions in (Positions.SINUSOIDAL, Positions.LEARNT)
        self.is_running = config.positions == Positions.RUNNING
        self.factor = nn.Parameter(torch.ones(())) if config.scale_positions else None
        self.table = None
        if config.positions == Positions.LEARNT:
            assert config.max_positions is not None
            self.table = nn.Parameter(torch.randn(config.max_positions, self.width) * 0.1)

    def forward(self, positions: Tensor) -> Tensor:
        self.check(positions)
        return self.look_up(positions)

    def check(self, positions: Tensor) -> None:
        """Raise `ModelError` if there are more than the model learnt."""
        if self.table is None:
            return
        longest = int(positions.max()) + 1 if positions.numel() else 0
        if longest > len(self.table):
            raise ModelError(
                f"{longest} positions are more than the {len(self.table)} that this model learnt",
                "give a shorter text or prompt",
            )

    def look_up(self, positions: Tensor) -> Tensor:
        """Return the vectors of positions that are known to be learnt; the device is not asked."""
        if not self.of_parts:  # they are of the whole sequence
            return torch.zeros((), device=positions.device)
        if self.table is not None:
            return F.embedding(positions, self.table)
        waves = self._waves(positions)
        return waves if self.factor is None else self.factor * waves

    def run(self, vectors: Tensor, start: Tensor | None = None) -> Tensor:
        """Return vectors (B, L, D) of a whole sequence, or from its position `start` (B,) on, with positions that run
        through all of it, if the model's do."""
        if not self.is_running:
            return vectors
        at = torch.arange(vectors.shape[1], device=vectors.device)[None]
        return vectors + self._waves(at if start is None else start[:, None] + at)

    def _waves(self, positions: Tensor) -> Tensor:
        half = torch.arange(0, self.width, 2, device=positions.device, dtype=torch.float32)
        angles = positions[..., None].float() * torch.exp(half * (-math.log(10_000.0) / self.width))
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class LanguageEmbedding(nn.Module):
    """Language vectors (VALL-E X 3.3); id 0 is the null language. Starts at zero."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.table = nn.Embedding(config.languages + 1, config.transformer.width)
        nn.init.zeros_(self.table.weight)

    def forward(self, languages: Tensor) -> Tensor:
        return self.table(languages)


def language_embedding(config: LanguageModelConfig) -> LanguageEmbedding | None:
    """Return the table of a model that knows languages."""
    return LanguageEmbedding(config) if config.languages else None


def place_languages(
    batch: Batch, dropped: float, rng: torch.Generator | None, frames: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the languages of positions in audio, (B, 1) or (B, N), and of symbols, (B, 1) or (B, S).

    `frames` (N,): the frame that is at each position, for what a prompt in another language goes before (VALL-E X
    3.3); None: it belongs to no frame of the row. All of a row is null in a random share `dropped` of them.
    """
    kept = torch.ones_like(batch.languages)
    if dropped:
        kept = (torch.rand(kept.shape, generator=rng) >= dropped).to(kept)
    own = (batch.languages * kept)[:, None]
    if batch.prompt_languages is None or batch.prompt_symbols is None:
        return own, own
    before = (batch.prompt_languages * kept)[:, None]
    is_prompt = torch.arange(batch.text.shape[1], device=own.device) < batch.prompt_symbols[:, None]
    in_text = torch.where(is_prompt, before, own)
    if frames is None or batch.prompt_lens is None:
        return own, in_text
    return torch.where(frames < batch.prompt_lens[:, None], before, own), in_text


@dataclass(frozen=True)
class TextVectors:
    """`inputs` (B, S + end, D) enter the sequence; `symbols` (B, S, D) are what frames gather by their alignment."""

    inputs: Tensor
    lens: Tensor  # (B,) of `inputs`
    symbols: Tensor


class TextEmbedding(nn.Module):
    """Symbols -> vectors; with `end`, a closing <EOS> follows each row's last symbol, and <BOS> may come first."""

    def __init__(self, config: LanguageModelConfig, *, end: bool) -> None:
        super().__init__()
        width = config.transformer.width
        self.table = scaled_embedding(config.symbols, width)
        self.scale = math.sqrt(width)
        self.positions = PositionEmbedding(config)
        self.bos = nn.Parameter(torch.randn(width)) if config.text_bos else None
        self.end = nn.Parameter(torch.randn(width)) if end else None
        self.prenet = ConvPrenet(width, TEXT_KERNEL) if config.text_prenet == Prenet.CONV else None
        self.stack = StackedPrenet(width, TEXT_KERNEL) if config.text_prenet == Prenet.STACK else None
        self.with_language = config.languages > 0 and config.language_on != LanguageOn.AUDIO

    def forward(self, text: Tensor, lens: Tensor, language: Tensor | None) -> TextVectors:
        """`language`: vectors (B, 1 or S, D), used if the model adds them to the text."""
        at = torch.arange(text.shape[1], device=text.device)
        symbols = self.table(text) * self.scale
        if self.with_language and language is not None:
            symbols = symbols + language
        if self.prenet is not None:
            symbols = self.prenet(symbols, at < lens[:, None])
        inputs = symbols
        if self.bos is not None:
            inputs, lens = torch.cat([self.bos.expand(len(text), 1, -1), inputs], dim=1), lens + 1
        if self.end is not None:
            inputs = F.pad(inputs, (0, 0, 0, 1))
            is_end = (torch.arange(inputs.shape[1], device=text.device) == lens[:, None])[..., None]
            inputs, lens = torch.where(is_end, self.end.to(inputs.dtype), inputs), lens + 1
        if self.stack is not None:
            inputs = self.stack(inputs, torch.arange(inputs.shape[1], device=text.device) < lens[:, None])
        inputs = inputs + self.positions(torch.arange(inputs.shape[1], device=text.device))
        return TextVectors(inputs, lens, symbols)


class ConvPrenet(nn.Module):
    """Adds to each vector what a convolution over its neighbours makes of it."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.out = nn.Linear(width, width)

    def forward(self, vectors: Tensor, exists: Tensor) -> Tensor:
        """Return (B, L, D); `exists` (B, L) keeps padding out of the neighbourhood."""
        real = vectors * exists[..., None]
        return vectors + self.out(F.gelu(self._convolve(real)))

    def _convolve(self, x: Tensor) -> Tensor:
        """Return the convolution of x (B, L, D)."""
        if x.device.type == "cuda" and self.training:
            return self._multiply(x)
        return self.conv(x.transpose(1, 2)).transpose(1, 2)

    def _multiply(self, x: Tensor) -> Tensor:
        """Return the same as one matrix product: cuDNN makes a plan for every shape that it meets, and every training
        batch has another."""
        weight = self.conv.weight  # (D, D, K)
        side, length = weight.shape[2] // 2, x.shape[1]
        padded = F.pad(x, (0, 0, side, side))
        seen = torch.cat([padded[:, at : at + length] for at in range(weight.shape[2])], dim=2)  # (B, L, K * D)
        return F.linear(seen, weight.permute(0, 2, 1).flatten(1), self.conv.bias)


class StackedPrenet(nn.Module):
    """Three convolutions and a linear layer, as in the encoder of Tacotron 2; batch normalisation is in the weights."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(width, width, kernel, padding=kernel // 2) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, vectors: Tensor, exists: Tensor) -> Tensor:
        """Return (B, L, D); `exists` (B, L) keeps padding out of the neighbourhood."""
        for conv in self.convs:
            vectors = F.relu(conv((vectors * exists[..., None]).transpose(1, 2)).transpose(1, 2))
        return self.out(vectors)


class LinearPrenet(nn.Sequential):
    """Three linear layers, the inner ones narrow: each position by itself."""

    def __init__(self, width: int) -> None:
        layers = [Linear(width, NARROW), Linear(NARROW, NARROW), Linear(NARROW, width)]
        super().__init__(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


class PromptEmbedding(nn.Module):
    """A prompt of all codebooks as a part of its own: the sum of the vectors of each frame's codes."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        width = config.transformer.width
        self.table = nn.Parameter(torch.randn(config.prompt_codebooks, config.codebook_size, width) * width**-0.5)
        self.scale = math.sqrt(width)

    def forward(self, codes: Tensor) -> Tensor:
        """Return (B, T, D) for codes (B, T, Q)."""
        books = torch.arange(len(self.table), device=codes.device)
        return self.table[books, codes].sum(-2) * self.scale


def scaled_embedding(entries: int, width: int) -> nn.Embedding:
    """Return a table with variance 1 / width: sound logits when tied, unit inputs once scaled by sqrt(width)."""
    table = nn.Embedding(entries, width)
    nn.init.normal_(table.weight, std=width**-0.5)
    return table


def gather_symbols(symbols: Tensor, alignment: Tensor) -> Tensor:
    """Return the vector of each frame's symbol (B, T, D) for an alignment (B, T) to (B, S, D); index -1 gives zeros."""
    rows, count, width = symbols.shape
    flat = alignment.clamp(min=0) + torch.arange(rows, device=alignment.device)[:, None] * count
    vectors = symbols.reshape(-1, width).index_select(0, flat.flatten()).view(*alignment.shape, width)
    return vectors * (alignment >= 0)[..., None]


@dataclass(frozen=True)
class Joined:
    """Rows of several parts without gaps, padding last."""

    vectors: Tensor  # (B, L, D)
    starts: tuple[Tensor, ...]  # per part (B,)
    lens: Tensor  # (B,)

    @property
    def is_full(self) -> bool:
        """Whether no row has padding."""
        return int(self.lens.min()) == self.vectors.shape[1]


def join(parts: Sequence[tuple[Tensor, Tensor]], longest: int | None = None) -> Joined:
    """Return rows that hold the real positions of each part (B, Li, D), lens (B,), one part after the other.

    `longest`: positions of the longest row, where that is known; otherwise the device is asked.
    """
    lens = torch.stack([part_lens for _, part_lens in parts])  # (parts, B)
    starts = lens.cumsum(0) - lens
    total = lens.sum(0)
    longest = int(total.max()) if longest is None else longest
    at = torch.arange(longest, device=total.device)[None]
    source = torch.zeros(len(total), longest, dtype=torch.long, device=total.device)
    offset = 0
    for (vectors, _), start in zip(parts, starts, strict=True):
        source = torch.where(at >= start[:, None], at - start[:, None] + offset, source)
        offset += vectors.shape[1]
    source = torch.where(at < total[:, None], source, 0)
    together = torch.cat([vectors for vectors, _ in parts], dim=1)
    return Joined(take(together, source), tuple(starts), total)


def take(vectors: Tensor, index: Tensor) -> Tensor:
    """Return (B, N, D): the positions `index` (B, N) of each row of (B, L, D)."""
    rows, length, width = vectors.shape
    flat = (index + torch.arange(rows, device=index.device)[:, None] * length).flatten()
    return vectors.reshape(-1, width).index_select(0, flat).view(rows, index.shape[1], width)
