"""Residual vector quantisation (EnCodec, arXiv:2210.13438, section 3.2): k-means start, moving-average codebooks,
revival of dead entries.

And codec merging (VALL-E R, arXiv:2406.07855, section 3.1): codebook 1 is chosen once for several frames. It needs
no training and no other decoder: averages are taken in front of a quantiser, and what they lose stays in the residual
for the codebooks after it. It works on the codebooks of any residual quantiser.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DECAY = 0.99  # of the moving averages, from batch to batch
REVIVE_BELOW = 0.5  # points a batch on average: an entry with fewer is replaced
ROUNDS = 10  # of k-means at the start


def merge_frames(x: Tensor, merge: int) -> Tensor:
    """Average (B, T, D) over every `merge` frames and repeat; the last ones are filled up by the last frame."""
    if merge == 1:
        return x
    frames = x.shape[1]
    padded = F.pad(x.transpose(1, 2), (0, -frames % merge), mode="replicate")
    return F.avg_pool1d(padded, merge).transpose(1, 2).repeat_interleave(merge, dim=1)[:, :frames]


def encode_residual(
    x: Tensor, codebooks: Tensor, nearest: Callable[[Tensor, int], Tensor], merges: Sequence[int] = ()
) -> Tensor:
    """Return codes (B, T, Q) of latents x (B, T, D) by the entries `codebooks` (Q, V, D).

    `nearest(x, level)` chooses the entries (B, T) of one codebook; `merges`: frames that share an entry, codebook by
    codebook, 1 where none is given.
    """
    residual, codes = x, []
    for level, entries in enumerate(codebooks):
        merge = merges[level] if level < len(merges) else 1
        index = nearest(merge_frames(residual, merge), level)
        residual = residual - entries[index]  # from the residual that was not merged
        codes.append(index)
    return torch.stack(codes, dim=-1)


@dataclass(frozen=True)
class Quantized:
    """What a training pass through the quantiser gives."""

    values: Tensor  # (B, T, D), straight-through
    codes: Tensor  # (B, T, Q)
    commitment: Tensor  # scalar, mean squared distance of the encoder's output to its quantised value


class ResidualQuantizer(nn.Module):
    """`codebooks` (Q, V, D) as buffers: they follow the data by moving averages, not by gradients."""

    def __init__(self, width: int, codebooks: int, entries: int) -> None:
        super().__init__()
        self.register_buffer("codebooks", torch.zeros(codebooks, entries, width))
        self.register_buffer("sums", torch.zeros(codebooks, entries, width))
        self.register_buffer("counts", torch.zeros(codebooks, entries))
        self.codebooks: Tensor
        self.sums: Tensor
        self.counts: Tensor

    def nearest(self, x: Tensor, level: int) -> Tensor:
        """Return the index (...) of the closest entry of one codebook for x (..., D)."""
        book = self.codebooks[level]
        return (x @ book.T - 0.5 * book.pow(2).sum(-1)).argmax(-1)  # argmin of the squared distance

    def encode(self, x: Tensor, merge: int = 1, levels: int | None = None) -> Tensor:
        """Return codes (B, T, levels) for x (B, T, D); codebook 1 is chosen on averages over `merge` frames, and
        what the averaging lost stays in the residual for the later ones."""
        return encode_residual(x, self.codebooks[:levels], self.nearest, (merge,))

    def decode(self, codes: Tensor) -> Tensor:
        """Return the sum (B, T, D) of the entries of codes (B, T, q), q <= Q."""
        levels = torch.arange(codes.shape[-1], device=codes.device)
        return self.codebooks[levels, codes].sum(-2)

    def forward(self, x: Tensor, merge: int, levels: int, rng: torch.Generator) -> Quantized:
        """Quantise with the first `levels` codebooks and let them learn from x (B, T, D)."""
        with torch.autocast(x.device.type, enabled=False):  # half-precision distances would pick wrong entries
            x = x.float()
            residual, total, codes = x.detach(), torch.zeros_like(x), []
            for level in range(levels):
                seen = merge_frames(residual, merge) if level == 0 else residual
                if self.training:
                    self._start(level, seen, rng)
                index = self.nearest(seen, level)
                entry = self.codebooks[level][index]
                if self.training:
                    self._follow(level, seen, index, rng)
                residual, total = residual - entry, total + entry
                codes.append(index)
            return Quantized(x + (total - x).detach(), torch.stack(codes, -1), F.mse_loss(x, total))

    @torch.no_grad()
    def _start(self, level: int, x: Tensor, rng: torch.Generator) -> None:
        """Run k-means on the first batch that a codebook sees."""
        if self.counts[level].any():
            return
        points = _gather_ranks(x.reshape(-1, x.shape[-1]))
        centres = _pick(points, self.codebooks.shape[1], rng)
        # A tiny spread keeps repeated picks apart when the batch is smaller than the codebook.
        centres = centres + 1e-4 * points.std() * torch.randn(centres.shape, generator=rng).to(centres)
        for _ in range(ROUNDS):
            self.codebooks[level] = centres
            index = self.nearest(points, level)
            counts = torch.bincount(index, minlength=len(centres)).to(points)
            sums = torch.zeros_like(centres).index_add_(0, index, points)
            centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)
        self.codebooks[level] = centres
        self.counts[level] = counts.clamp(min=1)
        self.sums[level] = centres * self.counts[level][:, None]

    @torch.no_grad()
    def _follow(self, level: int, x: Tensor, index: Tensor, rng: torch.Generator) -> None:
        """Move each entry towards the mean of its points; replace the ones that nobody uses."""
        points, flat = x.reshape(-1, x.shape[-1]), index.reshape(-1)
        counts = torch.bincount(flat, minlength=self.codebooks.shape[1]).to(points)
        sums = torch.zeros_like(self.sums[level]).index_add_(0, flat, points)
        counts, sums = _sum_ranks(counts), _sum_ranks(sums)
        self.counts[level] = DECAY * self.counts[level] + (1 - DECAY) * counts
        self.sums[level] = DECAY * self.sums[level] + (1 - DECAY) * sums
        dead = self.counts[level] < REVIVE_BELOW
        if dead.any():
            fresh = _pick(_gather_ranks(points), int(dead.sum()), rng)
            self.sums[level][dead] = fresh * 2 * REVIVE_BELOW
            self.counts[level][dead] = 2 * REVIVE_BELOW
        self.codebooks[level] = self.sums[level] / self.counts[level][:, None]


def _pick(points: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Return `count` of the points (N, D), drawn with the generator."""
    return points[torch.randint(len(points), (count,), generator=rng).to(points.device)]


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _sum_ranks(x: Tensor) -> Tensor:
    """Sum over the processes of a distributed run, so that every rank keeps the same codebooks."""
    if _is_distributed():
        torch.distributed.all_reduce(x)
    return x


def _gather_ranks(points: Tensor) -> Tensor:
    """Join the points of every process (equal counts on each)."""
    if not _is_distributed():
        return points
    parts = [torch.empty_like(points) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, points.contiguous())
    return torch.cat(parts)
