"""What every reader gives: a book's title, author, cover and chapters, each of a kind by what it holds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from openvalle.errors import TextError
from openvalle.text.chapters import Chapter

LONGEST_TITLE = 120  # characters; a longer one is cut at a word
_HEADING_WORDS = 15  # a chapter of no more words than this is the title of what follows
_TITLE_WORDS = 40  # of a title page at most: title, author, publisher, year


class ChapterKind(StrEnum):
    """What a chapter holds."""

    BODY = "body"
    FRONT_MATTER = "front matter"  # and back matter: title page, copyright, contents, lists, index, advertisements
    NOTES = "notes"  # footnotes and endnotes


@dataclass(frozen=True)
class BookChapter(Chapter):
    """A chapter, of which is known what it holds. `notes`: the footnotes that belong to it."""

    kind: ChapterKind = ChapterKind.BODY
    notes: tuple[str, ...] = ()


def find_kinds(front_matter: bool = False, notes: bool = False) -> set[ChapterKind]:
    """Return which kinds of chapters are read aloud: the body, and what else is asked for."""
    return {
        ChapterKind.BODY,
        *([ChapterKind.FRONT_MATTER] if front_matter else []),
        *([ChapterKind.NOTES] if notes else []),
    }


@dataclass(frozen=True)
class Book:
    """What a file holds. `cover`: the bytes of a JPEG or PNG picture; `markup`: how the text is marked up, as `say`
    names it; `warnings`: what could not be read as it was meant."""

    title: str
    chapters: tuple[BookChapter, ...]
    author: str = ""
    cover: bytes = b""
    markup: str = "none"
    warnings: tuple[str, ...] = ()

    def select(self, front_matter: bool = False, notes: bool = False) -> Book:
        """Return the book with what is read aloud: the body, and what else is asked for; footnotes end a chapter."""
        wanted = find_kinds(front_matter, notes)
        chapters = [chapter for chapter in self.chapters if chapter.kind in wanted]
        if notes:
            chapters = [replace(each, text="\n\n".join([each.text, *each.notes])) for each in chapters]
        if not chapters:
            raise TextError(
                f"{self.title!r} holds nothing but what narrators leave out", "add --front-matter or --notes to read it"
            )
        return replace(self, chapters=tuple(chapters))


_FRONT_MATTER = re.compile(
    r"(the )?((front |back )?cover( (image|page))?|(half[ -])?title( page)?|titlepage|copyright\b.*|colophon|imprint|"
    r"(table of )?contents|toc|landmarks|(list of )?(illustrations|figures|tables|maps|plates)|"
    r"((general|subject) )?index( of .*)?|bibliography|further reading|"
    r"(other |more )?(books |titles |works |novels )?(also )?(by|from) (the same|the|this) author|also by\b.*|"
    r"(other|more) (books|titles|works|novels) (by|from)\b.*|(praise|acclaim) for\b.*|"
    r"about the (author|publisher|type)s?\b.*|newsletter\b.*|advertisements?|uncopyright|legal notice|"
    r"all rights reserved|publisher'?s note|transcriber'?s'? notes?\b.*|"
    r"(the )?(full )?project gutenberg(\W?tm)?( license)?\b.*)",
    re.I,
)
_NOTES = re.compile(r"(foot|end)?notes( (and|to|on)\b.*)?", re.I)


def judge_title(title: str) -> ChapterKind:
    """Return what a chapter of this title most likely holds."""
    bare = " ".join(re.sub(r"[^\w' -]+", " ", title.replace("\u2019", "'")).split())
    if _FRONT_MATTER.fullmatch(bare):
        return ChapterKind.FRONT_MATTER
    return ChapterKind.NOTES if _NOTES.fullmatch(bare) else ChapterKind.BODY


def shorten_title(title: str) -> str:
    """Return a title on one line, of at most `LONGEST_TITLE` characters."""
    title = " ".join("".join(sign if sign.isprintable() else " " for sign in title).split())
    if len(title) <= LONGEST_TITLE:
        return title
    cut = title[: LONGEST_TITLE - 1]
    return (cut.rpartition(" ")[0] or cut).rstrip(" ,;:-") + "\u2026"


def say_title(title: str, paragraphs: Sequence[str]) -> list[str]:
    """Return the paragraphs of a chapter with its title before them, unless they begin with it, or with part of it."""
    own = _only_letters(title)
    opening = _only_letters(" ".join(paragraphs[:3])[:1000])
    first = _only_letters(paragraphs[0][:1000]) if paragraphs else ""
    is_there = not own or opening.startswith(own) or (first != "" and first in own)
    return [*paragraphs] if is_there else [title, *paragraphs]


def _only_letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def has_words(text: str) -> bool:
    """Return True if there is a letter or a figure in the text."""
    return any(sign.isalnum() for sign in text)


def join_title_pages(chapters: Sequence[BookChapter]) -> list[BookChapter]:
    """Return the chapters, a page that holds only the title of a part made the beginning of the chapter after it."""
    joined: list[BookChapter] = []
    waiting: list[BookChapter] = []
    for chapter in chapters:
        is_body = chapter.kind is ChapterKind.BODY
        if is_body and not chapter.notes and _is_heading_alone(chapter):
            waiting.append(chapter)
        elif is_body and waiting:
            titles = [each.title for each in waiting] + [chapter.title]
            text = "\n\n".join([*(each.text for each in waiting), chapter.text])
            joined.append(replace(chapter, title=shorten_title(": ".join(dict.fromkeys(titles))), text=text))
            waiting = []
        else:
            joined += [*waiting, chapter]
            waiting = []
    return joined + waiting


def leave_title_page(chapters: Sequence[BookChapter], title: str) -> list[BookChapter]:
    """Return the chapters, a short first one that is called as the book, and one "by" its author after it, made front
    matter: they are its title page."""
    found = [*chapters]
    place = next((at for at, chapter in enumerate(found) if chapter.kind is ChapterKind.BODY), len(found))
    own = _only_letters(title)
    while place + 1 < len(found) and len(found[place].text.split(maxsplit=_TITLE_WORDS)) <= _TITLE_WORDS:
        head, _, rest = found[place].title.partition(": ")
        is_title = own != "" and _only_letters(head) == own and (not rest or rest.startswith("by "))
        is_author = place > 0 and found[place - 1] is not chapters[place - 1] and head.lower().startswith("by ")
        if not is_title and not is_author:
            break
        found[place] = replace(found[place], kind=ChapterKind.FRONT_MATTER)
        place += 1
    return found


def _is_heading_alone(chapter: BookChapter) -> bool:
    """Return True if the text is the title and no sentence."""
    words = chapter.text.split(maxsplit=_HEADING_WORDS)
    is_short = len(words) <= _HEADING_WORDS and _only_letters(chapter.text) in _only_letters(chapter.title)
    return is_short and has_words(chapter.text)
