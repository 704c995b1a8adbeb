"""A book -> an M4B with chapters, or a folder of sound files, one per chapter, and a playlist; in constant memory.

What was spoken is kept (`openvalle.apps.narration`), so a book that was interrupted is, once it is complete, the same,
sample for sample, as one that was spoken in one go. Between its silences and but for its gain, a chapter is what `say`
gives for its text.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from openvalle.apps.m4b import Track, require_av, write_m4b
from openvalle.apps.narration import Narrator, Reading, SpokenChapter, digest
from openvalle.apps.readers.book import Book
from openvalle.apps.sentence_store import SentenceStore
from openvalle.audio import Audio
from openvalle.config import Config
from openvalle.errors import ConfigError, TextError, UserError
from openvalle.files import atomic_path, lock_folder, sha256, write_text
from openvalle.media import format_ending, sound_file, write_error
from openvalle.synth.synthesizer import Synthesizer
from openvalle.text.chapters import Chapter

M4B = (".m4b", ".m4a")
RECORD = "book.json"  # in the folder of the work
SENTENCES = "sentences"  # the folder of the spoken sentences in it
PLAYLIST, DOUBTS = "playlist.m3u8", "unsure.tsv"

log = logging.getLogger(__name__)


class FinishedFile(Config):
    """The sound file of a chapter. `key`: digest of all that it depends on; `digest`: of the file itself."""

    key: str
    digest: str
    samples: int = Field(ge=0)


class Record(Config):
    """What a folder holds. `settings`: digest of voice, model and seed, by which another book is told."""

    settings: str
    files: dict[str, FinishedFile] = Field(default_factory=dict)  # by name


@dataclass(frozen=True)
class Audiobook:
    """What was written. `path`: the M4B or the playlist; `titles`, `lengths` (seconds) and, in a folder, `files` of
    the chapters; `doubts`: the report of readings that are not sure, None if there are none."""

    path: Path
    titles: tuple[str, ...]
    lengths: tuple[float, ...]
    files: tuple[Path, ...]
    doubts: Path | None

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return sum(self.lengths)


def is_single_file(place: Path) -> bool:
    """Return True if a book becomes one file there, and no folder."""
    return place.suffix.lower() in M4B


def work_folder(place: Path) -> Path:
    """Return where the spoken sentences of a book are kept: in its folder, or beside its M4B."""
    return place.with_suffix(".parts") if is_single_file(place) else place


def doubts_path(place: Path) -> Path:
    """Return where the report of readings that are not sure is: in the folder, or beside the M4B."""
    return place.with_suffix(f".{DOUBTS}") if is_single_file(place) else place / DOUBTS


def file_names(chapters: Sequence[Chapter], ending: str) -> list[str]:
    """Return a file name per chapter that sorts in order: `01-the-beginning.flac`."""
    width = max(2, len(str(len(chapters))))
    slugs = [re.sub(r"[^a-z0-9]+", "-", chapter.title.lower()).strip("-")[:40] for chapter in chapters]
    names = [f"{number:0{width}d}-{slug}".rstrip("-") for number, slug in enumerate(slugs, start=1)]
    return [name + ending for name in names]


def speak_book(
    synthesizer: Synthesizer,
    book: Book,
    place: str | Path,
    reading: Reading,
    *,
    numbers: Sequence[int] | None = None,
    resume: bool = True,
    show: Callable[[str], None] = lambda message: None,
) -> Audiobook:
    """Speak a book into the file `place`, if its name ends in .m4b, or else into the folder `place`.

    `numbers`: the chapters that are spoken, from 1; None: all. What an earlier run has spoken is kept, without `resume`
    it is spoken again. Raises `UserError` if the folder holds a book of another voice, model or seed, or if another
    process is at it; `AudioError` if the disk is full (then run it again); `MissingExtra` for an M4B without PyAV.
    """
    place, total = Path(place), len(book.chapters)
    folder = work_folder(place)
    format_ending(None, reading.file_format)
    if is_single_file(place):
        require_av()
        if place.is_dir():
            raise UserError(f"{place} is a folder", "give the name of a file in it")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file", "give the name of a folder")
    chosen = sorted(set(numbers)) if numbers is not None else list(range(1, total + 1))
    if not chosen or not 1 <= chosen[0] <= chosen[-1] <= total:
        raise UserError(f"the book has chapters 1 to {total}", "choose among them; --list shows them")
    narrator = Narrator(synthesizer, book, reading, show)
    with lock_folder(folder):
        record = _read_record(folder / RECORD, narrator.settings, resume)
        store = SentenceStore(folder / SENTENCES, synthesizer.rate)
        if not resume:
            store.keep_only(())
        record.save(folder / RECORD)
        output = _Output(synthesizer, narrator, store, place, reading.file_format, record)
        narrator.clock.left = sum(len(book.chapters[number - 1].text) for number in chosen)
        try:
            for number in chosen:
                output.add(narrator.speak_chapter(store, number))
        except OSError as error:
            raise write_error(folder / RECORD, error, "then run the same command again") from None
        finally:
            if not len(store):  # nothing was begun
                (folder / RECORD).unlink(missing_ok=True)
        if len(narrator.doubts):
            narrator.doubts.write(doubts_path(place), book.title)
        else:
            doubts_path(place).unlink(missing_ok=True)
        show("writing the book")
        return output.finish(is_whole=len(chosen) == total)


def _read_record(path: Path, settings: str, resume: bool) -> Record:
    """Return what a folder holds; a book of other settings is not touched."""
    if not path.exists() or not resume:
        return Record(settings=settings)
    try:
        record = Record.load(path)
    except ConfigError as error:
        raise UserError(f"{path} cannot be read ({error.what})", "give --no-resume to begin again") from None
    if record.settings != settings:
        raise UserError(
            f"{path.parent} holds a book that was begun with another voice, model or seed",
            "give the same ones, or another output, or --no-resume to speak all of it again",
        )
    return record


@dataclass
class _Output:
    """The files of a book, as its chapters are spoken."""

    synthesizer: Synthesizer
    narrator: Narrator
    store: SentenceStore
    place: Path
    file_format: str
    record: Record
    spoken: list[SpokenChapter] = field(default_factory=list)

    @property
    def book(self) -> Book:
        return self.narrator.book

    @property
    def names(self) -> list[str]:
        """The names of all chapters' files."""
        return file_names(self.book.chapters, format_ending(None, self.file_format))

    def add(self, chapter: SpokenChapter) -> None:
        """Take a chapter that is spoken; in a folder, write its file, unless it is there as it is to be."""
        if not chapter.keys:
            return
        self.spoken.append(chapter)
        if not is_single_file(self.place):
            self._write_chapter(chapter)

    def finish(self, is_whole: bool) -> Audiobook:
        """Write what the chapters make; `is_whole`: they are the whole book, and no other sentence is needed."""
        if not self.spoken:
            raise TextError("nothing in the book can be spoken", "see which letters it is written in")
        if is_single_file(self.place):
            files: list[Path] = []
            self._write_m4b()
        else:
            files = [self.place / self.names[chapter.number - 1] for chapter in self.spoken]
            self._write_folder()
        if is_whole:
            self.store.keep_only({key for chapter in self.spoken for key in chapter.keys})
        lengths = tuple(chapter.samples / self.synthesizer.rate for chapter in self.spoken)
        path = self.place if is_single_file(self.place) else self.place / PLAYLIST
        doubts = doubts_path(self.place) if len(self.narrator.doubts) else None
        return Audiobook(path, tuple(chapter.title for chapter in self.spoken), lengths, tuple(files), doubts)

    def _tags(self, title: str) -> dict[str, str]:
        own = {"title": title, "artist": self.book.author, "album": self.book.title}
        tags = self.synthesizer.provenance.tags() | own
        return {key: value for key, value in tags.items() if value}

    def _write_chapter(self, chapter: SpokenChapter) -> None:
        name = self.names[chapter.number - 1]
        path, tags = self.place / name, self._tags(chapter.title)
        key = digest([chapter.keys, chapter.gain, tags, self.file_format])
        kept = self.record.files.get(name)
        if kept is not None and kept.key == key:
            if path.is_file() and sha256(path) == kept.digest:
                return
            log.warning("%s is missing or was changed; it is written again", path)
        with sound_file(path, self.synthesizer.rate, self.file_format, tags) as append:
            for block in self.narrator.read_blocks(self.store, chapter):
                append(Audio(block, self.synthesizer.rate))
        done = FinishedFile(key=key, digest=sha256(path), samples=chapter.samples)
        self._save(self.record.files | {name: done})

    def _save(self, files: dict[str, FinishedFile]) -> None:
        self.record = self.record.model_copy(update={"files": files})
        self.record.save(self.place / RECORD)

    def _write_folder(self) -> None:
        """Write playlist and cover; remove the files of chapters that are no longer called so."""
        names, ending = self.names, format_ending(None, self.file_format)
        old = {name for name in self.record.files if name.endswith(ending)} - set(names)
        for name in old:
            path = self.place / Path(name).name  # never outside, whatever the record says
            if path.is_file() and sha256(path) == self.record.files[name].digest:
                path.unlink()
        if old:
            self._save({name: file for name, file in self.record.files.items() if name not in old})
        lines = ["#EXTM3U"]
        for name, chapter in zip(names, self.book.chapters, strict=True):
            if name in self.record.files and (self.place / name).is_file():
                seconds = self.record.files[name].samples / self.synthesizer.rate
                lines += [f"#EXTINF:{seconds:.0f},{' '.join(chapter.title.split())}", name]
        write_text(self.place / PLAYLIST, "\n".join(lines) + "\n")
        if self.book.cover:
            kind = ".png" if self.book.cover.startswith(b"\x89PNG") else ".jpg"
            with atomic_path(self.place / f"cover{kind}") as part:
                part.write_bytes(self.book.cover)

    def _write_m4b(self) -> None:
        tags = self._tags(self.book.title) | {"genre": "Audiobook", "media_type": "2"}  # 2: what players call a book
        tags["encoded_by"] = tags.pop("software")
        blocks = (self.narrator.read_blocks(self.store, chapter) for chapter in self.spoken)
        tracks = [Track(each.title, each.samples, own) for each, own in zip(self.spoken, blocks, strict=True)]
        write_m4b(self.place, self.synthesizer.rate, tracks, tags, self.book.cover)
