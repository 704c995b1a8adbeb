"""A book's text -> its chapters, by their headings."""

from __future__ import annotations

import re
from dataclasses import dataclass

from openvalle.errors import TextError

# "# Title" (Markdown), or a short line of its own that begins with Chapter, Part, Prologue and so on
_MARKED = re.compile(r"#{1,3}[ \t]+(\S)([^\n]*)")
_NAMED = re.compile(
    r"(?:(?:chapter|book|part)\s+(?:\d+|[ivxlcdm]+|[a-z]+(?:-[a-z]+)?)\b|prologue\b|epilogue\b|preface\b)[^\n]{0,60}",
    re.I,
)
_SENTENCE_END = re.compile(r"[.!?,;]\"?$")


@dataclass(frozen=True)
class Chapter:
    """One chapter. `text` begins with the heading, which is spoken, too."""

    title: str
    text: str


def chapters_of(text: str, title: str = "Text") -> list[Chapter]:
    """Return the chapters in order; a text without headings is one, called `title`. `TextError` for no text at all.

    A heading stands between empty lines. What comes before the first one is a chapter called `title`.
    """
    found: list[tuple[str, list[str]]] = [(title, [])]
    for paragraph in re.split(r"\n\s*\n|\f", text.replace("\r\n", "\n")):
        heading = heading_of(paragraph.strip())
        if heading is not None:
            found.append((heading, [heading]))
        elif paragraph.strip():
            found[-1][1].append(paragraph.strip("\n"))
    chapters = [Chapter(name, "\n\n".join(paragraphs)) for name, paragraphs in found if paragraphs]
    if not chapters:
        raise TextError("the book is empty", "give a file with text in it")
    return chapters


def heading_of(paragraph: str) -> str | None:
    """Return the title if the paragraph is a heading."""
    if match := _MARKED.fullmatch(paragraph):
        return match[1] + match[2].rstrip("#").rstrip(" \t")
    is_sentence = _SENTENCE_END.search(paragraph) and len(paragraph.split()) > 2
    if _NAMED.fullmatch(paragraph) and not is_sentence:
        return paragraph.rstrip(".")
    return None
