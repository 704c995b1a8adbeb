"""Grouped codes (VALL-E 2 3.1): G codes of codebook 1 per step of the AR model."""

from __future__ import annotations

from torch import Tensor


def clipped_start(length: int, merge: int, group: int) -> tuple[int, int]:
    """Return (start, end) in frames so that end - start is a whole number of groups of merged codes.

    Frames that fill no merged code are cut from the end, codes that fill no group from the start (VALL-E 2 eq. 2:
    there is typically a short silence).
    """
    blocks = length // merge
    return blocks % group * merge, blocks * merge


def pack(codes: Tensor, group: int) -> Tensor:
    """Return (B, N / G, G) for codes (B, N); N must be a multiple of G."""
    rows, length = codes.shape
    assert length % group == 0, (length, group)
    return codes.reshape(rows, length // group, group)


def unpack(groups: Tensor) -> Tensor:
    """Return (B, N) for groups (B, N / G, G), the inverse of `pack`."""
    return groups.flatten(1)
