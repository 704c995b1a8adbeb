"""The first two steps: any corpus becomes a lhotse manifest of cuts with text, speaker, language and split (scan), and
its clips trimmed, levelled 24 kHz mono in int16 shards on disk (audio).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import Field

from openvalle.audio import RATE, TARGET_DB, Audio, is_silent, normalize, remove_offset, resample, trim
from openvalle.config import Config, write_json_lines
from openvalle.data.shards import Row, to_int16, write_audio
from openvalle.errors import AudioError, UserError
from openvalle.files import atomic_path
from openvalle.media import Header, read_frames, read_header
from openvalle.prepare.clips import CorpusClip
from openvalle.prepare.executor import UNIT, Progress, StepResult, explain_write_errors, run_step, try_each
from openvalle.prepare.formats import Format, read_clips

log = logging.getLogger(__name__)

DEV_SHARE = 0.05  # of the speakers, where the source names no splits
LAYOUTS = "docs/corpora.md"
CUTS = "cuts.jsonl.gz"


def scan(source: Path, folder: Path, *, needs_text: bool = True) -> StepResult:
    """List a corpus in `folder`/cuts.jsonl.gz (lhotse) and `folder`/rejected.jsonl; return the rows.

    Files that are missing, unreadable or empty, texts that are blank (if `needs_text`) and ids that come twice are
    rejected.
    """
    kept: list[tuple[CorpusClip, Header]] = []
    rejected: list[Row] = []
    seen: set[str] = set()
    for clip in read_clips(source):
        try:
            info = _check(clip, seen, needs_text)
        except AudioError as error:
            rejected.append({"id": clip.id, "reason": error.what})
            continue
        seen.add(clip.id)
        kept.append((clip, info))
    with explain_write_errors(folder):
        write_json_lines(folder / "rejected.jsonl", rejected)
    if not kept:
        why = f"{rejected[0]['id']}: {rejected[0]['reason']}" if rejected else "no sound with text was found"
        raise UserError(
            f"{source} holds nothing to prepare ({why})",
            f"{LAYOUTS} shows the layouts that are read: {', '.join(Format)}",
        )
    clips = assign_splits([clip for clip, _ in kept])
    cuts = [_cut(clip, info) for clip, (_, info) in zip(clips, kept, strict=True)]
    with (
        explain_write_errors(folder),
        atomic_path(folder / CUTS) as part,
        gzip.open(part, "wt", encoding="utf-8") as file,
    ):
        for cut in cuts:
            file.write(json.dumps(cut, ensure_ascii=False) + "\n")
    log.info("scan: %d utterances found, %d rejected", len(cuts), len(rejected))
    return StepResult(read_cuts(folder / CUTS), rejected)


def read_cuts(path: Path) -> list[Row]:
    """Return the rows of a scan's cuts: id, audio, start, seconds, channels, text, speaker, language, split."""
    return [
        {
            "id": clip.id,
            "audio": str(clip.audio),
            "start": clip.start,
            "seconds": clip.seconds,
            "channels": clip.channels and list(clip.channels),
            "text": clip.text,
            "speaker": clip.speaker,
            "language": clip.language,
            "split": clip.split,
        }
        for clip in read_clips(path)
    ]


def assign_splits(clips: Sequence[CorpusClip], share: float = DEV_SHARE) -> list[CorpusClip]:
    """Return the clips with a split each: as the source says, else `dev` for speakers chosen by a hash.

    The choice depends on names alone, so adding a speaker moves no other. With a single speaker the
    utterances are divided instead, as there is no unseen speaker to validate on.
    """
    open_clips = [clip for clip in clips if clip.split is None]
    by_speaker = len({clip.speaker for clip in open_clips}) > 1
    keys = {clip.id: clip.speaker if by_speaker else clip.id for clip in open_clips}
    places = {key: _place(key) for key in keys.values()}
    dev = {key for key, place in places.items() if place < share}
    if len(places) > 1:
        dev = dev or {min(places, key=lambda key: places[key])}
    if len(dev) == len(places):
        dev = set()
    return [
        clip if clip.split is not None else replace(clip, split="dev" if keys[clip.id] in dev else "train")
        for clip in clips
    ]


def _place(key: str) -> float:
    """Return a number in [0, 1) that depends on the name only."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6]) / 2**48


def _check(clip: CorpusClip, seen: set[str], needs_text: bool) -> Header:
    """Return the file's header; raise `AudioError` if the clip cannot be used."""
    if clip.id in seen:
        raise AudioError("the id was used before")
    if needs_text and not clip.text.strip():
        raise AudioError("no text")
    header = read_header(clip.audio)
    if not header.frames:
        raise AudioError("the audio file holds no samples")
    if clip.start >= header.seconds:
        raise AudioError(f"starts at {clip.start:.2f} s, after the end of the audio")
    return header


def _cut(clip: CorpusClip, info: Header) -> Row:
    """Return the clip as a lhotse cut over its recording, as lhotse writes it.

    The format is small and stable; lhotse reads what is written here and is not needed to write it.
    """
    channels = list(range(info.channels))
    chosen = list(clip.channels) if clip.channels else channels
    channel = chosen[0] if len(chosen) == 1 else chosen
    duration = info.frames / info.rate
    seconds = min(clip.seconds or duration, duration - clip.start)
    recording = {
        "id": clip.id,
        "sources": [{"type": "file", "channels": channels, "source": str(clip.audio.resolve())}],
        "sampling_rate": info.rate,
        "num_samples": info.frames,
        "duration": duration,
        "channel_ids": channels,
    }
    supervision = {
        "id": clip.id,
        "recording_id": clip.id,
        "start": 0.0,
        "duration": seconds,
        "channel": channel,
        "text": clip.text,
        "language": clip.language,
        "speaker": clip.speaker,
    }
    return {
        "id": clip.id,
        "start": clip.start,
        "duration": seconds,
        "channel": channel,
        "supervisions": [supervision],
        "recording": recording,
        "custom": {"split": clip.split},
        "type": "MonoCut" if len(chosen) == 1 else "MultiCut",
    }


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
        done, rejected = try_each(rows, lambda _, row: to_int16(clean(read_row(row), self.settings).samples))
        shard = f"audio-{unit:05d}.npy"
        starts = write_audio(self.folder / shard, [clip for _, clip in done])
        return [
            {key: row[key] for key in ("id", "speaker", "language", "split", "text")}
            | {"seconds": round(len(clip) / RATE, 4), "shard": shard, "start": start, "samples": len(clip)}
            # The steps that follow are redone for a row when its sound changed, whatever changed it.
            | {"sound": hashlib.blake2b(clip.tobytes(), digest_size=8).hexdigest()}
            for (row, clip), start in zip(done, starts, strict=True)
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
