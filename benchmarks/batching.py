"""Serving many at once: requests one by one against requests decoded together, in turn in one process.

Run: make bench-batching (ARGS="--clients 16"). Each client asks for one sentence after the other. Figures of a round
are ratios of times measured directly after each other, so that a busy machine slows both. Says whether all requests
gave the codes that they give alone, and how long listeners of streams wait for the first sound.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from openvalle import Synthesizer
from openvalle.synth.batching import Batcher
from openvalle.synth.speech import Speech
from report import Report
from stream import SENTENCES

WANTED = 1.6  # times the throughput of one by one, with 8 clients


def measure(run: Callable[[], list[Speech]]) -> tuple[float, float, list[Speech]]:
    """Return seconds, CPU seconds and what was said."""
    started, processor = time.perf_counter(), time.process_time()
    speeches = run()
    return time.perf_counter() - started, time.process_time() - processor, speeches


def show(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def throughput(tts: Synthesizer, batcher: Batcher, given: argparse.Namespace, report: Report) -> None:
    """One by one against together."""
    requests = [(SENTENCES[n % len(SENTENCES)], n) for n in range(given.clients * given.each)]

    def one_by_one() -> list[Speech]:
        return [tts.say(text, seed=seed) for text, seed in requests]

    def together() -> list[Speech]:
        def ask(client: int) -> list[Speech]:
            own = requests[client * given.each :][: given.each]
            return [batcher.submit(lambda s, r=r: [s.say(r[0], seed=r[1])]).result() for r in own]  # type: ignore[misc]

        with ThreadPoolExecutor(given.clients) as clients:
            return [speech for own in clients.map(ask, range(given.clients)) for speech in own]

    one_by_one()
    rounds, equal = [], True
    for number in range(given.rounds):
        order = (one_by_one, together) if number % 2 else (together, one_by_one)
        found = {way: measure(way) for way in order}
        alone, batched = found[one_by_one], found[together]
        equal &= all((a.codes == b.codes).all() for a, b in zip(alone[2], batched[2], strict=True))
        seconds = sum(speech.seconds for speech in alone[2])
        rounds.append((seconds, alone[0], batched[0], alone[1], batched[1]))
    rows = [
        ["one by one", show([s / a for s, a, *_ in rounds]), show([c / s for s, _, _, c, _ in rounds])],
        ["together", show([s / b for s, _, b, *_ in rounds]), show([c / s for s, *_, c in rounds])],
        ["ratio", show([a / b for _, a, b, *_ in rounds]), show([c / d for *_, c, d in rounds])],
    ]
    report.table(f"{given.clients} clients", ["", "seconds of sound a second", "CPU s a second of sound"], rows)
    report.values["rounds"] = rounds
    gain = statistics.median(a / b for _, a, b, *_ in rounds)
    report.targets(
        [
            ("throughput, / one by one", gain, f"at least {WANTED}", gain >= WANTED),
            ("requests with the codes that they have alone", float(equal), "all", equal),
        ]
    )


def first_sound(batcher: Batcher, given: argparse.Namespace, report: Report) -> None:
    """How long each of several listeners who come at once waits."""

    def listen(seed: int) -> float:
        started = time.perf_counter()
        job = batcher.submit(lambda s: s.stream(SENTENCES[seed % len(SENTENCES)], seed=seed))
        blocks = iter(job)
        next(blocks)
        waited = time.perf_counter() - started
        list(blocks)
        return waited

    rows = []
    for count in sorted({1, 2, 4, given.clients}):
        with ThreadPoolExecutor(count) as clients:
            rounds = range(max(2, given.rounds))
            waits = [wait for number in rounds for wait in clients.map(listen, range(number, number + count))]
        tenths = statistics.quantiles(waits, n=20, method="inclusive")
        rows.append([str(count), *(f"{tenths[at]:.2f}" for at in (9, 17, 18))])
    report.table("seconds to the first sound", ["listeners", "p50", "p90", "p95"], rows)
    report.values["first sound"] = rows


def main() -> None:
    """Measure, print and write the figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--clients", type=int, default=8)
    options.add_argument("--each", type=int, default=2, help="sentences that each client asks for")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--rows", type=int, default=16)
    options.add_argument("--model", default="builtin")
    options.add_argument("--device", default="auto")
    options.add_argument("--out", type=Path, default=Path("out/batching"))
    given = options.parse_args()
    tts = Synthesizer.load(given.model, device=given.device)
    report = Report("batching", {"clients": given.clients, "sentences each": given.each, "rounds": given.rounds})
    with Batcher(tts, given.rows) as batcher:
        throughput(tts, batcher, given, report)
        first_sound(batcher, given, report)
    report.settings["load at the end"] = "{:.1f}, {:.1f}, {:.1f}".format(*os.getloadavg())
    print(*report.write(given.out), sep="\n")


if __name__ == "__main__":
    main()
