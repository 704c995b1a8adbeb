"""What the networks train on (rows, padded), groups of codes (VALL-E 2 3.1), and what a loss is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


class Movable:
    """Dataclasses of tensors, of such dataclasses and of plain values, moved together."""

    def to(self, device: torch.device | str) -> Self:
        """Return a copy on `device`, which from pinned memory arrives when it is needed."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=tensor.is_pinned()))

    def pin_memory(self) -> Self:
        """Return a copy in memory that a CUDA device reads by itself; what was expanded is written out for it."""
        return self._map(lambda tensor: tensor.contiguous().pin_memory())

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        for name, value in values.items():
            if isinstance(value, Tensor):
                values[name] = change(value)
            elif isinstance(value, Movable):
                values[name] = value._map(change)
            elif isinstance(value, tuple):
                values[name] = tuple(change(each) if isinstance(each, Tensor) else each for each in value)
        return type(self)(**values)


@dataclass(frozen=True)
class Batch(Movable):
    """Rows padded on the right. Codes are at the codec's frame rate."""

    text: Tensor  # (B, S)
    text_lens: Tensor  # (B,)
    codes: Tensor  # (B, T, Q)
    code_lens: Tensor  # (B,) frames
    alignment: Tensor | None  # (B, T) index into the row's text, constant over each AR step; None without alignment
    languages: Tensor  # (B,) 0 = null
    prompt_languages: Tensor | None = None  # (B,) of the prompts, where any has another than its row
    prompt_symbols: Tensor | None = None  # (B,) of each row's text that are its prompt's, where that is so
    # (B,) frames of each row that are its prompt; None, or -1 in a row: drawn in training, for the NAR model
    prompt_lens: Tensor | None = None
    speaker_codes: Tensor | None = None  # (B, P, Q)
    speaker_lens: Tensor | None = None  # (B,)
    speaker_starts: Tensor | None = None  # (B,) frame of `speaker_codes` where `codes` begin; None: they are elsewhere
    stage_uniform: Tensor | None = None  # () from [0, 1): decides the NAR stages of the rows; None: drawn in training

    @classmethod
    def of(cls, rows: Sequence[Utterance], merge: int = 1, group: int = 1) -> Self:
        """Pad `rows`, cut to whole groups of `group` merged codes, aligned in AR steps of merge * group frames."""
        cut = [cut_whole(row, merge, group) for row in rows]
        alignments = [alignment for _, alignment in cut if alignment is not None]
        assert len(alignments) in (0, len(rows)), "either every row has durations or none has"
        speakers = [row.speaker_codes for row in rows if row.speaker_codes is not None]
        assert len(speakers) in (0, len(rows)), "either every row has speaker_codes or none has"
        firsts = [find_whole(len(row.codes), merge, group)[0] for row in rows]
        starts = [
            row.speaker_start + first for row, first in zip(rows, firsts, strict=True) if row.speaker_start is not None
        ]
        assert len(starts) in (0, len(rows)), "either every row is a piece of a recording or none is"
        foreign = any(row.prompt_symbols and row.prompt_language != row.language for row in rows)
        return cls(
            text=_pad([row.text for row in rows]),
            text_lens=torch.tensor([len(row.text) for row in rows]),
            codes=_pad([codes for codes, _ in cut]),
            code_lens=torch.tensor([len(codes) for codes, _ in cut]),
            alignment=_pad(alignments) if alignments else None,
            languages=torch.tensor([row.language for row in rows]),
            prompt_languages=torch.tensor([row.prompt_language for row in rows]) if foreign else None,
            prompt_symbols=torch.tensor([row.prompt_symbols for row in rows]) if foreign else None,
            prompt_lens=_prompt_lens(rows, firsts, merge * group),
            speaker_codes=_pad(speakers) if speakers else None,
            speaker_lens=torch.tensor([len(each) for each in speakers]) if speakers else None,
            speaker_starts=torch.tensor(starts) if starts else None,
        )


def _prompt_lens(rows: Sequence[Utterance], firsts: Sequence[int], step_frames: int) -> Tensor | None:
    """Return the frames of each row that are its prompt, whole AR steps, -1 where that is to be drawn."""
    if all(row.prompt_frames is None for row in rows):
        return None
    lens = [
        -1 if row.prompt_frames is None else max(0, row.prompt_frames - first) // step_frames * step_frames
        for row, first in zip(rows, firsts, strict=True)
    ]
    return torch.tensor(lens)


def _pad(rows: Sequence[np.ndarray]) -> Tensor:
    return pad_sequence([torch.from_numpy(row).long() for row in rows], batch_first=True)


@dataclass(frozen=True)
class Loss:
    """`total` is minimised; `parts` are detached means (losses and accuracies) for the curves."""

    total: Tensor
    parts: Mapping[str, Tensor]
