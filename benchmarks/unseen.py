"""The papers' systems on unseen text: each trains for the same processor time on the same speech, then speaks.

A part of `make bench-family`. Goes on where it was stopped: a network that is trained is not trained again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from judged import judges_here
from openvalle.data.shards import TokenShards
from openvalle.errors import UserError
from openvalle.evaluate.corpus import find_corpus
from openvalle.evaluate.protocols import protocol
from openvalle.evaluate.report import Report as Evaluation
from openvalle.evaluate.report_pages import save_report
from openvalle.evaluate.results import ORIGINAL, RECONSTRUCTED
from openvalle.evaluate.run import EvaluationOptions, evaluate
from openvalle.evaluate.systems.ours import build_model_candidate, load_model_codec
from openvalle.evaluate.test_list import CORPUS, TestList
from openvalle.files import sha256, write_text
from openvalle.train.recipe import read_job
from openvalle.train.recipe import run as train
from pace import RECIPES, SYSTEMS
from report import Report
from speech import test_list
from unseen_data import tokens, write_manifest

PARTS = ("ar", "nar")
FRAMES, RATE = 1000, 1e-3  # of a batch; the peak learning rate of all networks, that of the recipes
AVERAGE = 0.99  # of the weights' moving average: the recipes' is for runs of many thousand updates
PROBE = (2, 6, 26)  # updates after which an update's cost is read; the first ones warm the machine up
POINTS = 10  # of the curve, whose mean is told
VALID_BATCHES = 4  # a NAR model is judged seven times on each, within the budget
VOICE = ("sim_o", "sim_other", "right_above_wrong")
LIMIT, FAILURES = "cut", frozenset({"loop", "silence", "runaway"})  # notes of an answer
DONE = "done.json"  # in the folder of a network that is trained: what came of it, and how


@dataclass(frozen=True)
class System:
    """A row of the table: a small recipe and what is changed in it."""

    name: str
    recipe: str
    changes: tuple[str, ...] = ()
    folder: str = ""  # of its AR model and of what it says; the NAR model is the recipe's

    @property
    def path(self) -> Path:
        """The recipe's file."""
        return RECIPES / f"{self.recipe}-small.yaml"

    @property
    def merge(self) -> int:
        """Frames that share an entry of codebook 1."""
        return int(read_job("ar", self.path)["model"].get("merge", 1))

    def place(self, part: str) -> str:
        """Return the name of a network's folder: groups are of codebook 1 alone, so that both of VALL-E 2's share one
        NAR model."""
        return f"{self.recipe}-nar" if part == "nar" else f"{self.folder or self.recipe}-ar"


def rows(recipe: str) -> list[System]:
    """Return the systems of a recipe: VALL-E 2 both without groups and with groups of two."""
    if recipe != "valle2":
        return [System(SYSTEMS[recipe], recipe)]
    return [
        System(f"{SYSTEMS[recipe]}, G = {size}", recipe, (f"ar.model.group={size}",), f"{recipe}-g{size}")
        for size in (1, 2)
    ]


@dataclass(frozen=True)
class Learnt:
    """What training a network took and where it came to."""

    updates: int
    cpu_seconds: float
    first_loss: float  # of training, the first points of the curve and the last
    last_loss: float
    valid: dict[str, float]  # on readers that are neither learnt nor judged

    @property
    def accuracy(self) -> float:
        """Share of codes of unseen readers that come out likeliest after true ones; of all codebooks of a NAR model."""
        return self.valid["code_accuracy"]


def learn(system: System, part: str, data: Path, options: argparse.Namespace) -> Learnt:
    """Train a network for the budget of processor time, unless that is done."""
    folder = options.out / system.place(part)
    overrides = (
        *system.changes,
        f"data={data}",
        "shows=false",
        f"valid_batches={VALID_BATCHES}",
        f"loop.seed={options.seed}",
        "loop.log_every=5",
        "loop.save_minutes=60",
        f"batches.frames={options.frames}",
    )
    settings = {
        "recipe": sha256(system.path),
        "changes": list(system.changes if part == "ar" else ()),
        "speech": sha256(options.speech),
        "codec": options.codec,
        "budget": options.budget,
        "rate": options.rate,
        "frames": options.frames,
        "seed": options.seed,
        "threads": options.threads,
    }
    kept = folder / DONE
    if kept.is_file() and (found := json.loads(kept.read_text(encoding="utf-8")))["settings"] == settings:
        return Learnt(**found["learnt"])
    updates = count_updates(part, system, overrides, folder, options)
    shutil.rmtree(folder, ignore_errors=True)  # one broken off begins anew: its budget is that of one run
    length = lasting(overrides, updates, options.rate)
    spent = processor_seconds(partial(train, part, system.path, length, folder))
    learnt = read_learnt(folder / "metrics.jsonl", updates, spent)
    write_text(kept, json.dumps({"settings": settings, "learnt": asdict(learnt)}, indent=2) + "\n")
    return learnt


def count_updates(
    part: str, system: System, overrides: tuple[str, ...], folder: Path, options: argparse.Namespace
) -> int:
    """Return how many updates the budget holds, measured on a few: time on the clock says little on a busy machine."""
    probe = folder.with_name(f"{folder.name}-probe")
    shutil.rmtree(probe, ignore_errors=True)
    lengths = [lasting(overrides, count, options.rate, PROBE[-1]) for count in PROBE]
    spent = [processor_seconds(partial(train, part, system.path, length, probe)) for length in lengths]
    shutil.rmtree(probe)
    update = max(1e-6, (spent[2] - spent[1]) / (PROBE[2] - 2 * PROBE[1] + PROBE[0]))
    start = max(0.0, spent[1] - (PROBE[1] - PROBE[0]) * update)  # opening the data, and validation at the end
    return max(1, int((options.budget - start) / update))


def lasting(overrides: tuple[str, ...], updates: int, rate: float, planned: int = 0) -> tuple[str, ...]:
    """Return the overrides with a length, and a schedule that suits one of `planned` updates."""
    warmup = max(1, (planned or updates) // 20)
    optim = f"loop.optim={{learning_rate: {rate}, warmup: {warmup}, ema: {AVERAGE}}}"
    return (*overrides, f"loop.steps={updates}", f"loop.validate_every={updates}", optim)


def processor_seconds(work: Callable[[], Any]) -> float:
    """Return the processor seconds that something takes, all threads together."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def read_learnt(path: Path, updates: int, spent: float) -> Learnt:
    """Return what a run's curves tell."""
    points = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    losses = [point["loss"] for point in points if point["group"] == "train"]
    valid = [point for point in points if point["group"] == "valid"][-1]
    valid = {name: value for name, value in valid.items() if name not in ("step", "group")}
    first, last = (sum(part) / len(part) for part in (losses[:POINTS], losses[-POINTS:]))
    return Learnt(updates, spent, first, last, valid)


def pack(system: System, options: argparse.Namespace) -> Path:
    """Return the folder of the model that both networks make."""
    parts = tuple(f"pack.{part}={options.out / system.place(part)}" for part in PARTS)
    name = (system.folder or system.recipe) + "-model"
    return train("pack", system.path, (*system.changes, *parts, "storage=float32"), options.out / name)


def report_set(options: argparse.Namespace) -> TestList:
    """Return the pairs that are judged: those of `make bench-speech`, of both splits in one list."""
    limits = {"dev-clean": options.limit, "dev-other": options.other_limit}
    found = [test_list(split, limit, options) for split, limit in limits.items() if limit > 0]
    if not found:
        raise UserError("nothing to judge", "raise --limit or --other-limit")
    items = [item for tests in found for item in tests.items]
    notes = tuple(note for tests in found for note in tests.notes)
    return replace(
        found[0],
        items=tuple(replace(item, number=number) for number, item in enumerate(items)),
        notes=notes,
        request="",
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this part."""
    group = parser.add_argument_group("unseen text")
    group.add_argument(
        "--budget", type=float, default=240.0, help="processor seconds that each network trains (default: %(default)s)"
    )
    group.add_argument("--hours", type=float, default=1.25, help="of speech learnt from (default: %(default)s)")
    group.add_argument("--speakers", type=int, default=60, help="at most, in it (default: %(default)s)")
    group.add_argument(
        "--limit", type=int, default=24, help="pairs of dev-clean, before --readers (default: %(default)s)"
    )
    group.add_argument("--other-limit", type=int, default=10, help="pairs of dev-other (default: %(default)s)")
    group.add_argument(
        "--readers", default="ls3664,ls4640,ls7312", help="of dev-clean that are judged (default: %(default)s)"
    )


def unseen(given: argparse.Namespace, report: Report) -> None:
    """Train every system, let it speak the report set, and add the tables."""
    own = {"out": given.out / "unseen", "frames": given.frames or FRAMES, "rate": given.rate or RATE}
    options = argparse.Namespace(**vars(given) | own)
    systems = [row for recipe in options.systems for row in rows(recipe)]
    options.speech = write_manifest(options)
    data = {merge: tokens(options, merge) for merge in sorted({system.merge for system in systems})}
    learnt = {
        system.name: {part: learn(system, part, data[system.merge], options) for part in PARTS} for system in systems
    }
    hours = float(TokenShards.open(next(iter(data.values())), "train").index.seconds.sum()) / 3600
    training_table(hours, learnt, options, report)
    judged = speak(systems, options)
    speech_table(judged, hours, options, report)
    report.values["unseen"] = {
        "hours": hours,
        "learnt": {name: {part: asdict(one) for part, one in parts.items()} for name, parts in learnt.items()},
        "figures": {
            name: {key: asdict(value) for key, value in judged.summarise(name).items()} for name in judged.systems
        },
        "shares": {name: failures(judged, name) for name in judged.systems},
        "record": judged.record,
        "warnings": judged.warnings(),
    }


def speak(systems: list[System], options: argparse.Namespace) -> Evaluation:
    """Let every system say the report set once, judged beside the recordings and what the codec leaves of them."""
    models = {system.name: pack(system, options) for system in systems}
    candidates = [
        build_model_candidate(path, name=system.folder or system.recipe, threads=options.threads)
        for system, path in zip(systems, models.values(), strict=True)
    ]
    sets, missing = judges_here()
    for note in missing:
        print(f"note: {note}")
    judged = evaluate(
        report_set(options),
        protocol("quick").model_copy(update={"judges": sets[0]}),
        candidates,
        {CORPUS: find_corpus(options.data)},
        EvaluationOptions(options.out / "judged", (options.seed,), workers=1),
        load_model_codec(next(iter(models.values()))),
    )
    names = {system.folder or system.recipe: system.name for system in systems}
    save_report(judged, options.out / "judged")
    return replace(
        judged, results=tuple(replace(row, system=names.get(row.system, row.system)) for row in judged.results)
    )


def failures(judged: Evaluation, name: str) -> dict[str, float]:
    """Return the shares of a system's answers that are no whole sentence: cut at the length limit; wrong in the ear of
    the failure detectors, after all attempts (loops, silences, runaways); without any sound."""
    answers = judged.of(name)
    kinds = {
        "limit": [LIMIT in row.notes for row in answers],
        "failure": [bool(FAILURES & set(row.notes)) for row in answers],
        "no sound": [row.failed for row in answers],
    }
    return {kind: sum(found) / len(found) for kind, found in kinds.items()}


def training_table(
    hours: float, learnt: dict[str, dict[str, Learnt]], options: argparse.Namespace, report: Report
) -> None:
    """Add what training came to."""
    columns = ["", "updates", "CPU min", "loss, first", "loss, last", "loss, unseen readers", "codes right, unseen %"]
    shown = [
        [
            f"{name}, {part.upper()}",
            str(one.updates),
            f"{one.cpu_seconds / 60:.2f}",
            f"{one.first_loss:.2f}",
            f"{one.last_loss:.2f}",
            f"{one.valid['loss']:.2f}",
            f"{one.accuracy * 100:.1f}",
        ]
        for name, parts in learnt.items()
        for part, one in parts.items()
    ]
    report.table(f"{hours:.2f} h of speech, {options.budget:g} CPU s for each network", columns, shown)


def speech_table(judged: Evaluation, hours: float, options: argparse.Namespace, report: Report) -> None:
    """Add the table of what was heard."""
    by = judged.protocol.judges
    columns = ["", f"WER %, {by.asr}", f"{by.speaker}, same", "other", "same nearer %"]
    columns += ["seconds", "cut at the limit %", "failed %"]
    shown = []
    for name in judged.systems:
        found, recorded = judged.summarise(name), name in (ORIGINAL, RECONSTRUCTED)
        shares = failures(judged, name)
        shown.append(
            [
                name,
                found["wer"].text(percent=True),
                *(found[key].text(percent=key == "right_above_wrong") if key in found else "-" for key in VOICE),
                f"{found['seconds'].value:.1f}" if "seconds" in found else "-",
                "-" if recorded else f"{shares['limit'] * 100:.0f}",
                "-" if recorded else f"{(shares['failure'] + shares['no sound']) * 100:.0f}",
            ]
        )
    readers = len({row.speaker for row in judged.results})
    pairs = len({row.item for row in judged.results})
    title = f"Unseen text, {pairs} pairs of {readers} readers: {hours:.2f} h, {options.budget:g} CPU s for each network"
    report.table(title, columns, shown)
