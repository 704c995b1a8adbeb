"""Plain text -> chapters by its headings; of a text from Project Gutenberg, what its volunteers added is left out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from openvalle.apps.readers.book import (
    Book,
    BookChapter,
    ChapterKind,
    has_words,
    join_title_pages,
    judge_title,
    shorten_title,
)
from openvalle.errors import TextError
from openvalle.text.chapters import Chapter, split_chapters

_START = re.compile(r"^\*{3} ?START OF (?:THE|THIS) PROJECT GUTENBERG[^\n]*", re.M | re.I)
_END = re.compile(
    r"^(?:\*{3} ?END OF (?:THE|THIS) PROJECT GUTENBERG|End of (?:the )?Project Gutenberg)[^\n]*", re.M | re.I
)
_FIELD = re.compile(r"^(Title|Author):[ \t]*([^\n]+(?:\n[ \t]{2,}\S[^\n]*)*)", re.M)
_ENCODING = re.compile(rb"^Character set encoding:[ \t]*([\w.:-]{1,40})", re.M | re.I)
_ILLUSTRATION = re.compile(r"\[Illustration(?::[^\[\]]{0,2000})?\]", re.I)
_PAGE = re.compile(r"[\[{]P(?:g|age) ?\d{1,4}[\]}]", re.I)
_FOOTNOTE = re.compile(r"\[Footnote (\w{1,4}): ?([^\[\]]*)\](?=\s|$)", re.I)
_NOISE = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_MOST_NOISE = 0.001  # of the signs of a text


def decode_text(data: bytes, label: str) -> str:
    """Return a text in UTF-8, in UTF-16 with its mark, or in the encoding that its header names.

    `TextError` for another encoding, and for what is no text.
    """
    is_wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    named = _ENCODING.search(data[:20_000])
    tried = "utf-16" if is_wide else "utf-8-sig"
    try:
        text = data.decode(tried)
    except UnicodeDecodeError:
        try:
            text = data.decode(named[1].decode() if named else "utf-8")
        except (UnicodeError, LookupError):
            raise TextError(f"{label} is not UTF-8", "save it as UTF-8 first") from None
    if len(_NOISE.findall(text)) > _MOST_NOISE * len(text):
        raise TextError(f"{label} holds control characters: it is no text", "give a text, or a book as EPUB")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def cut_gutenberg(blocks: Sequence[str]) -> slice:
    """Return which of a file's paragraphs lie between those that Project Gutenberg put before and behind a book."""
    marks = [(place, text) for place, text in enumerate(blocks) if "PROJECT GUTENBERG" in text.upper()]
    start = next((place + 1 for place, text in marks if _START.search(text)), 0)
    return slice(start, next((place for place, text in marks if place >= start and _END.search(text)), len(blocks)))


def read_plain(text: str, title: str) -> Book:
    """Return the book in a plain text; `TextError` if it is empty."""
    start, end = _START.search(text), None
    author, is_gutenberg = "", start is not None
    if start is not None:
        fields = {name: " ".join(value.split()) for name, value in _FIELD.findall(text[: start.start()])}
        title, author = shorten_title(fields.get("Title", title)), shorten_title(fields.get("Author", ""))
        end = _END.search(text, start.end())
        text = text[start.end() : end.start() if end else len(text)]
    text, notes = take_footnotes(_PAGE.sub("", _ILLUSTRATION.sub("", text)))
    chapters = [
        BookChapter(shorten_title(chapter.title), chapter.text, judge_title(chapter.title))
        for chapter in drop_contents(split_chapters(text, title))
    ]
    if is_gutenberg and len(chapters) > 1 and chapters[0].title == title:  # title page, who made the file, contents
        chapters[0] = replace(chapters[0], kind=ChapterKind.FRONT_MATTER)
    if notes:
        chapters.append(BookChapter("Footnotes", "\n\n".join(["Footnotes", *notes]), ChapterKind.NOTES))
    chapters = join_title_pages([chapter for chapter in chapters if has_words(chapter.text)])
    if not chapters:
        raise TextError("the book holds no words", "give a file with text in it")
    return Book(title, tuple(chapters), author, markup="auto")


def take_footnotes(text: str) -> tuple[str, list[str]]:
    """Return a text without its `[Footnote 1: ...]` and the marks that lead to them, and the notes."""
    found = _FOOTNOTE.findall(text)
    if not found:
        return text, []
    names = {name for name, _ in found}
    text = _FOOTNOTE.sub("", text)
    text = re.sub(r"\[(\w{1,4})\]", lambda mark: "" if mark[1] in names else mark[0], text)
    return text, [" ".join(note.split()) for _, note in found]


def drop_contents(chapters: list[Chapter]) -> list[Chapter]:
    """Return the chapters without the lines of a table of contents, which look like chapters without text: their
    heading comes again."""
    last = {_bare(chapter.title): number for number, chapter in enumerate(chapters)}
    kept = []
    for number, chapter in enumerate(chapters):
        name = _bare(chapter.title)
        is_alone = _bare(chapter.text) == name
        if not (is_alone and name and last[name] > number):
            kept.append(chapter)
    return kept


def _bare(text: str) -> str:
    return " ".join(re.findall(r"\w+", text[:400].casefold()))
