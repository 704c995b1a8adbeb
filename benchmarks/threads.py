"""How threads should wait: `say` beside nothing and beside two busy loops, settings in turn, as ratios.

Every setting is a process of its own with the model loaded; in each round each of them speaks the same sentence once.
It says how busy the machine was, for nothing here holds on a machine that others use.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from openvalle.parallel import WAITING
from report import Report

OURS, ONE, TORCH = "openvalle", "one thread", "torch's own"
CONTENDERS = {
    OURS: {},
    ONE: {"OMP_NUM_THREADS": "1"},
    TORCH: {"OPENVALLE_BENCH_TORCH": "1"},  # as torch does it when nobody says anything
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    **{f"{spins} spins": {"GOMP_SPINCOUNT": str(spins)} for spins in (1000, 3000, 10000)},
}
CHOSEN = (*WAITING, "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENVALLE_THREADS")


def speak_in_turn(text: str) -> None:
    """The child: load the model, then speak once for each line of standard input and print the seconds."""
    if os.environ.get("OPENVALLE_BENCH_TORCH"):
        import torch  # before openvalle, which would say how threads wait

        import openvalle.engines.torch as engine

        engine.SMALL = 0  # type: ignore[misc]
        assert torch.get_num_threads() >= 1
    from openvalle import Synthesizer

    tts = Synthesizer.load(engine="torch")
    tts.say(text)
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        tts.say(text)
        print(time.perf_counter() - started, flush=True)


@contextmanager
def busy_loops(count: int):
    """Keep `count` processes computing for nothing."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def used_by_others(seconds: float = 2.0) -> float:
    """Return how many cores are busy while nothing of ours runs (0.0 where the system does not say)."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0

    def ticks() -> tuple[int, int]:
        values = [int(value) for value in stat.read_text().split("\n", 1)[0].split()[1:]]
        return sum(values), values[3] + values[4]

    before = ticks()
    time.sleep(seconds)
    after = ticks()
    whole = after[0] - before[0]
    return (os.cpu_count() or 1) * (1 - (after[1] - before[1]) / whole) if whole else 0.0


def ask(child: subprocess.Popen[str], request: str = "") -> str:
    """Return the next line that a child prints, once it was sent the request."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(request)
    child.stdin.flush()
    return child.stdout.readline()


def main() -> None:
    """Measure, print and write the figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--text", default="Hello there, this is a short test.")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--loops", type=int, default=2, help="busy loops beside it")
    options.add_argument("--out", type=Path, default=Path("out/threads"))
    options.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        speak_in_turn(given.text)
        return
    others = used_by_others()
    plain = {name: value for name, value in os.environ.items() if name not in CHOSEN}
    command = [sys.executable, __file__, "--child", "--text", given.text]
    children = {
        name: subprocess.Popen(command, env=plain | more, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name, more in CONTENDERS.items()
    }
    report = Report("threads", {"text": given.text, "rounds": given.rounds, "cores others use": f"{others:.1f}"})
    shares = {}
    try:
        for child in children.values():
            assert ask(child) == "ready\n"
        for place, loops in (("beside nothing", 0), (f"beside {given.loops} busy loops", given.loops)):
            with busy_loops(loops):
                times: dict[str, list[float]] = {name: [] for name in children}
                for _ in range(given.rounds):
                    for name, child in children.items():
                        times[name].append(float(ask(child, "\n")))
            rows = []
            for name, seconds in times.items():
                to = {base: [a / b for a, b in zip(seconds, times[base], strict=True)] for base in (ONE, TORCH)}
                shares[place, name] = {base: statistics.median(ratios) for base, ratios in to.items()}
                ratios = [f"{statistics.median(r):.2f} [{min(r):.2f}, {max(r):.2f}]" for r in to.values()]
                rows.append([name, f"{statistics.median(seconds):.2f}", f"{min(seconds):.2f}", *ratios])
            report.table(place, ["", "s, median", "s, least", "/ one thread", "/ torch's own"], rows)
            report.values[place] = times
    finally:
        for child in children.values():
            child.kill()
    report.settings["load at the end"] = "{:.1f}, {:.1f}, {:.1f}".format(*os.getloadavg())
    busy = shares[f"beside {given.loops} busy loops", OURS][ONE]
    idle = shares["beside nothing", OURS][TORCH]
    report.targets(
        [
            ("beside busy loops, / one thread", busy, "at most 1.5", busy <= 1.5),
            ("beside nothing, / torch's own", idle, "at most 1.1", idle <= 1.1),
        ]
    )
    if others > 0.2:
        print(f"others use {others:.1f} cores: the figures beside nothing are not what they say", file=sys.stderr)
    print(*report.write(given.out), sep="\n")


if __name__ == "__main__":
    main()
