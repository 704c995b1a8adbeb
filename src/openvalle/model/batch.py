"""What the networks train on (rows, padded), groups of codes (VALL-E 2 3.1), and what a loss is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from openvalle.model.alignment import cut_whole, find_whole
from openvalle.types import Utterance


def pack(codes: Tensor, group: int) -> Tensor:
    """Return (B, N / G, G) for codes (B, N); N must be a multiple of G."""
    rows, length = codes.shape
    assert length % group == 0, (length, group)
    return codes.reshape(rows, length // group, group)


@dataclass(frozen=True)
class Batch:
    """Rows padded on the right. Codes are at the codec's frame rate."""

    text: Tensor  # (B, S)
    text_lens: Tensor  # (B,)
    codes: Tensor  # (B, T, Q)
    code_lens: Tensor  # (B,) frames
    alignment: Tensor | None  # (B, T) index into the row's text, constant over each block; None without alignment
    languages: Tensor  # (B,) 0 = null
    prompt_lens: Tensor | None = None  # (B,) frames of each row that are its NAR prompt; None: drawn in training
    speaker_codes: Tensor | None = None  # (B, P, Q)
    speaker_lens: Tensor | None = None  # (B,)
    speaker_starts: Tensor | None = None  # (B,) frame of `speaker_codes` where `codes` begin; None: they are elsewhere
    stage_uniform: Tensor | None = None  # () from [0, 1): decides the NAR stages of the rows; None: drawn in training

    @classmethod
    def of(cls, rows: Sequence[Utterance], merge: int = 1, group: int = 1) -> Self:
        """Pad `rows`, cut to whole groups of `group` merged codes, aligned in blocks of merge * group frames."""
        cut = [cut_whole(row, merge, group) for row in rows]
        alignments = [alignment for _, alignment in cut if alignment is not None]
        assert len(alignments) in (0, len(rows)), "either every row has durations or none has"
        speakers = [row.speaker_codes for row in rows if row.speaker_codes is not None]
        assert len(speakers) in (0, len(rows)), "either every row has speaker_codes or none has"
        starts = [
            row.speaker_start + find_whole(len(row.codes), merge, group)[0]
            for row in rows
            if row.speaker_start is not None
        ]
        assert len(starts) in (0, len(rows)), "either every row is a piece of a recording or none is"
        return cls(
            text=_pad([row.text for row in rows]),
            text_lens=torch.tensor([len(row.text) for row in rows]),
            codes=_pad([codes for codes, _ in cut]),
            code_lens=torch.tensor([len(codes) for codes, _ in cut]),
            alignment=_pad(alignments) if alignments else None,
            languages=torch.tensor([row.language for row in rows]),
            speaker_codes=_pad(speakers) if speakers else None,
            speaker_lens=torch.tensor([len(each) for each in speakers]) if speakers else None,
            speaker_starts=torch.tensor(starts) if starts else None,
        )

    def to(self, device: torch.device | str) -> Self:
        """Return the batch on `device`."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return type(self)(**{k: v.to(device) if isinstance(v, Tensor) else v for k, v in moved.items()})


def _pad(rows: Sequence[np.ndarray]) -> Tensor:
    return pad_sequence([torch.from_numpy(row).long() for row in rows], batch_first=True)


@dataclass(frozen=True)
class Loss:
    """`total` is minimised; `parts` are detached means (losses and accuracies) for the curves."""

    total: Tensor
    parts: Mapping[str, Tensor]
