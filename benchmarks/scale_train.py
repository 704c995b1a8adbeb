"""Training beside the version before: frames that are learnt from in a second of the processor, AR and NAR.

    python benchmarks/scale_train.py [--before COMMIT|FOLDER] [--steps 10] [--rounds 3]

Both versions train the same small networks on the same made-up tokens, in turns, each in a process of its own, as
`openvalle train` does it. What starting, validating and saving cost is taken away: a run of one step less. The
processor is asked and not the clock, and the quickest of several rounds counts: what else runs takes caches and the
other half of a core, too. What overlaps with waiting (batches made ahead, gradients that are averaged meanwhile) shows
by the clock of several devices alone.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import yaml

from command import run
from openvalle.config import write_json_lines
from openvalle.data.shards import write_tokens
from openvalle.errors import UserError
from openvalle.text.symbols import inventory
from openvalle.types import TokenSpec
from report import Report

FRAMES, ROWS, BATCH = 450, 64, 8  # of an utterance of 6 s; utterances; of a batch: all batches are of one size
SHARE = 0.95  # of the speed before that is asked
PARTS = ("ar", "nar")
TRAINED = "src/openvalle/train"


def make_up(folder: Path) -> None:
    """Write tokens of random codes, and the recipe of both networks."""
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, 1024, (FRAMES, 8)) for _ in range(ROWS)]
    symbols = [rng.integers(2, 60, FRAMES // 6).tolist() for _ in range(ROWS)]
    durations = [[6] * (FRAMES // 6) for _ in range(ROWS)]
    tokens = folder / "tokens"
    frames, places = write_tokens(tokens / "shard-00000.safetensors", codes, symbols, durations)
    rows = [
        {
            "id": f"{number:03d}",
            "speaker": f"s{number % 8}",
            "language": "en",
            "split": "valid" if number % 8 == 7 else "train",
            "text": "made up",
            "seconds": FRAMES / 75,
            "shard": "shard-00000.safetensors",
            "frames": FRAMES,
            "symbols": FRAMES // 6,
            "frame_start": frames[number],
            "symbol_start": places[number],
        }
        for number in range(ROWS)
    ]
    write_json_lines(tokens / "index.jsonl", rows)
    inventory().vocabulary.save(tokens / "symbols.json")
    TokenSpec(name="any").save(tokens / "codec.json")
    recipe = {
        "data": str(folder),
        "valid_split": "valid",
        "valid_batches": 1,
        "model": {"transformer": {"width": 256, "heads": 4, "depth": 4, "feedforward": 1024, "dropout": 0.1}},
        "batches": {"frames": BATCH * FRAMES},
        "loop": {"precision": "float32", "log_every": 1000, "validate_every": 1000, "save_minutes": 60},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")


def check_out(before: str, folder: Path) -> Path:
    """Return the folder of the version before: the one that is given, or what git kept of a commit, written there."""
    if before and Path(before).is_dir():
        return Path(before)
    root = Path(__file__).parents[1]
    try:
        if not before:
            asked = ["git", "-C", str(root), "log", "-1", "--format=%H^", "--", TRAINED]
            before = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
        packed = subprocess.run(
            ["git", "-C", str(root), "archive", before, "src"], check=True, capture_output=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"") or b""
        said = said if isinstance(said, str) else said.decode(errors="replace")
        raise UserError(
            f"git holds no version before ({' '.join(said.split())[:200] or error})",
            "give --before a commit or a folder",
        ) from None
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def train(tree: Path, part: str, folder: Path, steps: int) -> float:
    """Train a network by the code in `tree`; return the seconds of the processor."""
    command = [sys.executable, "-m", "openvalle", "train", part, str(folder / "recipe.yaml"), f"loop.steps={steps}"]
    if "shows:" in (tree / TRAINED / "lm.py").read_text(encoding="utf-8"):
        command.append("shows=false")  # pictures and sounds of a validation, which earlier versions had not
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as out:
        environment = os.environ | {"PYTHONPATH": str(tree / "src"), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        done = subprocess.run([*command, "--out", out], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{tree} does not train {part}", done.stderr.strip().splitlines()[-1][:300])
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime


def measure(trees: dict[str, Path], folder: Path, options: argparse.Namespace) -> None:
    """Train in turns; write the report, fail where the version before was faster."""
    report = Report("scale_train", {"steps": options.steps, "rounds": options.rounds, "before": options.before})
    make_up(folder)
    taken: dict[tuple[str, str, int], list[float]] = {
        (part, name, steps): [] for part in PARTS for name in trees for steps in (1, 1 + options.steps)
    }
    for turn in range(options.rounds):
        for part in PARTS:
            for name, tree in list(trees.items())[:: 1 if turn % 2 else -1]:
                print(f"round {turn + 1} of {options.rounds}: {part}, {name}", file=sys.stderr, flush=True)
                for steps in (1, 1 + options.steps):
                    taken[part, name, steps].append(train(tree, part, folder, steps))
    rates = {
        part: {
            name: options.steps
            * BATCH
            * FRAMES
            / (min(taken[part, name, 1 + options.steps]) - min(taken[part, name, 1]))
            for name in trees
        }
        for part in PARTS
    }
    ratios = {part: rates[part]["now"] / rates[part]["before"] for part in PARTS}
    report.table(
        "Frames that are learnt from in a second of the processor",
        ["", *trees, "now / before"],
        [[part.upper(), *(f"{rates[part][name]:,.0f}" for name in trees), f"{ratios[part]:.2f}"] for part in PARTS],
    )
    seconds = {f"{part} {name}, steps: {steps}": each for (part, name, steps), each in taken.items()}
    report.values |= {"frames_per_second": rates, "processor_seconds": seconds}
    checks = [(f"{part.upper()}: now / before", ratios[part]) for part in PARTS]
    report.targets([(name, ratio, f">= {SHARE}", ratio >= SHARE) for name, ratio in checks])
    report.write(options.out)
    if not all(target["met"] for target in report.values["targets"]):
        sys.exit("a target is missed")


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--before", default="", help="commit or folder (default: the commit before the training code changed last)"
    )
    parser.add_argument("--steps", type=int, default=10, help="updates that are measured (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of both versions (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/bench-scale"), help="folder for results (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        before = check_out(options.before, Path(place) / "before")
        trees = {"before": before, "now": Path(__file__).parents[1]}
        measure(trees, Path(place) / "made", options)


if __name__ == "__main__":
    run(main)
