"""A book -> a folder of sound files, one per chapter, and a playlist; in constant memory, and resumable.

The chapter being spoken is kept as plain samples beside a record of how far it is, written after every line, once the
line is on the disk. A line depends on its text, the voice and the seed alone, so a book that was interrupted and
resumed is the uninterrupted one, sample for sample, and a chapter is what `say` gives for its text. The record is
believed where the sound on the disk has its digest: what is missing, shorter or changed is spoken again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from openvalle.audio import Audio
from openvalle.config import Config
from openvalle.decode.ar import AROptions
from openvalle.errors import ConfigError, UserError
from openvalle.files import lock_folder, sha256, write_text
from openvalle.media import format_ending, sound_file, write_error
from openvalle.synth.synthesizer import Synthesizer
from openvalle.synth.voice import Voice
from openvalle.text.chapters import Chapter
from openvalle.text.language import UserLexicon

RECORD = "progress.json"  # in the folder of the book, until it is complete
PART = "chapter.f32"  # samples of the chapter being spoken, float32
PLAYLIST = "playlist.m3u8"
BLOCK = 1 << 20  # samples copied at a time
BYTES = 4  # of a sample

log = logging.getLogger(__name__)


class FinishedSentence(Config):
    """A sentence on the disk: where its samples end in the chapter, and their digest."""

    end: int = Field(ge=0)
    digest: str


class FinishedChapter(Config):
    """A chapter that is complete."""

    samples: int = Field(ge=0)
    digest: str  # of its file


class Progress(Config):
    """How far a book is. `settings`: digest of all that its sound depends on."""

    settings: str
    chapters: dict[int, FinishedChapter] = Field(default_factory=dict)  # that are complete, by number from 0
    chapter: int = 0  # the one that is being spoken
    lines: tuple[FinishedSentence, ...] = ()  # of that one

    @property
    def samples(self) -> int:
        """Samples of the chapter being spoken."""
        return self.lines[-1].end if self.lines else 0


@dataclass(frozen=True)
class Book:
    """What was written."""

    playlist: Path
    chapters: tuple[Path, ...]
    seconds: float


@dataclass(frozen=True)
class Reading:
    """How a book is spoken."""

    voice: Voice
    seed: int
    options: AROptions
    file_format: str = "flac"
    markup: str = "auto"
    lexicon: UserLexicon = field(default_factory=dict)  # pronunciations that come before all others


def speak_book(
    synthesizer: Synthesizer,
    chapters: Sequence[Chapter],
    folder: str | Path,
    reading: Reading,
    *,
    resume: bool = False,
    show: Callable[[str], None] = lambda message: None,
) -> Book:
    """Speak all chapters into files in `folder`; return their paths.

    With `resume`, files of the book that are missing or were changed are spoken again. Raises `UserError` if the folder
    holds a book already and `resume` is not asked for, or one that was begun with another text, voice, model, seed or
    format, or if another process is at it; `AudioError` if the disk is full (then go on with `resume`).
    """
    folder = Path(folder)
    ending = format_ending(None, reading.file_format)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file", "give the name of a folder")
    with lock_folder(folder):
        progress = _read_progress(folder, _digest_settings(synthesizer, chapters, reading), resume)
        paths = [folder / name for name in file_names(chapters, ending)]
        kept = {number: done for number, done in progress.chapters.items() if number < len(chapters)}
        for number, path in enumerate(paths):
            if number in kept and not (path.is_file() and sha256(path) == kept[number].digest):
                log.warning("%s is missing or was changed; it is spoken again", path)
                del kept[number]
        progress = progress.model_copy(update={"chapters": kept})
        missing = [number for number in range(len(chapters)) if number not in kept]
        for number in sorted(missing, key=lambda number: number != progress.chapter):  # the one that was begun first
            show(f"chapter {number + 1} of {len(chapters)}: {chapters[number].title}")
            progress = _speak_chapter(synthesizer, chapters[number], number, paths[number], reading, progress, show)
        seconds = [progress.chapters[number].samples / synthesizer.rate for number in range(len(chapters))]
        lines = ["#EXTM3U"]
        for chapter, path, length in zip(chapters, paths, seconds, strict=True):
            lines += [f"#EXTINF:{length:.0f},{' '.join(chapter.title.split())}", path.name]
        write_text(folder / PLAYLIST, "\n".join(lines) + "\n")
        (folder / PART).unlink(missing_ok=True)
    return Book(folder / PLAYLIST, tuple(paths), sum(seconds))


def file_names(chapters: Sequence[Chapter], ending: str) -> list[str]:
    """Return a file name per chapter that sorts in order: `01-the-beginning.flac`."""
    width = max(2, len(str(len(chapters))))
    slugs = [re.sub(r"[^a-z0-9]+", "-", chapter.title.lower()).strip("-")[:40] for chapter in chapters]
    names = [f"{number:0{width}d}-{slug}".rstrip("-") for number, slug in enumerate(slugs, start=1)]
    return [name + ending for name in names]


def _digest_settings(synthesizer: Synthesizer, chapters: Sequence[Chapter], reading: Reading) -> str:
    """Return a digest of all that the sound depends on."""
    voice = reading.voice
    parts = [
        synthesizer.describe(),
        synthesizer.provenance.watermark,
        reading.options.model_dump_json(),
        f"{reading.seed} {reading.file_format} {voice.text} {voice.durations}",
        json.dumps([reading.markup, dict(reading.lexicon)], sort_keys=True),
        hashlib.sha256(voice.codes.tobytes()).hexdigest(),
        *(f"{chapter.title}\n{chapter.text}" for chapter in chapters),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _read_progress(folder: Path, settings: str, resume: bool) -> Progress:
    """Return how far the book in `folder` is; nothing is written before there is a line to keep."""
    record = folder / RECORD
    if not record.exists():
        return Progress(settings=settings)
    if not resume:
        raise UserError(f"{folder} holds a book already", "add --resume to go on with it, or give another folder")
    try:
        progress = Progress.load(record)
    except ConfigError as error:
        raise UserError(f"{record} cannot be read ({error.what})", f"remove {folder} and begin again") from None
    if progress.settings != settings:
        raise UserError(
            f"the book in {folder} was begun with another text, voice, model, seed or format",
            f"give the same ones, or another folder, or remove {folder}",
        )
    return progress


def _speak_chapter(
    synthesizer: Synthesizer,
    chapter: Chapter,
    number: int,
    path: Path,
    reading: Reading,
    progress: Progress,
    show: Callable[[str], None],
) -> Progress:
    """Speak a chapter, or what is missing of it, into its file."""
    folder = path.parent
    if number != progress.chapter:
        progress = progress.model_copy(update={"chapter": number, "lines": ()})
    try:
        progress = _speak_missing(synthesizer, chapter, folder, reading, progress, show)
    except OSError as error:
        raise write_error(folder / PART, error, "then go on with --resume") from None
    tags = synthesizer.provenance.tags()
    with sound_file(path, synthesizer.rate, reading.file_format, tags) as append:
        for block in _read_samples(folder / PART):
            append(Audio(block, synthesizer.rate))
    done = FinishedChapter(samples=progress.samples, digest=sha256(path))
    progress = progress.model_copy(
        update={"chapters": progress.chapters | {number: done}, "chapter": number + 1, "lines": ()}
    )
    progress.save(folder / RECORD)
    return progress


def _speak_missing(
    synthesizer: Synthesizer,
    chapter: Chapter,
    folder: Path,
    reading: Reading,
    progress: Progress,
    show: Callable[[str], None],
) -> Progress:
    """Speak the lines of a chapter that are still missing; each is on the disk before it is recorded."""
    progress = progress.model_copy(update={"lines": _find_whole(folder / PART, progress)})
    how: dict[str, Any] = {"markup": reading.markup, "lexicon": reading.lexicon, "skip": len(progress.lines)}
    pieces = synthesizer.sentences(chapter.text, reading.voice, None, reading.seed, reading.options, **how)
    with (folder / PART).open("r+b" if progress.lines else "wb") as part:
        part.truncate(progress.samples * BYTES)  # what was written after the last record is spoken again
        part.seek(progress.samples * BYTES)
        for piece in pieces:
            data = piece.audio.samples.astype("<f4").tobytes()
            part.write(data)
            part.flush()
            os.fsync(part.fileno())
            end = progress.samples + len(piece.audio.samples)
            line = FinishedSentence(end=end, digest=_digest(progress, len(progress.lines), data))
            progress = progress.model_copy(update={"lines": (*progress.lines, line)})
            progress.save(folder / RECORD)
            show(f"{chapter.title}: {end / synthesizer.rate:.0f} s of speech")
    return progress


def _find_whole(path: Path, progress: Progress) -> tuple[FinishedSentence, ...]:
    """Return the recorded lines of the chapter that its samples on the disk really hold."""
    held: list[FinishedSentence] = []
    if progress.lines and path.is_file():
        with path.open("rb") as part:
            for number, line in enumerate(progress.lines):
                size = (line.end - (held[-1].end if held else 0)) * BYTES
                if not 0 <= size <= os.fstat(part.fileno()).st_size:
                    break
                data = part.read(size)
                if len(data) < size or _digest(progress, number, data) != line.digest:
                    break
                held.append(line)
    if len(held) < len(progress.lines):
        lost = len(progress.lines) - len(held)
        log.warning("%d lines of %s are not on the disk as they were written; they are spoken again", lost, path.parent)
    return tuple(held)


def _digest(progress: Progress, line: int, data: bytes) -> str:
    """Return the digest of a line's samples, which are nothing in another place of the book."""
    place = f"{progress.settings} {progress.chapter} {line} ".encode()
    return hashlib.sha256(place + data).hexdigest()[:16]


def _read_samples(path: Path) -> Iterator[np.ndarray]:
    with path.open("rb") as part:
        while block := part.read(BYTES * BLOCK):
            yield np.frombuffer(block, "<f4").astype(np.float32)
