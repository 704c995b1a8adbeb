"""What stands in quotation marks, spoken by another voice than what stands around it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from openvalle.synth.plan import Script
from openvalle.text.language import PLACEHOLDER
from openvalle.text.markup import Passage

QUOTED = "quoted speech"  # the name of its voice
_DOUBLE = re.compile(
    r"(?P<open>[\u201c\u00ab\u201e\u300c])|(?P<close>[\u201d\u00bb\u300d])\s*|(?P<either>\")|(?P<break>\n\s*\n|\u2029)"
)
_SINGLE = re.compile(
    r"(?P<open>(?<![^\s(\[\u2014\u2013-])\u2018(?=\w))|(?P<close>(?<=[.,!?;:\u2026\u2014-])\u2019(?!\w))"
    r"|(?P<either>(?!))|(?P<break>\n\s*\n|\u2029)"
)
_BLANK = re.compile(r"\s*")


def split_quotes(script: Script) -> Script:
    """Return the script with the speech in quotation marks as passages of the voice `QUOTED`.

    Double marks count; single ones where a text has no others, as British books do. A quotation that is open at the end
    of a paragraph ends there. Passages that name a voice are left as they are.
    """
    whole = "".join(passage.text for passage in script.passages)
    marks = _DOUBLE if re.search('[\u201c\u00ab\u201e\u300c"]', whole) else _SINGLE
    passages = [
        part
        for passage in script.passages
        for part in (_split_passage(passage, marks) if passage.voice is None else [passage])
    ]
    return replace(script, passages=tuple(passages))


def _split_passage(passage: Passage, marks: re.Pattern[str]) -> Iterator[Passage]:
    """Yield the parts of a passage; the pause after it follows the last one."""
    waiting = iter(passage.given)
    parts = list(_split_text(passage.text, marks))
    for number, (text, is_quoted) in enumerate(parts, 1):
        given = tuple(islice(waiting, len(PLACEHOLDER.findall(text))))
        pause = passage.pause if number == len(parts) else None
        yield replace(passage, text=text, voice=QUOTED if is_quoted else None, pause=pause, given=given)


def _split_text(text: str, marks: re.Pattern[str]) -> list[tuple[str, bool]]:
    """Return the parts of a text, and whether each is quoted; blanks belong to what they follow."""
    parts: list[tuple[list[str], bool]] = []
    start, is_open = 0, False

    def cut(end: int) -> None:
        nonlocal start
        piece = text[start:end]
        if parts and (parts[-1][1] == is_open or not any(sign.isalnum() for sign in piece)):
            parts[-1][0].append(piece)
        elif piece:
            parts.append(([piece], is_open))
        start = end

    for mark in marks.finditer(text):
        is_inch = mark["either"] and not is_open and text[mark.start() - 1 : mark.start()].isdigit()
        if is_inch or mark.start() < start:
            continue
        if mark["break"]:
            cut(mark.end())
            is_open = False
        elif not is_open and (mark["open"] or mark["either"]):
            cut(mark.start())
            is_open = True
        elif is_open and (mark["close"] or mark["either"]):
            blank = _BLANK.match(text, mark.end())
            cut(blank.end() if blank else mark.end())
            is_open = False
    cut(len(text))
    return [("".join(pieces), is_quoted) for pieces, is_quoted in parts]
