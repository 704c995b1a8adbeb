"""Long text in pieces that a model can speak, each with the pause that belongs after it; a book's chapters.

The words of the pieces, joined, are the words of the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from openvalle.errors import TextError
from openvalle.text.language import SMALL, find_language
from openvalle.types import ENGLISH

# seconds of silence, as readers of audio books leave them
PARAGRAPH, SENTENCE, CLAUSE, NONE = 0.7, 0.4, 0.2, 0.0
_OPENING = r"\"'(\[\u2018\u201c\u00ab"
_CLOSING = r"\"')\]\u2019\u201d\u00bb"
CLOSERS = "\"')]\u2019\u201d\u00bb"
# Every pattern here is read in time linear in the text: where one begins, no other part of it can begin again.
_SENTENCE = re.compile(rf"(?<=[.!?\u2026\u3002])[{_CLOSING}]*\s+(?=[{_OPENING}]*[^\Wa-z_{SMALL}]|[{_OPENING}]+\w)")
_CLAUSE_BEGINS = re.compile(r"\s+[-\u2014\u2013(]\s?\w")
_SPACE = re.compile(r"\s+")
_END = re.compile(rf"\n\n(?=\S)|{_SENTENCE.pattern}")  # of a sentence in a text whose spaces are `_even_spaces`
RUN = 4  # budgets that a text may run on without a full stop while it arrives
_LONGEST_SHORT = 64  # letters that are looked at for such an abbreviation


@dataclass(frozen=True)
class Chunk:
    """A piece of text and the silence after it, in seconds."""

    text: str
    pause: float


def split(text: str, budget: int = 300, language: str = ENGLISH) -> list[Chunk]:
    """Return the text in chunks of at most `budget` characters, cut at the strongest boundary that serves.

    Paragraphs are never joined, sentences and clauses are packed as long as they fit, words are cut only if one
    alone is longer than the budget. A text without words gives no chunk.
    """
    if budget < 1:
        raise TextError(f"a chunk cannot have {budget} characters", "give a budget of at least 1")
    chunks: list[Chunk] = []
    not_an_end = find_language(language).front_end.NOT_AN_END
    for paragraph in _paragraphs(text):
        packed = [chunk for chunk in _pack(_sentences(paragraph, not_an_end), budget) if _speakable(chunk.text)]
        if packed:
            chunks += [*packed[:-1], Chunk(packed[-1].text, PARAGRAPH)]
    if chunks:
        chunks[-1] = Chunk(chunks[-1].text, NONE)  # nothing follows
    return chunks


def split_arriving(pieces: Iterable[str], budget: int = 300, language: str = ENGLISH) -> Iterator[Chunk]:
    """Yield chunks of a text that arrives in pieces (words from a language model), sentence by sentence.

    A sentence is there as soon as the next one begins. How the text is cut into pieces changes nothing; unlike
    `split`, short sentences are not packed together, because nobody knows yet what follows. The last pause stays.
    """
    limit = RUN * budget  # a text without a full stop is cut at a word all the same
    not_an_end = find_language(language).front_end.NOT_AN_END
    waiting, seen = "", 0  # no sentence ends before `seen`
    for piece in _even_spaces(pieces, limit):
        waiting += piece
        while True:
            end, pause, seen = _first_end(waiting, limit, seen, not_an_end)
            if not end:
                break
            yield from _pack_arrived(waiting[:end], pause, budget)
            waiting = waiting[end:]
    yield from _pack_arrived(waiting, NONE, budget)


def _paragraphs(text: str) -> Iterator[str]:
    """Yield what stands between blank lines and paragraph separators."""
    start = 0
    for space in _SPACE.finditer(text):
        if _is_blank_line(space.group()):
            yield text[start : space.start()]
            start = space.end()
    yield text[start:]


def _is_blank_line(space: str) -> bool:
    return space.count("\n") > 1 or "\u2029" in space


def _even_spaces(pieces: Iterable[str], longest: int) -> Iterator[str]:
    """Yield the text in pieces of up to `longest`, each run of space as a blank or, between paragraphs, "\\n\\n".

    A run of space is given when the word after it begins: where it was cut changes nothing.
    """
    space = ""  # what is left of a run: at most two line breaks or a separator tell what it is
    for piece in pieces:
        at = 0
        for found in _SPACE.finditer(piece):
            if found.start() > at:
                yield from _parts(_write_space(space) + piece[at : found.start()], longest)
                space = ""
            run = found.group()
            space += "\u2029" if _is_blank_line(run) else "\n" if "\n" in run else " "
            space = "\u2029" if _is_blank_line(space) else "\n" if "\n" in space else " "
            at = found.end()
        if at < len(piece):
            yield from _parts(_write_space(space) + piece[at:], longest)
            space = ""


def _write_space(space: str) -> str:
    return "\n\n" if space == "\u2029" else " " if space else ""


def _parts(text: str, longest: int) -> Iterator[str]:
    return (text[start : start + longest] for start in range(0, len(text), longest))


def _pack_arrived(text: str, pause: float, budget: int) -> list[Chunk]:
    return [chunk for chunk in _pack([Chunk(" ".join(text.split()), pause)], budget) if _speakable(chunk.text)]


def _first_end(text: str, limit: int, seen: int, not_an_end: re.Pattern[str]) -> tuple[int, float, int]:
    """Return where the first sentence after `seen` ends, the pause after it, and from where to look next time.

    The end is 0 while it can still change.
    """
    for match in _END.finditer(text, seen, limit):
        is_paragraph = _is_blank_line(match.group())
        if is_paragraph or not _goes_on(text, match.start(), not_an_end):
            return match.end(), PARAGRAPH if is_paragraph else SENTENCE, 0
        seen = match.end()
    if len(text) < limit:
        return 0, NONE, seen
    return (text.rfind(" ", 0, limit) + 1 or limit), NONE, 0


def _goes_on(text: str, end: int, not_an_end: re.Pattern[str]) -> bool:
    """Whether the full stop before `end` does not end the sentence."""
    return not_an_end.search(text, max(0, end - _LONGEST_SHORT), end) is not None


def _speakable(text: str) -> bool:
    """Whether there is a letter, a figure or a sign with a name; emoji and punctuation alone are silent."""
    return any(unicodedata.category(sign)[0] in "LN" or unicodedata.category(sign) in ("Sm", "Sc") for sign in text)


def _sentences(paragraph: str, not_an_end: re.Pattern[str]) -> list[Chunk]:
    text = " ".join(paragraph.split())
    groups: list[list[str]] = []
    for piece in _cut(text, (match.end() - 1 for match in _SENTENCE.finditer(text))):
        if groups and _goes_on(groups[-1][-1], len(groups[-1][-1]), not_an_end):
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return [Chunk(" ".join(group), SENTENCE) for group in groups]


def _clauses(text: str) -> list[str]:
    """Return the parts between commas and before dashes and brackets."""
    start, ends = 0, []
    for space in _SPACE.finditer(text):
        word = text[start : space.start()]
        bare = word.rstrip(CLOSERS)
        ends_here = bare[-1:] in (*",;:\u2014\u2013",) or ")" in word[len(bare) :]
        if ends_here or _CLAUSE_BEGINS.match(text, space.start()):
            ends.append(space.start())
        start = space.end()
    return _cut(text, ends)


def _cut(text: str, ends: Iterable[int]) -> list[str]:
    """Return the parts that end at the given places; empty ones are left out."""
    parts, start = [], 0
    for end in ends:
        parts.append(text[start:end].strip())
        start = end
    return [part for part in (*parts, text[start:].strip()) if part]


def _pack(pieces: Iterable[Chunk], budget: int) -> list[Chunk]:
    """Join neighbours while they fit; what is too long alone is cut at the next weaker boundary."""
    packed: list[Chunk] = []
    for piece in pieces:
        if len(piece.text) > budget:
            packed += _pack(_weaker(piece, budget), budget)
        elif packed and len(packed[-1].text) + 1 + len(piece.text) <= budget:
            packed[-1] = Chunk(f"{packed[-1].text} {piece.text}", piece.pause)
        else:
            packed.append(piece)
    return packed


def _weaker(piece: Chunk, budget: int) -> list[Chunk]:
    """Return a long piece cut into clauses, else into words, else into runs of letters; its pause goes last."""
    clauses = _clauses(piece.text)
    if len(clauses) > 1:
        parts, pause = clauses, CLAUSE
    elif " " in piece.text:
        parts, pause = piece.text.split(), NONE
    else:
        parts, pause = [piece.text[start : start + budget] for start in range(0, len(piece.text), budget)], NONE
    return [*(Chunk(part, pause) for part in parts[:-1]), Chunk(parts[-1], piece.pause)]


# "# Title" (Markdown), or a short line of its own that begins with Chapter, Part, Prologue and so on
_MARKED = re.compile(r"#{1,3}[ \t]+(\S)([^\n]*)")
_NAMED = re.compile(
    r"(?:(?:chapter|book|part)\s+(?:\d+|[ivxlcdm]+|[a-z]+(?:-[a-z]+)?)\b|prologue\b|epilogue\b|preface\b)[^\n]{0,60}",
    re.I,
)
_SENTENCE_END = re.compile(r"[.!?,;]\"?$")


@dataclass(frozen=True)
class Chapter:
    """One chapter. `text` begins with the heading, which is spoken, too."""

    title: str
    text: str


def split_chapters(text: str, title: str = "Text") -> list[Chapter]:
    """Return the chapters in order; a text without headings is one, called `title`. `TextError` for no text at all.

    A heading stands between empty lines. What comes before the first one is a chapter called `title`.
    """
    found: list[tuple[str, list[str]]] = [(title, [])]
    for paragraph in re.split(r"\n\s*\n|\f", text.replace("\r\n", "\n")):
        heading = read_heading(paragraph.strip())
        if heading is not None:
            found.append((heading, [heading]))
        elif paragraph.strip():
            found[-1][1].append(paragraph.strip("\n"))
    chapters = [Chapter(name, "\n\n".join(paragraphs)) for name, paragraphs in found if paragraphs]
    if not chapters:
        raise TextError("the book is empty", "give a file with text in it")
    return chapters


def read_heading(paragraph: str) -> str | None:
    """Return the title if the paragraph is a heading."""
    if match := _MARKED.fullmatch(paragraph):
        return match[1] + match[2].rstrip("#").rstrip(" \t")
    is_sentence = _SENTENCE_END.search(paragraph) and len(paragraph.split()) > 2
    if _NAMED.fullmatch(paragraph) and not is_sentence:
        return paragraph.rstrip(".")
    return None
