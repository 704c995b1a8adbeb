"""The chapters of a text file: headings as people write them, by words, by Markdown, or by numbers that count up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from openvalle.errors import TextError
from openvalle.text.numerals import read_numeral

_MARKED = re.compile(r"#{1,3}[ \t]+(\S)([^\n]*)")
_COUNT = (
    r"(?:\d{1,3}|[ivxlcdm]+|the [a-z]+|(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)(?:[- ](?:one|t"
    r"wo|three|four|"
    r"five|six|seven|eight|nine))?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|four"
    r"teen|fifteen|"
    r"sixteen|seventeen|eighteen|nineteen|first|second|third|fourth|fifth|last)"
)
_NAMED = re.compile(
    rf"(?:(?:chapter|book|part|volume|act|section|letter|canto)\s+{_COUNT}\b(?![-'])|prologue\b|epilogue\b|pref"
    rf"ace\b|foreword\b|afterword\b)[^\n]{{0,60}}",
    re.I,
)
_ALONE = re.compile(
    r"introduction|introductory|conclusion|acknowledge?ments|dedication|interlude|appendix(?: [a-z0-9])?|author"
    r"'?s note|"
    r"about the author|contents|notes|the end|postscript|coda",
    re.I,
)
_WIDE = re.compile(  # Chinese and Japanese
    r"第\s*[0-9０-９〇零一二三四五六七八九十百千两]{1,7}\s*[章回节節卷部编編幕话話篇夜](?:\s+\S[^\n]{0,40}|[:：・、—-][^\n]{0,40})?"
    r"|(?:序章|序幕|序言|终章|終章|楔子|尾声|尾聲|前言|引子|后记|後記|まえがき|あとがき|はじめに|おわりに|プロローグ|エピローグ)"
    r"(?:\s+\S[^\n]{0,40})?"
)
_EMPHASIS = re.compile(r"([_*]{1,3}|=+ ?|[-\u2013\u2014]+ )(?=\S)(.+?)(?<=\S)(?:[_*]{1,3}| ?=+| [-\u2013\u2014]+)")
_SENTENCE_END = re.compile(r"[.!?,;\u3001\u3002\uff0c\uff1b\uff01\uff1f]\"?$")
_NUMBER = re.compile(r"(\d{1,3}|[IVXLC]+)\.?")


@dataclass(frozen=True)
class Chapter:
    """One chapter. `text` begins with the heading, which is spoken, too."""

    title: str
    text: str


def split_chapters(text: str, title: str = "Text") -> list[Chapter]:
    """Return the chapters in order; a text without headings is one, called `title`. `TextError` for no text at all.

    A heading begins a paragraph. What comes before the first one is a chapter called `title`.
    """
    found: list[tuple[str, list[str]]] = [(title, [])]
    paragraphs = [part for part in re.split(r"\n\s*\n|\f", text.replace("\r\n", "\n")) if part.strip()]
    counted = _find_counted(paragraphs)
    for number, paragraph in enumerate(paragraphs):
        for heading, rest in _divide(paragraph, number in counted):
            if heading:
                found.append((heading, [heading]))
            if rest.strip():
                found[-1][1].append(rest.strip("\n"))
    chapters = [Chapter(name, "\n\n".join(parts)) for name, parts in found if parts]
    if not chapters:
        raise TextError("the book is empty", "give a file with text in it")
    return chapters


def _find_counted(paragraphs: list[str]) -> set[int]:
    """Return which paragraphs are numbers and nothing else that count up from one: the headings of some books."""
    found: list[int] = []
    for index, paragraph in enumerate(paragraphs):
        match = _NUMBER.fullmatch(_bare(paragraph.strip()))
        if match and (int(match[1]) if match[1].isdecimal() else read_numeral(match[1])) == len(found) + 1:
            found.append(index)
    return set(found) if len(found) > 1 else set()


def _divide(paragraph: str, is_counted: bool) -> Iterator[tuple[str, str]]:
    """Yield the headings in a paragraph, each with what follows it, "" for the text before the first."""
    lines = paragraph.strip("\n").split("\n")
    heading, rest, at = "", [], 0
    while at < len(lines):
        line = lines[at].strip()
        is_first = at == 0
        marked = _MARKED.fullmatch(line)
        name = read_heading(line) if marked or is_first else None
        if name is None and is_first and is_counted:
            name = _bare(line).rstrip(".")
        if name is None:
            rest.append(lines[at])
        else:
            yield heading, "\n".join(rest)
            heading, rest = name, []
            following = lines[at + 1].strip() if at + 1 < len(lines) else ""
            if not marked and at + 2 == len(lines) and _is_title(following):
                heading, at = f"{name} {_bare(following)}", at + 1
        at += 1
    yield heading, "\n".join(rest)


def _is_title(line: str) -> bool:
    """Whether the line under "Chapter 1" goes on with its title."""
    words = [word for word in _bare(line).split() if len(word) > 3 or word[:1].isalpha()]
    loud = sum(word[:1].isupper() for word in words)
    return bool(words) and len(line) <= 60 and not _SENTENCE_END.search(line) and loud * 2 >= len(words)


def _bare(line: str) -> str:
    """Return a line without marks of emphasis around it."""
    found = _EMPHASIS.fullmatch(line)
    return found[2] if found else line


def read_heading(paragraph: str) -> str | None:
    """Return the title if the line is a heading."""
    if match := _MARKED.fullmatch(paragraph):
        return match[1] + match[2].rstrip("#").rstrip(" \t")
    if len(paragraph) > 120:
        return None
    bare = _bare(paragraph)
    if _WIDE.fullmatch(bare) and not _SENTENCE_END.search(bare):
        return bare
    is_sentence = _SENTENCE_END.search(bare) and len(bare.split()) > 2
    if (_NAMED.fullmatch(bare) and not is_sentence) or _ALONE.fullmatch(bare.rstrip(".")):
        return bare.rstrip(".")
    return None
