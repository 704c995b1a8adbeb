"""The transformer both networks share: pre-norm, with norm and mask given as data, and a cache of keys and values.

Rows are laid out without gaps (text, then audio, then padding), so causal attention needs no mask at all and padding
never sits between parts. Letters: B rows, L positions, D width, H heads, E size of the condition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from openvalle.model.config import TransformerConfig
from openvalle.model.kinds import Activation
from openvalle.model.linear import Linear

EPSILON = 1e-5
SPARE_ROWS, SPARE_ROOM = 4, 256  # by which a cache of keys and values grows at least
RMS_EPSILON = 1e-6


@dataclass(frozen=True)
class Mask:
    """Who may attend to whom: everyone, or (`causal`) only to the left, except that the first `prefix_lens` positions
    of each row see each other. Positions from `lens` on do not exist."""

    causal: bool
    prefix_lens: Tensor | None = None  # (B,)
    lens: Tensor | None = None  # (B,); None: all rows are full
    longest_prefix: int | None = None  # where it is known; otherwise the device is asked
    each: Sequence[int] | None = None  # `lens` of rows of which each is attended by itself

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

        A masked sum over the longest row has another order than the sum over a row's own length, and rounds otherwise:
        with `each`, a row gets what it gets alone. With causal attention the padding, being last, is seen by padding
        only, so no mask is needed; a prefix is attended a second time in full, which costs less than a dense mask over
        the whole sequence.
        """
        if self.each is not None:
            rows = zip(query.split(1), key.split(1), value.split(1), self.each, strict=True)
            return torch.cat([F.scaled_dot_product_attention(q, k[:, :, :n], v[:, :, :n]) for q, k, v, n in rows])
        if not self.causal:
            seen = None if self.lens is None else _visible(self.lens, key.shape[2])
            return F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        if self.prefix_lens is None:
            return attended
        longest = int(self.prefix_lens.max()) if self.longest_prefix is None else self.longest_prefix
        longest = min(longest, query.shape[2])
        head, tail = attended[:, :, :longest], attended[:, :, longest:]
        seen = _visible(self.prefix_lens, longest)
        query, key, value = query[:, :, :longest], key[:, :, :longest], value[:, :, :longest]
        prefix = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        return torch.cat([torch.where(seen.transpose(2, 3), prefix, head), tail], dim=2)


def _visible(lens: Tensor, length: int) -> Tensor:
    """Return which of `length` positions are before `lens` (B,), as (B, 1, 1, L)."""
    return (torch.arange(length, device=lens.device) < lens[:, None])[:, None, None]


class Cache(Protocol):
    """What attention takes from the positions before, and gives to those after."""

    def places(self, length: int) -> Tensor:
        """Return where the next `length` positions of each row are, (B, L)."""

    def update(self, layer: int, key: Tensor, value: Tensor, mask: Mask) -> tuple[Tensor, Tensor, Mask]:
        """Store keys and values (B, H, L, D / H) of new positions; return all that these see, and who sees what."""


class KVCache:
    """Keys and values of positions already seen, for all layers, with room to spare for positions and rows.

    Row b holds `lens[b]` positions, without gaps. A forward of many positions fills an empty cache; then each forward
    adds one. `advance` counts them, when all layers have stored theirs. What lies beyond a row's length is never seen.
    """

    def __init__(self, depth: int, rows: int, heads: int, room: int, head_width: int, *, like: Tensor) -> None:
        self.keys = like.new_zeros(depth, rows, heads, room, head_width)
        self.values = torch.zeros_like(self.keys)
        self.lens = [0] * rows

    def update(self, layer: int, key: Tensor, value: Tensor, mask: Mask) -> tuple[Tensor, Tensor, Mask]:
        """Store keys and values (B, H, L, D / H) of new positions; return all that these see, and who sees what."""
        count, longest, added = len(self.lens), max(self.lens), key.shape[2]
        self._reserve(count, longest + added)
        keys, values = self.keys[layer, :count], self.values[layer, :count]
        if not longest:
            keys[:, :, :added], values[:, :, :added] = key, value
            return key, value, mask
        assert added == 1, "only an empty cache takes many positions"
        seen = Mask(causal=False)
        if min(self.lens) == longest:
            keys[:, :, longest], values[:, :, longest] = key[:, :, 0], value[:, :, 0]
        else:
            rows = torch.arange(count, device=key.device)
            at = torch.tensor(self.lens, device=key.device)
            keys[rows, :, at], values[rows, :, at] = key[:, :, 0].to(keys.dtype), value[:, :, 0].to(values.dtype)
            seen = Mask(causal=False, lens=at + 1)
        if count > 1 and key.device.type == "cpu":  # as long as together, and each row as it is alone, to the bit
            seen = Mask(causal=False, each=[length + 1 for length in self.lens])
        return keys[:, :, : longest + 1].to(key.dtype), values[:, :, : longest + 1].to(value.dtype), seen

    def places(self, length: int) -> Tensor:
        """Return where the next `length` positions of each row are, (B, L)."""
        return torch.tensor(self.lens)[:, None] + torch.arange(length)

    def advance(self, added: Sequence[int]) -> None:
        """Count the real ones among the stored positions of each row."""
        self.lens = [length + more for length, more in zip(self.lens, added, strict=True)]

    def fork(self, rows: Tensor) -> KVCache:
        """Return an independent cache with the given rows, in that order; a row may occur several times."""
        copy = object.__new__(KVCache)
        copy.keys = self.keys.index_select(1, rows)
        copy.values = self.values.index_select(1, rows)
        copy.lens = [self.lens[row] for row in rows.tolist()]
        return copy

    def join(self, other: KVCache) -> None:
        """Take the other's rows after the own ones."""
        count, length = len(self.lens), max(other.lens)
        self._reserve(count + len(other.lens), length)
        for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
            mine[:, count : count + len(other.lens), :, :length] = theirs[:, : len(other.lens), :, :length]
        self.lens = [*self.lens, *other.lens]

    def keep(self, rows: Tensor) -> None:
        """Keep the given rows, each once, in that order. Only those that change their place are copied."""
        to = torch.arange(len(rows), device=rows.device)[rows != torch.arange(len(rows), device=rows.device)]
        self.lens, length = [self.lens[row] for row in rows.tolist()], max(self.lens)
        if len(to):
            for tensor in (self.keys, self.values):
                tensor[:, to, :, :length] = tensor[:, rows[to], :, :length]

    def _reserve(self, rows: int, room: int) -> None:
        """Make room for so many rows of so many positions, and for some more, so that it is not done often."""
        had_rows, had_room = self.keys.shape[1], self.keys.shape[3]
        if rows <= had_rows and room <= had_room:
            return
        rows = had_rows if rows <= had_rows else max(rows, had_rows + SPARE_ROWS)
        room = had_room if room <= had_room else max(room, had_room + SPARE_ROOM)
        self.keys, self.values = (self._enlarge(tensor, rows, room) for tensor in (self.keys, self.values))

    def _enlarge(self, tensor: Tensor, rows: int, room: int) -> Tensor:
        depth, _, heads, _, width = tensor.shape
        count, length = len(self.lens), max(self.lens)
        larger = tensor.new_zeros(depth, rows, heads, room, width)
        larger[:, :count, :, :length] = tensor[:, :count, :, :length]
        return larger


class PlainNorm(nn.LayerNorm):
    """LayerNorm that ignores the condition."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPSILON)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return super().forward(x)


class RMSNorm(nn.Module):
    """Division by the root mean square, and a factor for each value; ignores the condition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weight, RMS_EPSILON)


class AdaptiveRMSNorm(nn.Module):
    """Division by the root mean square; the factors are linear in the condition (B or 1, E), 1 at first."""

    def __init__(self, width: int, condition_width: int) -> None:
        super().__init__()
        self.project = nn.Linear(condition_width, width)
        nn.init.zeros_(self.project.weight)
        nn.init.ones_(self.project.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], eps=RMS_EPSILON) * self.project(condition)[:, None]


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

    def __init__(self, width: int, stages: int, *, is_bent: bool = False) -> None:
        """`is_bent`: see `NormKind.ADANORM`; its scale is 1 / 2 at first."""
        super().__init__()
        self.is_bent = is_bent
        self.weight = nn.Parameter(torch.full((stages, width), 0.5 if is_bent else 1.0))
        self.bias = nn.Parameter(torch.zeros(stages, width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        if self.is_bent:
            x = F.layer_norm(x, x.shape[-1:], eps=EPSILON)
            x = 2 * (1 - (x / 10).detach()) * x
            return torch.addcmul(self.bias[condition][:, None], x, self.weight[condition][:, None])
        return _scaled_norm(x, self.weight[condition], self.bias[condition])


def _scaled_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return LayerNorm(x) * scale + shift for x (B, L, D) and scale, shift (B or 1, D)."""
    if len(scale) == 1:
        return F.layer_norm(x, x.shape[-1:], scale[0], shift[0], EPSILON)
    return torch.addcmul(shift[:, None], F.layer_norm(x, x.shape[-1:], eps=EPSILON), scale[:, None])


Turns = tuple[Tensor, Tensor]  # cosines and sines (B or 1, 1, L, D / H) of rotary positions


def find_turns(positions: Tensor, width: int) -> Turns:
    """Return how vectors of `width` at `positions` (B or 1, L) are turned: value n of the first half together with
    value n of the second, slower from pair to pair (RoFormer 3.2.2)."""
    rates = torch.exp(torch.arange(0, width, 2, device=positions.device).float() * (-math.log(10_000.0) / width))
    angles = (positions[:, None, :, None].float() * rates).repeat(1, 1, 1, 2)
    return angles.cos(), angles.sin()


def turn(vectors: Tensor, turns: Turns) -> Tensor:
    """Return queries or keys (B, H, L, D / H) turned by their positions."""
    first, second = vectors.chunk(2, dim=-1)
    return vectors * turns[0] + torch.cat([-second, first], dim=-1) * turns[1]


class SelfAttention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)

    def forward(
        self, x: Tensor, mask: Mask, cache: Cache | None = None, layer: int = 0, turns: Turns | None = None
    ) -> Tensor:
        """Return (B, L, D) for x (B, L, D); with a `cache`, all positions before are seen too."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (B, L, 3, H, D / H)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if turns is not None:
            query, key = turn(query, turns), turn(key, turns)
        if cache is not None:
            key, value, mask = cache.update(layer, key, value, mask)
        return self.out(mask.attend(query, key, value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Self-attention and feed-forward, each behind its norm."""

    def __init__(self, config: TransformerConfig, norm: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.attention_norm, self.feedforward_norm = norm(), norm()
        self.attention = SelfAttention(config.width, config.heads)
        self.activation = config.activation
        is_gated = config.activation == Activation.GATED_SILU
        self.up = Linear(config.width, config.feedforward * (2 if is_gated else 1))
        self.down = Linear(config.feedforward, config.width)
        self.dropout = nn.Dropout(config.dropout)
        for linear in (self.attention.qkv, self.attention.out, self.up, self.down):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
            nn.init.zeros_(linear.bias)
        for residual in (self.attention.out, self.down):  # as many branches add up as there are sublayers
            nn.init.normal_(residual.weight, std=(residual.in_features * 2 * config.depth) ** -0.5)

    def forward(
        self,
        x: Tensor,
        mask: Mask,
        condition: Tensor | None = None,
        cache: Cache | None = None,
        layer: int = 0,
        turns: Turns | None = None,
    ) -> Tensor:
        """Return (B, L, D) for x (B, L, D)."""
        x = x + self.dropout(self.attention(self.attention_norm(x, condition), mask, cache, layer, turns))
        return x + self.dropout(self.down(self._activate(self.up(self.feedforward_norm(x, condition)))))

    def _activate(self, x: Tensor) -> Tensor:
        if self.activation == Activation.GATED_SILU:
            gate, through = x.chunk(2, dim=-1)
            return F.silu(gate) * through
        return F.gelu(x) if self.activation == Activation.GELU else F.relu(x)


class Transformer(nn.Module):
    """Pre-norm transformer over embedded sequences; `rotary`: it is attention that knows the positions."""

    def __init__(self, config: TransformerConfig, norm: Callable[[], nn.Module], *, rotary: bool = False) -> None:
        super().__init__()
        self.head_width = config.width // config.heads if rotary else None
        self.blocks = nn.ModuleList(Block(config, norm) for _ in range(config.depth))
        self.norm = norm() if config.final_norm else None
        self.recomputes = False  # in training: what blocks hold is computed again in the backward pass, not kept

    def forward(self, x: Tensor, mask: Mask, condition: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Return hidden states (B, L, D); a `cache` gives what came before and keeps what is new."""
        turns = None
        if self.head_width is not None:
            places = torch.arange(x.shape[1])[None] if cache is None else cache.places(x.shape[1])
            turns = find_turns(places.to(x.device), self.head_width)
        recomputes = self.recomputes and self.training and torch.is_grad_enabled()
        for layer, block in enumerate(self.blocks):
            if recomputes:
                x = checkpoint(block, x, mask, condition, cache, layer, turns, use_reentrant=False)
            else:
                x = block(x, mask, condition, cache, layer, turns)
        return x if self.norm is None else self.norm(x, condition)
