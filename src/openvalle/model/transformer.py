"""The transformer both networks share: pre-norm `Stack`, with norm and mask given as data.

Rows are laid out without gaps (text, then audio, then padding), so causal attention needs no mask at all and padding
never sits between parts.

Keys and values of positions already seen, preallocated, with a length per row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvalle.model.config import StackConfig


class KVCache:
    """Room for `room` positions in each of `rows` rows; row b holds `lens[b]` of them, without gaps."""

    def __init__(self, depth: int, rows: int, heads: int, room: int, head_width: int, *, like: Tensor) -> None:
        shape = (depth, rows, heads, room, head_width)
        self.keys = like.new_zeros(shape)
        self.values = like.new_zeros(shape)
        self.lens = [0] * rows

    @property
    def room(self) -> int:
        """Positions a row can hold."""
        return self.keys.shape[3]

    def fill(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Store the first positions of all rows (B, H, L, D / H); `begin` then says how many of them are real."""
        length = key.shape[2]
        self.keys[layer, :, :, :length] = key
        self.values[layer, :, :, :length] = value

    def begin(self, lens: Tensor) -> None:
        """Say how many of the filled positions each row has."""
        self.lens = [int(length) for length in lens]

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store one position (B, H, 1, D / H) per row; return all keys and values up to the longest row's."""
        longest = max(self.lens) + 1
        assert longest <= self.room, (longest, self.room)
        keys, values = self.keys[layer], self.values[layer]
        if min(self.lens) + 1 == longest:
            keys[:, :, longest - 1] = key[:, :, 0]
            values[:, :, longest - 1] = value[:, :, 0]
        else:
            rows = torch.arange(len(self.lens), device=keys.device)
            at = torch.tensor(self.lens, device=keys.device)
            keys[rows, :, at] = key[:, :, 0].to(keys.dtype)
            values[rows, :, at] = value[:, :, 0].to(values.dtype)
        return keys[:, :, :longest].to(key.dtype), values[:, :, :longest].to(value.dtype)

    def seen(self) -> Tensor | None:
        """Return what the next position sees, itself included, (B, 1, 1, L + 1) booleans; None: everything."""
        longest = max(self.lens) + 1
        if min(self.lens) + 1 == longest:
            return None
        lens = torch.tensor(self.lens, device=self.keys.device)
        return (torch.arange(longest, device=self.keys.device) <= lens[:, None])[:, None, None]

    def advance(self) -> None:
        """Count the appended position."""
        self.lens = [length + 1 for length in self.lens]

    def fork(self, rows: Tensor) -> KVCache:
        """Return an independent cache with the given rows, in that order; a row may occur several times."""
        copy = object.__new__(KVCache)
        copy.keys = self.keys.index_select(1, rows)
        copy.values = self.values.index_select(1, rows)
        copy.lens = [self.lens[int(row)] for row in rows]
        return copy


EPSILON = 1e-5


@dataclass(frozen=True)
class Mask:
    """Who may attend to whom: everyone, or (`causal`) only to the left, except that the first `prefix_lens` positions
    of each row see each other. Positions from `lens` on do not exist."""

    causal: bool
    prefix_lens: Tensor | None = None  # (B,)
    lens: Tensor | None = None  # (B,); None: all rows are full

    def picture(self, length: int) -> Tensor:
        """Return (B or 1, L, L) booleans, [row, query, key]: the whole statement, for pictures and tests."""
        device = next((t.device for t in (self.prefix_lens, self.lens) if t is not None), None)
        at = torch.arange(length, device=device)
        seen = torch.ones(1, length, length, dtype=torch.bool, device=device)
        if self.causal:
            seen = seen.tril()
        if self.causal and self.prefix_lens is not None:
            seen = seen | (at < self.prefix_lens[:, None])[:, None, :]  # text keys: audio sees them, being later
        if self.lens is not None and not self.causal:
            seen = seen & (at < self.lens[:, None])[:, None, :]
        return seen

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return the attention's output (B, H, L, D / H).

        With causal attention the padding, being last, is seen by padding only, so no mask is needed; a prefix is
        attended a second time in full, which costs less than a dense mask over the whole sequence.
        """
        if not self.causal:
            seen = None if self.lens is None else _visible(self.lens, key.shape[2])
            return F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        if self.prefix_lens is None:
            return attended
        longest = int(self.prefix_lens.max())
        head, tail = attended[:, :, :longest], attended[:, :, longest:]
        seen = _visible(self.prefix_lens, longest)
        query, key, value = query[:, :, :longest], key[:, :, :longest], value[:, :, :longest]
        prefix = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        return torch.cat([torch.where(seen.transpose(2, 3), prefix, head), tail], dim=2)


def _visible(lens: Tensor, length: int) -> Tensor:
    """Return which of `length` positions are before `lens` (B,), as (B, 1, 1, L)."""
    return (torch.arange(length, device=lens.device) < lens[:, None])[:, None, None]


def dropout(x: Tensor, share: float) -> Tensor:
    """Return `x` with a random share of values 0 and the others scaled up.

    On the CPU, where drawing a number per value takes longer than a matrix product's share of it, eight values are
    decided by one 64-bit draw, with the share rounded to 1/256.
    """
    if not share or x.device.type != "cpu":
        return F.dropout(x, share)
    dropped = max(1, round(share * 256))
    draws = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    kept = draws.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
    return x * (kept.to(x.dtype) * (256 / (256 - dropped)))


class PlainNorm(nn.LayerNorm):
    """LayerNorm that ignores the condition."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPSILON)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return super().forward(x)


class AdaptiveNorm(nn.Module):
    """AdaLN (VALL-E 4.2.2): a * LayerNorm(x) + b, (a, b) linear in the condition (B or 1, E); a = 1, b = 0 at first."""

    def __init__(self, width: int, condition_width: int) -> None:
        super().__init__()
        self.width = width
        self.project = nn.Linear(condition_width, 2 * width)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.project(condition).float().chunk(2, dim=-1)
        return _scaled_norm(x, 1 + scale, shift)


class SeparateNorm(nn.Module):
    """One LayerNorm set per stage (VALL-E X 5.2); the condition is the stage's index (B or 1,)."""

    def __init__(self, width: int, stages: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(stages, width))
        self.bias = nn.Parameter(torch.zeros(stages, width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return _scaled_norm(x, self.weight[condition], self.bias[condition])


def _scaled_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return LayerNorm(x) * scale + shift for x (B, L, D) and scale, shift (B or 1, D)."""
    if len(scale) == 1:
        return F.layer_norm(x, x.shape[-1:], scale[0], shift[0], EPSILON)
    return torch.addcmul(shift[:, None], F.layer_norm(x, x.shape[-1:], eps=EPSILON), scale[:, None])


class Block(nn.Module):
    """Self-attention and feed-forward, each behind its norm."""

    def __init__(self, config: StackConfig, norm: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.attention_norm, self.feedforward_norm = norm(), norm()
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.up = nn.Linear(config.width, config.feedforward)
        self.down = nn.Linear(config.feedforward, config.width)
        for linear in (self.qkv, self.out, self.up, self.down):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
            nn.init.zeros_(linear.bias)
        for residual in (self.out, self.down):  # as many branches add up as there are sublayers
            nn.init.normal_(residual.weight, std=(residual.in_features * 2 * config.depth) ** -0.5)

    def project(self, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values (B, H, L, D / H)."""
        rows, length, width = x.shape
        qkv = self.qkv(self.attention_norm(x, condition)).view(rows, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return query, key, value

    def finish(self, x: Tensor, attended: Tensor, condition: Tensor | None) -> Tensor:
        """Return the block's output for its input and the attention's (B, H, L, D / H)."""
        x = x + self._drop(self.out(attended.transpose(1, 2).flatten(2)))
        return x + self._drop(self.down(F.gelu(self.up(self.feedforward_norm(x, condition)))))

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout) if self.training else x


class Stack(nn.Module):
    """Pre-norm transformer over embedded sequences."""

    def __init__(self, config: StackConfig, norm: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Block(config, norm) for _ in range(config.depth))
        self.norm = norm()

    def forward(self, x: Tensor, mask: Mask, condition: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """Return hidden states (B, L, D); with an empty `cache`, keep keys and values in it."""
        for index, block in self._numbered():
            query, key, value = block.project(x, condition)
            if cache is not None:
                cache.fill(index, key, value)
            x = block.finish(x, mask.attend(query, key, value), condition)
        return self.norm(x, condition)

    def step(self, x: Tensor, cache: KVCache) -> Tensor:
        """Return the hidden states (B, 1, D) of one more position per row; the cache grows by it."""
        seen = cache.seen()
        for index, block in self._numbered():
            query, key, value = block.project(x, None)
            keys, values = cache.append(index, key, value)
            attended = F.scaled_dot_product_attention(query, keys, values, attn_mask=seen)
            x = block.finish(x, attended, None)
        cache.advance()
        return self.norm(x)

    def _numbered(self) -> Iterator[tuple[int, Block]]:
        return enumerate(cast(Iterable[Block], self.blocks))
