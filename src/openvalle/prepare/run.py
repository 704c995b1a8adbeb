"""`prepare`: a folder or manifest of audio and text -> aligned, tokenised shards, step by step."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

from openvalle.config import write_json_lines
from openvalle.data.shards import Row
from openvalle.errors import ConfigError, UserError
from openvalle.files import lock_folder
from openvalle.prepare.align import AlignSettings, load_aligner, run_align
from openvalle.prepare.executor import UNIT, Progress, StepResult
from openvalle.prepare.perf import Measured, write_perf
from openvalle.prepare.segment import SegmentSettings, run_segment
from openvalle.prepare.sources import CleanSettings, run_clean, scan
from openvalle.prepare.tokenize import add_speeds, run_tokenize
from openvalle.prepare.transcribe import TranscribeSettings, run_transcribe
from openvalle.text.language import read_out
from openvalle.text.symbols import BYTE_PAIRS, SymbolTable, TextUnit, inventory, train_byte_pairs
from openvalle.types import Vocabulary

log = logging.getLogger(__name__)


class Step(StrEnum):
    """The steps in their order, each named as its folder in the output."""

    SCAN = "scan"  # cuts.jsonl.gz: what there is (lhotse)
    SEGMENT = "segment"  # index.jsonl: recordings without words, cut where nobody speaks
    AUDIO = "audio"  # audio-*.npy: trimmed, levelled 24 kHz mono
    TRANSCRIBE = "transcribe"  # index.jsonl: words for what has none
    ALIGN = "align"  # index.jsonl: phones in time
    TOKENS = "tokens"  # shard-*.safetensors: codes, symbols, durations


@dataclass(frozen=True)
class PrepareOptions:
    """Everything but source, output and codec that can be chosen."""

    clean: CleanSettings = field(default_factory=CleanSettings)
    align: AlignSettings = field(default_factory=AlignSettings)
    segment: SegmentSettings = field(default_factory=SegmentSettings)
    transcribe: TranscribeSettings | None = None  # how recordings without words get them; None: they are left out
    text_unit: TextUnit = TextUnit.PHONEME
    bpe_size: int | None = None  # pieces of the table of byte pairs; None: `openvalle.text.symbols.BYTE_PAIRS`
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
        """The steps that are done, in their order: byte pairs are not aligned, and nobody transcribes unasked."""
        missing = {Step.ALIGN} if self.text_unit is not TextUnit.PHONEME else set()
        missing |= {Step.SEGMENT, Step.TRANSCRIBE} if self.transcribe is None else set()
        return [step for step in Step if step not in missing]


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
        raise ConfigError(f"there is no step {last} here", f"the steps are {', '.join(options.steps)}")
    steps = options.steps[: options.steps.index(last) + 1]
    if Step.ALIGN in steps:
        load_aligner(options.align.aligner)  # one that is none is told before hours of work
    kept: dict[str, int] = {}
    rows: list[Row] = []
    rejected: list[Row] = []
    with lock_folder(out):
        for step in steps:
            if step is Step.SCAN:
                started, cpu = time.monotonic(), time.process_time()
                result = scan(source, out / step, needs_text=options.transcribe is None)
                sound = float(sum(row["seconds"] for row in result.kept))
                cost = Measured(len(result.kept), sound, time.process_time() - cpu, time.monotonic() - started)
                write_perf(out / step, cost, result.kept, result.rejected, goes_on=False)
                if progress:
                    progress(step, len(result.kept), len(result.kept))
            else:
                result = _run(step, rows, out, codec, options, jobs, progress)
            rows, kept[str(step)] = result.kept, len(result.kept)
            rejected += [row | {"step": str(step)} for row in result.rejected]
            write_json_lines(out / "rejected.jsonl", rejected)
            if not rows:
                raise UserError(
                    f"no utterance of {source} passed the step {step}", f"see {out / 'rejected.jsonl'} for the reasons"
                )
    report = PrepareReport(kept, rejected, sum(row["seconds"] for row in rows))
    log.info("%d utterances, %.2f h; %d rejected", len(rows), report.seconds / 3600, len(rejected))
    return report


def _run(
    step: Step, rows: list[Row], out: Path, codec: str, options: PrepareOptions, jobs: int, progress: Progress | None
) -> StepResult:
    """Do one of the steps after the scan."""
    folder, audio, common = out / step, out / Step.AUDIO, (jobs, options.unit, progress)
    if step is Step.SEGMENT:
        return run_segment(rows, folder, options.segment, *common)
    if step is Step.TRANSCRIBE:
        assert options.transcribe is not None
        return run_transcribe(rows, folder, audio, options.transcribe, *common)
    if step is Step.AUDIO:
        return run_clean(rows, folder, options.clean, *common)
    if step is Step.ALIGN:
        return run_align(rows, folder, audio, options.align, *common)
    from openvalle.codec.load import found_again, load_codec  # torch is needed from here on only

    chosen, load = add_speeds(rows, options.speeds), partial(load_codec, codec)
    table, is_aligned = _make_table(rows, options), options.text_unit is TextUnit.PHONEME
    merge = options.merge or (2 if is_aligned else 1)
    return run_tokenize(chosen, folder, audio, load, table, merge, *common, source=found_again(codec))


def _make_table(rows: Sequence[Row], options: PrepareOptions) -> SymbolTable:
    """Return the table that was given, the phone inventory, or byte pairs learned from the rows."""
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
    texts = [read_out(row["text"], row["language"]) for row in rows if row["split"] == "train"]
    texts = texts or [read_out(row["text"], row["language"]) for row in rows]
    return SymbolTable(train_byte_pairs(texts, options.bpe_size or BYTE_PAIRS))
