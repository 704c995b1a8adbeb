"""EPUB 2 and 3: the container, the package, its contents (nav or NCX, with anchors, nested) and its spine -> chapters.

A table of contents that is broken, or missing, is made up for by the headings.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from openvalle.apps.readers.archive import Archive, Node, parse_xml
from openvalle.apps.readers.book import (
    Book,
    BookChapter,
    ChapterKind,
    has_words,
    join_title_pages,
    judge_title,
    leave_title_page,
    shorten_title,
)
from openvalle.apps.readers.html import (
    Document,
    TextBlock,
    build_chapter,
    decode,
    read_document,
    scan,
    split_at_headings,
)
from openvalle.errors import TextError

CONTAINER, ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
_FRONT_MATTER = {
    *("cover", "titlepage", "title-page", "halftitlepage", "halftitle", "copyright-page", "copyright", "imprint"),
    *("toc", "landmarks", "page-list", "loi", "lot", "loa", "lov", "index", "bibliography", "colophon", "imprimatur"),
    *("other-credits", "seriespage"),
}
_NOTES = {"footnotes", "endnotes", "rearnotes", "notes"}
_FONTS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")  # scrambled fonts, no protection


@dataclass(frozen=True)
class _Entry:
    """A line of the table of contents."""

    title: str
    file: str
    anchor: str


@dataclass
class _Part:
    """A file of the spine, read."""

    name: str
    kind: ChapterKind
    document: Document


@dataclass
class _Package:
    """What the package file says."""

    root: Node
    folder: str
    items: dict[str, Node]  # by id

    def resolve(self, reference: str) -> tuple[str, str]:
        """Return the file that a reference in the package names, and the anchor in it."""
        return resolve_reference(self.folder, reference)

    def meta(self, name: str) -> list[Node]:
        """Return the elements of the metadata that have this name."""
        return [node for block in self.root.walk("metadata") for node in block.walk(name)]


def resolve_reference(folder: str, reference: str) -> tuple[str, str]:
    """Return the name in the archive that `reference` stands for in a file of `folder`, and its anchor."""
    file, _, anchor = reference.partition("#")
    return posixpath.normpath(posixpath.join(folder, unquote(file))) if file else "", unquote(anchor)


def read_epub(path: str | Path) -> Book:
    """Return the book in an EPUB file. `TextError` if it is damaged, protected, or holds no words."""
    path = Path(path)
    archive = Archive(path)
    try:
        return _read(archive)
    finally:
        archive.close()


def _read(archive: Archive) -> Book:
    _refuse_protected(archive)
    package = _read_package(archive)
    warnings: list[str] = []
    titles, authors = [node.text for node in package.meta("title")], _find_authors(package)
    title = shorten_title(next((each for each in titles if each), "")) or archive.path.stem
    parts = _read_spine(archive, package, warnings)
    entries = _read_contents(archive, package, warnings)
    chapters = _build_chapters(parts, entries, title, warnings)
    if not any(has_words(chapter.text) for chapter in chapters):
        raise TextError(f"{archive.path} holds no words", "a book of pictures has to be recognised (OCR) first")
    cover = _read_cover(archive, package, warnings)
    return Book(title, tuple(chapters), ", ".join(authors), cover, warnings=tuple(warnings))


def _refuse_protected(archive: Archive) -> None:
    if archive.has(ENCRYPTION):
        methods = parse_xml(archive.read(ENCRYPTION), ENCRYPTION).walk("EncryptionMethod")
        if any(node.attributes.get("Algorithm") not in _FONTS for node in methods):
            raise TextError(f"{archive.path} is protected (DRM): it cannot be read", "give a copy without protection")


def _read_package(archive: Archive) -> _Package:
    roots = parse_xml(archive.read(CONTAINER), CONTAINER).walk("rootfile")
    name = next((node.attributes["full-path"] for node in roots if node.attributes.get("full-path")), "")
    if not name:
        raise TextError(f"{archive.path}: {CONTAINER} names no package", "it is no complete EPUB; get another copy")
    root = parse_xml(archive.read(name), name)
    items = {node.attributes.get("id", ""): node for each in root.walk("manifest") for node in each.walk("item")}
    return _Package(root, posixpath.dirname(name), items)


def _find_authors(package: _Package) -> list[str]:
    roles = {
        node.attributes.get("refines", "").removeprefix("#"): node.text
        for node in package.meta("meta")
        if node.attributes.get("property") == "role"
    }
    found = []
    for node in package.meta("creator"):
        role = node.attributes.get("role") or roles.get(node.attributes.get("id", ""), "aut")
        if role == "aut" and node.text:
            found.append(shorten_title(node.text))
    return list(dict.fromkeys(found))


def _read_cover(archive: Archive, package: _Package, warnings: list[str]) -> bytes:
    """Return the cover, as EPUB 3 or EPUB 2 names it; nothing if it cannot be used."""
    named = {node.attributes.get("content") for node in package.meta("meta") if node.attributes.get("name") == "cover"}
    pictures = [item for item in package.items.values() if item.attributes.get("media-type", "").startswith("image/")]
    for is_it in (
        lambda item: "cover-image" in item.attributes.get("properties", "").split(),
        lambda item: item.attributes.get("id") in named or item.attributes.get("href") in named,
        lambda item: "cover" in item.attributes.get("id", "").lower(),
    ):
        for item in filter(is_it, pictures):
            try:
                data = archive.read(package.resolve(item.attributes.get("href", ""))[0])
            except TextError as error:
                warnings.append(f"the cover cannot be read ({error.what})")
                return b""
            if data.startswith((b"\xff\xd8", b"\x89PNG\r\n\x1a\n")):
                return data
            warnings.append("the cover is neither JPEG nor PNG: it is left out")
            return b""
    return b""


def _read_spine(archive: Archive, package: _Package, warnings: list[str]) -> list[_Part]:
    """Return the files of the book in the order of reading; one that cannot be read is named and left out."""
    guide = {}
    for node in package.root.walk("reference"):
        if node.attributes.get("href"):
            guide[package.resolve(node.attributes["href"])[0]] = node.attributes.get("type", "").lower()
    parts: list[_Part] = []
    seen = set()
    for reference in package.root.walk("itemref"):
        item = package.items.get(reference.attributes.get("idref", ""))
        name = package.resolve(item.attributes.get("href", ""))[0] if item else ""
        if item is None or name in seen:
            continue
        seen.add(name)
        if not re.search("html|xml|dtb", item.attributes.get("media-type", "html")):
            warnings.append(f"{name} is a picture: it is left out")
            continue
        try:
            document = read_document(decode(archive.read(name)))
        except TextError as error:
            if "more than a book" in error.what or "password" in error.what:
                raise
            warnings.append(f"{error.what}: it is left out")
            continue
        types = document.types | {guide.get(name, "")}
        is_aside = reference.attributes.get("linear") == "no" or "nav" in item.attributes.get("properties", "").split()
        kind = (
            ChapterKind.NOTES
            if types & _NOTES
            else ChapterKind.FRONT_MATTER
            if types & _FRONT_MATTER or is_aside
            else ChapterKind.BODY
        )
        parts.append(_Part(name, kind, document))
    return parts


def _read_contents(archive: Archive, package: _Package, warnings: list[str]) -> list[_Entry]:
    """Return the table of contents: the nav of EPUB 3, else the NCX of EPUB 2; nothing if there is none to be read."""
    navs = [item for item in package.items.values() if "nav" in item.attributes.get("properties", "").split()]
    spine = next(package.root.walk("spine"), Node("", {}))
    ncx = [package.items[spine.attributes["toc"]]] if spine.attributes.get("toc") in package.items else []
    ncx += [item for item in package.items.values() if item.attributes.get("media-type") == "application/x-dtbncx+xml"]
    for item, read in [*((item, _read_nav) for item in navs), *((item, _read_ncx) for item in ncx)]:
        name = package.resolve(item.attributes.get("href", ""))[0]
        try:
            entries = read(archive.read(name), name)
        except TextError as error:
            warnings.append(f"the table of contents cannot be read ({error.what})")
            continue
        if entries:
            return entries
    return []


def _read_nav(data: bytes, name: str) -> list[_Entry]:
    """Return the links of the `toc` of a navigation document, or of its first list of links if none is so called."""
    found: list[tuple[bool, list[_Entry]]] = []
    depth = 0
    link, words = "", list[str]()
    for piece in scan(decode(data)):
        if isinstance(piece, str):
            words.append(piece)
        elif piece.name == "nav":
            depth += -1 if piece.is_end else 1
            if not piece.is_end:
                found.append(("toc" in piece.types, []))
        elif piece.name == "a" and found and depth > 0:
            if not piece.is_end:
                link, words = piece.attributes.get("href", ""), []
            elif link and (title := shorten_title("".join(words))):
                found[-1][1].append(_Entry(title, *resolve_reference(posixpath.dirname(name), link)))
                link = ""
    lists = [entries for is_toc, entries in found if is_toc] or [entries for _, entries in found]
    return lists[0] if lists else []


def _read_ncx(data: bytes, name: str) -> list[_Entry]:
    entries = []
    for point in parse_xml(data, name).walk("navPoint"):
        label = next((text for node in point.children if node.name == "navLabel" for text in node.walk("text")), None)
        content = next((node for node in point.children if node.name == "content"), None)
        if label is not None and content is not None and content.attributes.get("src"):
            place = resolve_reference(posixpath.dirname(name), content.attributes["src"])
            entries.append(_Entry(shorten_title(label.text), *place))
    return entries


def _build_chapters(
    parts: Sequence[_Part], entries: Sequence[_Entry], title: str, warnings: list[str]
) -> list[BookChapter]:
    """Return the chapters: cut where the contents say, else at the headings of each file."""
    starts = _find_starts(parts, entries, warnings)
    if (
        len(starts) < 2 <= sum(part.kind is ChapterKind.BODY and bool(part.document.blocks) for part in parts)
        or not starts
    ):
        chapters = [chapter for part in parts for chapter in _split_part(part, title)]
    else:
        chapters = list(_cut_at(parts, starts, title))
    for chapter in chapters:
        if not has_words(chapter.text) and judge_title(chapter.title) is ChapterKind.BODY:
            warnings.append(f"the chapter {chapter.title!r} holds no words: it is left out")
    return join_title_pages(leave_title_page([chapter for chapter in chapters if has_words(chapter.text)], title))


def _find_starts(parts: Sequence[_Part], entries: Sequence[_Entry], warnings: list[str]) -> dict[tuple[int, int], str]:
    """Return the title of each place (file, block) at which a chapter begins, in the order of reading."""
    files = {part.name: number for number, part in enumerate(parts)}
    folded = {name.casefold(): number for name, number in files.items()}
    anchors = [
        {anchor: place for place, block in reversed(list(enumerate(part.document.blocks))) for anchor in block.anchors}
        for part in parts
    ]
    starts: dict[tuple[int, int], str] = {}
    lost = []
    for entry in entries:
        number = files.get(entry.file, folded.get(entry.file.casefold()))
        if number is None:
            lost.append(entry.title)
            continue
        place = anchors[number].get(entry.anchor, 0)
        if entry.anchor and entry.anchor not in anchors[number] and (number, 0) in starts:
            lost.append(entry.title)  # a second chapter of the file, which nothing tells where it begins
            continue
        before = starts.get((number, place))
        starts[number, place] = shorten_title(f"{before}: {entry.title}") if before else entry.title
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        warnings.append(f"the table of contents is broken: {lost[0]!r}{more} is nowhere in the book")
    return dict(sorted(starts.items()))


def _split_part(part: _Part, title: str) -> list[BookChapter]:
    """Return the chapters of a file by its headings."""
    found = split_at_headings(part.document.blocks, _find_title(part, title))
    return found if part.kind is ChapterKind.BODY else [replace(chapter, kind=part.kind) for chapter in found]


def _find_title(part: _Part, title: str) -> str:
    """Return what a file is called: by its first heading, else by its own title if that is not the book's."""
    heading = next((block.text for block in part.document.blocks if block.heading), "")
    own = part.document.title
    name = heading or (own if own and own.casefold() != title.casefold() else "")
    return shorten_title(name) or title


def _cut_at(parts: Sequence[_Part], starts: Mapping[tuple[int, int], str], title: str) -> Iterator[BookChapter]:
    """Yield what lies between the places; a file of another kind stands by itself, and so does what comes first."""
    name: str | None = None
    kind = ChapterKind.BODY
    held: list[TextBlock] = []
    for number, part in enumerate(parts):
        is_listed = (number, 0) in starts
        if not is_listed and (part.kind is not kind or name is None):
            if held:
                yield build_chapter(name or title, held, kind)
            held, kind = [], part.kind
            name = _find_title(part, title)
            if (
                number < next(iter(starts))[0]
                and kind is ChapterKind.BODY
                and judge_title(name) is not ChapterKind.BODY
            ):
                kind = judge_title(name)
        for place, block in enumerate(part.document.blocks):
            if (number, place) in starts:
                if held:
                    yield build_chapter(name or title, held, kind)
                name, held = starts[number, place], []
                kind = part.kind if part.kind is not ChapterKind.BODY else judge_title(name)
            held.append(block)
        if not part.document.blocks and is_listed:
            yield BookChapter(starts[number, 0], "", part.kind)  # a picture
        if number + 1 < len(parts) and name is not None and number < next(iter(starts))[0]:
            if held:
                yield build_chapter(name, held, kind)
            name, held = None, []
    if held:
        yield build_chapter(name or title, held, kind)
