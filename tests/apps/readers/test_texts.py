"""Plain text in the shapes that people and Project Gutenberg write, Markdown, PDF, and what is none of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from book_samples import make_epub, make_pdf, write_zip
from openvalle.apps.readers.book import Book, BookChapter, ChapterKind, join_title_pages, judge_title, shorten_title
from openvalle.apps.readers.load import read_book
from openvalle.apps.readers.markdown import read_markdown
from openvalle.apps.readers.plain import read_plain
from openvalle.errors import ConfigError, TextError, UserError

GUTENBERG = """\ufeffThe Project Gutenberg eBook of The Mill

This ebook is for the use of anyone anywhere.

Title: The Mill
        and the River

Author: A. Writer

Character set encoding: UTF-8

*** START OF THE PROJECT GUTENBERG EBOOK THE MILL ***

THE MILL

CONTENTS

CHAPTER I. The River

CHAPTER II. The Wheel

[Illustration: A mill]

CHAPTER I. The River

It was late[1] and the _wheel_
stood still.

[Footnote 1: Past nine.]

CHAPTER II. The Wheel

It was early. [Pg 12]

*** END OF THE PROJECT GUTENBERG EBOOK THE MILL ***

Updated editions will replace the previous one.
"""


def test_gutenberg(tmp_path: Path) -> None:
    (tmp_path / "mill.txt").write_text(GUTENBERG, encoding="utf-8")
    book = read_book(tmp_path / "mill.txt")
    assert (book.title, book.author) == ("The Mill and the River", "A. Writer")
    chapters = book.select().chapters
    assert [chapter.title for chapter in chapters] == ["CHAPTER I. The River", "CHAPTER II. The Wheel"]
    assert "It was late and" in chapters[0].text
    whole = "\n".join(chapter.text for chapter in chapters)
    assert not any(word in whole for word in ("Gutenberg", "Illustration", "Footnote", "[1]", "Pg", "Updated"))
    assert "Past nine." in book.select(notes=True).chapters[-1].text


def test_texts_in_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("Café.".encode("utf-16"))
    assert read_book(path).chapters[0].text == "Café."
    path.write_bytes(GUTENBERG.replace("UTF-8", "ISO-8859-1").replace("late", "été").lstrip("\ufeff").encode("latin-1"))
    assert "été" in read_book(path).select().chapters[0].text
    path.write_bytes("Café.".encode("latin-1"))
    with pytest.raises(TextError, match=r"a\.txt is not UTF-8; save it as UTF-8 first"):
        read_book(path)
    path.write_bytes(bytes(range(128)))
    with pytest.raises(TextError, match="control characters"):
        read_book(path)


def test_markdown() -> None:
    text = (
        "---\ntitle: The Mill\nauthor: 'A. Writer'\n---\nTo you.\n\n"
        "# One *day*\nIt was [late](x.html).[^1]\n\n## Part\n\n"
        "```\n# no heading\n```\n\nTwo\n===\n\nB.\n<!-- not\nthis -->\n\n[^1]: By nobody.\n\n[x]: http://example.org\n"
    )
    book = read_markdown(text, "mill")
    assert (book.title, book.author) == ("The Mill", "A. Writer")
    assert [(chapter.title, chapter.kind) for chapter in book.chapters] == [
        ("The Mill", ChapterKind.BODY),
        ("One day", ChapterKind.BODY),
        ("Two", ChapterKind.BODY),
        ("Footnotes", ChapterKind.NOTES),
    ]
    assert book.chapters[1].text == "One day\n\nIt was [late](x.html).\n\nPart\n\n# no heading"
    assert book.chapters[2].text == "Two\n\nB."
    assert book.chapters[3].text == "Footnotes\n\nBy nobody."


def test_pdf(tmp_path: Path) -> None:
    pytest.importorskip("pypdf")
    line = "It was a dark and stormy night and nobody was out there at all,"
    ends = ["It ended.", "Nobody came.", "He left.", "She stayed.", "They met."]
    pages = [["The Mill", f"Chapter {n}", line, "and so on.", end, str(n)] for n, end in enumerate(ends, 1)]
    book = read_book(make_pdf(tmp_path / "a.pdf", pages, [(f"Chapter {n}", n - 1) for n in range(1, 6)]))
    assert [chapter.title for chapter in book.chapters] == [f"Chapter {n}" for n in range(1, 6)]
    assert book.chapters[1].text == f"Chapter 2\n\n{line}\nand so on.\n\nNobody came."
    assert "does not say what belongs together" in book.warnings[-1]
    without = read_book(make_pdf(tmp_path / "b.pdf", pages))
    assert [chapter.title for chapter in without.chapters] == [f"Chapter {n}" for n in range(1, 6)]


def test_pdf_without_text_or_damaged(tmp_path: Path) -> None:
    pytest.importorskip("pypdf")
    with pytest.raises(TextError, match=r"pictures of pages.*OCR"):
        read_book(make_pdf(tmp_path / "a.pdf", [[], []]))
    path = make_pdf(tmp_path / "b.pdf", [["Hi."]])
    whole = path.read_bytes()
    for data in (b"%PDF-1.4\n", whole[:100], whole.replace(b"/Page ", b"/Nope ")):
        path.write_bytes(data)
        with pytest.raises(TextError) as found:
            read_book(path)
        assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{\\rtf1 x}", "an RTF document"),
        (b"\xd0\xcf\x11\xe0" + b"\0" * 50, "a Word document"),
        (b"x" * 60 + b"BOOKMOBI", "a Kindle book"),
        (b"<?xml version='1.0'?><FictionBook>", "a FictionBook"),
        (b"PK\x03\x04 nothing", "an archive"),
    ],
)
def test_other_formats_are_named(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "book.bin"
    path.write_bytes(data)
    with pytest.raises(TextError, match=f"is {said}, which is not read; convert it to EPUB"):
        read_book(path)


def test_formats_are_told_by_what_is_in_a_file_not_by_its_name(tmp_path: Path) -> None:
    assert read_book(make_epub(tmp_path / "a.zip", [("One", "A.")])).title == "The Mill"
    (tmp_path / "a.txt").write_text("<!DOCTYPE html><title>T</title><p>Hi.")
    assert read_book(tmp_path / "a.txt").chapters[0].text == "T\n\nHi."
    with pytest.raises(TextError, match="holds no META-INF/container"):
        read_book(write_zip(tmp_path / "b.epub", {}))
    with pytest.raises(TextError, match="cannot read"):
        read_book(tmp_path / "none.txt")
    with pytest.raises(UserError):
        read_book(tmp_path)


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("Contents", ChapterKind.FRONT_MATTER),
        ("Table of Contents", ChapterKind.FRONT_MATTER),
        ("COPYRIGHT \u00a9 2020", ChapterKind.FRONT_MATTER),
        ("Also by A. Writer", ChapterKind.FRONT_MATTER),
        ("About the Author", ChapterKind.FRONT_MATTER),
        ("Index", ChapterKind.FRONT_MATTER),
        ("Notes", ChapterKind.NOTES),
        ("Endnotes", ChapterKind.NOTES),
        ("Notes on a Scandal", ChapterKind.NOTES),
        ("Preface", ChapterKind.BODY),
        ("The Cover Story", ChapterKind.BODY),
        ("Contents Under Pressure", ChapterKind.BODY),
        ("Chapter 1", ChapterKind.BODY),
    ],
)
def test_kinds_by_title(title: str, kind: ChapterKind) -> None:
    assert judge_title(title) is kind


def test_a_page_with_the_title_of_a_part_begins_the_chapter_after_it() -> None:
    pages = [BookChapter("Part One", "Part One"), BookChapter("1", "1\n\nA."), BookChapter("2", "2\n\nB.")]
    joined = join_title_pages(pages)
    assert [(each.title, each.text) for each in joined] == [("Part One: 1", "Part One\n\n1\n\nA."), ("2", "2\n\nB.")]
    assert join_title_pages(pages[:1]) == pages[:1]


def test_titles_are_cut_at_words() -> None:
    assert shorten_title(" a\n b ") == "a b"
    assert shorten_title("word " * 100) == "word " * 22 + "word\u2026"


def test_a_book_of_what_narrators_leave_out() -> None:
    with pytest.raises(TextError, match="--front-matter"):
        Book("x", (BookChapter("Contents", "Contents", ChapterKind.FRONT_MATTER),)).select()
    assert read_plain("Hi.", "x").select().chapters[0].text == "Hi."


def test_the_format_of_a_text_may_be_given(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("<h2>One</h2>\n\nA *b*.\n\n<h2>Two</h2>\n\nC.\n", encoding="utf-8")
    assert [chapter.title for chapter in read_book(path, "html").chapters] == ["One", "Two"]
    path.write_text("One\n===\n\nA.\n\nTwo\n===\n\nB.\n", encoding="utf-8")
    assert [chapter.title for chapter in read_book(path, "markdown").chapters] == ["One", "Two"]
    page = path.rename(tmp_path / "a.html")
    assert "===" in read_book(page, "plain").chapters[0].text
    with pytest.raises(ConfigError, match="text format"):
        read_book(page, "rtf")
