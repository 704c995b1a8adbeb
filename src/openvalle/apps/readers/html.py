"""HTML, also as it lies in an EPUB, -> blocks of text with their headings and anchors, and these -> chapters.

What people write is seldom well-formed, so tags are found one by one and what does not close is closed by what it
stands in. Every sign is looked at a bounded number of times: the time is linear in the length of any text. No entity
is known but HTML's own, and no other file is opened.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from openvalle.apps.readers.book import Book, BookChapter, ChapterKind, has_words, judge_title, say_title, shorten_title
from openvalle.apps.readers.plain import cut_gutenberg
from openvalle.errors import TextError

# Where a quoted value begins, nothing is read beyond the next `<`: no sign is read twice for two tags.
_TAG = re.compile(
    r"<(/?)([a-zA-Z][^\s/<>\"']*+)((?:[^<>\"']++|\"[^\"<]*+\"|'[^'<]*+')*+)>"
    r"|<(/?)([a-zA-Z]\w*+)([^<>]*+)>"  # with quotes that do not close
)
_CHARSET = re.compile(rb"""(?:encoding|charset)\s*=\s*["']?([\w.:-]{1,40})""", re.I)
_ATTRIBUTE = re.compile(r"([^\s=/\"'<>]++)(?:\s*+=\s*+(\"[^\"]*+\"|'[^']*+'|[^\s\"'>]++))?")
_LONG_REFERENCE = re.compile(r"&#(?:[xX][0-9a-fA-F]{7,}|[0-9]{8,});?")  # no sign has such a number
LINE = "\u2028"  # where a line ends that is one: the front ends pause there
_SPACES = re.compile(rf"[^\S\n{LINE}]+")
_BREAKS = re.compile(rf"[ \n]*{LINE}[ \n{LINE}]*")
_RAW = {name: re.compile(f"</{name}", re.I) for name in ("script", "style")}
# fmt: off
_VOID = frozenset({
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr",
})
_BLOCKS = frozenset({
    "p", "div", "section", "article", "header", "footer", "main", "aside", "blockquote", "h1", "h2", "h3", "h4", "h5",
    "h6", "ul", "ol", "li", "dl", "dt", "dd", "table", "tr", "caption", "pre", "figure", "figcaption", "form",
    "fieldset", "address", "body", "center", "hr", "title",
})
_HIDDEN = frozenset({
    "script", "style", "head", "svg", "math", "template", "audio", "video", "iframe", "object", "select", "button",
    "rt", "rp", "nav", "noscript",
})
# fmt: on
_CLOSED_BY_LIKE = frozenset({"p", "li", "dt", "dd", "td", "th", "tr", "option"})
_NOTE_TYPES = {"footnote", "footnotes", "endnote", "endnotes", "rearnote", "rearnotes"}
_MARK = re.compile(r"[\[(]?(?:\d{1,4}|[*\u2020\u2021\u00a7]{1,4}|[a-z]|[ivx]{1,5})[\])]?")
_EMPTY = re.compile(r" ?\[\]")  # what is left of [1] when its link is gone
_MARK_PARTS, _MARK_LENGTH = 8, 64  # pieces of text between tags, and their signs; more of them are no mark
_SUPERSCRIPT = str.maketrans("0123456789", "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")
_UNHEARD = str.maketrans(dict.fromkeys("\u00ad\u200b\u2060\ufeff\u21a9\ufe0e"))  # soft hyphens, ways back from notes
_UNREAD = re.compile(r"\b(?:pagenum|pageno|page-?number|pagebreak|pg-boilerplate|pg-?header|pg-?footer)\b", re.I)


@dataclass(frozen=True)
class Tag:
    """A tag. `name` and the keys of `attributes` are in small letters, the name without its prefix."""

    name: str
    attributes: Mapping[str, str]
    is_end: bool = False
    is_empty: bool = False  # <br/>

    @property
    def types(self) -> set[str]:
        """What EPUB's and ARIA's vocabularies say it is, in EPUB's words."""
        said = f"{self.attributes.get('epub:type', '')} {self.attributes.get('role', '')}".lower().split()
        return {word.removeprefix("doc-") for word in said}


@dataclass
class TextBlock:
    """A paragraph, heading or list item. `heading`: its level, 0 for none; `anchors`: the ids that stand at it."""

    text: str
    heading: int = 0
    anchors: tuple[str, ...] = ()
    is_note: bool = False


@dataclass
class Document:
    """What an HTML file holds. `types`: what EPUB's vocabulary says its body or the sections right in it are."""

    title: str = ""
    author: str = ""
    blocks: list[TextBlock] = field(default_factory=list)
    types: set[str] = field(default_factory=set)


def decode(data: bytes) -> str:
    """Return the text of an HTML file in the encoding that it names, UTF-8 or, as browsers do, Windows-1252."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    named = _CHARSET.search(data[:1024])
    for encoding in (*([named[1].decode()] if named else []), "utf-8"):
        try:
            return data.decode(encoding)
        except (UnicodeError, LookupError, ValueError):
            continue
    return data.decode("cp1252", "replace")


def scan(text: str) -> Iterator[str | Tag]:
    """Yield the text between tags, with its references resolved, and the tags. Comments and declarations are gone."""
    at, has_ends = 0, {"-->": True, "]]>": True}

    def find_end(end: str, start: int) -> int:
        place = text.find(end, start) if has_ends[end] else -1
        has_ends[end] = place >= 0
        return place

    while (tag := text.find("<", at)) >= 0:
        if tag > at:
            yield resolve(text[at:tag])
        at = tag + 1
        if text.startswith("!--", at):
            end = find_end("-->", at)
            at = end + 3 if end >= 0 else at + 3
        elif text.startswith("![CDATA[", at):
            end = find_end("]]>", at)
            yield text[at + 8 : end] if end >= 0 else ""
            at = end + 3 if end >= 0 else at + 8
        elif found := _TAG.match(text, tag):
            at = found.end()
            slash, name, rest = (found[1], found[2], found[3]) if found[2] else (found[4], found[5], found[6])
            name = name.lower().rpartition(":")[2]
            yield Tag(name, _read_attributes(rest), bool(slash), rest.endswith("/"))
            if name in _RAW and not slash and not rest.endswith("/"):
                ending = _RAW[name].search(text, at)
                at = ending.start() if ending else len(text)
        elif text[at : at + 1] in ("!", "?"):
            match = re.compile(r"[^<>]*+>?").match(text, at)
            at = match.end() if match else at
        else:
            yield "<"
    if at < len(text):
        yield resolve(text[at:])


def resolve(text: str) -> str:
    """Return the text with `&eacute;` and `&#233;` as the signs they stand for."""
    return html.unescape(_LONG_REFERENCE.sub("\ufffd", text)) if "&" in text else text


def _read_attributes(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in _ATTRIBUTE.findall(text):
        is_quoted = value[:1] in ('"', "'")
        found.setdefault(name.lower(), resolve(value[1:-1] if is_quoted else value))
    return found


@dataclass(frozen=True)
class _Element:
    """An open element, and what holds for the text in it."""

    name: str
    is_hidden: bool = False
    is_note: bool = False
    is_verbatim: bool = False  # line breaks stand for themselves
    heading: int = 0
    start: int = -1  # where its text begins among the parts, for marks of notes and superscripts
    is_link: bool = False  # to another place


class _Builder:
    """Makes blocks of tags and text."""

    def __init__(self) -> None:
        self.document = Document()
        self.open: list[_Element] = []
        self.names: Counter[str] = Counter()  # of the open elements
        self.parts: list[str] = []  # of the block at hand
        self.anchors: list[str] = []
        self.titles: list[str] | None = None  # while <title> is read

    @property
    def now(self) -> _Element:
        return self.open[-1] if self.open else _Element("")

    def say(self, text: str) -> None:
        """Add text to the block."""
        if self.titles is not None:
            self.titles.append(text)
        elif not self.now.is_hidden:
            self.parts.append(text if self.now.is_verbatim else text.replace("\n", " ").replace("\r", " "))

    def end_block(self) -> None:
        """Put away the block at hand, if there is anything in it."""
        lines = (_SPACES.sub(" ", line).strip(" \r\t") for line in "".join(self.parts).split("\n"))
        text = _BREAKS.sub(LINE, "\n".join(line for line in lines if line)).strip(LINE).translate(_UNHEARD)
        text = _EMPTY.sub("", text) if "[]" in text else text
        self.parts.clear()
        text = text.strip()
        if text:
            now = self.now
            self.document.blocks.append(TextBlock(text, now.heading, tuple(self.anchors), now.is_note))
            self.anchors.clear()

    def start(self, tag: Tag) -> None:
        """Open an element."""
        name, attributes, types = tag.name, tag.attributes, tag.types
        if name == "body":
            self._close_all()
        if name in _BLOCKS:
            if self.now.name == name and name in _CLOSED_BY_LIKE:
                self.end(name)
            self.end_block()
        elif self.now.name == name and name in _CLOSED_BY_LIKE:  # a cell
            self.end(name)
        self.anchors += [attributes[key] for key in ("id", "name") if attributes.get(key) and name != "meta"]
        if name == "meta" and attributes.get("name", "").lower() in ("author", "dc.creator"):
            self.document.author = self.document.author or attributes.get("content", "").strip()
        if name in ("body", "section") and len(self.open) <= 3:
            self.document.types |= types
        if name == "br" and not self.now.is_hidden:
            self.parts.append(LINE)
        elif name == "img" and len(attributes.get("alt", "")) == 1:  # an initial drawn as a picture
            self.say(attributes["alt"])
        elif name in ("td", "th") and "".join(self.parts[-3:]).strip():
            self.say(", ")
        elif name == "q":
            self.say("\u201c")
        if name in _VOID or tag.is_empty:
            return
        if name == "title" and not self.document.title and not self.names["svg"]:
            self.titles = []
        before = self.now
        is_page = "pagebreak" in types or _UNREAD.search(attributes.get("class", "")) is not None
        is_reference = "noteref" in types
        heading = int(name[1]) if re.fullmatch("h[1-6]", name) else 0
        self._push(
            _Element(
                name,
                before.is_hidden or name in _HIDDEN or "hidden" in attributes or is_page or is_reference,
                before.is_note or bool(_NOTE_TYPES & {*types, *attributes.get("class", "").lower().split()}),
                before.is_verbatim or name == "pre",
                heading or before.heading,
                len(self.parts) if name in ("a", "sup") else -1,
                before.is_link or (name == "a" and "#" in attributes.get("href", "")),
            )
        )

    def end(self, name: str) -> None:
        """Close the innermost element of that name, with all that is open in it."""
        if not self.names[name]:
            return
        while True:
            if self.now.name in _BLOCKS:
                self.end_block()
            element = self.open.pop()
            self.names[element.name] -= 1
            if element.start >= 0:
                self._look_for_mark(element)
            if element.name == "q":
                self.say("\u201d")
            if element.name == "title" and self.titles is not None:
                self.document.title, self.titles = " ".join("".join(self.titles).split()), None
            if element.name == name:
                return

    def finish(self) -> Document:
        """Return what was read."""
        self._close_all()
        self.end_block()
        return self.document

    def _push(self, element: _Element) -> None:
        self.open.append(element)
        self.names[element.name] += 1

    def _close_all(self) -> None:
        while self.open:
            self.end(self.now.name)

    def _look_for_mark(self, element: _Element) -> None:
        """Leave out the mark of a note; figures that stand high and lead nowhere become superscripts."""
        parts = self.parts[element.start : element.start + _MARK_PARTS + 1]
        if len(parts) > _MARK_PARTS or sum(map(len, parts)) > _MARK_LENGTH:
            return
        held = "".join(parts)
        inner = held.strip()
        before = "".join(self.parts[max(0, element.start - 2) : element.start])
        if element.is_link and _MARK.fullmatch(inner):
            is_high = element.name == "sup" or inner[0] in "[(*\u2020\u2021\u00a7"
            if is_high or (before and not before[-1].isspace()):
                del self.parts[element.start :]
        elif element.name == "sup" and inner.isascii() and inner.isdigit():
            self.parts[element.start :] = [held.translate(_SUPERSCRIPT)]


def read_document(text: str) -> Document:
    """Return the blocks of an HTML file."""
    builder = _Builder()
    for piece in scan(text):
        if isinstance(piece, str):
            builder.say(piece)
        elif piece.is_end:
            builder.end(piece.name)
        else:
            builder.start(piece)
    document = builder.finish()
    document.blocks = document.blocks[cut_gutenberg([block.text for block in document.blocks])]
    return document


def build_chapter(title: str, blocks: Sequence[TextBlock], kind: ChapterKind = ChapterKind.BODY) -> BookChapter:
    """Return the chapter that the blocks make; its heading is said first."""
    paragraphs = [block.text for block in blocks if not block.is_note]
    notes = tuple(block.text for block in blocks if block.is_note)
    title = shorten_title(title)
    if kind is ChapterKind.NOTES:
        paragraphs, notes = [block.text for block in blocks], ()
    return BookChapter(title, "\n\n".join(say_title(title, paragraphs)), kind, notes)


def split_at_headings(blocks: Sequence[TextBlock], title: str) -> list[BookChapter]:
    """Return the chapters of blocks that have no table of contents: cut at the highest level that several headings
    have; what comes before the first one is called `title`."""
    levels = Counter(block.heading for block in blocks if block.heading and not block.is_note)
    level = min((level for level, count in levels.items() if count > 1), default=min(levels, default=0))
    parts: list[tuple[str, list[TextBlock]]] = [(title, [])]
    for block in blocks:
        if block.heading and block.heading <= level and not block.is_note:
            if not any(not each.heading for each in parts[-1][1]) and len(parts) > 1 and not _is_peer(parts, block):
                parts[-1][1].append(block)  # a subtitle, or the chapter's name under its number
                parts[-1] = (f"{parts[-1][0]}: {block.text}", parts[-1][1])
                continue
            parts.append((block.text, []))
        parts[-1][1].append(block)
    return [
        build_chapter(name, held, judge_title(name)) for name, held in parts if any(has_words(b.text) for b in held)
    ]


def _is_peer(parts: Sequence[tuple[str, list[TextBlock]]], block: TextBlock) -> bool:
    """Return True if a heading that follows on a heading is of the same level: then the first had no text."""
    return parts[-1][1][-1].heading == block.heading


def read_html(text: str, title: str) -> Book:
    """Return the book in an HTML file. `TextError` if there are no words in it."""
    document = read_document(text)
    chapters = split_at_headings(document.blocks, document.title or title)
    if not chapters:
        raise TextError("the book holds no words", "give a file with text in it")
    return Book(document.title or title, tuple(chapters), document.author)
