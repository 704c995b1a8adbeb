"""The transformer both networks share: pre-norm `Stack`, with norm and mask given as data.

Rows are laid out without gaps (text, then audio, then padding), so causal attention needs no mask at all and padding
never sits between parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvalle.model.cache import KVCache
from openvalle.model.config import StackConfig

EPSILON = 1e-5


@dataclass(frozen=True)
class Mask:
    """Who may attend to whom: everyone, or (`causal`) only to the left, except that the first `prefix_lens` positions
    of each row see each other. Positions from `lens` on do not exist."""

    causal: bool
    prefix_lens: Tensor | None = None  # (B,)
    lens: Tensor | None = None  # (B,); None: all rows are full

    def picture(self, length: int) -> Tensor:
        """Return (B or 1, L, L) booleans, [row, query, key]: the whole statement, for pictures, tests and attention."""
        device = next((t.device for t in (self.prefix_lens, self.lens) if t is not None), None)
        at = torch.arange(length, device=device)
        seen = torch.ones(1, length, length, dtype=torch.bool, device=device)
        if self.causal:
            seen = seen.tril()
        if self.causal and self.prefix_lens is not None:
            seen = (
                seen | (at < self.prefix_lens[:, None])[:, None, :]
            )  # text keys: audio sees them, being later
        if self.lens is not None and not self.causal:
            seen = seen & (at < self.lens[:, None])[:, None, :]
        return seen

    def bias(self, length: int, dtype: torch.dtype) -> Tensor | None:
        """Return what is added to attention scores, (B, 1, L or 1, L); None where no mask or `is_causal` suffices.

        With causal attention the padding, being last, is seen by padding only.
        """
        if self.causal and self.prefix_lens is None:
            return None
        if not self.causal:
            if self.lens is None:
                return None
            at = torch.arange(length, device=self.lens.device)
            seen = (at < self.lens[:, None])[:, None, None, :]
        else:
            seen = self.picture(length)[:, None]
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -math.inf)


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
        qkv = self.qkv(self.attention_norm(x, condition)).view(
            rows, length, 3, self.heads, width // self.heads
        )
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return query, key, value

    def finish(self, x: Tensor, attended: Tensor, condition: Tensor | None) -> Tensor:
        """Return the block's output for its input and the attention's (B, H, L, D / H)."""
        x = x + self._drop(self.out(attended.transpose(1, 2).flatten(2)))
        return x + self._drop(self.down(F.gelu(self.up(self.feedforward_norm(x, condition)))))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout) if self.training and self.dropout else x


class Stack(nn.Module):
    """Pre-norm transformer over embedded sequences."""

    def __init__(self, config: StackConfig, norm: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Block(config, norm) for _ in range(config.depth))
        self.norm = norm()

    def forward(
        self, x: Tensor, mask: Mask, condition: Tensor | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """Return hidden states (B, L, D); with an empty `cache`, keep keys and values in it."""
        bias = mask.bias(x.shape[1], _attention_type(x))
        is_causal = mask.causal and bias is None
        for index, block in self._numbered():
            query, key, value = block.project(x, condition)
            if cache is not None:
                cache.fill(index, key, value)
            attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, is_causal=is_causal)
            x = block.finish(x, attended, condition)
        return self.norm(x, condition)

    def step(self, x: Tensor, cache: KVCache) -> Tensor:
        """Return the hidden states (B, 1, D) of one more position per row; the cache grows by it."""
        bias = cache.bias(_attention_type(x))
        for index, block in self._numbered():
            query, key, value = block.project(x, None)
            keys, values = cache.append(index, key, value)
            attended = F.scaled_dot_product_attention(query, keys, values, attn_mask=bias)
            x = block.finish(x, attended, None)
        cache.advance()
        return self.norm(x)

    def _numbered(self) -> Iterator[tuple[int, Block]]:
        return enumerate(cast(Iterable[Block], self.blocks))


def _attention_type(x: Tensor) -> torch.dtype:
    """Return the type attention computes in: the autocast type where it is on."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
