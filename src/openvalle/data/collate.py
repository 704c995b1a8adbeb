"""Utterances of different lengths -> padded tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from openvalle.data.utterance import Utterance


@dataclass(frozen=True)
class TokenBatch:
    """`text` (B, S), `durations` (B, S), `codes` (B, T, Q), `path` (B, T), `text_lens` and `codes_lens` (B,).

    All int64, zeros where a row has ended (symbol 0 is padding). `path` is the index into `text` of each frame.
    """

    text: Tensor
    text_lens: Tensor
    codes: Tensor
    codes_lens: Tensor
    durations: Tensor
    path: Tensor

    def to(self, device: torch.device | str) -> Self:
        """Return the batch on a device."""
        return type(self)(*(getattr(self, field.name).to(device) for field in fields(self)))

    @property
    def padding(self) -> float:
        """Share of the frames that are padding."""
        return 1 - float(self.codes_lens.sum()) / self.codes[..., 0].numel()


def collate(utterances: Sequence[Utterance]) -> TokenBatch:
    """Return the utterances as one batch, in order."""
    return TokenBatch(
        text=pad_sequence([item.text for item in utterances], batch_first=True),
        text_lens=torch.tensor([len(item.text) for item in utterances]),
        codes=pad_sequence([item.codes for item in utterances], batch_first=True),
        codes_lens=torch.tensor([len(item.codes) for item in utterances]),
        durations=pad_sequence([item.durations for item in utterances], batch_first=True),
        path=pad_sequence([item.path for item in utterances], batch_first=True),
    )
