"""EPUBs in the shapes that large makers give them: Project Gutenberg, calibre, Standard Ebooks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from book_samples import CONTAINER, build_nav, build_ncx, build_package, build_point, page, write_zip
from openvalle.apps.readers.book import Book, ChapterKind
from openvalle.apps.readers.epub import read_epub

GUTENBERG = {
    "0.xhtml": page(
        '<section class="pg-boilerplate pgheader" id="pg-header"><h2><span>The Project Gutenberg eBook of The Mill'
        "</span></h2><div>This eBook is for anyone.</div><div id='pg-start-separator'><span>*** START OF THE PROJECT "
        "GUTENBERG EBOOK THE MILL ***</span></div></section><h1 id='a0'>THE MILL</h1><h3 id='a1'>by A. Writer</h3>"
        '<p class="center">LONDON<br/>HILL AND CO.<br/>1890</p>'
    ),
    "1.xhtml": page(
        '<p><span class="pagenum" id="Page_7">[Pg 7]</span></p><h2 id="c1">CHAPTER I.<br/><span>THE RIVER</span></h2>'
        '<p><span class="smcap">It was</span> late.<a name="FNanchor_1" id="FNanchor_1"></a><a href="#Footnote_1" '
        'class="fnanchor">[1]</a> No&shy;body spoke in the <span class="pagenum"><a id="Page_8">8</a></span>house.</p>'
        '<div class="poem"><span class="i0">O river, run,<br/></span><span class="i2">till day.<br/></span></div>'
        '<div class="footnotes"><h3>FOOTNOTES:</h3><div class="footnote"><p><a id="Footnote_1"></a><a '
        'href="#FNanchor_1"><span class="label">[1]</span></a> Of the clock.</p></div></div>'
        '<h2 id="c2">CHAPTER II.<br/>THE WHEEL</h2><p>It stood still.</p>'
        '<div class="transnote"><h2 id="t">Transcriber&#8217;s Notes</h2><p>Spelling was kept.</p></div>'
    ),
    "2.xhtml": page(
        '<section class="pg-boilerplate pgfooter" id="pg-footer"><div>*** END OF THE PROJECT GUTENBERG EBOOK ***</div>'
        '<h2 id="l">THE FULL PROJECT GUTENBERG LICENSE</h2><p>Much law.</p></section>'
    ),
}
GUTENBERG_POINTS = (
    build_point("THE MILL", "0.xhtml#a0", build_point("by A. Writer", "0.xhtml#a1"))
    + build_point("CHAPTER I. THE RIVER", "1.xhtml#c1")
    + build_point("CHAPTER II. THE WHEEL", "1.xhtml#c2")
    + build_point("Transcriber\u2019s Notes", "1.xhtml#t")
    + build_point("THE FULL PROJECT GUTENBERG LICENSE", "2.xhtml#l")
)


def read(tmp_path: Path, files: Mapping[str, str], **contents: str) -> Book:
    """Return the book of pages with an NCX or a nav."""
    extra, spine, others = "", "", {}
    if "ncx" in contents:
        extra, spine = '<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>', ' toc="ncx"'
        others["OEBPS/toc.ncx"] = build_ncx(contents["ncx"])
    else:
        extra = '<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
        others["OEBPS/nav.xhtml"] = build_nav(contents["nav"])
    package = build_package(list(files), extra, spine)
    pages = {f"OEBPS/{name}": text for name, text in files.items()}
    path = write_zip(
        tmp_path / "book.epub",
        {"META-INF/container.xml": CONTAINER, "OEBPS/book.opf": package, **others, **pages},
    )
    return read_epub(path)


@pytest.mark.parametrize("kind", ["ncx", "nav"])
def test_project_gutenberg(tmp_path: Path, kind: str) -> None:
    links = "".join(
        f'<li><a href="{place}">{title}</a></li>'
        for title, place in (
            ("THE MILL", "0.xhtml#a0"),
            ("CHAPTER I. THE RIVER", "1.xhtml#c1"),
            ("CHAPTER II. THE WHEEL", "1.xhtml#c2"),
            ("Transcriber\u2019s Notes", "1.xhtml#t"),
            ("THE FULL PROJECT GUTENBERG LICENSE", "2.xhtml#l"),
        )
    )
    book = read(tmp_path, GUTENBERG, **{kind: GUTENBERG_POINTS if kind == "ncx" else links})
    assert [(each.title, each.text) for each in book.chapters if each.kind is ChapterKind.BODY] == [
        (
            "CHAPTER I. THE RIVER",
            "CHAPTER I.\u2028THE RIVER\n\nIt was late. Nobody spoke in the house.\n\nO river, run,\u2028till day.",
        ),
        ("CHAPTER II. THE WHEEL", "CHAPTER II.\u2028THE WHEEL\n\nIt stood still."),
    ]
    assert not book.warnings
    assert "Of the clock." in book.select(notes=True).chapters[0].text
    assert "anyone" not in "".join(each.text for each in book.chapters)


def test_project_gutenberg_of_earlier_years(tmp_path: Path) -> None:
    pages = {
        "0.xhtml": page(
            "<pre>The Project Gutenberg EBook of The Mill\nThis eBook is for anyone.\n\n*** START OF THIS PROJECT "
            "GUTENBERG EBOOK THE MILL ***</pre><h2 id='c1'>I</h2><p>It was late.</p>"
        ),
        "1.xhtml": page(
            "<h2 id='c2'>II</h2><p>It stood still.</p><p>End of the Project Gutenberg EBook of The Mill</p>"
            "<pre>*** END OF THIS PROJECT GUTENBERG EBOOK THE MILL ***\nMuch law.</pre>"
        ),
    }
    book = read(tmp_path, pages, ncx=build_point("I", "0.xhtml#c1") + build_point("II", "1.xhtml#c2"))
    assert [each.text for each in book.chapters] == ["I\n\nIt was late.", "II\n\nIt stood still."]


def test_calibre(tmp_path: Path) -> None:
    pages = {
        "0.html": page('<p class="calibre1"><b>The Mill</b></p><p class="calibre1"><b>A. Writer</b></p>'),
        "1.html": page('<p class="calibre1">Copyright &copy; 2010 A. Writer.</p>'),
        "2.html": page(
            '<a id="filepos10"></a><p class="calibre_12"><b>CHAPTER ONE</b></p><p>&nbsp;</p><p><span>I</span><span>t '
            'was late.</span> &#8220;No,&#8221; he said<a href="4.html#filepos9"><sup>1</sup></a>.</p>'
        ),
        "3.html": page('<a id="filepos20"></a><p class="calibre_12"><b>CHAPTER TWO</b></p><p>It stood still.</p>'),
        "4.html": page('<p><b>NOTES</b></p><p id="filepos9"><a href="2.html#x">1</a>. Of the clock.</p>'),
    }
    places = (("The Mill", "0.html"), ("Copyright", "1.html"), ("CHAPTER ONE", "2.html#filepos10"))
    places += (("CHAPTER TWO", "3.html#filepos20"), ("NOTES", "4.html"))
    book = read(tmp_path, pages, ncx="".join(build_point(*each) for each in places))
    kinds = [ChapterKind.FRONT_MATTER, ChapterKind.FRONT_MATTER, ChapterKind.BODY, ChapterKind.BODY, ChapterKind.NOTES]
    assert [each.kind for each in book.chapters] == kinds
    assert book.chapters[2].text == "CHAPTER ONE\n\nIt was late. \u201cNo,\u201d he said."


def test_standard_ebooks(tmp_path: Path) -> None:
    roman = '<span epub:type="z3998:roman">I</span>'
    pages = {
        "titlepage.xhtml": page('<section epub:type="titlepage"><h1>The Mill</h1><p>By A. Writer.</p></section>'),
        "imprint.xhtml": page('<section epub:type="imprint"><h2>Imprint</h2><p>Made by hand.</p></section>'),
        "halftitle.xhtml": page('<section epub:type="halftitlepage"><h2>The Mill</h2></section>'),
        "part.xhtml": page(f'<section epub:type="part"><hgroup><h2>Part {roman}</h2><p>Water</p></hgroup></section>'),
        "one.xhtml": page(
            '<section epub:type="chapter"><hgroup><h3 epub:type="ordinal z3998:roman">I</h3><p epub:type="title">The '
            'River</p></hgroup><p>It was late, said <abbr epub:type="z3998:name-title">Mr.</abbr> Dale.<a '
            'href="notes.xhtml#note-1" id="noteref-1" epub:type="noteref">1</a></p><p>\u201cHe\u2060\u2014he\u2060'
            '\u2014left at 7:30 <abbr class="eoc">a.m.</abbr>\u201d</p></section>'
        ),
        "two.xhtml": page('<section epub:type="chapter"><h3>II</h3><p>It stood still.</p></section>'),
        "notes.xhtml": page(
            '<section epub:type="endnotes"><h2>Endnotes</h2><ol><li epub:type="endnote"><p>Of the clock. <a '
            'href="one.xhtml#noteref-1" epub:type="backlink">\u21a9\ufe0e</a></p></li></ol></section>'
        ),
        "uncopyright.xhtml": page('<section epub:type="copyright-page"><h2>Uncopyright</h2><p>Be good.</p></section>'),
    }
    nav = (
        '<li><a href="titlepage.xhtml">Titlepage</a></li><li><a href="imprint.xhtml">Imprint</a></li><li><a '
        f'href="halftitle.xhtml">The Mill</a><ol><li><a href="part.xhtml">Part {roman}: Water</a><ol><li><a '
        f'href="one.xhtml">{roman}: The River</a></li><li><a href="two.xhtml">II</a></li></ol></li></ol></li><li><a '
        'href="notes.xhtml">Endnotes</a></li><li><a href="uncopyright.xhtml">Uncopyright</a></li>'
    )
    book = read(tmp_path, pages, nav=nav)
    assert [(each.title, each.text) for each in book.select().chapters] == [
        (
            "Part I: Water: I: The River",
            "Part I\n\nWater\n\nI\n\nThe River\n\nIt was late, said Mr. Dale.\n\n\u201cHe\u2014he\u2014left at 7:30 "
            "a.m.\u201d",
        ),
        ("II", "II\n\nIt stood still."),
    ]
    assert [each.title for each in book.chapters if each.kind is ChapterKind.NOTES] == ["Endnotes"]
