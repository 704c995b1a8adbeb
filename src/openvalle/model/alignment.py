"""Frame alignment at the rate of the AR model (VALL-E R 3.2): durations in frames -> blocks -> path."""

from __future__ import annotations

import torch
from torch import Tensor


def block_durations(durations: Tensor, block: int) -> Tensor:
    """Return how many blocks of `block` frames each symbol owns, (S,), summing to sum(durations) // block.

    A block goes to the symbol that overlaps it most (symbol borders are rounded to block borders); then borders are
    moved as little as needed for every symbol that lasts to own at least one block. With fewer blocks than symbols
    the earliest own none, and symbols of no frames (marks, and what lies outside of a cut) never own one.
    """
    assert durations.ndim == 1 and bool((durations >= 0).all()), durations
    blocks = torch.zeros(len(durations), dtype=torch.long)
    lasting = durations.cpu() > 0
    blocks[lasting] = _lasting_blocks(durations.cpu()[lasting], block)
    return blocks


def _lasting_blocks(durations: Tensor, block: int) -> Tensor:
    count = int(durations.sum()) // block
    steps = torch.arange(1, len(durations) + 1)
    ends = torch.div(2 * durations.cumsum(0) + block, 2 * block, rounding_mode="floor").clamp(max=count)
    if len(ends) == 0:
        return ends
    ends = torch.cummax((ends - steps).clamp(min=0), 0).values + steps  # each end at least one after the last
    room = count - (len(steps) - steps)  # the latest end that leaves one block to each later symbol
    ends = torch.minimum(ends, room).clamp(min=0)
    return torch.diff(ends, prepend=ends.new_zeros(1))


def path_of(durations: Tensor) -> Tensor:
    """Return the symbol index of each frame or block, (sum(durations),)."""
    return torch.repeat_interleave(torch.arange(len(durations), device=durations.device), durations)


def merge_path(durations: Tensor, block: int) -> Tensor:
    """Return the symbol index of each block of `block` frames, (sum(durations) // block,)."""
    return path_of(block_durations(durations, block))


def durations_of(path: Tensor, symbols: int) -> Tensor:
    """Return how often each of `symbols` indices occurs in a path, (symbols,): the inverse of `path_of`."""
    return torch.bincount(path, minlength=symbols)


def cut_durations(durations: Tensor, start: int, end: int) -> Tensor:
    """Return the durations of the frames start..end-1; symbols outside keep 0."""
    ends = durations.cumsum(0).clamp(start, end)
    return torch.diff(ends, prepend=ends.new_full((1,), start))
