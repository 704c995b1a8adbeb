"""Codec merging (VALL-E R, arXiv:2406.07855, section 3.1): a codebook is chosen once for a block of frames.

It needs no training and no other decoder: averages are taken in front of a quantiser, and what they lose stays in
the residual for the codebooks after it. Works on the codebooks of any residual quantiser.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def merge_frames(x: Tensor, merge: int) -> Tensor:
    """Average (B, T, D) over blocks of `merge` frames and repeat; the last block is filled by its last frame."""
    if merge == 1:
        return x
    frames = x.shape[1]
    padded = F.pad(x.transpose(1, 2), (0, -frames % merge), mode="replicate")
    return F.avg_pool1d(padded, merge).transpose(1, 2).repeat_interleave(merge, dim=1)[:, :frames]


def encode_residual(
    x: Tensor, codebooks: Tensor, nearest: Callable[[Tensor, int], Tensor], rates: Sequence[int] = ()
) -> Tensor:
    """Return codes (B, T, Q) of latents x (B, T, D) by the entries `codebooks` (Q, V, D).

    `nearest(x, level)` chooses the entries (B, T) of one codebook; `rates`: frames that share an entry, codebook by
    codebook, 1 where none is given.
    """
    residual, codes = x, []
    for level, entries in enumerate(codebooks):
        rate = rates[level] if level < len(rates) else 1
        index = nearest(merge_frames(residual, rate), level)
        residual = residual - entries[index]  # from the residual that was not merged
        codes.append(index)
    return torch.stack(codes, dim=-1)
