"""Long text in pieces that a model can speak, each with the pause that belongs after it.

The words of the pieces, joined, are the words of the text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

from openvalle.errors import TextError
from openvalle.text.language import SMALL, FrontEnd, find_language
from openvalle.text.layout import LINE, join_lines, mark_lines
from openvalle.text.rules import regex
from openvalle.types import ENGLISH

# seconds of silence, as readers of audio books leave them
PARAGRAPH, SENTENCE, CLAUSE, NONE = 0.7, 0.4, 0.2, 0.0
_OPENING = r"\"'(\[\u2018\u201c\u00ab"
_CLOSING = r"\"')\]\u2019\u201d\u00bb"
_ENDS = "\u3002\uff01\uff1f\uff61"  # of sentences whose words no blanks set apart
_CLOSING_WIDE = "\u300d\u300f\uff09\u3011\u3009\u300b\u2019\u201d"
_COMMAS = "\uff0c\u3001\uff1b\uff1a\uff64"
_WIDE = "\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"  # signs that say as much as three
CLOSERS = "\"')]\u2019\u201d\u00bb\u300d\u300f\uff09\u3011\u3009\u300b"
# Every pattern here is read in time linear in the text: where one begins, no other part of it can begin again.
_SENTENCE = regex(
    rf"(?<=[.!?\u2026\u3002])[{_CLOSING}]*\s+(?=[{_OPENING}]*[^\Wa-z_{SMALL}]|[{_OPENING}]+\w)"
    rf"|(?<=[{_ENDS}])[{_CLOSING_WIDE}]*\s*(?=[^\s{_ENDS}{_CLOSING_WIDE}{_COMMAS}])"
)
_WIDE_CLAUSE = regex(rf"(?<=[{_COMMAS}])(?=[^\s{_COMMAS}])")
_WIDE_SIGN = regex(f"[{_WIDE}]")
_HANGUL = "\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3"  # wide, but Korean sets words apart
_BARE = regex(f"(?![{_HANGUL}])[{_WIDE}]")  # signs of languages that set no words apart
_WORD = regex(rf"(?=\w){_BARE.pattern}|(?:(?!{_BARE.pattern})\S)+")
_BROKEN = regex(rf"({_BARE.pattern})[^\S\n]*\n\s*(?={_BARE.pattern})")  # a line that ends between such signs
_CLAUSE_BEGINS = regex(r"\s+[-\u2014\u2013(]\s?\w")
_SPACE = regex(r"\s+")
_SENTENCE_OR_LINE = regex(rf"{_SENTENCE.pattern}|\n\s*")
_END = regex(rf"\n\n(?=\S)|{LINE}|{_SENTENCE.pattern}")  # of a sentence in a text whose spaces are `_even_spaces`
REACH = 24  # signs in which a word that is said is looked for in the text, but for those that were not found
RUN = 4  # budgets that a text may run on without a full stop while it arrives
GoesOn = Callable[[str, str, bool], bool | None]
_BEFORE, _AFTER = 64, 96  # signs around a full stop that are looked at to tell whether it ends a sentence


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
    front_end = find_language(language).front_end
    for paragraph in _paragraphs("".join(mark_lines([text]))):
        packed = _pack(_sentences(join_lines(paragraph, front_end.is_word), front_end), budget)
        spoken = [Chunk(_write_lines(chunk.text), chunk.pause) for chunk in packed if _speakable(chunk.text)]
        if spoken:
            chunks += [*spoken[:-1], Chunk(spoken[-1].text, PARAGRAPH)]
    if chunks:
        chunks[-1] = Chunk(chunks[-1].text, NONE)  # nothing follows
    return chunks


def split_arriving(pieces: Iterable[str], budget: int = 300, language: str = ENGLISH) -> Iterator[Chunk]:
    """Yield chunks of a text that arrives in pieces (words from a language model), sentence by sentence.

    A sentence is there as soon as the next one begins. How the text is cut into pieces changes nothing; unlike
    `split`, short sentences are not packed together, because nobody knows yet what follows. The last pause stays.
    """
    limit = RUN * budget  # a text without a full stop is cut at a word all the same
    front_end = find_language(language).front_end
    waiting, seen = "", 0  # no sentence ends before `seen`
    for piece in chain(_even_spaces(mark_lines(pieces), limit), (None,)):
        waiting += piece or ""
        while waiting:
            end, pause, seen = _first_end(waiting, limit, seen, front_end, piece is None)
            if not end:
                break
            yield from _pack_arrived(waiting[:end], pause, budget, front_end)
            waiting = waiting[end:]
    yield from _pack_arrived(waiting, NONE, budget, front_end)


def unwrap(text: str, language: str = ENGLISH) -> str:
    """Return a text that is to be spoken in one go without the line breaks that say nothing."""
    is_word = find_language(language).front_end.is_word
    marked = _paragraphs("".join(mark_lines([text])))
    return "\n\n".join(_write_lines(join_lines(paragraph, is_word)) for paragraph in marked)


def _write_lines(text: str) -> str:
    """Return a text with its `LINE`s as line breaks."""
    return text.strip(LINE).replace(LINE, "\n")


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
            space = _even_space(space + _even_space(run))
            at = found.end()
        if at < len(piece):
            yield from _parts(_write_space(space) + piece[at:], longest)
            space = ""


def _even_space(space: str) -> str:
    return "\u2029" if _is_blank_line(space) else LINE if LINE in space else "\n" if "\n" in space else " "


def _write_space(space: str) -> str:
    return "\n\n" if space == "\u2029" else space


def _parts(text: str, longest: int) -> Iterator[str]:
    return (text[start : start + longest] for start in range(0, len(text), longest))


def _pack_arrived(text: str, pause: float, budget: int, front_end: FrontEnd) -> list[Chunk]:
    packed = _pack([Chunk(join_lines(text, front_end.is_word), pause)], budget)
    return [Chunk(_write_lines(chunk.text), chunk.pause) for chunk in packed if _speakable(chunk.text)]


def _first_end(text: str, limit: int, seen: int, front_end: FrontEnd, is_whole: bool) -> tuple[int, float, int]:
    """Return where the first sentence after `seen` ends, the pause after it, and from where to look next time.

    The end is 0 while it can still change; `is_whole`: nothing more arrives.
    """
    for match in _END.finditer(text, seen, limit):
        is_paragraph = _is_blank_line(match.group())
        goes_on = None if is_paragraph else _goes_on(text, 0, match.start(), front_end.goes_on, is_whole)
        if is_paragraph or match.group() == LINE or goes_on is False:
            return match.end(), PARAGRAPH if is_paragraph else SENTENCE, 0
        if goes_on is None:
            return 0, NONE, seen
        seen = match.end()
    if len(text) < limit:
        return 0, NONE, seen
    return (text.rfind(" ", 0, limit) + 1 or limit), NONE, 0


def find_sentences(text: str, goes_on: GoesOn) -> Iterator[tuple[int, int]]:
    """Yield where each sentence of a text begins and ends; a line break ends one, too.

    `goes_on`: as that of a `FrontEnd`.
    """
    start = 0
    for match in _SENTENCE_OR_LINE.finditer(text):
        if "\n" in match.group() or not _goes_on(text, start, match.start(), goes_on):
            yield start, start + len(text[start : match.end()].rstrip())
            start = match.end()
    yield start, len(text)


def _goes_on(text: str, start: int, end: int, goes_on: GoesOn, is_whole: bool = True) -> bool | None:
    """Whether the full stop before `end` does not end the sentence that begins at `start`; None: not yet known."""
    first = max(start, end - _BEFORE)
    near = text[first : end + _AFTER].replace("\n", " ")
    head = near[: end - first] if first == start else "\0" + near[: end - first]
    return goes_on(head, near[end - first :], is_whole or len(text) >= end + _AFTER)


def _speakable(text: str) -> bool:
    """Whether there is a letter, a figure or a sign with a name; emoji and punctuation alone are silent."""
    return any(unicodedata.category(sign)[0] in "LN" or unicodedata.category(sign) in ("Sm", "Sc") for sign in text)


def _sentences(paragraph: str, front_end: FrontEnd) -> Iterator[Chunk]:
    """Yield the sentences of a paragraph on one line; what ends with a `LINE` keeps it."""
    for line in paragraph.split(LINE):
        start = 0
        for match in _SENTENCE.finditer(line):
            if not _goes_on(line, start, match.start(), front_end.goes_on):
                yield Chunk(line[start : match.end()].strip(), SENTENCE)
                start = match.end()
        if line[start:].strip():
            yield Chunk(line[start:].strip() + LINE, SENTENCE)


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
    if not text.isascii():
        ends = sorted({*ends, *(found.start() for found in _WIDE_CLAUSE.finditer(text))})
    return _cut(text, ends)


def measure(text: str) -> int:
    """Return how long a text is, in letters of an alphabet: a sign of Chinese or Japanese says as much as three."""
    return len(text) if text.isascii() else len(text) + 2 * len(_WIDE_SIGN.findall(text))


def join_words(words: Iterable[str]) -> str:
    """Return words, or pieces of a text, as one: with blanks, but not beside the signs of East Asia."""
    parts: list[str] = []
    for word in words:
        if parts and not (_BARE.match(parts[-1][-1:]) or _BARE.match(word)):
            parts.append(" ")
        parts.append(word)
    return "".join(parts)


def even_blanks(text: str) -> str:
    """Return a text on one line, with one blank for any white space, and none where a line ends between signs of
    languages that set no words apart."""
    return " ".join(_BROKEN.sub(r"\1", text).split())


def sets_words_apart(text: str) -> bool:
    """Whether a text has no signs of languages that write words without blanks between them."""
    return text.isascii() or not _BARE.search(text)


def count_words(text: str) -> int:
    """Return how many words a text has; of those that no blanks set apart, how many signs."""
    return len(_WORD.findall(text))


def count_signs(text: str) -> int:
    """Return how many of the words that `count_words` counts are single signs of languages that set no words apart."""
    return sum(bool(_BARE.match(word)) for word in _WORD.findall(text))


def find_words(there: Sequence[str], wanted: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the places [first, last) of words among others.

    Where no blanks set words apart the same signs may be cut into other words than in a whole sentence: the places are
    those of the signs, from the border of a word to that of another.
    """
    sought = "".join(wanted)
    if not _WIDE_SIGN.search(sought):
        yield from ((at, at + len(wanted)) for at in range(len(there)) if [*there[at : at + len(wanted)]] == [*wanted])
        return
    borders = [0, *accumulate(map(len, there))]
    whole, known = "".join(there), {border: number for number, border in enumerate(borders)}
    for first, start in enumerate(borders[:-1]):
        if whole.startswith(sought, start) and start + len(sought) in known:
            yield first, known[start + len(sought)]


def find_spoken(text: str, words: Sequence[str]) -> list[int]:
    """Return where the words begin that are said of a text whose signs no blanks set apart, in order.

    Most stand there as they are said, others as figures. What is passed over to find one may hold as many signs as
    the words that were not found, so that the "二" of "2024" is not the "二" of a later word.
    """
    places, at, missed = [], 0, 0
    for word in words:
        found = text.find(word, at, at + len(word) + REACH + min(missed, 8 * REACH))
        if found >= 0 and sum(map(_is_bare, text[at:found])) <= missed:
            places.append(found)
            at, missed = found + len(word), 0
        else:
            places.append(at)
            missed += len(word)
    return places


def _is_bare(sign: str) -> bool:
    """Whether a sign is part of a word of a language that sets no words apart."""
    return bool(_BARE.match(sign)) and sign.isalpha()


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
        size = measure(piece.text)
        if size > budget and len(piece.text) > 1:
            packed += _pack(_weaker(piece, budget), budget)
        elif packed and measure(packed[-1].text) + 1 + size <= budget:
            last = packed[-1].text[-1:]
            blank = "" if last == LINE or _BARE.match(last) else " "
            packed[-1] = Chunk(f"{packed[-1].text}{blank}{piece.text}", piece.pause)
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
        run = max(1, budget * len(piece.text) // measure(piece.text))
        parts, pause = [piece.text[start : start + run] for start in range(0, len(piece.text), run)], NONE
    return [*(Chunk(part, pause) for part in parts[:-1]), Chunk(parts[-1], piece.pause)]


def pause_after(text: str) -> float:
    """Return the silence that the end of a passage asks for when another one follows."""
    bare = text.rstrip()
    if text.count("\n", len(bare)) > 1:
        return PARAGRAPH
    end = bare.rstrip(CLOSERS)[-1:]
    if end and end in ".!?\u2026\u3002\uff01\uff1f":
        return SENTENCE
    return CLAUSE if end and end in ",;:\u2014\u2013\uff0c\u3001\uff1b\uff1a" else NONE
