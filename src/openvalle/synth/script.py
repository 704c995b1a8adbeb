"""A text with markup -> the lines to speak, each with its voice, rate and the pause after it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from openvalle.errors import TextError, UserError
from openvalle.synth.lines import Line, lines_of
from openvalle.synth.voice import Voice
from openvalle.text.chunks import CLAUSE, NONE, PARAGRAPH, SENTENCE
from openvalle.text.lexicon import read_lexicon
from openvalle.text.markup import Markup, Passage, parse
from openvalle.text.phonemes import UserLexicon, lower_keys

log = logging.getLogger(__name__)

LexiconLike = UserLexicon | str | Path | None
_CLOSERS = "\"')]\u2019\u201d\u00bb"


@dataclass(frozen=True)
class Script:
    """Passages to speak one after the other. `lead`: seconds of silence before the first."""

    passages: tuple[Passage, ...]
    lexicon: UserLexicon
    shown: Mapping[str, str]
    notes: tuple[str, ...] = ()
    lead: float = 0.0

    @property
    def tail(self) -> float:
        """Seconds of silence after the last passage."""
        return self.passages[-1].pause or 0.0

    def lines(self, *, as_one: bool = False) -> Iterator[Line]:
        """Yield the lines, `as_one` for each passage; `TextError` if nothing can be spoken."""
        held: Line | None = None
        for passage in self.passages:
            spoken = False
            try:
                for line in lines_of(passage.text, self.lexicon, self.shown, as_one=as_one):
                    if held is not None:
                        yield held
                    held, spoken = replace(line, voice=passage.voice, rate=passage.rate), True
            except TextError:  # a passage of signs between others
                pass
            if held is not None and (spoken or passage.pause):
                usual = pause_after(passage.text) if spoken else held.pause
                pause = usual if passage.pause is None else passage.pause
                held = replace(held, pause=pause if spoken else max(held.pause, pause))
        if held is None:
            raise TextError("the text holds nothing that can be spoken", "write at least one word")
        yield replace(held, pause=NONE)  # nothing follows

    def without_rates(self) -> Script:
        """Return the script for a model that cannot change its pace; that it had to is logged and noted."""
        if all(passage.rate == 1 for passage in self.passages):
            return self
        note = "this model has no alignment: rates of speaking are left as they are"
        log.warning("%s", note)
        return replace(
            self,
            passages=tuple(replace(passage, rate=1.0) for passage in self.passages),
            notes=(*self.notes, note),
        )

    def cast(self, find: Callable[[str], Voice]) -> dict[str, Voice]:
        """Return the voice of each name in the script; an unknown one is an error that says where it stands."""
        voices: dict[str, Voice] = {}
        for passage in self.passages:
            if passage.voice is None or passage.voice in voices:
                continue
            try:
                voices[passage.voice] = find(passage.voice)
            except UserError as error:
                is_speaker = re.fullmatch(r"S\d+", passage.voice) is not None
                hint = "speak a script of several speakers with `openvalle dialogue`" if is_speaker else error.hint
                raise TextError(f"{passage.place}: {error.what}", hint) from None
        return voices


def script_of(text: str, markup: Markup | str = Markup.AUTO, lexicon: LexiconLike = None) -> Script:
    """Return the script of a text; what cannot be honoured is logged and kept in `notes`.

    `lexicon`: pronunciations, or a TSV file of them (see `openvalle.text.lexicon`).
    """
    marked = parse(text, markup)
    for note in marked.notes:
        log.warning("%s", note)
    passages = marked.passages or (Passage(""),)
    words = lexicon_of(lexicon)
    words = lower_keys({**words, **marked.lexicon} if marked.lexicon else words)
    return Script(passages, words, marked.shown, marked.notes, marked.lead)


def lexicon_of(lexicon: LexiconLike) -> UserLexicon:
    """Return the pronunciations given, or those in a file."""
    return read_lexicon(lexicon) if isinstance(lexicon, str | Path) else lexicon or {}


def pause_after(text: str) -> float:
    """Return the silence that the end of a passage asks for when another one follows."""
    bare = text.rstrip()
    if text.count("\n", len(bare)) > 1:
        return PARAGRAPH
    end = bare.rstrip(_CLOSERS)[-1:]
    if end and end in ".!?\u2026\u3002":
        return SENTENCE
    return CLAUSE if end and end in ",;:\u2014\u2013" else NONE
