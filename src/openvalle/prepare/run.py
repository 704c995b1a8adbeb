"""`prepare`: a folder or manifest of audio and text -> aligned, tokenised shards, step by step."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from openvalle.config import write_json_lines
from openvalle.data.index_files import write_index
from openvalle.data.shards import Row
from openvalle.errors import ConfigError, UserError
from openvalle.files import lock_folder
from openvalle.prepare.align import summarize
from openvalle.prepare.executor import Execute, Executor, Progress, StepResult, run_local, run_step
from openvalle.prepare.sources import scan
from openvalle.prepare.steps import (
    STEPS,
    PrepareOptions,
    Step,
    StepJob,
    check_columns,
    find_aligner,
    name_recognizer,
    read_merge,
)
from openvalle.prepare.units import explain_write_errors
from openvalle.text.language import read_out
from openvalle.text.symbols import BYTE_PAIRS, SymbolTable, TextUnit, inventory, train_byte_pairs
from openvalle.types import TokenSpec, Vocabulary

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PrepareReport:
    """What came of it: utterances at the end of each step, those left out, seconds of speech in the last step."""

    kept: dict[str, int]
    rejected: int
    seconds: float


def prepare(
    source: Path,
    out: Path,
    codec: str = "builtin",
    jobs: int = 1,
    *,
    last: Step = Step.TOKENS,
    options: PrepareOptions | None = None,
    executor: Executor = Executor.LOCAL,
    device: str = "cpu",
    progress: Progress | None = None,
) -> PrepareReport:
    """Turn the speech and text at `source` into shards in `out`; return what was kept and what was not.

    Each step writes its units into a folder of its own; a unit that was made of the same rows with the same settings is
    not made again, so the same command goes on after any stop. `codec`: a name or folder for `load_codec`; `jobs`:
    processes, or tasks of `executor` at a time; `last`: stop after this step; `device`: of networks that can run on a
    GPU; `progress(step, done, total)` is called as work is done. Unusable utterances land in `out`/rejected.jsonl with
    their step and reason. Raises `UserError` if nothing usable is left, or if another process is at `out`.
    """
    if jobs < 1:
        raise ConfigError(f"jobs is {jobs}", "give the number of processes, 1 or more")
    options = options or PrepareOptions()
    if last not in options.steps:
        raise ConfigError(f"there is no step {last} here", f"the steps are {', '.join(options.steps)}")
    check_columns(options.steps)
    steps = options.steps[: options.steps.index(last) + 1]
    if Step.ALIGN in steps:
        options = replace(options, align=find_aligner(options.align))
    results: list[StepResult] = []
    out = Path(os.path.abspath(out))  # as whoever does a unit sees it
    with lock_folder(out), _choose(executor, jobs) as execute:
        for step in steps:
            if step is Step.SCAN:
                needs_text = options.transcribe is None
                result = scan(source, out / step, needs_text=needs_text, seconds=options.unit_seconds)
                if progress:
                    progress(step, result.kept, result.kept)
            else:
                job = StepJob(step=step, out=out, options=options, codec=codec, device=device)
                result = _run(job, results[-1], execute, progress)
            results.append(result)
            write_json_lines(out / "rejected.jsonl", _left_out(results))
            if not result.kept:
                raise UserError(
                    f"no utterance of {source} passed the step {step}", f"see {out / 'rejected.jsonl'} for the reasons"
                )
    kept = {result.folder.name: result.kept for result in results}
    report = PrepareReport(kept, sum(result.rejected for result in results), results[-1].seconds)
    log.info("%d utterances, %.2f h; %d rejected", results[-1].kept, report.seconds / 3600, report.rejected)
    return report


def _left_out(results: list[StepResult]) -> Iterator[Row]:
    for result in results:
        yield from (row | {"step": result.folder.name} for row in result.list_left_out())


@contextmanager
def _choose(executor: Executor, jobs: int) -> Iterator[Execute]:
    """Yield what does units; it ends what it began."""
    if executor is Executor.RAY:
        from openvalle.prepare.ray import RayCluster

        with RayCluster(jobs) as cluster:
            yield cluster
    elif executor is Executor.SLURM:
        from openvalle.prepare.slurm import run_on_slurm

        yield partial(run_on_slurm, jobs)
    else:
        yield partial(run_local, jobs)


def _run(job: StepJob, before: StepResult, execute: Execute, progress: Progress | None) -> StepResult:
    """Do one of the steps after the scan."""
    declared, folder, options, tell = STEPS[job.step], job.out / job.step, job.options, None
    if job.step is Step.TRANSCRIBE:
        assert options.transcribe is not None
        if any(not row["text"] for row in before.rows()):
            named = name_recognizer(options.transcribe)
            job = job.model_copy(update={"options": replace(options, transcribe=named)})
    elif job.step is Step.TOKENS:
        job, tell = _name_tokens(job, before)
    on_gpu = job.device if declared.gpu else "cpu"
    result = run_step(folder, before.units, job, declared.settings(job), execute, progress, on_gpu, tell)
    if job.step is Step.ALIGN and result.kept and log.isEnabledFor(logging.INFO):
        log.info("align: %s", summarize(result.rows()))
    if tell:
        with explain_write_errors(folder):
            tell()  # also where only these were lost
            write_index(folder)
    return result


def _name_tokens(job: StepJob, before: StepResult) -> tuple[StepJob, Callable[[], None]]:
    """Return the job with its codec and table, and what writes both beside the tokens."""
    from openvalle.codec.load import find_again, load_codec

    codec = find_again(job.codec)
    table = make_table(before.rows, job.options)
    spec = TokenSpec(**load_codec(job.codec).spec.model_dump(), merge=read_merge(job.options), source=codec)
    folder = job.out / job.step

    def tell() -> None:
        table.vocabulary.save(folder / "symbols.json")
        spec.save(folder / "codec.json")

    return job.model_copy(update={"codec": codec, "vocabulary": table.vocabulary}), tell


def make_table(rows: Callable[[], Iterator[Row]], options: PrepareOptions) -> SymbolTable:
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
    texts = [read_out(row["text"], row["language"]) for row in rows() if row["split"] == "train"]
    texts = texts or [read_out(row["text"], row["language"]) for row in rows()]
    return SymbolTable(train_byte_pairs(texts, options.bpe_size or BYTE_PAIRS))
