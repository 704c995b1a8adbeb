"""What the networks train on, and what a loss is.

Grouped codes (VALL-E 2 3.1): G codes of codebook 1 per step of the AR model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from openvalle.model.alignment import cut_durations, merge_path


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


@dataclass(frozen=True)
class Utterance:
    """One recording: text (S,), codes (T, Q), frames per symbol (S,) or None, language id (0 = none given).

    `speaker_codes` (P, Q): another recording of the speaker, for NAR prompts that come from elsewhere; or the whole
    recording that this is a piece of, which then begins at its frame `speaker_start`.
    """

    text: Tensor
    codes: Tensor
    durations: Tensor | None = None
    language: int = 0
    speaker_codes: Tensor | None = None
    speaker_start: int | None = None


@dataclass(frozen=True)
class Batch:
    """Rows padded on the right. Codes are at the codec's frame rate."""

    text: Tensor  # (B, S)
    text_lens: Tensor  # (B,)
    codes: Tensor  # (B, T, Q)
    code_lens: Tensor  # (B,) frames
    path: Tensor | None  # (B, T) index into the row's text, constant over each block; None without alignment
    languages: Tensor  # (B,) 0 = null
    prompt_lens: Tensor | None = None  # (B,) frames of each row that are its NAR prompt; None: drawn in training
    speaker_codes: Tensor | None = None  # (B, P, Q)
    speaker_lens: Tensor | None = None  # (B,)
    speaker_starts: Tensor | None = None  # (B,) frame of `speaker_codes` where `codes` begin; None: they are elsewhere
    share: Tensor | None = None  # () from [0, 1): decides the NAR stages of the rows; None: drawn in training

    @classmethod
    def of(cls, rows: Sequence[Utterance], merge: int = 1, group: int = 1) -> Self:
        """Pad `rows`, cut to whole groups of `group` merged codes, with the path of blocks of merge * group frames."""
        cut = [whole_blocks(row, merge, group) for row in rows]
        codes, paths = [codes for codes, _ in cut], [path for _, path in cut if path is not None]
        assert len(paths) in (0, len(rows)), "either every row has durations or none has"
        speakers = [row.speaker_codes for row in rows if row.speaker_codes is not None]
        assert len(speakers) in (0, len(rows)), "either every row has speaker_codes or none has"
        starts = [row.speaker_start for row in rows if row.speaker_start is not None]
        assert len(starts) in (0, len(rows)), "either every row is a piece of a recording or none is"
        firsts = [clipped_start(len(row.codes), merge, group)[0] for row in rows]
        return cls(
            text=pad_sequence([row.text.long() for row in rows], batch_first=True),
            text_lens=torch.tensor([len(row.text) for row in rows]),
            codes=pad_sequence(codes, batch_first=True),
            code_lens=torch.tensor([len(row) for row in codes]),
            path=pad_sequence(paths, batch_first=True) if paths else None,
            languages=torch.tensor([row.language for row in rows]),
            speaker_codes=pad_sequence([s.long() for s in speakers], batch_first=True) if speakers else None,
            speaker_lens=torch.tensor([len(s) for s in speakers]) if speakers else None,
            speaker_starts=torch.tensor(starts) + torch.tensor(firsts) if starts else None,
        )

    def to(self, device: torch.device | str) -> Self:
        """Return the batch on `device`."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return type(self)(**{k: v.to(device) if isinstance(v, Tensor) else v for k, v in moved.items()})


def whole_blocks(row: Utterance, merge: int, group: int) -> tuple[Tensor, Tensor | None]:
    """Return the codes (T, Q) of the whole groups of a recording and, with durations, the symbol of each frame (T,)."""
    start, end = clipped_start(len(row.codes), merge, group)
    assert end > start, f"{len(row.codes)} frames fill no group of {group} codes merged by {merge}"
    codes = row.codes[start:end].long()
    if row.durations is None:
        return codes, None
    assert int(row.durations.sum()) == len(row.codes), "durations must add up to the frames"
    durations = cut_durations(row.durations.long(), start, end)
    return codes, merge_path(durations, merge * group).repeat_interleave(merge * group)


@dataclass(frozen=True)
class Loss:
    """`total` is minimised; `parts` are detached means (losses and accuracies) for the curves."""

    total: Tensor
    parts: Mapping[str, Tensor]
