"""HTML as people write it: blocks, marks of notes, what is hidden, what does not close; and its chapters."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import pytest

from openvalle.apps.readers.book import ChapterKind
from openvalle.apps.readers.html import LINE, read_document, read_html
from openvalle.errors import TextError


def texts(html: str) -> list[str]:
    return [block.text for block in read_document(html).blocks]


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<p>A<p>B</p>C", ["A", "B", "C"]),
        ("one <b>two</b>\n three<br>four", [f"one two three{LINE}four"]),
        ("<ul><li>red<li>green</ul>", ["red", "green"]),
        ("<table><tr><th>a</th><td>1</td></tr><tr><td>b<td>2</table>", ["a, 1", "b, 2"]),
        (
            "<p>it&rsquo;s &#8220;x&#x201D; &amp; &lt;y&gt; &nope; 3 < 4</p>",
            ["it\u2019s \u201cx\u201d & <y> &nope; 3 < 4"],
        ),
        ("<script>if (a<b) x()</script><style>p{}</style><p hidden>no</p><p>yes</p>", ["yes"]),
        ("<!-- <p>no</p> --><p>yes</p><!-- open <p>also</p>", ["yes", "open", "also"]),
        ("<![CDATA[<p>]]>", ["<p>"]),
        ('<p title="a > b">x</p>', ["x"]),
        ('<a href="x>broken</a> more', ["broken more"]),
        ("<p>inter\u00adnation\u200bal</p>", ["international"]),
        ("<p>10<sup>3</sup> and the 4<sup>th</sup>, claim<sup>1</sup></p>", ["10\u00b3 and the 4th, claim\u00b9"]),
        ('<p>claim<a href="#n"><sup>1</sup></a> <a href="#n">[2]</a><a href="#n">*</a>.</p>', ["claim ."]),
        ("<p><ruby>\u6f22<rt>kan</rt></ruby></p>", ["\u6f22"]),
        ('<p><img alt="T"/>he end</p>', ["The end"]),
        ("<q>Hi</q>", ["\u201cHi\u201d"]),
        ("<pre>a\n  b</pre>", ["a\nb"]),
        ('<span class="pagenum">[Pg 7]</span>on', ["on"]),
        ("&#99999999999999999999;&#x110000;", ["\ufffd\ufffd"]),
    ],
)
def test_blocks(html: str, expected: list[str]) -> None:
    assert texts(html) == expected


def test_chapters_by_the_highest_heading_that_repeats() -> None:
    html = (
        "<html><head><title>The Mill</title><meta name='author' content='A. Writer'></head><body><h1>The Mill</h1>"
        "<p>By A. Writer.</p><h2>One</h2><p>A.</p><h3>more</h3><p>B.</p><h2>Two</h2><p>C.</p><h2>Contents</h2><p>D.</p>"
    )
    book = read_html(html, "mill")
    assert (book.title, book.author) == ("The Mill", "A. Writer")
    assert [chapter.title for chapter in book.chapters] == ["The Mill", "One", "Two", "Contents"]
    assert book.chapters[1].text == "One\n\nA.\n\nmore\n\nB."
    assert book.chapters[-1].kind is ChapterKind.FRONT_MATTER
    with pytest.raises(TextError, match="no words"):
        read_html("<img src=x>", "mill")


@pytest.mark.parametrize(
    "unit",
    [
        *("<", "<a ", '<a href="', "<!--", "<![CDATA[", "</p>", "<p>", "<div>", "<a href='#x'>1", "<sup>1", "&", "&#9"),
        *("<br>", "<td>x", "<b>x</i>", "<title>", "<script>", "<?", "<!", "x ", "\n", "<q>", "<h1>x"),
        "<aside epub:type='footnote'>x",
    ],
)
def test_reading_takes_time_linear_in_the_length(unit: str) -> None:
    assert not (fault := grows_too_fast(lambda size: unit * (size // len(unit)))), fault


def test_words_in_many_raised_elements_are_read_once() -> None:
    def make(size: int) -> str:
        return "<sup>" * (size // 20) + "x" * size + "<b>y</b>" + "</sup>" * (size // 20)

    assert not (fault := grows_too_fast(make, 400_000)), fault


def grows_too_fast(make: Callable[[int], str], size: int = 50_000) -> str:
    """Return what grew more than 2.5 times when the text doubled, time after time; nothing if it did not.

    Time is of the processor; collections of garbage, which look at all that other tests left, are none of it.
    """

    def seconds(size: int) -> float:
        text = make(size)
        gc.collect()
        gc.disable()
        start = time.process_time()
        read_document(text)
        taken = time.process_time() - start
        gc.enable()
        return taken

    for _ in range(5):
        small, large = seconds(size), seconds(2 * size)
        if large < 2.5 * small + 0.02:
            return ""
    return f"{size} characters took {small:.3f} s, twice as many {large:.3f} s"


def test_a_paragraph_of_20_megabytes_is_read_whole() -> None:
    words = "It was late and nobody spoke. " * 700_000
    assert len(texts(f"<p>{words}</p>")[0]) == len(words) - 1
