"""The tokenize step: codes by any codec, symbols and their durations in whole frames, as shards.

Byte pairs have no durations: their rows come from the audio step, not from the alignment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from openvalle.audio import RATE, Audio, change_speed, resample
from openvalle.data.index_files import write_index
from openvalle.data.shards import AudioShards, Row, write_tokens
from openvalle.errors import AudioError
from openvalle.hub import BUILTIN
from openvalle.prepare.align import read_spans
from openvalle.prepare.executor import UNIT, Progress, StepResult, Work, explain_write_errors, run_step, try_each
from openvalle.speech_models.aligner import spans_to_durations
from openvalle.text.symbols import SymbolTable, TextUnit
from openvalle.types import TokenSpec

if TYPE_CHECKING:
    from openvalle.codec.base import Codec

TRAIN = "train"  # the split whose rows may be copied at other speeds
MERGE = 2  # frames that share an entry of codebook 1 (VALL-E R section 3.1)


@dataclass(frozen=True)
class Tokens:
    """One utterance as numbers: `codes` (T, Q), `symbols` (S,), `durations` (S,) in frames, sum T (empty: none)."""

    codes: np.ndarray
    symbols: list[int]
    durations: list[int]


@dataclass(frozen=True)
class TokenizeWork:
    """Work of the tokenize step on one unit; writes `shard-00012.safetensors`."""

    folder: Path
    audio: Path
    codec: Codec
    table: SymbolTable
    merge: int

    def __call__(self, unit: int, rows: list[Row]) -> tuple[list[Row], list[Row]]:
        """Return the rows of the shard's index and the rejected ones."""
        shards = AudioShards(self.audio, rows)
        done, rejected = try_each(rows, lambda index, row: self.tokens(row, shards[index].samples))
        tokens = [item for _, item in done]
        shard = f"shard-{unit:05d}.safetensors"
        frames, starts = write_tokens(
            self.folder / shard,
            [item.codes for item in tokens],
            [item.symbols for item in tokens],
            [item.durations for item in tokens] if self.table.unit is TextUnit.PHONEME else None,
        )
        return [
            {key: row[key] for key in ("id", "speaker", "language", "split", "text", "seconds")}
            | {"shard": shard, "frames": len(item.codes), "symbols": len(item.symbols)}
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
        # Whole blocks only, so that no merged frame is half padding; at most 27 ms of the margin are lost.
        samples = samples[: len(samples) // (spec.hop * self.merge) * spec.hop * self.merge]
        if not len(samples):
            raise AudioError("shorter than one block of frames")
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


def _build(
    folder: Path, audio: Path, load: Callable[[], Codec], table: SymbolTable, merge: int, threads: int | None
) -> Work:
    if threads:
        import torch

        torch.set_num_threads(threads)  # several processes share the cores
    return TokenizeWork(folder, audio, load(), table, merge)


def run_tokenize(
    rows: list[Row],
    folder: Path,
    audio: Path,
    load: Callable[[], Codec],
    table: SymbolTable,
    merge: int = MERGE,
    jobs: int = 1,
    unit: int = UNIT,
    progress: Progress | None = None,
    *,
    source: str = BUILTIN,
) -> StepResult:
    """Tokenise every row into shards that `TokenShards` reads, with `symbols.json` and `codec.json`.

    Rows are aligned, unless the table is of byte pairs.

    `load` makes the codec, once in each process, so it must pickle; `audio` is the folder of the rows' sound;
    `source`: where the codec was found, for the model that is to speak with it.
    """
    codec = TokenSpec(**load().spec.model_dump(), merge=merge, source=source)
    settings = {"codec": codec.model_dump(exclude={"source"}), "symbols": table.digest}
    threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None
    build = partial(_build, folder, audio, load, table, merge, threads)
    result = run_step(folder, rows, build, settings, jobs, unit, progress)
    table.vocabulary.save(folder / "symbols.json")
    codec.save(folder / "codec.json")
    with explain_write_errors(folder):
        write_index(folder)
    return result
