"""Long text in pieces that a model can speak, each with the pause that belongs after it.

Law: the words of the chunks, joined, are the words of the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from openvalle.errors import TextError

# seconds of silence, as readers of audio books leave them
PARAGRAPH, SENTENCE, CLAUSE, NONE = 0.7, 0.4, 0.2, 0.0
_OPENING = r"\"'(\[\u2018\u201c\u00ab"
_CLOSING = r"\"')\]\u2019\u201d\u00bb"
_SENTENCE = re.compile(rf"(?<=[.!?\u2026\u3002])[{_CLOSING}]*\s+(?=[{_OPENING}]*[^\Wa-z_]|[{_OPENING}]+\w)")
_CLAUSE = re.compile(rf"(?<=[,;:\u2014\u2013)])[{_CLOSING}]*\s+|\s+(?=[-\u2014\u2013(]\s?\w)")
_PARAGRAPH = re.compile(r"\s*\n\s*\n\s*|\s*\u2029\s*")
_END = re.compile(rf"(?:{_PARAGRAPH.pattern})(?=\S)|{_SENTENCE.pattern}")
RUN = 4  # budgets that a text may run on without a full stop while it arrives
# a full stop after these, after one letter or after a number in a list does not end a sentence
_NOT_AN_END = re.compile(
    r"(?:^|[\s(\[\"'])(?:(?:Dr|Mr|Mrs|Ms|Prof|Rev|Gen|Col|Capt|Lt|Sgt|Sen|Rep|Gov|Hon|St|Mt|Ft|Fr|Maj|Messrs|vs|cf|"
    r"No|Nos|Vol|Fig|pp?|e\.g|i\.e|Jan|Feb|Mar|Apr|Aug|Sept?|Oct|Nov|Dec)|(?:[A-Z]\.)*[A-Z])\.$"
)


@dataclass(frozen=True)
class Chunk:
    """A piece of text and the silence after it, in seconds."""

    text: str
    pause: float


def split(text: str, budget: int = 300) -> list[Chunk]:
    """Return the text in chunks of at most `budget` characters, cut at the strongest boundary that serves.

    Paragraphs are never joined, sentences and clauses are packed as long as they fit, words are cut only if one
    alone is longer than the budget. A text without words gives no chunk.
    """
    if budget < 1:
        raise TextError(f"a chunk cannot have {budget} characters", "give a budget of at least 1")
    chunks: list[Chunk] = []
    for paragraph in _PARAGRAPH.split(text):
        packed = [chunk for chunk in _pack(_sentences(paragraph), budget) if _speakable(chunk.text)]
        if packed:
            chunks += [*packed[:-1], Chunk(packed[-1].text, PARAGRAPH)]
    if chunks:
        chunks[-1] = Chunk(chunks[-1].text, NONE)  # nothing follows
    return chunks


def split_arriving(pieces: Iterable[str], budget: int = 300) -> Iterator[Chunk]:
    """Yield chunks of a text that arrives in pieces (words from a language model), sentence by sentence.

    A sentence is there as soon as the next one begins. How the text is cut into pieces changes nothing; unlike
    `split`, short sentences are not packed together, because nobody knows yet what follows. The last pause stays.
    """
    waiting = ""
    for piece in pieces:
        waiting += piece
        while cut := _first_end(waiting, budget):
            end, pause = cut
            yield from _arrived(waiting[:end], pause, budget)
            waiting = waiting[end:]
    yield from _arrived(waiting, NONE, budget)


def _arrived(text: str, pause: float, budget: int) -> list[Chunk]:
    return [chunk for chunk in _pack([Chunk(" ".join(text.split()), pause)], budget) if _speakable(chunk.text)]


def _first_end(text: str, budget: int) -> tuple[int, float] | None:
    """Return where the first sentence ends and the pause after it; None while that can still change."""
    limit = RUN * budget  # a text without a full stop is cut at a word all the same
    seen = text[:limit]
    for match in _END.finditer(seen):
        is_paragraph = "\u2029" in match.group() or match.group().count("\n") > 1
        if is_paragraph or not _NOT_AN_END.search(seen[: match.start()]):
            return match.end(), PARAGRAPH if is_paragraph else SENTENCE
    if len(text) < limit:
        return None
    return (seen.rfind(" ") + 1 or limit), NONE


def _speakable(text: str) -> bool:
    """Whether there is a letter, a figure or a sign with a name; emoji and punctuation alone are silent."""
    return any(unicodedata.category(sign)[0] in "LN" or unicodedata.category(sign) in ("Sm", "Sc") for sign in text)


def _sentences(paragraph: str) -> list[Chunk]:
    pieces: list[str] = []
    for piece in _cut(_SENTENCE, " ".join(paragraph.split())):
        if pieces and _NOT_AN_END.search(pieces[-1]):
            pieces[-1] += " " + piece
        else:
            pieces.append(piece)
    return [Chunk(piece, SENTENCE) for piece in pieces]


def _cut(boundary: re.Pattern[str], text: str) -> list[str]:
    """Return the parts between boundaries; closing marks stay with what they close, empty parts are left out."""
    parts, start = [], 0
    for match in boundary.finditer(text):
        end = match.start() + len(match.group().rstrip())
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
    clauses = _cut(_CLAUSE, piece.text)
    if len(clauses) > 1:
        parts, pause = clauses, CLAUSE
    elif " " in piece.text:
        parts, pause = piece.text.split(), NONE
    else:
        parts, pause = [piece.text[start : start + budget] for start in range(0, len(piece.text), budget)], NONE
    return [*(Chunk(part, pause) for part in parts[:-1]), Chunk(parts[-1], piece.pause)]
