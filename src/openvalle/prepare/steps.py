"""The steps of `prepare` as they are declared: what each reads and writes, takes at once, and where it runs.

A step's work is made from a `StepJob`, which is all that travels to another process or machine: names and settings.
Rows say where their sound is; nothing else carries samples.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from openvalle.config import Config, override
from openvalle.data.shards import Row
from openvalle.errors import ConfigError
from openvalle.prepare.align import AlignSettings, AlignWork, front_end_digest
from openvalle.prepare.filter import FilterSettings, FilterWork
from openvalle.prepare.segment import SegmentSettings, SegmentWork, load_detector
from openvalle.prepare.sources import CleanSettings, CleanWork
from openvalle.prepare.tokenize import TokenizeWork
from openvalle.prepare.transcribe import TranscribeSettings, TranscribeWork
from openvalle.prepare.units import Target, Work
from openvalle.speech_models.aligners import Aligners, load_aligner
from openvalle.speech_models.asr import CHOICE, best_available, load_recognizer
from openvalle.text.symbols import SymbolTable, TextUnit
from openvalle.types import MERGE, Vocabulary


class Step(StrEnum):
    """The steps in their order, each named as its folder in the output."""

    SCAN = "scan"  # cuts.jsonl.gz: what there is (lhotse)
    SEGMENT = "segment"  # recordings without words, cut where nobody speaks
    AUDIO = "audio"  # audio.npy: trimmed, levelled 24 kHz mono
    TRANSCRIBE = "transcribe"  # words for what has none
    ALIGN = "align"  # phones in time
    FILTER = "filter"  # what its words or its sound speak against is left out
    TOKENS = "tokens"  # codes.safetensors: codes, symbols, durations


SETTINGS: dict[str, type[Config]] = {  # of the steps that have some, as `PrepareOptions` calls them
    "segment": SegmentSettings,
    "clean": CleanSettings,
    "transcribe": TranscribeSettings,
    "align": AlignSettings,
    "filter": FilterSettings,
}


@dataclass(frozen=True)
class PrepareOptions:
    """Everything but source, output and codec that can be chosen."""

    clean: CleanSettings = field(default_factory=CleanSettings)
    align: AlignSettings = field(default_factory=AlignSettings)
    segment: SegmentSettings = field(default_factory=SegmentSettings)
    transcribe: TranscribeSettings | None = None  # how recordings without words get them; None: they are left out
    filter: FilterSettings | None = None  # None: nothing is filtered but what was transcribed
    text_unit: TextUnit = TextUnit.PHONEME
    bpe_size: int | None = None  # pieces of the table of byte pairs; None: `openvalle.text.symbols.BYTE_PAIRS`
    symbols: Path | None = None  # table to use (symbols.json); None: the phone inventory, or byte pairs of the corpus
    merge: int | None = None  # frames that share an entry of codebook 1; None: 2 with phonemes, 1 with byte pairs
    speeds: tuple[float, ...] = ()  # further copies of the training utterances, each played at this speed
    unit_seconds: float | None = None  # of sound in a unit of work; None: an hour, less of a small corpus

    def __post_init__(self) -> None:
        if self.bpe_size is not None and self.text_unit is TextUnit.PHONEME:
            raise ConfigError("bpe_size means nothing with phonemes", "choose the text unit bpe")
        if self.bpe_size is not None and self.symbols is not None:
            raise ConfigError("a table that is given has its size", "give bpe_size or symbols")
        if self.unit_seconds is not None and self.unit_seconds <= 0:
            raise ConfigError(f"a unit of {self.unit_seconds:g} s holds nothing", "leave it out, or give 60 or more")

    def change(self, settings: Sequence[str]) -> PrepareOptions:
        """Return the options with single settings as given: `step.name=value`, or `unit_seconds=600`.

        `ConfigError` for a setting that is not there or out of its range, or of recordings that nobody transcribes.
        """
        changed: dict[str, Any] = {}
        for step, values in override({}, tuple(settings)).items():
            if step == "unit_seconds" and isinstance(values, int | float):
                changed[step] = float(values)
                continue
            if step not in SETTINGS or not isinstance(values, dict):
                hint = f"write STEP.NAME=VALUE of {', '.join(SETTINGS)}, or unit_seconds=600"
                raise ConfigError(f"there is no setting {step!r}", hint)
            own = getattr(self, step)
            if own is None and step == Step.TRANSCRIBE:
                raise ConfigError("recordings without words are left out: nothing is transcribed", "give --transcribe")
            before = {} if own is None else own.model_dump()
            changed[step] = SETTINGS[step].parse(before | values, f"the settings of {step}")
        return replace(self, **changed)

    @property
    def steps(self) -> list[Step]:
        """The steps that are done, in their order: byte pairs are not aligned, and nobody transcribes unasked."""
        missing = {Step.ALIGN} if self.text_unit is not TextUnit.PHONEME else set()
        if self.transcribe is None:
            missing |= {Step.SEGMENT, Step.TRANSCRIBE} | ({Step.FILTER} if self.filter is None else set())
        return [step for step in Step if step not in missing]


class StepJob(Config):
    """A step after the scan, for whoever does its units: called, it makes the work.

    `codec`: name or folder; `vocabulary`: of the table of symbols; `device`: of the networks that can run on a GPU.
    """

    step: Step
    out: Path
    options: PrepareOptions
    codec: str = ""
    vocabulary: Vocabulary | None = None
    device: str = "cpu"

    def __call__(self) -> Work:
        """Return the work, which keeps to what is declared."""
        declared = STEPS[self.step]
        return partial(_keep_to, declared, declared.build(self))


def _keep_to(declared: Declared, work: Work, target: Target, rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """Do a unit; `AssertionError` if its rows have other columns than the step is declared to read and to write."""
    assert all(declared.reads <= row.keys() for row in rows), (rows[0].keys(), declared.reads)
    kept, rejected = work(target, rows)
    if rows:
        wanted = (rows[0].keys() - declared.drops) | declared.adds
        assert all(row.keys() == wanted for row in kept), (kept[0].keys() ^ wanted, target.name)
    return kept, rejected


@dataclass(frozen=True)
class Declared:
    """What a step needs of a row (`reads`), what it adds and takes away, and how it runs.

    `batch_seconds`: sound that a network hears at once, None: a row at a time. `gpu`: whether it can run on one.
    """

    reads: frozenset[str]
    adds: frozenset[str]
    drops: frozenset[str]
    build: Callable[[StepJob], Work]
    settings: Callable[[StepJob], Any]  # all that its results depend on beside the rows, as JSON has it
    batch_seconds: float | None = None
    gpu: bool = False


def columns(text: str) -> frozenset[str]:
    """Return the names in a text."""
    return frozenset(text.split())


SCANNED = columns("id audio inside start seconds channels text speaker language split file recording heard")
PLACE = columns("shard start samples")
_PLACED = PLACE | columns("sound")
ALIGNED = columns("score words spans input")


def _build_align(job: StepJob) -> Work:
    return AlignWork(job.out / Step.AUDIO, job.options.align, Aligners(job.options.align.aligner))


def find_aligner(settings: AlignSettings) -> AlignSettings:
    """Return the settings with an aligner that others find, too; `UserError` if there is none of that name."""
    load_aligner(settings.aligner)  # one that is none is told before hours of work
    kind, colon, folder = settings.aligner.partition(":")
    return settings.model_copy(update={"aligner": kind + colon + (os.path.abspath(folder) if folder else "")})


def _align_settings(job: StepJob) -> Any:
    digest = Aligners(job.options.align.aligner).digest  # wherever its folder lies
    return [job.options.align.model_dump(exclude={"aligner"}), digest, front_end_digest()]


def _build_segment(job: StepJob) -> Work:
    return SegmentWork(job.options.segment, load_detector)


def _build_transcribe(job: StepJob) -> Work:
    assert job.options.transcribe is not None
    batch = STEPS[Step.TRANSCRIBE].batch_seconds
    assert batch is not None
    return TranscribeWork(
        job.out / Step.AUDIO, job.options.transcribe, lambda name: load_recognizer(name, job.device), batch
    )


def _build_filter(job: StepJob) -> Work:
    return FilterWork(job.out / Step.AUDIO, job.options.filter or FilterSettings(), device=job.device)


def _build_tokens(job: StepJob) -> Work:
    from openvalle.codec.load import load_codec  # torch is needed from here on only

    assert job.vocabulary is not None
    table, merge = SymbolTable(job.vocabulary), read_merge(job.options)
    return TokenizeWork(job.out / Step.AUDIO, load_codec(job.codec), table, merge, job.options.speeds)


def read_merge(options: PrepareOptions) -> int:
    """Return how many frames share an entry of codebook 1."""
    return options.merge or (MERGE if options.text_unit is TextUnit.PHONEME else 1)


def name_recognizer(settings: TranscribeSettings) -> TranscribeSettings:
    """Return the settings with the recogniser by name: the best one installed may be another one elsewhere."""
    if settings.recognizer:
        return settings
    name = os.environ.get(CHOICE) or best_available().name.replace(" ", ":")  # "whisper base"
    return settings.model_copy(update={"recognizer": name})


def _token_settings(job: StepJob) -> Any:
    from openvalle.codec.load import load_codec

    assert job.vocabulary is not None
    codec = load_codec(job.codec).spec.model_dump(mode="json")
    return [codec, job.vocabulary.digest, read_merge(job.options), job.options.speeds]


STEPS: dict[Step, Declared] = {
    Step.SEGMENT: Declared(
        reads=columns("id audio inside start seconds channels text"),
        adds=frozenset(),
        drops=frozenset(),
        build=_build_segment,
        settings=lambda job: job.options.segment.model_dump(),
    ),
    Step.AUDIO: Declared(
        reads=SCANNED,
        adds=_PLACED,
        drops=columns("audio inside channels file"),
        build=lambda job: CleanWork(job.options.clean),
        settings=lambda job: job.options.clean.model_dump(),
    ),
    Step.TRANSCRIBE: Declared(
        reads=columns("text language seconds") | PLACE,
        adds=columns("text heard"),
        drops=frozenset(),
        build=_build_transcribe,
        settings=lambda job: job.options.transcribe and job.options.transcribe.model_dump(),
        batch_seconds=240.0,
        gpu=True,
    ),
    Step.ALIGN: Declared(
        reads=columns("id text language speaker split seconds recording heard") | _PLACED,
        adds=ALIGNED,
        drops=frozenset(),
        build=_build_align,
        settings=_align_settings,
    ),
    Step.FILTER: Declared(
        reads=columns("text language seconds heard") | PLACE,
        adds=frozenset(),
        drops=frozenset(),
        build=_build_filter,
        settings=lambda job: (job.options.filter or FilterSettings()).model_dump(),
    ),
    Step.TOKENS: Declared(
        reads=columns("id text language speaker split seconds") | PLACE,
        adds=columns("shard frames symbols frame_start symbol_start"),
        drops=_PLACED | ALIGNED | columns("recording heard"),
        build=_build_tokens,
        settings=_token_settings,
    ),
}


def check_columns(steps: Sequence[Step]) -> dict[Step, frozenset[str]]:
    """Return the columns of the rows that each step hands on; `AssertionError` if one lacks what it reads."""
    found, there = {}, SCANNED
    for step in steps:
        if step is not Step.SCAN:
            declared = STEPS[step]
            assert declared.reads <= there, (step, declared.reads - there)
            there = (there - declared.drops) | declared.adds
        found[step] = there
    return found
