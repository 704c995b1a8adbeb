"""EPUB: what reading systems make of a book, and books that are broken, protected or made to do harm."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from book_samples import (
    CONTAINER,
    build_nav,
    build_ncx,
    build_package,
    build_point,
    make_epub,
    make_png,
    page,
    write_zip,
)
from openvalle.apps.readers import archive
from openvalle.apps.readers.book import Book, ChapterKind
from openvalle.apps.readers.epub import read_epub
from openvalle.errors import TextError

NAV = '<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
NCX = '<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'


def read(tmp_path: Path, files: dict[str, str | bytes], order: list[str], extra: str = "", **how: str) -> Book:
    """Return the book of an EPUB with these files in OEBPS/."""
    whole: dict[str, str | bytes] = {"META-INF/container.xml": CONTAINER}
    whole |= {f"OEBPS/{name}": data for name, data in files.items()}
    whole["OEBPS/book.opf"] = build_package(order, extra, **how)
    return read_epub(write_zip(tmp_path / "a.epub", whole))


def body_of(book: Book) -> list[tuple[str, str]]:
    return [(chapter.title, chapter.text) for chapter in book.select().chapters]


def test_epub_3_with_cover_title_page_and_author(tmp_path: Path) -> None:
    path = make_epub(tmp_path / "a.epub", [("One", "It was <b>late</b>."), ("Two", "Hi &amp; bye.")], make_png())
    book = read_epub(path)
    assert (book.title, book.author, book.cover, book.warnings) == ("The Mill", "A. Writer", make_png(), ())
    assert [chapter.kind for chapter in book.chapters] == [ChapterKind.FRONT_MATTER, ChapterKind.BODY, ChapterKind.BODY]
    assert body_of(book) == [("One", "One\n\nIt was late."), ("Two", "Two\n\nHi & bye.")]
    assert len(book.select(front_matter=True).chapters) == 3


def test_epub_2_with_ncx_nested_and_anchors_in_one_file(tmp_path: Path) -> None:
    text = (
        '<h1 id="p1">Part One</h1><h2 id="c1">1</h2><p>It was late.</p>'
        '<div id="c2"><h2>2</h2><p>It was early.</p></div><p>More.</p>'
    )
    points = build_point("Part One", "text/all.xhtml#p1", build_point("1", "text/all.xhtml#c1"))
    points += build_point("The second", "text/all%2Exhtml#c2") + build_point("Notes", "text/n.xhtml")
    files = {"text/all.xhtml": page(text), "text/n.xhtml": page("<p>A note.</p>"), "toc.ncx": build_ncx(points)}
    cover = '<meta name="cover" content="pic"/>'
    files["pic.png"] = make_png()
    extra = NCX + '<item id="pic" href="pic.png" media-type="image/png"/>'
    book = read(tmp_path, files, ["text/all.xhtml", "text/n.xhtml"], extra, spine=' toc="ncx"', metadata=cover)
    assert body_of(book) == [
        ("Part One: 1", "Part One\n\n1\n\nIt was late."),
        ("The second", "The second\n\n2\n\nIt was early.\n\nMore."),
    ]
    assert book.chapters[-1].kind is ChapterKind.NOTES
    assert book.cover == make_png()


def test_a_chapter_may_span_files_and_files_without_a_line_belong_to_what_comes_before(tmp_path: Path) -> None:
    files = {
        "cover.xhtml": page('<img src="c.png"/>', body_type="cover"),
        "intro.xhtml": page("<p>All rights reserved.</p>", "Copyright"),
        "a.xhtml": page("<h1>One</h1><p>A.</p>"),
        "a2.xhtml": page("<p>B.</p>"),
        "b.xhtml": page("<h1>Two</h1><p>C.</p>"),
        "about.xhtml": page("<h1>About the Author</h1><p>D.</p>"),
    }
    links = "".join(
        f'<li><a href="{n}.xhtml">{t}</a></li>' for n, t in [("a", "One"), ("b", "Two"), ("about", "About the Author")]
    )
    book = read(tmp_path, {**files, "nav.xhtml": build_nav(links)}, list(files), NAV)
    assert body_of(book) == [("One", "One\n\nA.\n\nB."), ("Two", "Two\n\nC.")]
    kinds = {chapter.title: chapter.kind for chapter in book.chapters}
    assert kinds == {
        "Copyright": ChapterKind.FRONT_MATTER,
        "One": ChapterKind.BODY,
        "Two": ChapterKind.BODY,
        "About the Author": ChapterKind.FRONT_MATTER,
    }


def test_notes_and_their_marks_are_left_out_and_read_when_asked_for(tmp_path: Path) -> None:
    text = (
        '<h1>One</h1><p>The claim<a epub:type="noteref" href="#n1">1</a> is old<sup><a href="#n2">2</a></sup>, and '
        '10<sup>3</sup> times [<a href="#n3">3</a>] wrong.<a href="x.xhtml#t">See there</a>.</p>'
        '<aside epub:type="footnote" id="n1"><p>1. By nobody. <a href="#r">\u21a9</a></p></aside>'
        '<span epub:type="pagebreak" title="7">7</span><p>The end.</p>'
    )
    book = read(tmp_path, {"a.xhtml": page(text)}, ["a.xhtml"])
    assert body_of(book) == [("One", "One\n\nThe claim is old, and 10\u00b3 times wrong.See there.\n\nThe end.")]
    assert book.select(notes=True).chapters[0].text.endswith("The end.\n\n1. By nobody.")


def test_broken_contents_are_made_up_for_by_headings(tmp_path: Path) -> None:
    files = {"a.xhtml": page("<h1>One</h1><p>A.</p>"), "b.xhtml": page("<h1>Two</h1><p>B.</p>")}
    book = read(tmp_path, {**files, "toc.ncx": "<ncx><navMap>"}, list(files), NCX)
    assert body_of(book) == [("One", "One\n\nA."), ("Two", "Two\n\nB.")]
    assert "table of contents cannot be read" in book.warnings[0]
    links = '<li><a href="gone.xhtml">Gone</a></li><li><a href="b.xhtml#gone">Two</a></li>'
    book = read(tmp_path, {**files, "nav.xhtml": build_nav(links)}, list(files), NAV)
    assert body_of(book) == [("One", "One\n\nA."), ("Two", "Two\n\nB.")], "one place is no table of contents"
    assert "'Gone' is nowhere in the book" in book.warnings[0]


def test_files_that_are_missing_or_pictures_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    files = {"a.xhtml": page("<h1>One</h1><p>A.</p>"), "map.xhtml": page('<h1></h1><img src="map.png"/>')}
    links = '<li><a href="a.xhtml">One</a></li><li><a href="map.xhtml">Map</a></li>'
    book = read(tmp_path, {**files, "nav.xhtml": build_nav(links)}, ["a.xhtml", "map.xhtml", "gone.xhtml"], NAV)
    assert body_of(book) == [("One", "One\n\nA.")]
    assert any("gone.xhtml" in warning for warning in book.warnings)
    assert any("'Map' holds no words" in warning for warning in book.warnings)


def test_titles_of_300_characters_and_signs_of_any_kind(tmp_path: Path) -> None:
    book = read_epub(make_epub(tmp_path / "a.epub", [("x" * 300, "A."), ("a\tb\u0007 \u202e c " * 40, "B.")]))
    titles = [chapter.title for chapter in book.select().chapters]
    assert all(len(title) <= 120 and title.isprintable() for title in titles)
    assert "x" * 300 in book.select().chapters[0].text, "nothing is lost"


@pytest.mark.parametrize("encoding", ["utf-16", "iso-8859-1", "cp1252"])
def test_encodings_are_what_files_say_or_what_browsers_take(tmp_path: Path, encoding: str) -> None:
    text = page("<h1>Caf\u00e9</h1><p>It was \u00e9t\u00e9.</p>")
    if encoding == "iso-8859-1":
        text = text.replace("?>", f' encoding="{encoding}"?>', 1)
    assert body_of(read(tmp_path, {"a.xhtml": text.encode(encoding)}, ["a.xhtml"]))[0][0] == "Caf\u00e9"


def test_entities_that_xml_does_not_know(tmp_path: Path) -> None:
    files = {"a.xhtml": page("<h1>One&nbsp;1</h1><p>A&hellip;</p>"), "b.xhtml": page("<p>B.</p>")}
    ncx = build_ncx(build_point("One&nbsp;1", "a.xhtml") + build_point("Two", "b.xhtml"))
    ncx = ncx[: ncx.index("<!DOCTYPE")] + ncx[ncx.index("<ncx") :]
    book = read(tmp_path, {**files, "toc.ncx": ncx}, list(files), NCX)
    assert [title for title, _ in body_of(book)] == ["One 1", "Two"]
    assert not book.warnings


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("declared", [LAUGHS, OUTSIDE])
def test_entities_are_neither_grown_nor_fetched(tmp_path: Path, declared: str) -> None:
    package = build_package(["a.xhtml"]).replace("?>", f"?>{declared}", 1).replace("The Mill", "&a;")
    files = {"META-INF/container.xml": CONTAINER, "OEBPS/book.opf": package, "OEBPS/a.xhtml": page("<p>A.</p>")}
    with pytest.raises(TextError, match="declares entities"):
        read_epub(write_zip(tmp_path / "a.epub", files))
    chapter = page("<p>A &a; B.</p>").replace("<!DOCTYPE html>", declared)
    text = body_of(read(tmp_path, {"a.xhtml": chapter}, ["a.xhtml"]))[0][1]
    assert "root:" not in text and "ha" not in text


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_BYTES", 10_000)
    files = {"a.xhtml": page("<p>A.</p>"), "b.xhtml": "<p>" + " " * 100_000}
    with pytest.raises(TextError, match=r"b\.xhtml unpacks to more than a book holds"):
        read(tmp_path, files, list(files))
    monkeypatch.setattr(archive, "MOST_TEXT", 5_000)
    files = {f"{number}.xhtml": page("A." + " " * 3_000) for number in range(3)}
    with pytest.raises(TextError, match="unpacks to more"):
        read(tmp_path, files, list(files))


def test_deep_nesting_ends_in_one_line(tmp_path: Path) -> None:
    package = build_package(["a.xhtml"], "<x>" * 10_000 + "</x>" * 10_000)
    files = {"META-INF/container.xml": CONTAINER, "OEBPS/book.opf": package, "OEBPS/a.xhtml": page("<p>A.</p>")}
    with pytest.raises(TextError, match="nested more than"):
        read_epub(write_zip(tmp_path / "a.epub", files))
    assert body_of(read(tmp_path, {"a.xhtml": page("<div>" * 100_000 + "A.")}, ["a.xhtml"]))[0][1].endswith("A.")


def test_protected_books_and_harmless_scrambled_fonts(tmp_path: Path) -> None:
    def lock(method: str) -> dict[str, str | bytes]:
        data = f'<encryption><EncryptedData><EncryptionMethod Algorithm="{method}"/></EncryptedData></encryption>'
        files = {"META-INF/container.xml": CONTAINER, "META-INF/encryption.xml": data}
        return {**files, "OEBPS/book.opf": build_package(["a.xhtml"]), "OEBPS/a.xhtml": page("<p>A.</p>")}

    with pytest.raises(TextError, match="DRM"):
        read_epub(write_zip(tmp_path / "a.epub", lock("http://www.w3.org/2001/04/xmlenc#aes256-cbc")))
    assert read_epub(write_zip(tmp_path / "b.epub", lock("http://www.idpf.org/2008/embedding"))).chapters


def test_paths_that_lead_out_of_the_archive_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret.xhtml").write_text(page("<p>Secret.</p>"))
    with pytest.raises(TextError, match="holds no words"):
        read(tmp_path, {}, ["../../secret.xhtml"])


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_off(tmp_path: Path, cut: float) -> None:
    path = make_epub(tmp_path / "a.epub", [("One", "A.")])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * cut)])
    with pytest.raises(TextError, match="damaged"):
        read_epub(path)


def test_a_file_whose_bytes_were_changed(tmp_path: Path) -> None:
    path = make_epub(tmp_path / "a.epub", [("One", "A." * 2000)])
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as held:
        place = held.getinfo("OEBPS/c0.xhtml").header_offset
    for at in range(place + 44, place + 80, 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            read_epub(path)
        except TextError as error:
            assert "\n" not in str(error)
