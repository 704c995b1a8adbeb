"""PDF -> chapters, as well as can be: a PDF says where letters stand on a page, not what they belong to.

Lines that are on most pages (running heads) and page numbers are left out, words that are divided at the end of a line
are joined, and lines become paragraphs where one ends early. Columns, tables, formulas and footnotes may come out of
order. Pages are read by pypdf (BSD-3-Clause, the extra `books`).
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from openvalle.apps.readers.book import (
    Book,
    BookChapter,
    has_words,
    join_title_pages,
    judge_title,
    say_title,
    shorten_title,
)
from openvalle.errors import TextError, import_extra
from openvalle.text.chapters import split_chapters

_PAGE_NUMBER = re.compile(r"\W*(?:page |p\. ?)?(?:\d{1,4}|[ivxlc]{1,7})(?: (?:of|/) \d{1,4})?\W*", re.I)
_FIGURES = re.compile(r"\d+")
_HEADING = re.compile(r"(?:chapter|part|book) (?:\d{1,3}|[ivxlc]{1,7}|[a-z]+)(?:[.:].{0,60})?", re.I)
_FULL = 0.8  # of the usual width: a shorter line ends its paragraph, if a sentence ends there
EDGE_LINES = 2  # lines at the top and bottom of a page that may be running heads
FEWEST = 4  # pages that a running head is on


def read_pdf(path: str | Path) -> Book:
    """Return the book in a PDF. `TextError` if it is damaged, locked, or holds pictures of pages only."""
    path = Path(path)
    pypdf = import_extra("pypdf", "pypdf", "books")
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it tells of every small fault of a file
    warnings: list[str] = []
    try:
        reader = pypdf.PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise TextError(f"{path} is locked with a password", "give a copy without one")
        pages = [_read_page(page, number, warnings) for number, page in enumerate(reader.pages, 1)]
        title, author = _read_names(reader, path.stem)
        outline = _read_outline(reader)
    except TextError:
        raise
    except Exception as error:  # pypdf raises whatever a broken file leads to
        if isinstance(error, MemoryError):
            raise
        name = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise TextError(f"{path} cannot be read as PDF ({name})", "get another copy, or convert it to EPUB") from None
    if not any(has_words(page) for page in pages):
        raise TextError(
            f"{path} holds pictures of pages, no text", "have it recognised (OCR) first, for example with ocrmypdf"
        )
    empty = sum(not has_words(page) for page in pages)
    if empty:
        warnings.append(f"{empty} of {len(pages)} pages hold no text: what is on them as a picture is not read")
    warnings.append("a PDF does not say what belongs together: listen for running heads, columns, notes and tables")
    chapters = _build_chapters(remove_edges(pages), outline, title)
    return Book(title, tuple(chapters), author, warnings=tuple(warnings))


def _read_page(page: Any, number: int, warnings: list[str]) -> str:
    try:
        return str(page.extract_text())
    except Exception as error:  # one page that is broken, as above
        if isinstance(error, MemoryError):
            raise
        warnings.append(f"page {number} cannot be read ({type(error).__name__}): it is left out")
        return ""


def _read_names(reader: Any, stem: str) -> tuple[str, str]:
    info = reader.metadata
    title = str(info.title or "").strip() if info else ""
    author = str(info.author or "").strip() if info else ""
    return shorten_title(title or stem), shorten_title(author)


def _read_outline(reader: Any) -> list[tuple[int, str]]:
    """Return page (from 0) and title of the bookmarks, nested ones too; nothing if they cannot be read."""
    found: list[tuple[int, str]] = []
    waiting = list(reversed(reader.outline))
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, list):
            waiting += reversed(entry)
            continue
        page = reader.get_destination_page_number(entry)
        if page is not None and page >= 0 and has_words(str(entry.title)):
            found.append((page, shorten_title(str(entry.title))))
    return found


def _find_heads(pages: Sequence[str]) -> set[str]:
    """Return the running heads: what begins or ends many pages, whatever figures are in it."""
    counts: Counter[str] = Counter()
    for page in pages:
        lines = [line for line in page.split("\n") if line.strip()]
        counts.update({_without_figures(line) for line in (*lines[:EDGE_LINES], *lines[-EDGE_LINES:])})
    needed = max(FEWEST, len(pages) // 5)
    return {line for line, count in counts.items() if count >= needed and line}


def _without_figures(line: str) -> str:
    """Return a line as it is counted: without its figures, but for those of a heading."""
    line = " ".join(line.split()).casefold()
    return line if _HEADING.fullmatch(line) else _FIGURES.sub("#", line)


def remove_edges(pages: Sequence[str]) -> list[str]:
    """Return the text of the pages without page numbers and running heads; of a heading the first one stays."""
    heads = _find_heads(pages)
    headings: set[str] = set()
    cleared = []
    for page in pages:
        lines = [line.strip() for line in page.split("\n")]
        filled = [number for number, line in enumerate(lines) if line]
        edge = {*filled[:EDGE_LINES], *filled[-EDGE_LINES:]}
        kept = []
        for number, line in enumerate(lines):
            bare = _without_figures(line)
            is_new = _HEADING.fullmatch(bare) is not None and bare not in headings
            headings |= {bare} if is_new else set()
            if is_new or number not in edge or not (bare in heads or _PAGE_NUMBER.fullmatch(line)):
                kept.append(line)
        cleared.append("\n".join(kept).strip("\n"))
    return cleared


def _build_chapters(pages: Sequence[str], outline: Sequence[tuple[int, str]], title: str) -> list[BookChapter]:
    """Return the chapters that the bookmarks name, else those whose headings are found in the text."""
    starts = {0: ""} | {page: "" for page, _ in outline if page < len(pages)}
    for page, name in outline:
        if page in starts:
            starts[page] = starts[page] or name  # sections on the same page belong to the first
    bounds = [*sorted(starts), len(pages)]
    chapters = []
    if len(bounds) > 2:
        for first, end in pairwise(bounds):
            paragraphs = list(join_lines("\n".join(pages[first:end])))
            if paragraphs:
                name = starts[first] or title
                text = "\n\n".join(say_title(name, paragraphs))
                chapters.append(BookChapter(name, text, judge_title(name)))
    else:
        text = "\n\n".join(join_lines("\n".join(pages)))
        chapters = [BookChapter(shorten_title(each.title), each.text) for each in split_chapters(text, title)]
    return join_title_pages(chapters)


def join_lines(text: str) -> Iterator[str]:
    """Yield the paragraphs of a text whose lines are those of the pages."""
    lines = text.split("\n")
    lengths = sorted(len(line) for line in lines if line.strip())
    usual = lengths[len(lengths) * 3 // 4] if lengths else 0
    held: list[str] = []
    for line in lines:
        if line.strip():
            held.append(line.strip())
        ends = line.rstrip().endswith((".", "!", "?", ":", "\u201d", '"')) and len(line) < _FULL * usual
        if (held and (ends or not line.strip())) or (len(held) == 1 and _HEADING.fullmatch(held[0])):
            yield "\n".join(held)
            held = []
    if held:
        yield "\n".join(held)
