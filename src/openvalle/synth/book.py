"""A book -> a folder of sound files, one per chapter, and a playlist; in constant memory, and resumable.

The chapter being spoken is kept as plain samples beside a record of how far it is, written after every line. A line
depends on its text, the voice and the seed alone, so a book that was interrupted and resumed is the uninterrupted
one, sample for sample, and a chapter is what `say` gives for its text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from openvalle.audio import Audio, format_ending
from openvalle.config import Config
from openvalle.errors import ConfigError, UserError
from openvalle.files import write_text
from openvalle.synth.file import refusal, sound_file
from openvalle.text.chapters import Chapter

if TYPE_CHECKING:
    from openvalle.decode.ar import AROptions
    from openvalle.synth.pipeline import Synthesizer
    from openvalle.synth.voice import Voice

RECORD = "progress.json"  # in the folder of the book, until it is complete
PART = "chapter.f32"  # samples of the chapter being spoken, float32
PLAYLIST = "playlist.m3u8"
BLOCK = 1 << 20  # samples copied at a time


class Progress(Config):
    """How far a book is. `settings`: digest of all that its sound depends on."""

    settings: str
    seconds: tuple[float, ...] = ()  # of each chapter that is complete
    lines: int = 0  # of the next chapter
    samples: int = 0  # of these lines


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

    Raises `UserError` if the folder holds a book already and `resume` is not asked for, or one that was begun with
    another text, voice, model, seed or format; `AudioError` if the disk is full (then go on with `resume`).
    """
    folder = Path(folder)
    progress = _begun(folder, _settings(synthesizer, chapters, reading), resume)
    paths = [folder / name for name in file_names(chapters, format_ending(None, reading.file_format))]
    for number in range(len(progress.seconds), len(chapters)):
        show(f"chapter {number + 1} of {len(chapters)}: {chapters[number].title}")
        try:
            progress = _spoken(synthesizer, chapters[number], folder, reading, progress, show)
        except OSError as error:
            raise refusal(folder / PART, error, "then go on with --resume") from None
        samples = _samples(folder / PART)
        tags = synthesizer.provenance.tags()
        with sound_file(paths[number], synthesizer.rate, reading.file_format, tags) as append:
            for block in samples:
                append(Audio(block, synthesizer.rate))
        seconds = progress.samples / synthesizer.rate
        progress = Progress(settings=progress.settings, seconds=(*progress.seconds, seconds))
        progress.save(folder / RECORD)
    playlist = _write_playlist(folder / PLAYLIST, chapters, paths, progress.seconds)
    (folder / PART).unlink(missing_ok=True)
    return Book(playlist, tuple(paths), sum(progress.seconds))


def file_names(chapters: Sequence[Chapter], ending: str) -> list[str]:
    """Return a file name per chapter that sorts in order: `01-the-beginning.flac`."""
    width = max(2, len(str(len(chapters))))
    slugs = [re.sub(r"[^a-z0-9]+", "-", chapter.title.lower()).strip("-")[:40] for chapter in chapters]
    names = [f"{number:0{width}d}-{slug}".rstrip("-") for number, slug in enumerate(slugs, start=1)]
    return [name + ending for name in names]


def _settings(synthesizer: Synthesizer, chapters: Sequence[Chapter], reading: Reading) -> str:
    """Return a digest of all that the sound depends on."""
    voice = reading.voice
    parts = [
        synthesizer.describe(),
        synthesizer.provenance.watermark,
        reading.options.model_dump_json(),
        f"{reading.seed} {reading.file_format} {voice.text} {voice.durations}",
        hashlib.sha256(voice.codes.tobytes()).hexdigest(),
        *(f"{chapter.title}\n{chapter.text}" for chapter in chapters),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _begun(folder: Path, settings: str, resume: bool) -> Progress:
    """Return how far the book in `folder` is."""
    record = folder / RECORD
    if not record.exists():
        progress = Progress(settings=settings)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PART).unlink(missing_ok=True)
        progress.save(record)
        return progress
    if not resume:
        raise UserError(f"{folder} holds a book already", "add --resume to go on with it, or give another folder")
    try:
        progress = Progress.load(record)
    except ConfigError as error:
        raise UserError(f"{record} cannot be read ({error.what})", f"remove {folder} and begin again") from None
    if progress.settings != settings:
        raise UserError(
            f"the book in {folder} was begun with another text, voice, model, seed or format",
            "give the same ones, or another folder",
        )
    return progress


def _spoken(
    synthesizer: Synthesizer,
    chapter: Chapter,
    folder: Path,
    reading: Reading,
    progress: Progress,
    show: Callable[[str], None],
) -> Progress:
    """Speak the lines of a chapter that are still missing; each is on disk before it counts."""
    pieces = synthesizer.sentences(
        chapter.text, reading.voice, seed=reading.seed, options=reading.options, skip=progress.lines
    )
    with (folder / PART).open("r+b" if progress.samples else "wb") as part:
        part.truncate(progress.samples * 4)  # what was written after the last record is spoken again
        part.seek(progress.samples * 4)
        for piece in pieces:
            part.write(piece.audio.samples.astype("<f4").tobytes())
            part.flush()
            progress = progress.model_copy(
                update={"lines": progress.lines + 1, "samples": progress.samples + len(piece.audio.samples)}
            )
            progress.save(folder / RECORD)
            show(f"{chapter.title}: {progress.samples / synthesizer.rate:.0f} s of speech")
    return progress


def _samples(path: Path) -> Iterator[np.ndarray]:
    with path.open("rb") as part:
        while block := part.read(4 * BLOCK):
            yield np.frombuffer(block, "<f4").astype(np.float32)


def _write_playlist(path: Path, chapters: Sequence[Chapter], files: Sequence[Path], seconds: Sequence[float]) -> Path:
    lines = ["#EXTM3U"]
    for chapter, file, length in zip(chapters, files, seconds, strict=True):
        lines += [f"#EXTINF:{length:.0f},{' '.join(chapter.title.split())}", file.name]
    write_text(path, "\n".join(lines) + "\n")
    return path
