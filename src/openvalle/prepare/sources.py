"""The scan step: any corpus becomes a lhotse manifest of cuts with text, speaker, language and split."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from openvalle.config import write_json_lines
from openvalle.data.shards import Row
from openvalle.errors import AudioError, UserError
from openvalle.files import atomic_path
from openvalle.media import Header, read_header
from openvalle.prepare.executor import StepResult, explain_write_errors
from openvalle.prepare.formats import CorpusClip, Format, read_clips

log = logging.getLogger(__name__)

DEV_SHARE = 0.05  # of the speakers, where the source names no splits
LAYOUTS = "docs/corpora.md"
CUTS = "cuts.jsonl.gz"


def scan(source: Path, folder: Path) -> StepResult:
    """List a corpus in `folder`/cuts.jsonl.gz (lhotse) and `folder`/rejected.jsonl; return the rows.

    Files that are missing, unreadable or empty, texts that are blank and ids that come twice are rejected.
    """
    kept: list[tuple[CorpusClip, Header]] = []
    rejected: list[Row] = []
    seen: set[str] = set()
    for clip in read_clips(source):
        try:
            info = _check(clip, seen)
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


def _check(clip: CorpusClip, seen: set[str]) -> Header:
    """Return the file's header; raise `AudioError` if the clip cannot be used."""
    if clip.id in seen:
        raise AudioError("the id was used before")
    if not clip.text.strip():
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
