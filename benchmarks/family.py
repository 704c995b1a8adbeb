"""The four systems side by side: each learns a few minutes of speech by heart; steps and time for 10 s of speech; text
and readers that are new to models trained for one processor budget.

Run: make bench-family (ARGS="--data FOLDER"). Prints tables, writes JSON, Markdown and pictures to --out.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from command import run
from openvalle.data.shards import TokenShards
from openvalle.errors import UserError
from openvalle.evaluate.corpus import CorpusUtterance, choose, read_corpus
from openvalle.model.checkpoint import Bundle, load_bundle
from openvalle.model.config import ARConfig
from openvalle.prepare.run import PrepareOptions, prepare
from openvalle.train.recipe import read_pair
from openvalle.train.recipe import run as train
from pace import RECIPES, SYSTEMS, paces
from recall import recall
from report import Report
from unseen import FRAMES as UNSEEN_FRAMES
from unseen import add_options, unseen
from unseen_data import write_rows

SECONDS = (4.0, 6.0)  # of the utterances that are learnt
PARTS = ("ar", "nar")
# Updates of the AR and the NAR network: what ten minutes of a processor hold. R and 2 learn from half as many codes in
# an AR step, and from half of an utterance in a NAR step; X's prompts, sentences, are the longest.
STEPS = {"valle": (1000, 1900), "vallex": (1000, 1700), "valler": (2200, 2300), "valle2": (2500, 2700)}
# Peak learning rates of both. In so many steps an AR network of R or 2 goes wrong somewhere in every other utterance at
# the rate that is best for VALL-E, and what follows a wrong code is lost.
RATES = {"valle": (2e-3, 2e-3), "vallex": (2e-3, 2e-3), "valler": (8e-4, 2e-3), "valle2": (5e-4, 2e-3)}
FRAMES = 500  # of a batch
EACH = 4  # utterances of a speaker
STAGE_WEIGHTS = [2.5, 1, 1, 1, 1, 1, 1]  # codebook 2 is the hardest to learn by heart, and the other passes build on it
SMOOTHED = 10  # points of the curves, of one batch each
COLOURS = {"valle": "tab:blue", "vallex": "tab:orange", "valler": "tab:green", "valle2": "tab:red"}


@dataclass(frozen=True)
class Learnt:
    """How much of the training codes comes back."""

    codebook_1: float  # greedy decoding after the training prompt; codes at their place, over the longer of the two
    others: list[float]  # per codebook from 2 on, greedy passes after the true codebook 1
    utterances: int
    cpu_minutes: float  # of training both networks
    minutes: float  # the same on the clock


def prepared(options: argparse.Namespace, merge: int) -> Path:
    """Return the tokens of a few minutes of speech, whose codebook 1 is merged by `merge`."""
    corpus = [item for item in read_corpus(options.data) if SECONDS[0] <= item.seconds <= SECONDS[1]]
    said: dict[str, list[CorpusUtterance]] = {}
    for item in choose(corpus, len(corpus), options.seed):
        said.setdefault(item.speaker, []).append(item)
    chosen: list[CorpusUtterance] = []
    for items in said.values():  # of a few speakers: the prompts of VALL-E and VALL-E X come from what else one said
        if len(items) >= EACH and sum(each.seconds for each in chosen) < options.minutes * 60:
            chosen += items[:EACH]
    if not chosen:
        raise UserError(f"no speaker with {EACH} recordings of {SECONDS[0]:g} to {SECONDS[1]:g} s", "give other speech")
    manifest = options.out / "speech.jsonl"
    manifest.parent.mkdir(parents=True, exist_ok=True)
    write_rows(manifest, [(item, "train") for item in chosen])
    folder = options.out / f"data-merge-{merge}"
    prepare(manifest, folder, options.codec, options=PrepareOptions(merge=merge))
    return folder


def learn(system: str, data: Path, options: argparse.Namespace) -> tuple[Bundle, float, float]:
    """Train both networks by the system's small recipe, without dropout; return them with CPU and clock minutes."""
    recipe, folder = RECIPES / f"{system}-small.yaml", options.out / system
    cpu, clock = time.process_time(), time.monotonic()
    for part, count, rate in zip(PARTS, options.updates[system], options.rates[system], strict=True):
        overrides: tuple[str, ...] = (
            f"data={data}",
            "valid_split=train",
            "valid_batches=1",
            "model.transformer.dropout=0",
            f"loop.seed={options.seed}",
            f"loop.steps={count}",
            f"loop.validate_every={count}",
            "loop.log_every=10",
            "loop.save_minutes=60",
            f"loop.optim={{learning_rate: {rate}, warmup: {max(1, count // 20)}, weight_decay: 0.0, ema: 0.0}}",
            f"batches={{frames: {options.frames or FRAMES}, max_seconds: 60, speaker_power: 1.0}}",
        )
        overrides += (f"model.stage_weights={STAGE_WEIGHTS}",) if part == "nar" else ()
        train(part, recipe, overrides, folder / part)
    cpu, clock = time.process_time() - cpu, time.monotonic() - clock
    parts = tuple(f"pack.{part}={folder / part}" for part in PARTS)
    bundle = load_bundle(train("pack", recipe, (*parts, "storage=float32"), folder / "model"))
    return bundle, cpu / 60, clock / 60


def overfit(options: argparse.Namespace, report: Report) -> None:
    """Train and judge each system."""
    tokens = {merge: prepared(options, merge) for merge in {read_ar(system).merge for system in options.systems}}
    learnt: dict[str, Learnt] = {}
    for system in options.systems:
        data = tokens[read_ar(system).merge]
        bundle, cpu, clock = learn(system, data, options)
        first, others, count = recall(bundle, TokenShards.open(data, "train"), options.judged)
        learnt[system] = Learnt(first, others, count, cpu, clock)
    seconds = float(TokenShards.open(next(iter(tokens.values())), "train").index.seconds.sum())
    books = range(2, 2 + len(next(iter(learnt.values())).others))
    report.table(
        f"{seconds / 60:.1f} min of speech learnt by heart: % of codes that come back",
        ["", "codebook 1", *map(str, books), "utterances", "CPU min", "min"],
        [
            [
                SYSTEMS[system],
                *(f"{share * 100:.1f}" for share in (item.codebook_1, *item.others)),
                str(item.utterances),
                f"{item.cpu_minutes:.1f}",
                f"{item.minutes:.1f}",
            ]
            for system, item in learnt.items()
        ],
    )
    report.values["learnt"] = {system: vars(item) for system, item in learnt.items()}
    checks = []
    for system, item in learnt.items():
        checks.append((f"{SYSTEMS[system]}, codebook 1", item.codebook_1, "> 0.95", item.codebook_1 > 0.95))
        least = min(item.others)
        checks.append((f"{SYSTEMS[system]}, worst other codebook", least, "> 0.90", least > 0.90))
        checks.append((f"{SYSTEMS[system]}, CPU minutes", item.cpu_minutes, "< 10", item.cpu_minutes < 10))
    report.targets(checks)
    draw_curves(options.systems, options.out, options.pictures / "family-overfit.png")


def read_ar(system: str) -> ARConfig:
    """Return the AR configuration of a system's small recipe."""
    return read_pair(RECIPES / f"{system}-small.yaml")[0]


def draw_curves(systems: Sequence[str], folder: Path, path: Path) -> None:
    """Draw the accuracy of both networks on the batches they were trained on, as running means."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(14, 4.2), layout="constrained", sharey=True)
    panels = [("ar", ["code_accuracy"], "AR: codebook 1"), ("nar", ["accuracy_2"], "NAR: codebook 2")]
    panels.append(("nar", [f"accuracy_{book}" for book in range(3, 9)], "NAR: codebooks 3 to 8"))
    for axis, (part, names, title) in zip(axes, panels, strict=True):
        for system in systems:
            steps, shares = running_mean(folder / system / part / "metrics.jsonl", names)
            axis.plot(steps, 100 * shares, color=COLOURS[system], label=SYSTEMS[system], linewidth=1.5)
        axis.set(title=title, xlabel="step", ylim=(0, 101))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f"% of codes right in training, mean of {SMOOTHED} batches")
    axes[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def running_mean(path: Path, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return steps (N,) and the means (N,) of the last `SMOOTHED` values of any of `names` in a run's curves.

    N is 0 where a short run has none: not every batch tells of every codebook.
    """
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    values = [(row["step"], row[name]) for row in rows if row["group"] == "train" for name in names if name in row]
    steps, shares = np.array(values).reshape(-1, 2).T
    if not values:
        return steps, shares
    width = min(SMOOTHED, len(values))
    return steps[width - 1 :], np.convolve(shares, np.full(width, 1 / width), mode="valid")


def draw_masks(options: argparse.Namespace) -> None:
    """Draw each system's attention masks."""
    from openvalle.model.describe import plot_masks

    for system in options.systems:
        pair = read_pair(RECIPES / f"{system}-paper.yaml")
        plot_masks(*pair, options.pictures / f"family-mask-{system}.png", SYSTEMS[system])


def read_options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder with manifest.jsonl (default: $OPENVALLE_SPEECH)")
    parser.add_argument("--out", type=Path, default=Path("out/bench-family"), help="folder for results (%(default)s)")
    parser.add_argument("--pictures", type=Path, help="folder for pictures (default: --out)")
    parser.add_argument("--codec", default="builtin", help="a codec's name or folder")
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--only", choices=("overfit", "pace", "unseen"), help="one of the three parts")
    parser.add_argument("--minutes", type=float, default=2.0, help="of speech to learn (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="updates of each AR network (default: what ten minutes hold)")
    parser.add_argument("--nar-steps", type=int, help="of each NAR network (default: the same)")
    parser.add_argument("--frames", type=int, help=f"frames a batch (default: {FRAMES}, or {UNSEEN_FRAMES} of unseen)")
    parser.add_argument("--rate", type=float, help="peak learning rate (default: one that suits each network)")
    parser.add_argument("--judged", type=int, default=30, help="utterances that are said again (default: %(default)s)")
    parser.add_argument("--size", choices=("small", "paper"), default="small", help="networks whose pace is measured")
    parser.add_argument("--repeats", type=int, default=2, help="times the pace is measured (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the models (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    add_options(parser)
    options = parser.parse_args()
    options.pictures = options.pictures or options.out
    options.updates = {system: (options.steps or ar, options.nar_steps or nar) for system, (ar, nar) in STEPS.items()}
    options.rates = {system: (options.rate or ar, options.rate or nar) for system, (ar, nar) in RATES.items()}
    return options


def main() -> None:
    """Run the benchmark."""
    options = read_options()
    torch.set_num_threads(options.threads)
    names = ("codec", "minutes", "updates", "rates", "frames", "seed", "threads", "size", "budget", "hours")
    report = Report("family", {name: getattr(options, name) for name in names})
    if options.only in (None, "pace"):
        paces(options, report)
    if options.only in (None, "overfit"):
        overfit(options, report)
        draw_masks(options)
    if options.only in (None, "unseen"):
        unseen(options, report)
    print("wrote", *report.write(options.out))


if __name__ == "__main__":
    run(main)
