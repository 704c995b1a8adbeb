"""Preparing on more processes and more machines: 1 -> 2 processes, 1 -> 3 nodes of a Ray cluster on this machine.

    python benchmarks/scale_prepare.py [--minutes 20]

The sound is made up: trimming, levelling and encoding it take as long as speech. What is measured is the step `tokens`
while every worker has a unit in hand, so that starting them does not count, in units of half a minute: where a corpus
has units of an hour, what is lost between two of them is a hundredth of this. The best that can be had is min(workers,
cores). By the clock that wants a quiet machine. By the processor it does not: what a second of sound costs alone and
among others, times the share of the time in which a worker has a unit in hand; what Ray's own processes take, and cores
that share their memory, show by the clock alone. At the end: what 60,000 hours cost by this run's perf.json; the steps
that need speech are measured by `make bench-labels`, or by `openvalle prepare ... --estimate 60000`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from command import run
from openvalle import media
from openvalle.audio import Audio
from openvalle.data.index_files import ROWS
from openvalle.errors import UserError
from openvalle.parallel import CLUSTER, set_up_ray
from openvalle.prepare.executor import Executor
from openvalle.prepare.perf import Measurement, estimate
from openvalle.prepare.run import prepare
from openvalle.prepare.steps import PrepareOptions, Step
from openvalle.prepare.units import COST
from openvalle.text.symbols import TextUnit
from report import Report

CLIP_SECONDS, UNITS, EFFICIENCY, RATE = 20.0, 40, 0.85, 24_000
QUIET = 0.1  # share of the cores that others may take before the clock tells of them
WORKERS = {Executor.LOCAL: ("process", "processes"), Executor.RAY: ("node", "nodes")}
RUNS = ((Executor.LOCAL, 1), (Executor.LOCAL, 2), (Executor.RAY, 1), (Executor.RAY, 3))


def make_up(folder: Path, minutes: float) -> None:
    """Write clips of noise that swells like syllables, with a text each."""
    rng = np.random.default_rng(0)
    length = round(CLIP_SECONDS * RATE)
    swell = 0.3 * (0.55 + 0.45 * np.sin(np.arange(length) * 25 / RATE)).astype(np.float32)
    for number in range(round(60 * minutes / CLIP_SECONDS)):
        path = folder / f"speaker-{number % 8}" / f"{number:05d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        media.write(path, Audio(swell * rng.uniform(-1, 1, length).astype(np.float32), RATE))
        path.with_suffix(".txt").write_text("and then there came a day when nobody could say", encoding="utf-8")


@dataclass(frozen=True)
class Span:
    """A unit: when it was in hand, by the clock; what it cost the processor; how much sound it holds (all seconds)."""

    start: float
    end: float
    cpu: float
    sound: float


def read_spans(step: Path) -> list[Span]:
    """Return the units of a step."""
    spans = []
    for path in step.glob(f"??/*/{COST}"):
        cost, end = Measurement(**json.loads(path.read_text(encoding="utf-8"))), path.stat().st_mtime
        spans.append(Span(end - cost.wall_seconds, end, cost.cpu_seconds, cost.audio_seconds))
    return spans


def measure_together(spans: Sequence[Span], workers: int) -> dict[str, float]:
    """Return figures of the time from the first to the last moment at which all workers have a unit in hand.

    `rate`: seconds of sound a second; `cpu`: of the processor for a second of sound; `at_work`: share of that time in
    which a worker has one in hand.
    """
    moments = sorted([(span.start, 1) for span in spans] + [(span.end, -1) for span in spans])
    full, count = [], 0
    for moment, change in moments:
        if count >= workers or count + change >= workers:
            full.append(moment)
        count += change
    if not full or full[0] == full[-1]:
        raise UserError(f"{workers} workers were never at work at the same time", "give more --minutes")
    first, last = full[0], full[-1]
    shares = [max(0.0, min(span.end, last) - max(span.start, first)) / (span.end - span.start) for span in spans]
    sound, cpu, held = (
        sum(share * value for share, value in zip(shares, values, strict=True))
        for values in zip(*((span.sound, span.cpu, span.end - span.start) for span in spans), strict=True)
    )
    return {"rate": sound / (last - first), "cpu": cpu / sound, "at_work": held / workers / (last - first)}


def be_run(source: Path, out: Path, executor: Executor, workers: int, minutes: float) -> None:
    """Prepare in this process; print how long it took and what the step `tokens` did."""
    cluster: Any = None
    if executor is Executor.RAY:
        set_up_ray()
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(workers):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        os.environ[CLUSTER] = cluster.address
    options = PrepareOptions(text_unit=TextUnit.BPE, bpe_size=280, unit_seconds=60 * minutes / UNITS)
    began = time.monotonic()
    report = prepare(source, out, jobs=workers, options=options, executor=executor)
    found: dict[str, Any] = {"wall": time.monotonic() - began, "kept": report.kept[Step.TOKENS]}
    found |= measure_together(read_spans(out / Step.TOKENS), workers)
    found["rows"] = hashlib.sha256((out / Step.TOKENS / ROWS).read_bytes()).hexdigest()
    print(json.dumps(found), flush=True)
    if cluster is not None:
        cluster.shutdown()


def start(folder: Path, executor: Executor, workers: int, minutes: float) -> dict[str, Any]:
    """Run in a process of its own; return what it found."""
    command = [sys.executable, __file__, "--folder", str(folder), "--minutes", str(minutes)]
    command += ["--executor", executor, "--workers", str(workers)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise UserError(f"the run of {workers} by {executor} failed", "see above")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def others(seconds: float = 2.0) -> float:
    """Return the share of the cores that is taken while this process waits."""

    def look() -> tuple[int, int]:
        counts = [int(count) for count in Path("/proc/stat").read_text(encoding="utf-8").split()[1:9]]
        return sum(counts), counts[3] + counts[4]  # all; idle, or waiting for a disk

    whole, idle = look()
    time.sleep(seconds)
    whole_then, idle_then = look()
    return 1 - (idle_then - idle) / (whole_then - whole)


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Make all runs; write the report, fail where a target is missed."""
    cores = len(os.sched_getaffinity(0))
    report = Report("scale_prepare", {"minutes": options.minutes, "cores": cores})
    make_up(folder / "in", options.minutes)
    taken = [others()]
    found, runs = {}, [each for each in RUNS if each[0] is not Executor.RAY or find_spec("ray")]
    for number, each in enumerate(runs):
        print(f"run {number + 1} of {len(runs)}: {each[0]}, {each[1]}", file=sys.stderr, flush=True)
        found[each] = start(folder, *each, options.minutes)
    taken.append(others())
    is_quiet = max(taken) < QUIET
    report.settings["taken by others"] = f"{100 * max(taken):.0f} %"
    rows, checks = [], []
    for (executor, workers), values in found.items():
        alone = found[executor, 1]
        by_clock = values["rate"] / alone["rate"] / min(workers, cores)
        by_processor = alone["cpu"] / values["cpu"] * values["at_work"] / alone["at_work"]
        name = f"{executor}, {workers} {WORKERS[executor][workers > 1]}"
        shares = [100 * values["at_work"], 100 * by_processor, 100 * by_clock]
        cells = [f"{values['wall']:.1f}", f"{values['rate']:.1f}", f"{3600 * values['cpu']:.1f}"]
        rows.append([name, *cells, *(f"{share:.0f}" for share in shares)])
        if workers > 1:
            checks.append((f"{name}: by the processor", by_processor, f">= {EFFICIENCY}", by_processor >= EFFICIENCY))
            if is_quiet:
                checks.append((f"{name}: by the clock", by_clock, f">= {EFFICIENCY}", by_clock >= EFFICIENCY))
    columns = ["all of it, s", "x real time", "CPU s an hour", "in hand %", "of the best %", "by the clock %"]
    title = f"{options.minutes:g} min of sound, {cores} cores, of which others take {100 * max(taken):.0f} %"
    report.table(title, ["", *columns], rows)
    same = len({values["rows"] for values in found.values()}) == 1
    report.targets([*checks, ("the same rows from all", float(same), "1", same)])
    costs = estimate(folder / "local-1", (Step.SCAN, Step.AUDIO, Step.TOKENS), 60_000)
    report.table(
        "60,000 h, by this run's perf.json",
        ["step", "CPU hours", "days on 64 cores", "GB"],
        [[cost.step, f"{cost.cpu_hours:,.0f}", f"{cost.days:.1f}", f"{cost.gigabytes:,.0f}"] for cost in costs],
    )
    report.values["runs"] = [{"executor": each[0], "workers": each[1]} | values for each, values in found.items()]
    report.write(options.out)
    if not all(target["met"] for target in report.values["targets"]):
        sys.exit("a target is missed")


def main() -> None:
    """Measure, or be one of the runs that are measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0, help="of sound (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/bench-scale"), help="folder for results (%(default)s)")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--executor", type=Executor, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.workers:
        out = options.folder / f"{options.executor}-{options.workers}"
        be_run(options.folder / "in", out, options.executor, options.workers, options.minutes)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options)


if __name__ == "__main__":
    run(main)
