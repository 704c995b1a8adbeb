"""The first two steps: any corpus becomes a lhotse manifest of cuts with text, speaker, language and split (scan), and
its clips trimmed, levelled 24 kHz mono in int16 shards on disk (audio).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, NoReturn

import numpy as np
from pydantic import Field

from openvalle.audio import RATE, TARGET_DB, Audio, is_silent, normalize, remove_offset, resample, trim
from openvalle.config import Config, json_line, write_json_lines
from openvalle.data.shards import Row, to_int16, write_audio
from openvalle.errors import AudioError, UserError
from openvalle.files import atomic_path, write_text
from openvalle.media import Header, read_frames, read_header
from openvalle.prepare.clips import CorpusClip
from openvalle.prepare.executor import REJECTED, StepResult, join_units
from openvalle.prepare.formats import Format, read_clips
from openvalle.prepare.perf import Measurement
from openvalle.prepare.units import (
    COST,
    SECONDS,
    Target,
    Unit,
    explain_write_errors,
    group_rows,
    name_unit,
    new_unit,
    read_unit,
    try_each,
    unit_seconds,
    write_rows,
)

log = logging.getLogger(__name__)

DEV_SHARE = 0.05  # of the speakers, where the source names no splits
LAYOUTS = "docs/corpora.md"
CUTS = "cuts.jsonl.gz"


def scan(source: Path, folder: Path, *, needs_text: bool = True, seconds: float | None = None) -> StepResult:
    """List a corpus in `folder`/cuts.jsonl.gz (lhotse), and its rows in units.

    Files that are missing, unreadable or empty, texts that are blank (if `needs_text`) and ids that come twice are
    rejected. `seconds`: of a unit; None: as many as `unit_seconds` says. However long the corpus is, little more than a
    number for each id is held in memory.
    """
    began, clock = time.process_time(), time.monotonic()
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        found = tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder)  # noqa: SIM115 - closed below
    with found:
        splits, rejected, total = _list(source, folder, found, needs_text)
        if not total:
            _refuse(source, folder, rejected)
        with explain_write_errors(folder):
            found.seek(0)
            _write_cuts(folder / CUTS, found, splits)
    groups = group_rows(_add_columns(read_cuts(folder / CUTS)), seconds or unit_seconds(total))
    with explain_write_errors(folder):
        units = tuple(_write_units(folder, groups, rejected))
        spent, passed = time.process_time() - began, time.monotonic() - clock
        for unit in units:
            if not (unit.folder / COST).is_file():
                share = unit.seconds / total
                cost = Measurement(unit.kept, unit.seconds, share * spent, share * passed)
                write_text(unit.folder / COST, json.dumps(vars(cost)))
    result = StepResult(folder, units)
    join_units(result)
    log.info("scan: %d utterances found, %d rejected", result.kept, result.rejected)
    return result


def _refuse(source: Path, folder: Path, rejected: list[Row]) -> NoReturn:
    """Raise what is wrong with a corpus of which nothing can be used."""
    with explain_write_errors(folder):
        write_json_lines(folder / REJECTED, rejected)
    why = f"{rejected[0]['id']}: {rejected[0]['reason']}" if rejected else "no sound with text was found"
    raise UserError(
        f"{source} holds nothing to prepare ({why})",
        f"{LAYOUTS} shows the layouts that are read: {', '.join(Format)}",
    )


def _list(source: Path, folder: Path, file: IO[str], needs_text: bool) -> tuple[Splits, list[Row], float]:
    """Write the usable clips of a corpus as cuts, a line each; return who is held out, the others, the seconds."""
    rejected: list[Row] = []
    seen: set[bytes] = set()
    splits, total = Splits(), 0.0
    read = lru_cache(maxsize=8)(read_header)  # many clips may lie in one file
    for clip in read_clips(source):
        key = hashlib.blake2b(clip.id.encode("utf-8", "surrogatepass"), digest_size=10).digest()
        try:
            if key in seen:
                raise AudioError("the id was used before")
            cut = _cut(clip, _check(clip, needs_text, read))
        except AudioError as error:
            rejected.append({"id": clip.id, "reason": error.what})
            continue
        seen.add(key)
        splits.add(clip)
        total += cut["duration"]
        with explain_write_errors(folder):
            file.write(json_line(cut))
    return splits, rejected, total


def _write_cuts(path: Path, lines: IO[str], splits: Splits) -> None:
    """Write the manifest: cuts with the splits that were chosen. No time is written: the same cuts, the same bytes."""
    splits.choose()
    with atomic_path(path) as part, part.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
        for line in lines:
            cut = json.loads(line)
            said = cut["supervisions"][0]
            cut["custom"]["split"] = splits.of(cut["id"], said["speaker"], cut["custom"]["split"])
            packed.write(json_line(cut).encode())


def _add_columns(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield scanned rows with what the steps that follow look for; long recordings without words in several rows."""
    stamp = lru_cache(maxsize=8)(_stamp)
    for row in rows:
        row |= {"file": stamp(Path(row["audio"])), "recording": "", "heard": None}
        if row["text"] or row["seconds"] <= 2 * SECONDS:
            yield row
            continue
        for start in range(0, int(row["seconds"]), int(SECONDS)):
            seconds = min(SECONDS, row["seconds"] - start)
            yield row | {"id": f"{row['id']}@{start}", "start": row["start"] + start, "seconds": seconds}


def _write_units(folder: Path, groups: Iterable[list[Row]], rejected: list[Row]) -> Iterator[Unit]:
    """Yield the units of a scan, written where they are not there; what was rejected is told in the first."""
    for rows in groups:
        place = folder / name_unit(hashlib.sha256(json.dumps([rows, rejected]).encode()).hexdigest())
        if read_unit(place) is None:
            with new_unit(place) as part:
                write_rows(part, rows[0]["id"], rows, rejected)
        unit, rejected = read_unit(place), []
        assert unit is not None, place
        yield unit


def read_cuts(path: Path) -> Iterator[Row]:
    """Yield the rows of a scan's cuts: id, audio, start, seconds, channels, text, speaker, language, split, inside."""
    for clip in read_clips(path):
        yield {
            "id": clip.id,
            "audio": str(clip.audio),
            "start": clip.start,
            "seconds": clip.seconds,
            "channels": clip.channels and list(clip.channels),
            "text": clip.text,
            "speaker": clip.speaker,
            "language": clip.language,
            "split": clip.split,
            "inside": clip.inside and list(clip.inside),
        }


class Splits:
    """The split of each clip: as the source says, else `dev` for speakers chosen by a hash.

    The choice depends on names alone, so adding a speaker moves no other. With a single speaker the utterances are
    divided instead, as there is no unseen speaker to validate on. Clips are added first, then it is chosen.
    """

    def __init__(self) -> None:
        self._speakers: set[str] = set()
        self._ids: list[str] = []  # while there is one speaker
        self._dev: set[str] = set()

    def add(self, clip: CorpusClip) -> None:
        """Count a clip."""
        if clip.split is None:
            self._speakers.add(clip.speaker)
            if len(self._speakers) == 1:
                self._ids.append(clip.id)
            else:
                self._ids.clear()

    def choose(self) -> None:
        """Choose, from all that were added."""
        places = {key: _place(key) for key in self._ids or self._speakers}
        self._dev = {key for key, place in places.items() if place < DEV_SHARE}
        if len(places) > 1:
            self._dev = self._dev or {min(places, key=lambda key: places[key])}
        if len(self._dev) == len(places):
            self._dev = set()

    def of(self, name: str, speaker: str, split: str | None) -> str:
        """Return the split of a clip by its id, speaker and what the source says."""
        if split is not None:
            return split
        return "dev" if (name if self._ids else speaker) in self._dev else "train"


def _place(key: str) -> float:
    """Return a number in [0, 1) that depends on the name only."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6]) / 2**48


def _check(clip: CorpusClip, needs_text: bool, read: Callable[[Path, tuple[int, int] | None], Header]) -> Header:
    """Return the file's header; raise `AudioError` if the clip cannot be used."""
    if needs_text and not clip.text.strip():
        raise AudioError("no text")
    header = read(clip.audio, clip.inside)
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
        "custom": {"split": clip.split} | ({"inside": list(clip.inside)} if clip.inside else {}),
        "type": "MonoCut" if len(chosen) == 1 else "MultiCut",
    }


SOUND = "audio.npy"
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
    """Work of the clean step on one unit; writes `audio.npy`."""

    settings: CleanSettings

    def __call__(self, target: Target, rows: list[Row]) -> tuple[list[Row], list[Row]]:
        """Return the cleaned rows, as `AudioShards` reads them, and the rejected ones."""
        done, rejected = try_each(rows, lambda _, row: self._clean(row))
        starts = write_audio(target.folder / SOUND, [clip for _, clip in done])
        return [
            {key: row[key] for key in ("id", "speaker", "language", "split", "text", "recording", "heard")}
            | {"seconds": round(len(clip) / RATE, 4), "shard": f"{target.name}/{SOUND}", "start": start}
            # The steps that follow are redone for a row when its sound changed, whatever changed it.
            | {"samples": len(clip), "sound": hashlib.blake2b(clip.tobytes(), digest_size=8).hexdigest()}
            for (row, clip), start in zip(done, starts, strict=True)
        ], rejected

    def _clean(self, row: Row) -> np.ndarray:
        """Return the samples of a row, int16; one that is too long is not read at all: it may fill the memory."""
        check_length(row["seconds"], self.settings)
        return to_int16(clean(read_row(row), self.settings).samples)


def _stamp(path: Path) -> list[int]:
    """Return size and time of a file, by which a replaced recording is noticed; empty if it is gone."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def clean(audio: Audio, settings: CleanSettings) -> Audio:
    """Return the clip at 24 kHz, trimmed and levelled; `AudioError` if silent, too short or too long."""
    check_length(audio.seconds, settings)
    audio = remove_offset(audio)
    if is_silent(audio):
        raise AudioError("silent")
    audio = trim(resample(audio, RATE), settings.trim_db, settings.margin_seconds)
    if audio.seconds < settings.min_seconds:
        raise AudioError(f"too short: {audio.seconds:.2f} s, less than {settings.min_seconds:g} s")
    return normalize(audio, settings.target_db)


def check_length(seconds: float, settings: CleanSettings) -> None:
    """Raise `AudioError` for a clip that is too long."""
    if seconds > settings.max_seconds:
        raise AudioError(f"too long: {seconds:.1f} s, more than {settings.max_seconds:g} s")


def read_row(row: Row) -> Audio:
    """Return the sound of a scanned row at its own rate; `AudioError` if it cannot be read."""
    path = row["audio"]
    seconds = max(row["seconds"], MIN_READ_SECONDS)
    frames, rate, _ = read_frames(path, start=row["start"], seconds=seconds, inside=row["inside"])
    channels = row["channels"] or range(frames.shape[1])
    if max(channels) >= frames.shape[1]:
        raise AudioError(f"{path} has no channel {max(channels)}")
    return Audio(frames[:, list(channels)].mean(axis=1, dtype=np.float32), rate)
