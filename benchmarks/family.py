"""The four systems side by side: each learns a few minutes of speech by heart, and steps and time for 10 s of speech.

Run: make bench-family (ARGS="--data FOLDER"). Prints tables, writes JSON, Markdown and pictures to --out.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from command import run
from openvalle.data.shards import TokenShards
from openvalle.decode.ar import AROptions, ARPrompt, generate
from openvalle.decode.nar import NARPromptRow, fill
from openvalle.decode.prompt import CONTINUED_FRAMES, continual
from openvalle.decode.sampling import SamplingOptions, row_generators
from openvalle.decode.watch import WatchOptions
from openvalle.errors import UserError
from openvalle.evaluate.corpus import Utterance, choose, read_corpus
from openvalle.model.ar import AR
from openvalle.model.batch import Utterance as Row
from openvalle.model.batch import whole_blocks
from openvalle.model.bundle import Bundle, load_bundle
from openvalle.model.config import Alignment, ARConfig, NARPrompt
from openvalle.model.nar import NAR
from openvalle.prepare.run import Options, prepare
from openvalle.train.recipe import read_pair
from openvalle.train.run import run as train
from report import Report

SYSTEMS = {"valle": "VALL-E", "vallex": "VALL-E X", "valler": "VALL-E R", "valle2": "VALL-E 2"}
RECIPES = Path(__file__).parents[1] / "recipes"
SECONDS = (4.0, 6.0)  # of the utterances that are learnt
NAR_STEPS = {"valle": 1900, "vallex": 1700, "valler": 1900, "valle2": 1900}  # X's prompts, sentences, are the longest
EACH = 4  # utterances of a speaker
SPEECH_SECONDS, FRAME_RATE = 10.0, 75
STAGE_WEIGHTS = [2.5, 1, 1, 1, 1, 1, 1]  # codebook 2 is the hardest to learn by heart, and the other passes build on it
TO_THE_END = WatchOptions(ends=False)  # nothing is broken off, however it sounds
BY_HEART = AROptions(
    sampling=SamplingOptions(temperature=0.0),
    path_temperature=0.0,
    symbol_frames=150,
    pause_frames=300,
    least_frames=0.0,
    most_frames=60.0,
    watch=TO_THE_END,
)
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
    said: dict[str, list[Utterance]] = {}
    for item in choose(corpus, len(corpus), options.seed):
        said.setdefault(item.speaker, []).append(item)
    chosen: list[Utterance] = []
    for items in said.values():  # of a few speakers: the prompts of VALL-E and VALL-E X come from what else one said
        if len(items) >= EACH and sum(each.seconds for each in chosen) < options.minutes * 60:
            chosen += items[:EACH]
    if not chosen:
        raise UserError(f"no speaker with {EACH} recordings of {SECONDS[0]:g} to {SECONDS[1]:g} s", "give other speech")
    manifest = options.out / "speech.jsonl"
    manifest.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"id": item.id, "audio": str(item.path.resolve()), "text": item.text, "speaker": item.speaker, "split": "train"}
        for item in sorted(chosen, key=lambda item: item.id)
    ]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    folder = options.out / f"data-merge-{merge}"
    prepare(manifest, folder, options.codec, options=Options(merge=merge))
    return folder


def learn(system: str, data: Path, options: argparse.Namespace) -> tuple[Bundle, float, float]:
    """Train both networks by the system's small recipe, without dropout; return them with CPU and clock minutes."""
    recipe, folder = RECIPES / f"{system}-small.yaml", options.out / system
    steps = {"ar": options.steps, "nar": options.nar_steps[system]}
    cpu, clock = time.process_time(), time.monotonic()
    for part, count in steps.items():
        overrides = (
            f"data={data}",
            "valid_split=train",
            "valid_batches=1",
            "model.stack.dropout=0",
            f"loop.seed={options.seed}",
            f"loop.steps={count}",
            f"loop.validate_every={count}",
            "loop.log_every=10",
            "loop.save_minutes=60",
            f"loop.optim={{learning_rate: {options.rate}, warmup: {max(1, count // 20)}, weight_decay: 0.0, ema: 0.0}}",
            f"batches={{frames: {options.frames}, max_seconds: 60, speaker_power: 1.0}}",
        )
        overrides += (f"model.stage_weights={STAGE_WEIGHTS}",) if part == "nar" else ()
        train(part, recipe, overrides, folder / part)
    cpu, clock = time.process_time() - cpu, time.monotonic() - clock
    parts = tuple(f"pack.{part}={folder / part}" for part in steps)
    bundle = load_bundle(train("pack", recipe, (*parts, "storage=float32"), folder / "model"))
    return bundle, cpu / 60, clock / 60


def recall(bundle: Bundle, shards: TokenShards, limit: int) -> tuple[float, list[float], int]:
    """Return the shares of codebook 1 and of each codebook after it that come back, and of how many utterances."""
    ar, nar = bundle.ar, bundle.nar
    count = min(limit, len(shards))
    found, wanted = 0, 0
    right = torch.zeros(nar.config.codebooks - 1)
    frames = 0
    for index in range(count):
        row = row_of(shards, index)
        hits, places = recall_first(ar, row)
        found, wanted = found + hits, wanted + places
        hits_after, places = recall_others(nar, row, shards, index)
        right, frames = right + hits_after, frames + places
    return found / wanted, (right / frames).tolist(), count


def row_of(shards: TokenShards, index: int) -> Row:
    """Return a row as the networks were trained on it."""
    item = shards[index]
    return Row(item.text, item.codes, item.durations, language=1)


def recall_first(ar: AR, row: Row) -> tuple[int, int]:
    """Return how many codes after the prompt come back, and of how many."""
    config = ar.config
    codes, _ = whole_blocks(row, config.merge, config.group)
    skipped = len(row.codes) // config.merge % config.group * config.merge  # the clipped start of training
    prompt = continual(config, row, skipped + prompt_frames(len(codes), config.block))
    assert prompt.codes is not None
    true = codes[len(prompt.codes) :: config.merge, 0]
    enough = BY_HEART.model_copy(update={"limit_frames": len(true) * config.merge + FRAME_RATE})  # one second more
    said = generate(ar, [prompt.ar(config)], enough, row_generators([0]))[0].codes
    same = min(len(true), len(said))
    return int((true[:same] == said[:same]).sum()), max(len(true), len(said))


def recall_others(nar: NAR, row: Row, shards: TokenShards, index: int) -> tuple[Tensor, int]:
    """Return how many entries of each codebook after the first come back (Q - 1,), and of how many frames."""
    config = nar.config
    codes, path = whole_blocks(row, config.merge, 1)
    if config.prompt == NARPrompt.PREFIX:
        shown = prompt_frames(len(codes), config.block)
        given = NARPromptRow(row.text, codes[shown:, 0], 0, codes[:shown], path, row.language)
        true = codes[shown:]
    else:
        neighbour = shards.neighbour(shards.rows[index]["id"])
        voice = None if neighbour is None else neighbour.codes
        if voice is not None and config.prompt == NARPrompt.SEGMENT:
            voice = voice[-CONTINUED_FRAMES:]
        given, true = NARPromptRow(row.text, codes[:, 0], 0, voice, path, row.language), codes
    filled = fill(nar, [given])[0]
    same = filled[:, 1:] == true[:, 1:]
    return same.sum(0), len(same)


def prompt_frames(frames: int, block: int) -> int:
    """Return the length of a prompt: 3 s, at most half, in whole blocks."""
    return min(CONTINUED_FRAMES, frames // 2) // block * block


def overfit(options: argparse.Namespace, report: Report) -> None:
    """Train and judge each system."""
    tokens = {merge: prepared(options, merge) for merge in {read_ar(system).merge for system in options.systems}}
    learnt: dict[str, Learnt] = {}
    for system in options.systems:
        data = tokens[read_ar(system).merge]
        bundle, cpu, clock = learn(system, data, options)
        first, others, count = recall(bundle, TokenShards.open(data, "train"), options.judged)
        learnt[system] = Learnt(first, others, count, cpu, clock)
    seconds = sum(row["seconds"] for row in TokenShards.open(next(iter(tokens.values())), "train").rows)
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
    """Draw the accuracy of both networks on the batches they were trained on."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(12, 4.2), layout="constrained", sharey=True)
    for axis, part, title in zip(axes, ("ar", "nar"), ("AR: codebook 1", "NAR: codebooks 2 to 8, drawn"), strict=True):
        for system in systems:
            lines = (folder / system / part / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
            rows = [row for row in map(json.loads, lines) if row["group"] == "train"]
            values = [100 * row["code_accuracy"] for row in rows]
            axis.plot([row["step"] for row in rows], values, color=COLOURS[system], label=SYSTEMS[system], linewidth=1)
        axis.set(title=title, xlabel="step", ylim=(0, 101))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("% of codes right in a training batch")
    axes[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


# steps and time


@dataclass(frozen=True)
class Pace:
    """What 10 s of speech take. Times are in seconds."""

    steps: int
    ar: float
    nar: float
    processor: float  # both networks; less than on the clock on a busy machine

    @property
    def total(self) -> float:
        """Both networks."""
        return self.ar + self.nar


def measure_pace(system: str, size: str, repeats: int) -> Pace:
    """Return the steps and the shortest of `repeats` times of a system of random weights, all of one size."""
    stack = read_pair(RECIPES / f"valle-{size}.yaml")[0].stack
    ar_config, nar_config = (
        config.model_copy(update={"stack": stack.model_copy(update={"dropout": 0.0})})
        for config in read_pair(RECIPES / f"{system}-{size}.yaml")
    )
    torch.manual_seed(0)
    ar, nar = AR(ar_config).eval(), NAR(nar_config).eval()
    rng = torch.Generator().manual_seed(0)
    paces = [_pace(ar, nar, rng) for _ in range(repeats)]
    assert len({pace.steps for pace in paces}) == 1, "the length of the speech is fixed"
    least = {name: min(getattr(pace, name) for pace in paces) for name in ("ar", "nar", "processor")}
    return Pace(paces[0].steps, **least)


def _pace(ar: AR, nar: NAR, rng: torch.Generator) -> Pace:
    """Speak 10 s after a prompt of 3 s, with 12 symbols a second."""
    config = ar.config
    frames = round(SPEECH_SECONDS * FRAME_RATE)
    voice = _random_row(36, 224, config, rng)
    text = torch.randint(2, config.symbols, (125,), generator=rng)
    aligned = config.alignment == Alignment.PHONEME
    prompt = ARPrompt(
        torch.cat([voice.text, text]),
        len(voice.text),
        voice.codes[:: config.merge, 0],
        torch.arange(224 // config.merge) * 36 // (224 // config.merge) if aligned else None,
    )
    per_symbol = frames / len(text)
    options = AROptions(least_frames=per_symbol, most_frames=per_symbol, watch=TO_THE_END)
    steps = frames // config.block
    paths = [torch.arange(steps) * len(text) // steps] if aligned else None
    started, processor = time.perf_counter(), time.process_time()
    result = generate(ar, [prompt], options, row_generators([0]), paths)[0]
    spoken = time.perf_counter()
    path = torch.arange(224 + frames) * len(prompt.text) // (224 + frames)
    first = result.codes.repeat_interleave(config.merge)
    fill(nar, [NARPromptRow(prompt.text, first, len(voice.text), voice.codes, path)])
    ended = time.perf_counter()
    steps = len(result.codes) // config.group
    return Pace(steps, spoken - started, ended - spoken, time.process_time() - processor)


def _random_row(symbols: int, frames: int, config: ARConfig, rng: torch.Generator) -> Row:
    text = torch.randint(2, config.symbols, (symbols,), generator=rng)
    return Row(text, torch.randint(config.entries, (frames, 8), generator=rng))


def paces(options: argparse.Namespace, report: Report) -> None:
    """Measure all systems in one run, at one size."""
    found = {system: measure_pace(system, options.size, options.repeats) for system in SYSTEMS}
    base = found["valle"]
    stack = read_pair(RECIPES / f"valle-{options.size}.yaml")[0].stack
    report.table(
        f"{SPEECH_SECONDS:g} s of speech, {stack.depth} layers of {stack.width}, {options.threads} threads",
        ["", "AR steps", "AR s", "ms a step", "NAR s", "total s", "CPU s", "of VALL-E's steps", "of its CPU"],
        [
            [
                SYSTEMS[system],
                str(pace.steps),
                f"{pace.ar:.2f}",
                f"{1000 * pace.ar / pace.steps:.1f}",
                f"{pace.nar:.2f}",
                f"{pace.total:.2f}",
                f"{pace.processor:.2f}",
                f"{100 * pace.steps / base.steps:.0f} %",
                f"{100 * pace.processor / base.processor:.0f} %",
            ]
            for system, pace in found.items()
        ],
    )
    report.values["pace"] = {system: vars(pace) for system, pace in found.items()}
    halves = [found[system].steps / base.steps for system in ("valler", "valle2")]
    names = ("VALL-E R x2, share of VALL-E's steps", "VALL-E 2 G=2, share of VALL-E's steps")
    report.targets([(name, half, "= 0.5", half == 0.5) for name, half in zip(names, halves, strict=True)])


def draw_masks(options: argparse.Namespace) -> None:
    """Draw each system's attention masks."""
    from openvalle.model.picture import plot_masks

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
    parser.add_argument("--only", choices=("overfit", "pace"), help="one of the two parts")
    parser.add_argument("--minutes", type=float, default=2.0, help="of speech to learn (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=1000, help="updates of each AR network (default: %(default)s)")
    parser.add_argument("--nar-steps", type=int, help="of each NAR network (default: what ten minutes hold)")
    parser.add_argument("--frames", type=int, default=500, help="frames a batch (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate (default: %(default)s)")
    parser.add_argument("--judged", type=int, default=30, help="utterances that are said again (default: %(default)s)")
    parser.add_argument("--size", choices=("small", "paper"), default="small", help="networks whose pace is measured")
    parser.add_argument("--repeats", type=int, default=2, help="times the pace is measured (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the models (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.pictures = options.pictures or options.out
    options.nar_steps = {system: options.nar_steps or NAR_STEPS[system] for system in options.systems}
    return options


def main() -> None:
    """Run the benchmark."""
    options = read_options()
    torch.set_num_threads(options.threads)
    names = ("codec", "minutes", "steps", "nar_steps", "frames", "rate", "seed", "threads", "size")
    report = Report("family", {name: getattr(options, name) for name in names})
    if options.only != "overfit":
        paces(options, report)
    if options.only != "pace":
        overfit(options, report)
        draw_masks(options)
    print("wrote", *report.write(options.out))


if __name__ == "__main__":
    run(main)
