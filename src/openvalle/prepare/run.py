"""`prepare`: a folder or manifest of audio and text -> aligned, tokenised shards, step by step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

from openvalle.data.shards import Row, write_rows
from openvalle.errors import ConfigError, UserError
from openvalle.files import lock_folder
from openvalle.prepare.align import AlignSettings, run_align
from openvalle.prepare.clean import CleanSettings, run_clean
from openvalle.prepare.executor import UNIT, Progress, StepResult
from openvalle.prepare.sources import scan
from openvalle.text.language import read_out
from openvalle.text.symbols import SymbolTable, TextUnit, inventory
from openvalle.types import Vocabulary

log = logging.getLogger(__name__)


class Step(StrEnum):
    """The steps in their order, each named as its folder in the output."""

    SCAN = "scan"  # cuts.jsonl.gz: what there is (lhotse)
    AUDIO = "audio"  # audio-*.npy: trimmed, levelled 24 kHz mono
    ALIGN = "align"  # index.jsonl: phones in time
    TOKENS = "tokens"  # shard-*.safetensors: codes, symbols, durations


@dataclass(frozen=True)
class PrepareOptions:
    """Everything but source, output and codec that can be chosen."""

    clean: CleanSettings = field(default_factory=CleanSettings)
    align: AlignSettings = field(default_factory=AlignSettings)
    text_unit: TextUnit = TextUnit.PHONEME
    bpe_size: int | None = None  # pieces of the table of byte pairs; None: `openvalle.text.tokenizer.SIZE`
    symbols: Path | None = None  # table to use (symbols.json); None: the phone inventory, or byte pairs of the corpus
    merge: int | None = None  # frames that share an entry of codebook 1; None: 2 with phonemes, 1 with byte pairs
    speeds: tuple[float, ...] = ()  # further copies of the training utterances, each played at this speed
    unit: int = UNIT  # utterances in a unit of work

    def __post_init__(self) -> None:
        if self.bpe_size is not None and self.text_unit is TextUnit.PHONEME:
            raise ConfigError("bpe_size means nothing with phonemes", "choose the text unit bpe")
        if self.bpe_size is not None and self.symbols is not None:
            raise ConfigError("a table that is given has its size", "give bpe_size or symbols")

    @property
    def steps(self) -> list[Step]:
        """The steps that are done, in their order: byte pairs are not aligned."""
        return [step for step in Step if step is not Step.ALIGN or self.text_unit is TextUnit.PHONEME]

    @property
    def frames_per_entry(self) -> int:
        """Frames that share an entry of codebook 1."""
        return self.merge or (2 if self.text_unit is TextUnit.PHONEME else 1)


@dataclass(frozen=True)
class PrepareReport:
    """What came of it: utterances at the end of each step, and those left out as {"id", "step", "reason"}."""

    kept: dict[str, int]
    rejected: list[Row]
    seconds: float  # of speech in the last step


def prepare(
    source: Path,
    out: Path,
    codec: str = "builtin",
    jobs: int = 1,
    *,
    last: Step = Step.TOKENS,
    options: PrepareOptions | None = None,
    progress: Progress | None = None,
) -> PrepareReport:
    """Turn the speech and text at `source` into shards in `out`; return what was kept and what was not, and why.

    Each step writes a manifest into a folder of its own and is skipped where it is already done with the same
    input and settings, so the same command goes on after any stop. `codec`: a name or folder for `load_codec`;
    `jobs`: processes; `last`: stop after this step; `progress(step, done, total)` is called as work is done.
    Unusable utterances land in `out`/rejected.jsonl. Raises `UserError` if nothing usable is left, or if another
    process is at `out`.
    """
    if jobs < 1:
        raise ConfigError(f"jobs is {jobs}", "give the number of processes, 1 or more")
    options = options or PrepareOptions()
    if last not in options.steps:
        raise ConfigError(f"there is no step {last} with the text unit {options.text_unit}", "choose another step")
    with lock_folder(out):
        return _prepare(_Run(out, jobs, options, progress), source, codec, last)


def _prepare(run: _Run, source: Path, codec: str, last: Step) -> PrepareReport:
    options, out = run.options, run.out
    results: dict[Step, StepResult] = {}
    for step in options.steps[: options.steps.index(last) + 1]:
        rows = results[list(results)[-1]].kept if results else []
        results[step] = run.scan(source) if step is Step.SCAN else run.work(step, rows, codec)
        if not results[step].kept:
            _write_rejected(out, results)
            raise UserError(
                f"no utterance of {source} passed the step {step}", f"see {out / 'rejected.jsonl'} for the reasons"
            )
    rejected = _write_rejected(out, results)
    final = results[last].kept
    report = PrepareReport(
        {str(step): len(result.kept) for step, result in results.items()},
        rejected,
        sum(row["seconds"] for row in final),
    )
    log.info("%d utterances, %.2f h; %d rejected", len(final), report.seconds / 3600, len(rejected))
    return report


@dataclass(frozen=True)
class _Run:
    out: Path
    jobs: int
    options: PrepareOptions
    progress: Progress | None

    def scan(self, source: Path) -> StepResult:
        result = scan(source, self.out / Step.SCAN)
        if self.progress:
            self.progress(Step.SCAN, len(result.kept), len(result.kept))
        return result

    def work(self, step: Step, rows: Sequence[Row], codec: str) -> StepResult:
        """Do one of the steps after the scan."""
        folder, audio = self.out / step, self.out / Step.AUDIO
        common = (self.jobs, self.options.unit, self.progress)
        match step:
            case Step.AUDIO:
                return run_clean(list(rows), folder, self.options.clean, *common)
            case Step.ALIGN:
                return run_align(list(rows), folder, audio, self.options.align, *common)
            case _:
                # torch is needed from here on only
                from openvalle.codec.load import found_again, load_codec
                from openvalle.prepare.tokenize import add_speeds, run_tokenize

                load = partial(load_codec, codec)
                chosen = add_speeds(list(rows), self.options.speeds)
                return run_tokenize(
                    chosen,
                    folder,
                    audio,
                    load,
                    self._table(rows),
                    self.options.frames_per_entry,
                    *common,
                    source=found_again(codec),
                )

    def _table(self, rows: Sequence[Row]) -> SymbolTable:
        """Return the table that was given, the phone inventory, or byte pairs learned from the rows."""
        options = self.options
        if options.symbols is not None:
            table = SymbolTable(Vocabulary.load(options.symbols))
            if table.unit is not options.text_unit:
                raise ConfigError(
                    f"{options.symbols} is a table of {table.unit}, and the text unit is {options.text_unit}",
                    "choose its text unit, or another table",
                )
            return table
        if options.text_unit is TextUnit.PHONEME:
            return inventory()
        from openvalle.text.tokenizer import SIZE, train

        texts = [read_out(row["text"], row["language"]) for row in rows if row["split"] == "train"]
        texts = texts or [read_out(row["text"], row["language"]) for row in rows]
        return SymbolTable(train(texts, options.bpe_size or SIZE))


def _write_rejected(out: Path, results: dict[Step, StepResult]) -> list[Row]:
    rejected = [row | {"step": str(step)} for step, result in results.items() for row in result.rejected]
    write_rows(out / "rejected.jsonl", rejected)
    return rejected
