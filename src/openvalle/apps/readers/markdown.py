"""Markdown -> chapters by its headings. What stands inside a line (links, emphasis, code) the front ends read."""

from __future__ import annotations

import re
from collections.abc import Iterator

from openvalle.apps.readers.book import Book, BookChapter, ChapterKind, has_words, shorten_title
from openvalle.apps.readers.html import TextBlock, split_at_headings
from openvalle.errors import TextError

_METADATA = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.S)
_FIELD = re.compile(r"^(title|author):[ \t]*(.+?)[ \t]*$", re.M | re.I)
_FENCE = re.compile(r"[ \t]{0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r"[ \t]{0,3}(#{1,6})[ \t]+(\S.*)")
_UNDERLINE = re.compile(r"[ \t]{0,3}(=+|-{2,})[ \t]*")
_NOTE = re.compile(r"[ \t]{0,3}\[\^[^\]\n]{1,50}\]:[ \t]*(.*)")
_MARK = re.compile(r"\[\^[^\]\n]{1,50}\]")
_DEFINITION = re.compile(r"[ \t]{0,3}\[[^\]\n]{1,200}\]:[ \t]*\S+.*")
_COMMENT = re.compile(r"<!--.*?-->", re.S)
_INLINE = re.compile(r"[*_`~]+|!?\[([^\[\]]*)\]\([^()]*\)")


def read_markdown(text: str, title: str) -> Book:
    """Return the book in a Markdown text; `TextError` if there are no words in it."""
    front = _METADATA.match(text)
    fields = {name.lower(): value.strip("\"'") for name, value in _FIELD.findall(front[1])} if front else {}
    title = shorten_title(fields.get("title", title))
    notes: list[str] = []
    blocks = list(_read_blocks(_remove_comments(text[front.end() if front else 0 :]), notes))
    chapters = split_at_headings(blocks, title)
    if notes:
        chapters.append(BookChapter("Footnotes", "\n\n".join(["Footnotes", *notes]), ChapterKind.NOTES))
    if not any(has_words(chapter.text) for chapter in chapters):
        raise TextError("the book holds no words", "give a file with text in it")
    return Book(title, tuple(chapters), shorten_title(fields.get("author", "")), markup="auto")


def _remove_comments(text: str) -> str:
    return _COMMENT.sub("", text) if "-->" in text else text


def _read_blocks(text: str, notes: list[str]) -> Iterator[TextBlock]:
    """Yield paragraphs and headings; footnotes are put into `notes`."""
    held: list[str] = []
    fence = ""
    is_note = False

    def end() -> Iterator[TextBlock]:
        paragraph = "\n".join(held).strip()
        held.clear()
        if paragraph and is_note:
            notes.append(" ".join(paragraph.split()))
        elif paragraph:
            yield TextBlock(_MARK.sub("", paragraph))

    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if fence or mark:
            if mark and (not fence or mark[1].startswith(fence)):
                fence = "" if fence else mark[1]
            else:
                held.append(line)
            continue
        note, heading, under = _NOTE.fullmatch(line), _HEADING.fullmatch(line), _UNDERLINE.fullmatch(line)
        if heading:
            yield from end()
            is_note = False
            yield TextBlock(_plain(heading[2].rstrip("#")), len(heading[1]))
        elif under and len(held) == 1 and not is_note:
            yield TextBlock(_plain(held.pop()), 1 if under[1][0] == "=" else 2)
        elif note:
            yield from end()
            is_note = True
            held.append(note[1])
        elif not line.strip():
            yield from end()
            is_note = False
        elif not _DEFINITION.fullmatch(line):
            held.append(line)
    yield from end()


def _plain(heading: str) -> str:
    """Return a heading without the marks of emphasis and links."""
    return _INLINE.sub(lambda found: found[1] or "", _MARK.sub("", heading)).strip()
