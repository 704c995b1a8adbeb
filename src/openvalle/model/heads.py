"""From hidden states of the NAR model to codes: the papers' head, and ours that expects what the codec has yet to add.

A `stage` is the index of the codebook that a pass predicts, 1..Q-1. Letters: Q codebooks, V entries, D width, L size of
the code vectors; `tables`: the code vectors (Q, V, L).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvalle.model.config import NARConfig, ResidualConfig


class CodeHead(nn.Module):
    """Scores of a codebook's entries: its own embedding table (VALL-E 4.2.2) or, not tied, a matrix of its own."""

    def __init__(self, config: NARConfig) -> None:
        super().__init__()
        self.weight = None
        if not config.tie_output:
            width = config.transformer.width
            own = torch.randn(config.codebooks - 1, config.codebook_size, width) * width**-0.5
            self.weight = nn.Parameter(own)
        self.bias = None
        if config.head_bias:
            self.bias = nn.Parameter(torch.zeros(config.codebooks - 1, config.codebook_size))

    def forward(self, hidden: Tensor, stage: int, table: Tensor) -> Tensor:
        """Return scores (..., V) for hidden states (..., D) and the codebook's embedding table (V, D)."""
        bias = None if self.bias is None else self.bias[stage - 1]
        return F.linear(hidden, table if self.weight is None else self.weight[stage - 1], bias)


class ResidualHead(nn.Module):
    """Expects the residual of each frame: the sum of the code vectors from the stage's codebook on. Ours."""

    def __init__(self, config: ResidualConfig, width: int, size: int) -> None:
        super().__init__()
        self.config = config
        self.linear = nn.Linear(width, size)
        nn.init.zeros_(self.linear.weight)  # at first it expects nothing, which costs 1
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor, stage: int, tables: Tensor) -> Tensor:
        """Return the expected residuals (..., L) for hidden states (..., D)."""
        return self.linear(hidden).float() * self.size(stage, tables)

    def size(self, stage: int, tables: Tensor) -> Tensor:
        """Return about how large a value of a residual is, ()."""
        return tables[stage:].detach().float().square().mean((1, 2)).sum().sqrt()

    def quantize(self, hidden: Tensor, stage: int, last: int, tables: Tensor) -> Tensor:
        """Return the codes (..., last - stage) of the codebooks stage..last-1, as the codec's quantiser takes them:
        the nearest entry, then that of what is left."""
        left, codes = self(hidden, stage, tables) * self.config.gain, []
        for table in tables[stage:last].float():
            code = (left @ table.T - 0.5 * table.square().sum(-1)).argmax(-1)
            codes.append(code)
            left = left - table[code]
        return torch.stack(codes, dim=-1)

    def distance(self, hidden: Tensor, residual: Tensor, stage: int, tables: Tensor) -> Tensor:
        """Return the squared distance of the expected residuals of hidden states (N, D) to the right ones (N, L), over
        the size of these: knowing nothing costs 1."""
        return (self(hidden, stage, tables) - residual).square().sum() / residual.square().sum().clamp(min=1e-9)
