"""`openvalle book`: a book, chapter by chapter, into an M4B or a folder of sound files with a playlist."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openvalle.cli import options as opt
from openvalle.errors import UserError
from openvalle.files import expand_home
from openvalle.parallel import status
from openvalle.pipes import read_bytes

if TYPE_CHECKING:
    from openvalle.apps.readers.book import Book, ChapterKind

WORDS_A_MINUTE = 150  # of a narrator, to say how long a chapter will be
SIGNS_A_MINUTE = {"zh": 240, "ja": 330}  # kana are half a sound of Chinese
_RANGE = re.compile(r"(\d+)(?:(-)(\d*))?")


@dataclasses.dataclass(frozen=True)
class Contents:
    """What of the book is read, and what it is called."""

    chapters: Annotated[str | None, typer.Option(help="Only these, as --list numbers them: 3-7, or 1,4,9-.")] = None
    front_matter: Annotated[
        bool, typer.Option("--front-matter", help="Read title page, copyright, contents, lists and index, too.")
    ] = False
    notes: Annotated[bool, typer.Option("--notes", help="Read footnotes after their chapter, and endnotes.")] = False
    title: Annotated[str | None, typer.Option(help="The book's title; default: what the file says.")] = None
    author: Annotated[str | None, typer.Option(help="The book's author; default: what the file says.")] = None
    cover: Annotated[Path | None, typer.Option(help="A JPEG or PNG picture; default: the file's.")] = None

    text_format: Annotated[
        str, typer.Option("--text-format", help="Of what is no EPUB or PDF: auto (by its name), plain, markdown, html.")
    ] = "auto"

    def read(self, file: Path) -> tuple[Book, Book]:
        """Return the book as its file has it, and what of it is read aloud."""
        from openvalle.apps.readers.load import read_book

        found = read_book(file, self.text_format)
        given: dict[str, Any] = {"title": self.title, "author": self.author}
        if self.cover is not None:
            given["cover"] = read_cover(self.cover)
        found = dataclasses.replace(found, **{key: value for key, value in given.items() if value})
        return found, found.select(self.front_matter, self.notes)


def book(
    *,
    file: Annotated[Path, typer.Argument(help="EPUB, HTML, Markdown, text or PDF; - reads a text from stdin.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A name in .m4b, or a folder; default: a folder of the file's name."),
    ] = None,
    list_only: Annotated[bool, typer.Option("--list", help="Show the chapters, and speak nothing.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write the report of readings that are not sure, and speak nothing.")
    ] = False,
    contents: Contents,
    speaker: opt.Speaker,
    quotes: Annotated[str | None, typer.Option(help="Another voice, for what stands in quotation marks.")] = None,
    resume: Annotated[bool, typer.Option(help="Keep what an earlier run has spoken already.")] = True,
    file_format: opt.Format = "flac",
    loudness: Annotated[str, typer.Option(help="Of each chapter, in LUFS from -23 to -18; or off.")] = "-20",
    seed: opt.Seed = 0,
    sampling: opt.Sampling,
    markup: Annotated[
        str, typer.Option(help="auto (tags in texts and Markdown, none elsewhere), tags, ssml or none.")
    ] = "auto",
    lexicon: opt.Lexicon = None,
    language: opt.Language = "",
    model: opt.Model,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Speak a book; print the path of the M4B, or of the chapters and their playlist. Run it again to go on.

    \b
    openvalle book novel.epub --list                         the chapters
    openvalle book novel.epub -o novel.m4b --voice anna      one file with chapters and cover
    openvalle book novel.txt --chapters 3-7 --format mp3     files and a playlist, into the folder novel/
    """
    from openvalle.apps.audiobook import doubts_path, speak_book
    from openvalle.apps.narration import Reading, read_doubts
    from openvalle.apps.readers.book import find_kinds
    from openvalle.media import format_ending
    from openvalle.synth.plan import to_lexicon
    from openvalle.text.markup import choose_markup

    choose_markup("", markup)
    format_ending(None, file_format)
    level, words = read_loudness(loudness), to_lexicon(lexicon)
    found, chosen = contents.read(file)
    numbers = read_numbers(contents.chapters, len(chosen.chapters))
    if not quiet:
        for warning in found.warnings:
            print(f"warning: {warning}", file=sys.stderr)
    if list_only:
        show_chapters(found, find_kinds(contents.front_matter, contents.notes), numbers, as_json)
        return
    place = expand_home(output) if output is not None else Path(file.stem if str(file) != "-" else "book")
    with status(quiet) as show:
        synthesizer = model.load(speaker.asr)
        voice, options = speaker.read(synthesizer), sampling.read(synthesizer)
        second = synthesizer.voice(quotes, consent=speaker.consent) if quotes else None
        own = None if markup == "auto" else markup
        reading = Reading(voice, seed, options, file_format or "flac", own, words, second, level, language)
        if check:
            doubts = read_doubts(chosen, reading, numbers, synthesizer.find_languages(language, voice))
            path = doubts.write(doubts_path(place), chosen.title)
            opt.print_result({"doubts": len(doubts), "path": str(path)}, as_json)
            return
        done = speak_book(synthesizer, chosen, place, reading, numbers=numbers, resume=resume, show=show)
    rows = [{"title": one, "seconds": round(length, 3)} for one, length in zip(done.titles, done.lengths, strict=True)]
    if done.files:
        rows = [row | {"path": str(path)} for row, path in zip(rows, done.files, strict=True)]
    result: dict[str, Any] = {"path": str(done.path), "seconds": round(done.seconds, 3), "chapters": rows}
    if done.doubts is not None:
        result["doubts"] = str(done.doubts)
        if not quiet:
            print(f"readings that are not sure: {done.doubts}", file=sys.stderr)
    opt.print_result(result, as_json, [*done.files, done.path])


def read_loudness(value: str) -> float | None:
    """Return the loudness in LUFS; None for `off`."""
    from openvalle.apps.loudness import LOUDEST, QUIETEST

    if value == "off":
        return None
    try:
        level = float(value)
    except ValueError:
        level = 0.0
    if not QUIETEST <= level <= LOUDEST:
        hint = f"give LUFS from {QUIETEST:g} to {LOUDEST:g}, or off"
        raise UserError(f"cannot take the loudness {value!r}", hint)
    return level


def read_numbers(value: str | None, count: int) -> list[int]:
    """Return the numbers of chapters in `3-7,9,12-`; all `count` without a value."""
    if value is None:
        return list(range(1, count + 1))
    numbers: set[int] = set()
    for part in value.split(","):
        match = _RANGE.fullmatch(part.strip())
        first = int(match[1]) if match and len(match[1]) < 7 else 0
        last = first if not match or not match[2] else int(match[3][:7]) if match[3] else count
        if not 1 <= first <= last <= count:
            raise UserError(f"there are no chapters {part.strip()!r}", f"choose from 1 to {count}, as 3-7 or 1,4,9-")
        numbers |= set(range(first, last + 1))
    return sorted(numbers)


def read_cover(path: Path) -> bytes:
    """Return a picture that a cover can be; `UserError` for another file."""
    try:
        data = read_bytes(expand_home(path))
    except OSError as error:
        raise UserError(f"cannot read the cover {path}: {error.strerror}", "check the path") from None
    if not data.startswith((b"\xff\xd8", b"\x89PNG\r\n\x1a\n")):
        raise UserError(f"{path} is neither JPEG nor PNG", "give another picture")
    return data


def estimate_minutes(text: str) -> float:
    """Return how long a narrator reads a text: by its words, of Chinese and Japanese by its signs."""
    from openvalle.text.sentences import count_signs, count_words
    from openvalle.text.spans import detect_language

    signs = count_signs(text)
    rate = SIGNS_A_MINUTE.get(detect_language(text, tuple(SIGNS_A_MINUTE)), WORDS_A_MINUTE)
    return (count_words(text) - signs) / WORDS_A_MINUTE + signs / rate


def show_chapters(found: Book, kinds: set[ChapterKind], numbers: Sequence[int], as_json: bool) -> None:
    """Print the chapters with the numbers of those that are read aloud, and a dash for the others."""
    from openvalle.text.sentences import count_signs, count_words

    count, rows = 0, []
    if not as_json:
        print(f"{found.title}, by {found.author}" if found.author else found.title)
    for chapter in found.chapters:
        count += chapter.kind in kinds
        number = count if chapter.kind in kinds and count in numbers else None
        words = count_words(chapter.text)
        rows.append({"number": number, "title": chapter.title, "kind": str(chapter.kind), "words": words})
        if not as_json:
            why = "" if chapter.kind in kinds else f" ({chapter.kind}: left out)"
            unit = "signs" if 2 * count_signs(chapter.text) > words else "words"
            length = f"{words:,} {unit}, about {max(1, round(estimate_minutes(chapter.text)))} min"
            print(f"{number or '-'!s:>4}  {chapter.title}{why}, {length}")
    if as_json:
        opt.print_result({"title": found.title, "author": found.author, "chapters": rows}, as_json)
