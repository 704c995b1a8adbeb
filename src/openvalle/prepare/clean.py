"""The clean step: every clip becomes trimmed, levelled 24 kHz mono in an int16 shard on disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import Field

from openvalle.audio import RATE, TARGET_DB, Audio, is_silent, normalize, remove_offset, resample, trim
from openvalle.config import Config
from openvalle.data.shards import Row, to_int16, write_audio
from openvalle.errors import AudioError
from openvalle.media import read_frames
from openvalle.prepare.executor import UNIT, Progress, StepResult, run_step

MIN_READ_SECONDS = 1e-3  # of a row, so that at least one sample is read


class CleanSettings(Config):
    """What is done to the sound of a clip, and which clips are left out for their length."""

    target_db: float = Field(default=TARGET_DB, le=0, description="RMS of the active part, in dBFS")
    trim_db: float = Field(default=40.0, gt=0, description="edges this far under the loudest 10 ms are cut off")
    margin_seconds: float = Field(default=0.1, ge=0, description="kept around what is left")
    min_seconds: float = Field(default=0.5, ge=0, description="shorter ones are rejected, after trimming")
    max_seconds: float = Field(default=180.0, gt=0, description="longer ones are rejected: cut them first")


@dataclass(frozen=True)
class CleanWork:
    """Work of the clean step on one unit; writes `audio-00012.npy`."""

    folder: Path
    settings: CleanSettings

    def __call__(self, unit: int, rows: list[Row]) -> tuple[list[Row], list[Row]]:
        """Return the cleaned rows and the rejected ones."""
        kept, clips, rejected = [], [], []
        for row in rows:
            try:
                audio = clean(read_row(row), self.settings)
            except AudioError as error:
                rejected.append({"id": row["id"], "reason": str(error)})
                continue
            kept.append(row)
            clips.append(to_int16(audio.samples))
        shard = f"audio-{unit:05d}.npy"
        starts = write_audio(self.folder / shard, clips)
        return [
            {key: row[key] for key in ("id", "speaker", "language", "split", "text")}
            | {"seconds": round(len(clip) / RATE, 4), "shard": shard, "start": start, "samples": len(clip)}
            # The steps that follow are redone for a row when its sound changed, whatever changed it.
            | {"sound": hashlib.blake2b(clip.tobytes(), digest_size=8).hexdigest()}
            for row, clip, start in zip(kept, clips, starts, strict=True)
        ], rejected


def run_clean(
    rows: list[Row],
    folder: Path,
    settings: CleanSettings,
    jobs: int = 1,
    unit: int = UNIT,
    progress: Progress | None = None,
) -> StepResult:
    """Clean every row of a scan into `folder`; return the kept rows, as `AudioShards` reads them."""
    rows = [row | {"file": _stamp(Path(row["audio"]))} for row in rows]
    return run_step(folder, rows, partial(CleanWork, folder, settings), settings.model_dump(), jobs, unit, progress)


def _stamp(path: Path) -> list[int]:
    """Return size and time of a file, by which a replaced recording is noticed; empty if it is gone."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def clean(audio: Audio, settings: CleanSettings) -> Audio:
    """Return the clip at 24 kHz, trimmed and levelled; `AudioError` if silent, too short or too long."""
    if audio.seconds > settings.max_seconds:
        raise AudioError(f"too long: {audio.seconds:.1f} s, more than {settings.max_seconds:g} s")
    audio = remove_offset(audio)
    if is_silent(audio):
        raise AudioError("silent")
    audio = trim(resample(audio, RATE), settings.trim_db, settings.margin_seconds)
    if audio.seconds < settings.min_seconds:
        raise AudioError(f"too short: {audio.seconds:.2f} s, less than {settings.min_seconds:g} s")
    return normalize(audio, settings.target_db)


def read_row(row: Row) -> Audio:
    """Return the sound of a scanned row at its own rate; `AudioError` if it cannot be read."""
    path = row["audio"]
    frames, rate, _ = read_frames(path, start=row["start"], seconds=max(row["seconds"], MIN_READ_SECONDS))
    channels = row["channels"] or range(frames.shape[1])
    if max(channels) >= frames.shape[1]:
        raise AudioError(f"{path} has no channel {max(channels)}")
    return Audio(frames[:, list(channels)].mean(axis=1, dtype=np.float32), rate)
