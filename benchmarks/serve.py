"""The server under load: errors, identity, first sound, real-time factor, memory, batching, and words.

Run: make bench-serve, about nine minutes on two cores that do nothing else; or in two parts, with
ARGS="--parts load overhead words" and ARGS="--parts memory batching --out out/bench-serve-2". Starts `openvalle serve`
on this machine and asks it as many clients do at once, in mixed voices; each reads its sound as it comes, and waits
when it is told to (429). What is said in the crowd is compared, sample by sample, with what is said alone. Prints
tables, writes JSON and Markdown to --out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import os
import resource
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from command import run
from judged import Clip, error_rate, judge
from openvalle.audio import RATE, Audio
from openvalle.errors import UserError
from openvalle.evaluate.systems.external import HttpSystem, OpenAIConfig
from openvalle.evaluate.test_list import CorpusExcerpt, TestItem
from openvalle.parallel import set_threads
from report import Report
from stream import SENTENCES

EQUAL = 4  # of 32768: samples may differ by 1e-4 before they are written in 16 bits
FLAT_MB = 30.0  # that a thousand requests may add
OVERHEAD_MS = 30.0  # that the server may add to the time to the first sound
GAIN = 1.6  # of batching, with 8 clients
BATCHED_CLIENTS = 8
SHORT = "Yes."
PATIENCE = 300.0  # seconds that an answer may take


@dataclass(frozen=True)
class Ask:
    """What a client asks for."""

    text: str
    voice: str
    seed: int


@dataclass(frozen=True)
class Answer:
    """What it got. Seconds are from the request on."""

    ask: Ask
    status: int  # 0: the connection broke off
    first: float = 0.0  # to the first sound
    took: float = 0.0
    samples: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int16))

    @property
    def seconds(self) -> float:
        """Of sound."""
        return len(self.samples) / RATE


@dataclass(frozen=True)
class Served:
    """A server that was started."""

    url: str
    process: int

    def resident_mb(self) -> float:
        """Return its memory (Linux)."""
        return int(Path(f"/proc/{self.process}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


@contextlib.contextmanager
def serve(options: Any, name: str, **settings: object) -> Iterator[Served]:
    """Start a server with its own settings on a free port, and end it as a signal does."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    given = {
        "model": options.model,
        "engine": options.engine,
        "port": port,
        "folder": options.out / "uploads",
        **settings,
    }
    words = [str(word) for key, value in given.items() for word in (f"--{key}", value)]
    url, log = f"http://127.0.0.1:{port}", options.out / f"{name}.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "openvalle", "serve", *words],
            stderr=file,
            env=os.environ | {"OMP_NUM_THREADS": str(options.threads)},
        )
    try:
        while not is_ready(url):
            if process.poll() is not None:
                raise UserError(f"the server does not start: {log.read_text().strip()[-500:]}")
            time.sleep(0.2)
        yield Served(url, process.pid)
    finally:
        process.terminate()
        process.wait()


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", timeout=PATIENCE).status_code == 200
    except httpx.TransportError:
        return False


async def ask_once(client: httpx.AsyncClient, ask: Ask) -> tuple[Answer, float]:
    """Return the answer, and the seconds that the server asks to wait."""
    body = {"input": ask.text, "voice": ask.voice, "seed": ask.seed, "response_format": "pcm"}
    started, first, data = time.perf_counter(), 0.0, bytearray()
    try:
        async with client.stream("POST", "/v1/audio/speech", json=body) as reply:
            async for piece in reply.aiter_raw():
                first = first or time.perf_counter() - started
                data += piece
            took = time.perf_counter() - started
            if reply.status_code != 200:
                return Answer(ask, reply.status_code, first, took), float(reply.headers.get("retry-after", 1))
            return Answer(ask, 200, first, took, np.frombuffer(bytes(data), "<i2")), 0.0
    except httpx.TransportError:
        return Answer(ask, 0, first, time.perf_counter() - started), 0.0


async def crowd(url: str, asks: Sequence[Ask], clients: int, seconds: float, most: int = 1 << 30) -> list[Answer]:
    """Return the answers that so many clients get in so many seconds (or up to `most` of them), the last ones waited
    for. Client n begins with the n-th ask."""
    answers: list[Answer] = []
    until = time.perf_counter() + seconds

    async def one(number: int, client: httpx.AsyncClient) -> None:
        turn = number
        while time.perf_counter() < until and len(answers) < most:
            answer, wait = await ask_once(client, asks[turn % len(asks)])
            answers.append(answer)
            turn += 1 if answer.status == 200 else 0
            await asyncio.sleep(min(wait, max(0.0, until - time.perf_counter())))

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, limits=limits) as client:
        await asyncio.gather(*(one(number, client) for number in range(clients)))
    return answers


def make_asks(url: str, options: Any) -> list[Ask]:
    """Return what is asked for: sentences in all voices of the server, with several seeds."""
    voices = [voice["id"] for voice in httpx.get(f"{url}/v1/audio/voices").json()["voices"]][: options.voices]
    return [
        Ask(SENTENCES[number % len(SENTENCES)], voices[number % len(voices)], options.seed + number)
        for number in range(options.asks)
    ]


def measure_load(served: Served, asks: Sequence[Ask], options: Any, report: Report) -> None:
    """Many clients: what they get, when, and whether it is what each gets alone."""
    alone = {answer.ask: answer for answer in asyncio.run(crowd(served.url, asks, 1, 1e9, len(asks)))}
    started = time.perf_counter()
    answers = asyncio.run(crowd(served.url, asks, options.clients, options.seconds))
    took = time.perf_counter() - started
    good = [answer for answer in answers if answer.status == 200]
    if not good:
        raise UserError(f"no request was answered ({Counter(answer.status for answer in answers)})")
    counts = Counter(answer.status for answer in answers)
    same = [is_same(answer.samples, alone[answer.ask].samples) for answer in good]
    firsts, factors = [answer.first for answer in good], [answer.took / answer.seconds for answer in good]
    sound = sum(answer.seconds for answer in good)
    rows = [
        ["first sound after, s", *(f"{value:.2f}" for value in np.percentile(firsts, (50, 90, 95)))],
        ["real-time factor of a request", *(f"{value:.2f}" for value in np.percentile(factors, (50, 90, 95)))],
        [
            "first sound alone, s",
            *(f"{v:.2f}" for v in np.percentile([answer.first for answer in alone.values()], (50, 90, 95))),
        ],
    ]
    report.table(f"{options.clients} clients for {took:.0f} s", ["", "p50", "p90", "p95"], rows)
    facts = {
        "answers": len(good),
        "refused with 429": counts[429],
        "other errors": len(answers) - len(good) - counts[429],
        "not what is said alone": same.count(False),
        "sound a second": round(sound / took, 2),
    }
    report.table("What they got", ["", ""], [[name, str(value)] for name, value in facts.items()])
    report.values["load"] = facts | {"statuses": {str(status): count for status, count in counts.items()}}
    report.values["load"] |= {"first": firsts, "real_time_factors": factors, "took": took}


def is_same(one: np.ndarray, other: np.ndarray) -> bool:
    """True if two sounds are as long and as good as equal."""
    return one.shape == other.shape and int(np.abs(one.astype(int) - other).max(initial=0)) <= EQUAL


def measure_batching(asks: Sequence[Ask], options: Any, report: Report) -> None:
    """Sound a second of a server that decodes one request at a time and of one that decodes many, in turn."""
    found: dict[str, list[float]] = {"one by one": [], "together": []}
    with (
        serve(options, "one", rows=1, queue=64) as one,
        serve(options, "many", rows=options.rows, queue=64) as many,
    ):
        for number in range(options.rounds):
            ways = [("one by one", one), ("together", many)]
            for name, served in ways if number % 2 else ways[::-1]:
                started = time.perf_counter()
                answers = asyncio.run(crowd(served.url, asks, BATCHED_CLIENTS, 1e9, options.batch_requests))
                sound = sum(answer.seconds for answer in answers if answer.status == 200)
                found[name].append(sound / (time.perf_counter() - started))
    gains = [many / one for one, many in zip(*found.values(), strict=True)]
    rows = [
        [name, f"{np.median(values):.2f}", f"{min(values):.2f} to {max(values):.2f}"] for name, values in found.items()
    ]
    rows.append(["gain", f"{np.median(gains):.2f}", f"{min(gains):.2f} to {max(gains):.2f}"])
    report.table(f"Sound a second, {BATCHED_CLIENTS} clients, {options.rounds} rounds", ["", "median", "range"], rows)
    report.values["batching"] = found | {"gains": gains}


def measure_overhead(served: Served, asks: Sequence[Ask], options: Any, report: Report) -> None:
    """First sound of a request and of the same call in this process, in turn, on machines that do nothing else."""
    from openvalle.synth.synthesizer import Synthesizer

    synthesizer = Synthesizer.load(options.model, engine=options.engine)
    chosen = [ask for ask in asks if ask.voice == asks[0].voice][: options.repeats]
    voice, extra = synthesizer.voice(asks[0].voice), list[float]()
    next(iter(synthesizer.stream(SHORT, voice)))

    def call(ask: Ask) -> float:
        started = time.perf_counter()
        blocks = synthesizer.stream(ask.text, voice, None, ask.seed)
        next(block for block in blocks if len(block.audio.samples))
        took = time.perf_counter() - started
        blocks.close()  # type: ignore[attr-defined]
        return took

    for ask in chosen:
        for order in (0, 1):
            direct = call(ask) if order else 0.0
            (answer,) = asyncio.run(crowd(served.url, [ask], 1, 1e9, 1))
            direct = direct or call(ask)
            extra.append(1000 * (answer.first - direct))
    middle = float(np.median(extra))
    spread = f"{np.percentile(extra, 25):.0f} to {np.percentile(extra, 75):.0f}"
    report.table("What the server adds to the first sound", ["", "ms"], [["median", f"{middle:.0f}"], ["half", spread]])
    report.values["overhead_ms"] = extra


def measure_memory(served: Served, asks: Sequence[Ask], options: Any, report: Report) -> None:
    """Memory after a tenth of many short requests, and after all of them."""
    short = [dataclasses.replace(ask, text=SHORT, seed=number) for number, ask in enumerate([*asks] * 10)]
    tenth = options.requests // 10
    curve = []
    for _ in range(10):
        asyncio.run(crowd(served.url, short, 16, 1e9, tenth))
        curve.append(served.resident_mb())
    grown = curve[-1] - curve[0]
    rows = [[f"after {tenth} requests", f"{curve[0]:.0f}"], [f"after {10 * tenth}", f"{curve[-1]:.0f}"]]
    report.table("Memory", ["", "MB"], [*rows, ["most", f"{max(curve):.0f}"], ["grown by", f"{grown:.0f}"]])
    report.values["memory"] = {"curve": curve, "grown": grown}


def measure_words(served: Served, asks: Sequence[Ask], options: Any, report: Report) -> None:
    """Word errors of what is said alone and in a crowd, asked for as `openvalle compare` asks a server."""
    silence = Audio(np.zeros(RATE, np.float32), RATE)

    def say(ask: Ask) -> Audio:
        config = OpenAIConfig(url=f"{served.url}/v1", voice=ask.voice, extra={"seed": "{seed}"}, tries=10)
        excerpt = CorpusExcerpt("none", "", "", "")
        return HttpSystem("served", config).say(TestItem("one", ask.text, excerpt, excerpt), silence, ask.seed).audio

    with ThreadPoolExecutor(options.clients) as pool:
        found = {"alone": [say(ask) for ask in asks], "in a crowd": list(pool.map(say, asks))}
    judged = {
        name: judge([Clip(audio, ask.text) for audio, ask in zip(audios, asks, strict=True)], options)
        for name, audios in found.items()
    }
    rates = {name: error_rate([clip.errors for clip in clips]) for name, clips in judged.items()}
    rows = [[name, rate.text(percent=True)] for name, rate in rates.items()]
    report.table(f"Word errors of {len(asks)} requests ({options.clients} at once in the crowd)", ["", "%"], rows)
    report.values["word_errors"] = {name: rate.value for name, rate in rates.items()}


def make_targets(report: Report) -> list[tuple[str, float, str, bool]]:
    """Return what was wanted, for all that was measured."""
    values, checks = report.values, list[tuple[str, float, str, bool]]()

    def add(what: str, value: float, wanted: str, is_met: bool) -> None:
        checks.append((what, value, wanted, is_met))

    if "load" in values:
        for name in ("other errors", "not what is said alone"):
            add(name, values["load"][name], "0", values["load"][name] == 0)
    if "memory" in values:
        grown = values["memory"]["grown"]
        add("memory that requests add, MB", grown, f"<= {FLAT_MB:.0f}", grown <= FLAT_MB)
    if "overhead_ms" in values:
        middle = float(np.median(values["overhead_ms"]))
        add("first sound later than without a server, ms", middle, f"< {OVERHEAD_MS:.0f}", middle < OVERHEAD_MS)
    if "batching" in values:
        gain = float(np.median(values["batching"]["gains"]))
        add(f"throughput by batching, {BATCHED_CLIENTS} clients", gain, f">= {GAIN}", gain >= GAIN)
    if "word_errors" in values:
        alone, crowded = values["word_errors"].values()
        add("word errors that a crowd adds, points", 100 * (crowded - alone), "0", crowded == alone)
    return checks


PARTS: dict[str, Callable[[Served, Sequence[Ask], Any, Report], None]] = {
    "load": measure_load,
    "overhead": measure_overhead,
    "memory": measure_memory,
    "words": measure_words,
}


def parsed(arguments: Sequence[str] | None = None) -> Any:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/bench-serve"))
    parser.add_argument("--model", default="builtin", help="a model's name or folder")
    parser.add_argument("--engine", default="auto", help="what computes (default: %(default)s)")
    parser.add_argument("--parts", nargs="*", default=[*PARTS, "batching"], choices=[*PARTS, "batching"])
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0, help="of load (default: %(default)s)")
    parser.add_argument("--asks", type=int, default=24, help="different requests (default: %(default)s)")
    parser.add_argument("--voices", type=int, default=8, help="voices, at most (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=8, help="decoded at a time (default: %(default)s)")
    parser.add_argument("--queue", type=int, default=32, help="requests that may wait (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=1000, help="for the memory (default: %(default)s)")
    parser.add_argument("--batch-requests", type=int, default=16, help="of a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of batching (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="of first sounds (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="threads of the models (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes of the judges (default: %(default)s)")
    return parser.parse_args(arguments)


def main() -> None:
    """Run the benchmark."""
    options = parsed()
    options.out.mkdir(parents=True, exist_ok=True)
    set_threads(options.threads)  # that wait as those of the server do
    known = {key: getattr(options, key) for key in ("model", "engine", "clients", "rows", "queue", "seed", "threads")}
    report = Report("serve", known)
    with serve(options, "server", rows=options.rows, queue=options.queue) as served:
        asks = make_asks(served.url, options)
        for name, part in PARTS.items():
            if name in options.parts:
                part(served, asks, options, report)
    if "batching" in options.parts:
        measure_batching(asks, options, report)
    report.targets(make_targets(report))
    print("wrote", *report.write(options.out))


if __name__ == "__main__":
    run(main)
