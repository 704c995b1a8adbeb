"""Protocols as data: what each paper tests on, how it chooses prompts, and which judges it uses.

The file `protocols.yaml` beside this one holds them; a `Protocol` is one entry, checked. `published.yaml` holds
the figures that were published by each, with their source: a report shows those of its own protocol alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from openvalle.config import Config, override, read_mapping
from openvalle.errors import UserError
from openvalle.types import ENGLISH

PUBLISHED = Path(__file__).with_name("published.yaml")


class PublishedRow(Config):
    """One system's figures; further keys are figures by the table's columns."""

    model_config = ConfigDict(frozen=True, extra="allow")

    system: str
    role: Literal["", "original", "codec"] = ""

    @property
    def figures(self) -> dict[str, float]:
        """The figures by column."""
        return {name: float(value) for name, value in (self.model_extra or {}).items()}


class PublishedTable(Config):
    """One table of one paper, or a part of it."""

    id: str
    protocol: str
    source: str
    hand: Literal["first", "second"]
    columns: dict[str, str]
    samples: str
    best_of: int = 1  # samples of each item of which one was selected
    rows: tuple[PublishedRow, ...]

    @model_validator(mode="after")
    def _only_named_columns(self) -> PublishedTable:
        for row in self.rows:
            unknown = sorted(set(row.figures) - set(self.columns))
            if unknown:
                raise ValueError(f"{self.id}: {row.system} has figures without a column: {unknown}")
        return self

    def caption(self) -> str:
        """Return source and circumstances on one line."""
        hand = "" if self.hand == "first" else "; from transcriptions by others"
        return f"{self.source}; {self.samples}{hand}"


@cache
def read_published() -> tuple[PublishedTable, ...]:
    """Return every table."""
    return tuple(PublishedTable.parse(table, PUBLISHED.name) for table in read_mapping(PUBLISHED)["tables"])


def find_published(protocol: str) -> list[PublishedTable]:
    """Return the tables measured by that protocol."""
    return [table for table in read_published() if table.protocol == protocol]


FILE = Path(__file__).with_name("protocols.yaml")


class PromptRule(StrEnum):
    """Where the prompt comes from."""

    BEGINNING = "beginning"  # the first seconds of another utterance by the speaker
    CROP = "crop"  # seconds from a random place of another utterance by the speaker
    PREFIX = "prefix"  # the first seconds of the utterance itself, which is then continued
    PREVIOUS = "previous"  # the whole utterance before this one in the speaker's list; the first takes the last
    BELOW = "below"  # the speaker's utterance that is closest to, but less than, the seconds
    FOREIGN = "foreign"  # a whole utterance in another language, from a corpus of its own


class Cut(StrEnum):
    """Where a prompt that is part of an utterance ends."""

    WORD = "word"  # at the word boundary nearest to the seconds
    EXACT = "exact"  # at the seconds, perhaps within a word; that word's text is kept if most of it is heard


class Corpus(StrEnum):
    """What the protocol needs to be given."""

    ANY = "any"  # any folder or manifest of transcribed speech
    LIBRISPEECH = "librispeech"  # a LibriSpeech tree
    VCTK = "vctk"  # a VCTK tree


class ItemOrder(StrEnum):
    """Which utterances are tested."""

    LIST = "list"  # all, in the order of the corpus; a limit takes speakers in turn
    TURNS = "turns"  # speakers in turn, in an order that the seed decides
    ONE_PER_SPEAKER = "one-per-speaker"  # one text of each speaker, drawn by the seed


class Scored(StrEnum):
    """What of a continuation is judged."""

    GENERATED = "generated"  # only what the system made
    WHOLE = "whole"  # the beginning as recorded and what the system made, joined


class Reference(StrEnum):
    """What the similarity is measured against."""

    ORIGINAL = "original"  # the prompt as recorded: SIM-o
    CODEC = "codec"  # the prompt after the codec: SIM-r


class PromptChoice(Config):
    """How the prompt of an item is found."""

    rule: PromptRule
    seconds: float = Field(0.0, ge=0, description="length of the prompt; 0 where the rule takes whole utterances")
    cut: Cut = Cut.WORD
    language: str = Field(
        ENGLISH,
        description="language of the prompts; only the rule `foreign` takes another; "
        "empty: as their corpus says, another than the text's",
    )


class Decoding(Config):
    """How models of ours speak the items. What other systems do is their own affair."""

    mode: Literal["zero-shot", "continual", "cross-lingual"] = Field(
        "zero-shot", description="how texts follow prompts"
    )
    attempts: int | None = Field(
        None, ge=1, le=10, description="draws of a line that goes wrong; none: the model's own"
    )
    detectors: bool = Field(True, description="look for loops, silences and runaways while codebook 1 is drawn")
    windows: bool = Field(False, description="fill codebooks 2 to Q in windows, as a stream does; else whole lines")
    as_one: bool = Field(False, description="speak a text as one line, however long")
    settings: tuple[str, ...] = Field((), description="other options of decoding, `a.b=value`")

    def with_settings(self, given: Sequence[str]) -> Decoding:
        """Return the same with `key=value` texts put in; what is no field here is an option of the AR model's."""
        known = {item.partition("=")[0]: item for item in given if item.partition("=")[0] in type(self).model_fields}
        others = tuple(item for item in given if item not in known.values())
        override({}, others)  # `ConfigError` for what is not key=value
        values: dict[str, Any] = override(self.model_dump(mode="json"), tuple(known.values()))
        return Decoding.parse(values | {"settings": [*self.settings, *others]}, "--decode")


class Selection(StrEnum):
    """Which of several samples of an item counts (VALL-E 2, 4.1.4)."""

    SORTED = "sorted"  # the largest [min(similarity, enough), 1 - WER], compared in that order (eq. 23)
    METRIC_WISE = "metric-wise"  # the best of each measure, over all samples


class Judges(Config):
    """The models that judge, by the names that `openvalle.evaluate.scorers` knows."""

    asr: str = "pocketsphinx"
    normalizer: str = "openvalle-en-1"
    speaker: str = "resemblyzer"
    quality: str = Field("dnsmos", description="`dnsmos`, or `none`")
    step: int = Field(1, ge=1, description="seconds between the windows DNSMOS hears; the published tool uses 1")
    utmos: str = Field("", description="path of the UTMOS checkpoint; empty: not measured")


class Protocol(Config):
    """One way of measuring."""

    name: str
    title: str
    paper: str = Field("", description="where the protocol is described; empty: our own")
    corpus: Corpus
    subset: str = Field("", description="the part of the corpus, such as test-clean")
    utterances: int = Field(0, ge=0, description="how many the complete subset holds; 0: any number")
    speakers: int = Field(0, ge=0, description="how many speakers a complete corpus has; 0: any number")
    seconds: tuple[float, float] = Field((0.0, 1e9), description="shortest and longest utterance to be spoken")
    prompt: PromptChoice
    order: ItemOrder = ItemOrder.LIST
    scored: Scored = Scored.GENERATED
    conditions: tuple[str, ...] = Field(("clean",), description="what is done to each prompt, see `conditions`")
    decoding: Decoding = Decoding()
    judges: Judges
    similarity: Reference = Reference.ORIGINAL
    runs: int = Field(1, ge=1, description="seeds that the figures are averaged over")
    notes: str = Field(description="what the paper says, what it leaves open, and what we chose")


@cache
def protocols() -> dict[str, Protocol]:
    """Return every protocol by name."""
    entries = read_mapping(FILE)
    return {name: Protocol.parse({"name": name, **values}, f"{FILE.name}, {name}") for name, values in entries.items()}


def protocol(name: str) -> Protocol:
    """Return the protocol called `name`; `UserError` lists those there are."""
    known = protocols()
    if name not in known:
        raise UserError(f"there is no protocol {name!r}", f"there are: {', '.join(known)}")
    return known[name]
