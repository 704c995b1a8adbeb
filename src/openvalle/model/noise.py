"""Mistakes for the NAR model to learn from: codebook 1 as an uncertain AR model might draw it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from openvalle.model.prompts import Frames


def noisy_first(frames: Frames, text: Tensor, share: float, block: int, rng: torch.Generator) -> Frames:
    """Return frames some of whose target blocks hold the codebook-1 entry of another frame of the same symbol.

    Each row draws how many: between none and `share` of its blocks of `block` frames. Entries come from anywhere in
    the batch: they suit the symbol (of `text`, (B, S)) and nothing else. Prompts stay as they are.
    """
    assert frames.path is not None, "frames must know their symbols"
    rows, length, _ = frames.codes.shape
    device = frames.codes.device
    heads = (torch.arange(length, device=device) // block * block).expand(rows, -1)  # first frame of each one's block
    rates = torch.rand(rows, 1, generator=rng) * share
    is_swapped = (torch.rand(rows, length, generator=rng) < rates).to(device).gather(1, heads) & frames.scored
    row, at = frames.scored.nonzero(as_tuple=True)
    symbols = text[row, frames.path[row, at]]
    partner = torch.empty_like(row)
    partner[_shuffled(symbols, rng)] = _shuffled(symbols, rng)  # both orders go through the symbols one by one
    first = frames.codes[..., 0]
    drawn = first.clone()
    drawn[row, at] = first[row, at][partner]
    codes = frames.codes.clone()
    codes[..., 0] = torch.where(is_swapped, drawn.gather(1, heads), first)  # one entry for the whole block
    return replace(frames, codes=codes)


def _shuffled(symbols: Tensor, rng: torch.Generator) -> Tensor:
    """Return the order of `symbols` (N,) by value, random among equals."""
    mixed = torch.randperm(len(symbols), generator=rng).to(symbols.device)
    return mixed[symbols[mixed].argsort(stable=True)]
