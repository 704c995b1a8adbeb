"""What may be given to be spoken, and how: the types of the `Synthesizer`'s arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from openvalle.audio import Audio
from openvalle.errors import ConfigError
from openvalle.synth.jobs import Job, PromptMode
from openvalle.synth.script import LexiconLike, Script
from openvalle.synth.voice import Voice
from openvalle.text.markup import Markup

Text = str | Script | Iterable[str]  # whole, marked up, or in pieces as it arrives
VoiceLike = Voice | Audio | str | Path | None


class Manner(TypedDict, total=False):
    """How a text is to be read."""

    markup: Markup | str  # of the text; auto by default. A text in pieces has none
    lexicon: LexiconLike  # pronunciations that beat all others, or a TSV file of them
    mode: PromptMode | str  # how the text follows on the voice; zero-shot by default
    cast: Mapping[str, Voice]  # what names of voices in the text mean; else they are looked up
    as_one: bool  # speak the whole text as one line, however long: what a protocol measures


@dataclass(frozen=True)
class Order:
    """The jobs of a text, and the seconds of silence that it wants around them."""

    jobs: Iterator[Job]
    lead: float
    tail: float


def chosen_mode(mode: PromptMode | str) -> PromptMode:
    """Return the prompt mode called by its name."""
    try:
        return PromptMode(mode)
    except ValueError:
        raise ConfigError(f"there is no prompt mode {mode!r}", f"use one of: {', '.join(PromptMode)}") from None
