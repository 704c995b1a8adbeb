"""The rows of a corpus of any size: opening, memory of a machine's ranks, drawing.

    python benchmarks/scale.py [--rows 18000000] [--ranks 8] [--folder DIR]

The rows are made up: 18 million are 60,000 h in utterances of 12 s. No sound and no codes are needed to draw them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from openvalle.data.index import Index, Names, Texts
from openvalle.data.index_files import BATCH, INDEX, TEXTS, write_columns, write_texts
from openvalle.text.symbols import inventory
from openvalle.types import TokenSpec
from report import Report

OPEN_SECONDS, RESIDENT_GB, DRAW_MS = 2.0, 1.5, 5.0
SPEAKERS, OF_SHARD = 7000, 300
TEXT = "and then there came a day when nobody at all could say where the old road had gone"


def make_up(folder: Path, rows: int) -> None:
    """Write the columns of so many rows: lengths as in read books, a few speakers with most of the hours."""
    import pyarrow

    rng = np.random.default_rng(0)
    frames = np.clip(rng.gamma(6.0, 150.0, rows), 75, 1500).astype(np.int32)
    speaker = np.minimum(rng.pareto(1.2, rows) * 100, SPEAKERS - 1).astype(np.int32)
    shards = rows // OF_SHARD + 1
    names = {
        "speaker": Names(speaker, [f"{number:06d}" for number in range(SPEAKERS)]),
        "language": Names(np.zeros(rows, np.int32), ["en"]),
        "split": Names((speaker < 40).astype(np.int32), ["train", "valid"]),
        "shard": Names((np.arange(rows) // OF_SHARD).astype(np.int32), [f"shard-{n:06d}" for n in range(shards)]),
    }
    names["split"] = Names((speaker == 17).astype(np.int32), ["train", "valid"])
    numbers = {"frames": frames, "symbols": frames // 6, "frame_start": frames * 0, "symbol_start": frames * 0}
    tokens = folder / "tokens"
    tokens.mkdir(parents=True)
    stamp = {"size": rows, "digest": "made up"}

    def texts() -> object:
        for start in range(0, rows, BATCH):
            ids = pyarrow.array(np.arange(start, min(rows, start + BATCH))).cast(pyarrow.large_string())
            yield ids, pyarrow.array([TEXT] * len(ids), pyarrow.large_string())

    write_texts(tokens / TEXTS, texts(), stamp)  # type: ignore[arg-type]
    write_columns(tokens / INDEX, Index(numbers, frames / 75, names, Texts(())), stamp)
    inventory().vocabulary.save(tokens / "symbols.json")
    TokenSpec(name="any", merge=2).save(tokens / "codec.json")


def be_rank(folder: Path, rank: int, ranks: int, steps: int) -> None:
    """Open the rows and draw as a rank of training does; print figures, then wait to be told to end."""
    from openvalle.data.batches import TokenBatches
    from openvalle.data.shards import TokenShards

    began, cpu = time.perf_counter(), time.process_time()
    shards = TokenShards.open(folder, "train")
    batches = TokenBatches(shards, 12_000, 0, rank, ranks, max_seconds=16)
    opened, opened_cpu = time.perf_counter() - began, time.process_time() - cpu
    taken = []
    for step in range(steps):
        start = time.process_time()
        rows = batches.rows(step)
        taken.append(1e3 * (time.process_time() - start))
        assert shards.index.id(rows[0])
    found = {
        "rows": len(shards),
        "open": opened,
        "open_cpu": opened_cpu,
        "draw": float(np.median(taken)),
        "draw_slow": float(np.quantile(taken, 0.99)),
    }
    print(json.dumps(found), flush=True)
    sys.stdin.readline()


def resident(pids: list[int]) -> float:
    """Return the memory that processes hold together, in GB: what they share counts once."""
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 2**20


def start_rank(folder: Path, rank: int, ranks: int, steps: int) -> subprocess.Popen[str]:
    """Start a rank as a process of its own."""
    command = [sys.executable, __file__, "--rank", str(rank), "--ranks", str(ranks), "--folder", str(folder)]
    return subprocess.Popen([*command, "--steps", str(steps)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def answer(process: subprocess.Popen[str]) -> dict[str, float]:
    """Return what a rank found out; it goes on living."""
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Measure one rank alone, then all together; write the report, fail where a target is missed."""
    report = Report("scale", {"rows": options.rows, "ranks": options.ranks})
    began = time.monotonic()
    if not (folder / "tokens").is_dir():
        make_up(folder, options.rows)
    written = time.monotonic() - began
    alone = start_rank(folder, 0, options.ranks, options.steps)
    one = answer(alone)
    alone.communicate("\n")
    ranks = [start_rank(folder, rank, options.ranks, options.steps) for rank in range(options.ranks)]
    found = [answer(process) for process in ranks]
    held = resident([process.pid for process in ranks])
    for process in ranks:
        process.communicate("\n")
    report.values["figures"] = {"written": written, "one": one, "ranks": found, "resident": held}
    report.table(
        f"{int(one['rows']):,} rows of the split train",
        ["", "open s", "of it CPU s", "draw ms, median", "99 of 100"],
        [
            [name, *(f"{each[key]:.2f}" for key in ("open", "open_cpu", "draw", "draw_slow"))]
            for name, each in (
                ("one rank", one),
                (f"the slowest of {options.ranks}", max(found, key=lambda r: r["open"])),
            )
        ],
    )
    report.targets(
        [
            # Of the processor: on a busy machine the clock says how busy it is.
            ("opening, CPU s", one["open_cpu"], f"< {OPEN_SECONDS}", one["open_cpu"] < OPEN_SECONDS),
            (f"resident, {options.ranks} ranks together, GB", held, f"< {RESIDENT_GB}", held < RESIDENT_GB),
            ("a draw, ms", one["draw"], f"< {DRAW_MS}", one["draw"] < DRAW_MS),
        ]
    )
    report.write(options.out)
    if not all(target["met"] for target in report.values["targets"]):
        sys.exit("a target is missed")


def main() -> None:
    """Measure, or be one of the ranks that are measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=18_000_000)
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="where the rows are kept; by default they go again")
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank is not None:
        be_rank(options.folder, options.rank, options.ranks, options.steps)
    elif options.folder is not None:
        measure(options.folder, options)
    else:
        with tempfile.TemporaryDirectory() as place:
            measure(Path(place), options)


if __name__ == "__main__":
    main()
