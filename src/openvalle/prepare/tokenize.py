"""The tokenize step: codes by any codec, symbols and their durations in whole frames, as shards.

Byte pairs have no durations: their rows come from the audio step, not from the alignment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from openvalle.audio import RATE, Audio, change_speed, resample
from openvalle.data.shards import AudioShards, Row, write_tokens
from openvalle.errors import AudioError
from openvalle.parallel import one_thread
from openvalle.prepare.align import read_spans
from openvalle.prepare.units import Target, try_each
from openvalle.speech_models.aligner import spans_to_durations
from openvalle.text.symbols import SymbolTable, TextUnit

if TYPE_CHECKING:
    from openvalle.codec.base import Codec

CODES = "codes.safetensors"
TRAIN = "train"  # the split whose rows may be copied at other speeds


@dataclass(frozen=True)
class Tokens:
    """One utterance as numbers: `codes` (T, Q), `symbols` (S,), `durations` (S,) in frames, sum T (empty: none)."""

    codes: np.ndarray
    symbols: list[int]
    durations: list[int]


@dataclass(frozen=True)
class TokenizeWork:
    """Work of the tokenize step on one unit; writes its codes. `speeds`: of further copies of the training rows."""

    audio: Path
    codec: Codec
    table: SymbolTable
    merge: int
    speeds: tuple[float, ...] = ()

    def __call__(self, target: Target, rows: list[Row]) -> tuple[list[Row], list[Row]]:
        """Return the rows of the shard's index and the rejected ones."""
        rows = add_speeds(rows, self.speeds)
        shards = AudioShards(self.audio, rows)
        with one_thread():  # sums are split among threads: the same bytes, however many cores there are
            done, rejected = try_each(rows, lambda index, row: self.tokens(row, shards[index].samples))
        tokens = [item for _, item in done]
        frames, starts = write_tokens(
            target.folder / CODES,
            [item.codes for item in tokens],
            [item.symbols for item in tokens],
            [item.durations for item in tokens] if self.table.unit is TextUnit.PHONEME else None,
        )
        return [
            {key: row[key] for key in ("id", "speaker", "language", "split", "text", "seconds")}
            | {"shard": f"{target.name}/{CODES}", "frames": len(item.codes), "symbols": len(item.symbols)}
            | {"frame_start": frame, "symbol_start": start}
            for (row, item), frame, start in zip(done, frames, starts, strict=True)
        ], rejected

    def tokens(self, row: Row, samples: np.ndarray) -> Tokens:
        """Return the tokens of one row, (samples,) float32; `AudioError` if it is too short."""
        import torch

        spec, speed = self.codec.spec, row.get("speed", 1.0)
        if speed != 1:
            samples = change_speed(Audio(samples, RATE), speed).samples
        samples = resample(Audio(samples, RATE), spec.rate).samples
        # Whole merged codes only, so that none is half padding; at most 27 ms of the margin are lost.
        samples = samples[: len(samples) // (spec.hop * self.merge) * spec.hop * self.merge]
        if not len(samples):
            raise AudioError("shorter than one merged code")
        with torch.inference_mode():
            codes = self.codec.encode(torch.from_numpy(samples)[None], merge=self.merge)[0].numpy()  # (T, Q)
        assert codes.shape == (len(samples) // spec.hop, spec.codebooks), codes.shape
        assert codes.min() >= 0 and codes.max() < spec.entries, (codes.min(), codes.max())
        if self.table.unit is TextUnit.BPE:
            return Tokens(codes, self.table.encode(self.table.pieces(row["text"], row["language"])), [])
        spans = [replace(span, start=span.start / speed, end=span.end / speed) for span in read_spans(row)]
        symbols, durations = spans_to_durations(spans, len(codes), spec.frame_rate, self.merge)
        return Tokens(codes, self.table.encode(symbols), self.table.spread(symbols, durations))


def add_speeds(rows: list[Row], speeds: Sequence[float]) -> list[Row]:
    """Return the rows and, for those of the split `train`, a copy at each speed, spoken as if by somebody else."""
    copies = [
        row
        | {"id": f"{row['id']}x{speed:g}", "speaker": f"{row['speaker']}x{speed:g}", "speed": speed}
        | {"seconds": row["seconds"] / speed}
        for speed in speeds
        for row in rows
        if row["split"] == TRAIN and speed != 1
    ]
    return [*rows, *copies]
