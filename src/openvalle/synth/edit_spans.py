"""Where an edit of a recording works: the words that go, the symbols that they are, and the words that come instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from openvalle.errors import AudioError, TextError
from openvalle.synth.plan import Script, parse_script
from openvalle.synth.recording import Recording
from openvalle.text.language import UserLexicon, Word, phonemize
from openvalle.text.markup import Passage
from openvalle.text.sentences import find_words, join_words
from openvalle.types import SIL


class EditKind(StrEnum):
    """What is done to words."""

    REPLACE = "replace"
    INSERT = "insert"  # after the words
    DELETE = "delete"


@dataclass(frozen=True)
class Edit:
    """A change of the words `old`, which must be in the transcript exactly once. `new`: a text or its script."""

    kind: EditKind
    old: str
    new: str | Script = ""


@dataclass(frozen=True)
class EditSpan:
    """Where an edit works: words [first, last), symbols [start, end), and the words that come instead."""

    edit: Edit
    first: int
    last: int
    start: int
    end: int
    words: tuple[Word, ...]


def locate_edits(recording: Recording, edits: Sequence[Edit]) -> list[EditSpan]:
    """Return where each edit works, in order of time."""
    spans = sorted((_locate(recording, one) for one in edits), key=lambda span: (span.first, span.last))
    for before, after in pairwise(spans):
        if after.first <= before.last:
            raise TextError(f"the edits of {before.edit.old!r} and {after.edit.old!r} meet", "make one edit of the two")
    return spans


def _locate(recording: Recording, one: Edit) -> EditSpan:
    wanted = [word.text.lower() for word in _read_words(one.old, "to look for", recording.language)]
    there = [word.text.lower() for word in recording.words]
    places = list(find_words(there, wanted))
    if not places:
        raise TextError(f"{one.old!r} is not in the transcript, as whole words", f"it says: {' '.join(there)}")
    if len(places) > 1:
        raise TextError(f"{one.old!r} is {len(places)} times in the transcript", "name the words around it, too")
    first, last = places[0]
    own = [index for index, owner in enumerate(recording.owners) if first <= owner < last]
    if not own:
        raise AudioError(f"{recording.words[first].text!r} is not in the sound", "check the recording's transcript")
    start, end = own[0], own[-1] + 1  # pauses between the words included
    if one.kind is EditKind.INSERT:
        first, start = last, end
    if one.kind is EditKind.DELETE:
        return EditSpan(one, first, last, *_with_pause(recording, start, end), ())
    script = one.new if isinstance(one.new, Script) else parse_script(one.new)
    return EditSpan(one, first, last, start, end, _pronounce_in_context(recording, first, last, script))


def _read_words(
    text: str, what: str, language: str, lexicon: UserLexicon | None = None, given: Sequence[Word] = ()
) -> list[Word]:
    try:
        return phonemize(text, language, lexicon=lexicon, given=given)
    except TextError as error:
        raise TextError(f"the words {what} cannot be read: {error.what}", error.hint) from None


def _with_pause(recording: Recording, start: int, end: int) -> tuple[int, int]:
    """Return the span with the shorter of the pauses around it, so that only one of two stays."""
    symbols, durations = recording.symbols, recording.durations
    if start > 0 and end < len(symbols) and symbols[start - 1] == SIL == symbols[end]:
        return (start - 1, end) if durations[start - 1] < durations[end] else (start, end + 1)
    return start, end


def _pronounce_in_context(recording: Recording, first: int, last: int, script: Script) -> tuple[Word, ...]:
    """Return the new words as they sound between their neighbours ("the" knows the word after it)."""
    new, given = script.passages[0].text, script.passages[0].given
    if script.lead or script.passages != (Passage(new, given=given),):
        raise TextError("new words take the recording's voice and pace", "leave [voice:...], [pause:1s] and such out")
    alone = _read_words(new, "to say", recording.language, script.lexicon, given)
    before = [word.text for word in recording.words[max(0, first - 2) : first]]
    after = [word.text for word in recording.words[last : last + 1]]
    whole = phonemize(join_words([*before, new, *after]), recording.language, lexicon=script.lexicon, given=given)
    inside = whole[len(before) : len(whole) - len(after)]
    fits = [word.text.lower() for word in inside] == [word.text.lower() for word in alone]
    return tuple(inside if fits else alone)
