"""`AudioShards`: cleaned speech as int16 arrays that stay on disk and are read crop by crop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.audio import RATE, Audio
from openvalle.config import atomic_path
from openvalle.data.rows import Row, of_split, read_rows
from openvalle.errors import ModelError

FULL_SCALE = 32768.0  # int16 value of 1.0


def write_audio(path: Path, clips: Sequence[np.ndarray]) -> list[int]:
    """Write clips, each (samples,) float32 at 24 kHz, as one int16 .npy; return where each starts."""
    starts = np.cumsum([0, *(len(clip) for clip in clips)]).tolist()
    pool = np.empty(starts[-1], np.int16)
    for start, clip in zip(starts, clips, strict=False):
        scaled = np.round(clip * FULL_SCALE)
        pool[start : start + len(clip)] = np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1)
    with atomic_path(path) as part, part.open("wb") as file:
        np.save(file, pool)
    return starts[:-1]


class AudioShards:
    """Cleaned 24 kHz mono speech. Rows hold id, speaker, language, split, text, seconds, shard, start, samples."""

    def __init__(self, folder: Path, rows: list[Row]) -> None:
        self.folder = folder
        self.rows = rows
        self._maps: dict[str, np.ndarray] = {}

    @classmethod
    def open(cls, folder: str | Path, split: str | None = None) -> AudioShards:
        """Open the audio step of a prepared folder; `ModelError` if it is missing or has no such split."""
        folder = Path(folder)
        if (folder / "audio" / "index.jsonl").is_file():
            folder = folder / "audio"
        index = folder / "index.jsonl"
        if not index.is_file():
            raise ModelError(f"{folder} holds no prepared audio", "run `openvalle prepare` first")
        return cls(folder, of_split(read_rows(index), split, folder))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Audio:
        return Audio(self.crop(index, 0, self.rows[index]["samples"]), RATE)

    def __getstate__(self) -> dict[str, Any]:
        # A memory map pickled to another process would carry the samples with it.
        return self.__dict__ | {"_maps": {}}

    @property
    def lengths(self) -> np.ndarray:
        """Samples of each row, (rows,) int64."""
        return np.array([row["samples"] for row in self.rows], np.int64)

    @property
    def speakers(self) -> list[str]:
        """Speaker of each row."""
        return [row["speaker"] for row in self.rows]

    def crop(self, index: int, start: int, samples: int) -> np.ndarray:
        """Return (samples,) float32 of one row from sample `start`; shorter only where the row ends."""
        row = self.rows[index]
        end = row["start"] + min(start + samples, row["samples"])
        return self._map(row["shard"])[row["start"] + start : end].astype(np.float32) / np.float32(FULL_SCALE)

    def _map(self, shard: str) -> np.ndarray:
        if shard not in self._maps:
            path = self.folder / shard
            try:
                self._maps[shard] = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise ModelError(f"cannot read {path} ({error})", "run `openvalle prepare` again") from None
        return self._maps[shard]
