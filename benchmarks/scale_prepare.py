"""Preparing on more processes and more machines: 1 -> 2 processes, 1 -> 3 nodes of a Ray cluster on this machine.

    python benchmarks/scale_prepare.py [--minutes 40]

The sound is made up: trimming, levelling and encoding it take as long as speech. The rate is that of the step `tokens`
from the moment when every worker has done its first unit, so that starting them does not count; the best that can be
had is min(workers, cores). The machine has to be quiet. At the end: what 60,000 hours cost by this run's perf.json; the
steps that need speech are measured by `make bench-labels`, or by `openvalle prepare ... --estimate 60000`.
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
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from command import run
from openvalle import media
from openvalle.audio import Audio
from openvalle.errors import UserError
from openvalle.parallel import CLUSTER, set_up_ray
from openvalle.prepare.executor import Executor
from openvalle.prepare.perf import estimate
from openvalle.prepare.run import prepare
from openvalle.prepare.steps import PrepareOptions, Step
from openvalle.text.symbols import TextUnit
from report import Report

CLIP_SECONDS, UNITS, EFFICIENCY, RATE = 20.0, 40, 0.85, 24_000
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


def be_run(source: Path, out: Path, executor: Executor, workers: int, minutes: float) -> None:
    """Prepare in this process; print how long it took and the rate of the step `tokens`."""
    cluster: Any = None
    if executor is Executor.RAY:
        set_up_ray()
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(workers):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        os.environ[CLUSTER] = cluster.address
    points: list[tuple[float, int]] = []

    def note(step: str, done: int, total: int) -> None:
        if step == Step.TOKENS:
            points.append((time.monotonic(), done))

    options = PrepareOptions(text_unit=TextUnit.BPE, bpe_size=280, unit_seconds=60 * minutes / UNITS)
    began = time.monotonic()
    report = prepare(source, out, jobs=workers, options=options, executor=executor, progress=note)
    wall = time.monotonic() - began
    (first, before), (last, after) = points[workers - 1], points[-1]
    rows = (out / Step.TOKENS / "index.jsonl").read_bytes()
    found = {"wall": wall, "rate": CLIP_SECONDS * (after - before) / (last - first), "kept": report.kept[Step.TOKENS]}
    print(json.dumps(found | {"rows": hashlib.sha256(rows).hexdigest()}), flush=True)
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


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Make all runs; write the report, fail where a target is missed."""
    cores = len(os.sched_getaffinity(0))
    report = Report("scale_prepare", {"minutes": options.minutes, "cores": cores})
    make_up(folder / "in", options.minutes)
    runs = [each for each in RUNS if each[0] is not Executor.RAY or find_spec("ray")]
    found = {each: start(folder, *each, options.minutes) for each in runs}
    rows, checks = [], []
    for (executor, workers), values in found.items():
        alone = found[executor, 1]["rate"]
        ideal = min(workers, cores) / min(1, cores)
        efficiency = values["rate"] / alone / ideal
        name = f"{executor}, {workers} {'nodes' if executor is Executor.RAY else 'processes'}"
        rows.append([name, f"{values['rate']:.1f}", f"{values['wall']:.1f}", f"{100 * efficiency:.0f}"])
        if workers > 1:
            checks.append(
                (f"{name}: of the best that can be", efficiency, f">= {EFFICIENCY}", efficiency >= EFFICIENCY)
            )
    report.table(
        f"{options.minutes:g} min of sound, {cores} cores", ["", "x real time", "all of it, s", "efficiency %"], rows
    )
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
    parser.add_argument("--minutes", type=float, default=40.0, help="of sound (%(default)s)")
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
