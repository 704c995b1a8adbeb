"""The files in an EPUB, and XML without entities and without other files.

An archive is never unpacked to disk, and no more of it is read than a book has.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.entities import html5
from pathlib import Path
from xml.parsers import expat

from openvalle.apps.readers.html import decode
from openvalle.errors import TextError

MOST_BYTES = 64_000_000  # that one file of a book unpacks to
MOST_TEXT = 256_000_000  # that all of them do
DEEPEST = 200  # elements inside each other
_NAMED = re.compile(r"&(?!(?:amp|lt|gt|quot|apos);)(\w+;)")


@dataclass
class Node:
    """An element of an XML file; names without their prefixes."""

    name: str
    attributes: Mapping[str, str]
    children: list[Node] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Its own text, on one line."""
        return " ".join("".join(self.pieces).split())

    def walk(self, *names: str) -> Iterator[Node]:
        """Yield the elements of these names in it, in the order of the file."""
        waiting = self.children[::-1]
        while waiting:
            node = waiting.pop()
            if node.name in names:
                yield node
            waiting += node.children[::-1]


def parse_xml(data: bytes, label: str) -> Node:
    """Return the root of an XML file; `TextError` if it cannot be read, or declares entities."""
    try:
        return _parse(data, label)
    except TextError:
        text = decode(data)  # &nbsp; and the like, which XML does not know
        if not _NAMED.search(text):
            raise
        text = re.sub(r"^\s*<\?xml[^>]*\?>", "", text)
        return _parse(_NAMED.sub(lambda found: html5.get(found[1], " "), text).encode(), label)


def _parse(data: bytes, label: str) -> Node:
    root = Node("", {})
    path = [root]

    def start(name: str, attributes: Mapping[str, str]) -> None:
        if len(path) > DEEPEST:
            raise TextError(f"{label} is nested more than {DEEPEST} deep", "the book is damaged; get another copy")
        node = Node(name.rpartition(":")[2], {key.rpartition(":")[2]: value for key, value in attributes.items()})
        path[-1].children.append(node)
        path.append(node)

    def refuse(*_: object) -> None:
        raise TextError(f"{label} declares entities, which no book needs", "get another copy of the book")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda name: path.pop()
    parser.CharacterDataHandler = lambda text: path[-1].pieces.append(text)
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # an encoding that is not known, or is none
        raise TextError(f"{label} is damaged ({error})", "get another copy of the book") from None
    return root


class Archive:
    """The files of an EPUB. Names are looked up as written, decoded, and whatever their case."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
            raise TextError(f"{path} is damaged ({error})", "get another copy of the book") from None
        self._infos = {info.filename: info for info in self._zip.infolist()}
        self._folded = {name.casefold(): info for name, info in self._infos.items()}
        self._read = 0

    def close(self) -> None:
        self._zip.close()

    def has(self, name: str) -> bool:
        return name in self._infos or name.casefold() in self._folded

    def read(self, name: str) -> bytes:
        """Return what is in a file; `TextError` for one that is missing, damaged, locked or grows without measure."""
        info = self._infos.get(name) or self._folded.get(name.casefold())
        if info is None:
            raise TextError(f"{self.path} holds no {name}", "it is no complete EPUB; get another copy")
        if info.flag_bits & 1:
            raise TextError(f"{self.path} is locked with a password", "give a copy without one")
        try:
            with self._zip.open(info) as file:
                data = file.read(MOST_BYTES + 1)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, OSError, EOFError, ValueError) as error:
            raise TextError(f"{self.path}: {name} is damaged ({error})", "get another copy of the book") from None
        self._read += len(data)
        if len(data) > MOST_BYTES or self._read > MOST_TEXT:
            raise TextError(
                f"{self.path}: {name} unpacks to more than a book holds", "it may be made to do harm; it is not read"
            )
        return data
