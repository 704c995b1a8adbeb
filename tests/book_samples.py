"""Books made for tests: EPUB 2 and 3, PDF, and a cover."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

CONTAINER = (
    '<?xml version="1.0"?><container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0">'
    '<rootfiles><rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles>'
    "</container>"
)
OPS = 'xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"'


def make_png(width: int = 8, height: int = 6) -> bytes:
    """Return a small picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(range(width * 3)) for _ in range(height))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def page(body: str, title: str = "", body_type: str = "") -> str:
    """Return an XHTML file."""
    kind = f' epub:type="{body_type}"' if body_type else ""
    head = f'<?xml version="1.0"?><!DOCTYPE html><html {OPS}><head><title>{title}</title></head>'
    return f"{head}<body{kind}>{body}</body></html>"


def write_zip(path: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write an archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def build_package(files: Sequence[str], extra: str = "", spine: str = "", metadata: str = "") -> str:
    """Return the package of an EPUB whose spine is `files`."""
    items = "".join(
        f'<item id="i{n}" href="{name}" media-type="application/xhtml+xml"/>' for n, name in enumerate(files)
    )
    references = "".join(f'<itemref idref="i{n}"/>' for n in range(len(files)))
    return (
        '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0">'
        '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:opf="http://www.idpf.org/2007/opf">'
        f"<dc:title>The Mill</dc:title><dc:creator>A. Writer</dc:creator>{metadata}</metadata>"
        f"<manifest>{items}{extra}</manifest><spine{spine}>{references}</spine></package>"
    )


def build_nav(entries: str) -> str:
    """Return a navigation document; `entries`: what is inside the list of its table of contents."""
    return page(f'<nav epub:type="toc"><ol>{entries}</ol></nav>')


def build_ncx(points: str) -> str:
    """Return an NCX; `points`: its navPoints."""
    return (
        '<?xml version="1.0"?><!DOCTYPE ncx PUBLIC "-//NISO//DTD ncx 2005-1//EN" "http://www.daisy.org/z3986/2005/ncx.dtd">'
        f'<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/" version="2005-1"><navMap>{points}</navMap></ncx>'
    )


def build_point(title: str, source: str, inner: str = "") -> str:
    """Return a line of an NCX."""
    return f'<navPoint><navLabel><text>{title}</text></navLabel><content src="{source}"/>{inner}</navPoint>'


def make_epub(path: Path, chapters: Sequence[tuple[str, str]], cover: bytes = b"", front: bool = True) -> Path:
    """Write an EPUB 3 of chapters (title, paragraph), with a title page and a cover."""
    names = [f"c{number}.xhtml" for number in range(len(chapters))]
    files: dict[str, str | bytes] = {"META-INF/container.xml": CONTAINER}
    for name, (title, text) in zip(names, chapters, strict=True):
        files[f"OEBPS/{name}"] = page(f"<h1>{title}</h1><p>{text}</p>")
    links = "".join(f'<li><a href="{name}">{title}</a></li>' for name, (title, _) in zip(names, chapters, strict=True))
    extra = '<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
    files["OEBPS/nav.xhtml"] = build_nav(links)
    if cover:
        files["OEBPS/cover.png"] = cover
        extra += '<item id="cover" href="cover.png" media-type="image/png" properties="cover-image"/>'
    if front:
        names.insert(0, "title.xhtml")
        files["OEBPS/title.xhtml"] = page("<h1>The Mill</h1><p>A. Writer</p>", body_type="titlepage")
    files["OEBPS/book.opf"] = build_package(names, extra)
    return write_zip(path, files)


def make_pdf(path: Path, pages: Sequence[Sequence[str]], titles: Sequence[tuple[str, int]] = ()) -> Path:
    """Write a PDF of lines of text, one page each, with bookmarks (title, page from 0)."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R /Outlines 4 0 R >>",
        b"",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"",
    ]
    kids = []
    for lines in pages:
        shown = "".join(f"({line}) Tj T* " for line in lines)
        content = f"BT /F1 12 Tf 14 TL 72 720 Td {shown} ET".encode("latin-1") if lines else b""
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
        kids.append(len(objects) + 1)
        resources = "/Resources << /Font << /F1 3 0 R >> >> /MediaBox [0 0 612 792]"
        objects.append(f"<< /Type /Page /Parent 2 0 R {resources} /Contents {len(objects)} 0 R >>".encode())
    objects[1] = f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(f'{kid} 0 R' for kid in kids)}] >>".encode()
    first = len(objects) + 1
    for number, (title, place) in enumerate(titles):
        following = f"/Next {first + number + 1} 0 R" if number + 1 < len(titles) else ""
        before = f"/Prev {first + number - 1} 0 R" if number else ""
        objects.append(
            f"<< /Title ({title}) /Parent 4 0 R {before} {following} /Dest [{kids[place]} 0 R /Fit] >>".encode()
        )
    ends = f"/First {first} 0 R /Last {len(objects)} 0 R" if titles else ""
    objects[3] = f"<< /Type /Outlines /Count {len(titles)} {ends} >>".encode()
    data, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    data += b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (
        len(objects) + 1,
        table,
        len(objects) + 1,
        len(data),
    )
    path.write_bytes(data)
    return path
