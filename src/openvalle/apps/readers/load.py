"""The door of the readers: a file of any format -> a book, and what is not a book's file told by its first bytes."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

from openvalle.apps.readers.book import Book
from openvalle.errors import TextError, find_choice
from openvalle.pipes import is_special, read_bytes, read_stdin
from openvalle.text.layout import TextFormat

EPUB, PDF = "an EPUB book", "a PDF"
_CONVERT = "convert it to EPUB first (calibre: ebook-convert)"
_SIGNS = {
    b"{\\rtf": "an RTF document",
    b"\xd0\xcf\x11\xe0": "a Word document",
    b"AT&TFORM": "a DjVu document",
    b"Rar!": "a RAR archive",
}
_HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?<(?:!doctype\s+html|html)\b", re.I | re.S
)


def read_book(path: str | Path, text_format: TextFormat | str = TextFormat.AUTO) -> Book:
    """Return the book in a file: EPUB, HTML, Markdown, plain text or PDF; `-` is a text on standard input.

    `text_format`: how what is no EPUB or PDF is written; auto tells it by the ending and the beginning.

    `TextError` for a file that is missing, damaged, protected, of another format, or without words; `MissingExtra`
    for a PDF without what reads it.
    """
    path, chosen = Path(path), find_choice(TextFormat, text_format, "text format")
    if str(path) == "-":
        return _read_text(read_stdin(), path, "Text", chosen)
    kind = find_format(path)
    if kind == EPUB:
        from openvalle.apps.readers.epub import read_epub

        return read_epub(path)
    if kind == PDF:
        from openvalle.apps.readers.pdf import read_pdf

        return read_pdf(path)
    if kind:
        raise TextError(f"{path} is {kind}, which is not read", _CONVERT)
    try:
        return _read_text(read_bytes(path), path, path.stem, chosen)
    except OSError as error:
        raise TextError(f"cannot read {path}: {error.strerror}", "check the path") from None


def find_format(path: Path) -> str:
    """Return `EPUB`, `PDF` or what else that is no text a file holds, by its first bytes; "" for all others."""
    try:
        if is_special(path) or not path.is_file():
            return ""
        with path.open("rb") as file:
            head = file.read(1100)
    except OSError:
        return ""
    if head.startswith(b"PK\x03\x04"):
        return _find_archive(path)
    if b"%PDF-" in head[:1024] and b"\0" not in head[: head.find(b"%PDF-")]:
        return PDF
    for sign, name in _SIGNS.items():
        if head.startswith(sign):
            return name
    if head[60:68] in (b"BOOKMOBI", b"TEXtREAd"):
        return "a Kindle book"
    return "a FictionBook" if b"<FictionBook" in head else ""


def _find_archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        names = set()
    if "META-INF/container.xml" in names or path.suffix.lower() == ".epub":
        return EPUB
    return "a Word document" if "word/document.xml" in names else "an archive"


def _read_text(data: bytes, path: Path, title: str, chosen: TextFormat) -> Book:
    """Return the book in what is no binary format: HTML, Markdown or plain text."""
    if chosen is TextFormat.AUTO:
        chosen = _find_text_format(data, path)
    if chosen is TextFormat.HTML:
        from openvalle.apps.readers.html import decode, read_html

        return read_html(decode(data), title)
    from openvalle.apps.readers.plain import decode_text, read_plain

    text = decode_text(data, str(path) if str(path) != "-" else "the text")
    read: Callable[[str, str], Book] = read_plain
    if chosen is TextFormat.MARKDOWN:
        from openvalle.apps.readers.markdown import read_markdown

        read = read_markdown
    return read(text, title)


def _find_text_format(data: bytes, path: Path) -> TextFormat:
    ending = path.suffix.lower()
    if ending in (".html", ".htm", ".xhtml", ".xht") or _HTML.match(data[:4096]):
        return TextFormat.HTML
    return TextFormat.MARKDOWN if ending in (".md", ".markdown", ".mkd") else TextFormat.PLAIN
