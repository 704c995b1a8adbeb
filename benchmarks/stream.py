"""Streaming: time to the first sound, the longest gap, speed, what windows change, and memory over a long text.

Run: make bench-stream (ARGS="--minutes 60" for an hour of speech). Prints tables, writes JSON, Markdown and a picture
to --out. Needs no data: the built-in voice speaks.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from command import run
from judged import mean
from openvalle.errors import UserError
from openvalle.speech_models.mos import DNSMOS
from openvalle.synth.speech import join_speech
from openvalle.synth.synthesizer import WINDOWS
from report import Report

if TYPE_CHECKING:
    from openvalle.synth.stream import StreamBlock
    from openvalle.synth.synthesizer import Synthesizer

SENTENCES = (
    "The river ran slowly past the old mill.",
    "Nobody in the village could say when the wheel had stopped turning, or why.",
    "It was late in the year, and the first snow lay on the hills.",
    "A boy came down the road with a lantern.",
    "He knocked twice, waited, and listened to the water under the floor.",
    "Somewhere above him a door opened, and a voice asked what he wanted at this hour.",
    "He had a letter, he said.",
    "It had been carried over the pass by a man who did not stay to give his name.",
    "The miller held it to the light and read it without a word.",
    "Then he laughed, and put more wood on the fire.",
)
COUNTS = (1, 5, 20)  # sentences of the texts
PART = 0.2  # of a long run: its first and its last part are compared
FLAT_MB = 30  # by which memory may differ between them


@dataclass(frozen=True)
class Heard:
    """A stream as a listener with a loudspeaker has it. All in seconds."""

    first: float  # from the call to the first sound
    gap: float  # the longest silence because the next block was late
    seconds: float  # of sound
    took: float
    blocks: int


def listened(arrivals: Iterable[tuple[float, float]]) -> Heard:
    """Return how a stream is heard whose blocks arrive at (seconds after the call, seconds of sound)."""
    first = gap = free = took = seconds = 0.0
    count = 0
    for took, length in arrivals:
        if not length:
            continue
        if not count:
            first = free = took
        gap = max(gap, took - free)
        free = max(free, took) + length
        seconds += length
        count += 1
    return Heard(first, gap, seconds, took, count)


def timed(blocks: Iterator[StreamBlock]) -> Iterator[tuple[float, float]]:
    """Yield when each block arrives and how long it sounds."""
    started = time.perf_counter()
    for block in blocks:
        yield time.perf_counter() - started, block.audio.seconds


def text_of(count: int, seed: int = 0) -> str:
    """Return `count` sentences."""
    order = np.random.default_rng(seed).permutation
    chosen: list[str] = []
    while len(chosen) < count:
        chosen += [SENTENCES[index] for index in (order(len(SENTENCES)) if chosen else range(len(SENTENCES)))]
    return " ".join(chosen[:count])


def measure_streams(synthesizer: Synthesizer, options: Any, report: Report) -> None:
    """Add the table of texts and ways to stream them."""
    ways = (("live", True, WINDOWS), ("live=False", False, WINDOWS), ("whole lines", False, None))
    rows: list[list[str]] = []
    values: dict[str, Any] = {}
    for count in options.sentences:
        for name, live, windows in ways:
            heard = [
                listened(
                    timed(synthesizer.stream(text_of(count), seed=options.seed + number, live=live, windows=windows))
                )
                for number in range(options.repeats)
            ]
            rate = sum(one.took for one in heard) / sum(one.seconds for one in heard)
            first, gap = float(np.median([one.first for one in heard])), max(one.gap for one in heard)
            cells = [f"{first:.2f}", f"{gap:.2f}", f"{rate:.2f}", f"{np.mean([one.seconds for one in heard]):.1f}"]
            rows.append([f"{count} sentences, {name}", *cells])
            values[f"{count} {name}"] = {"first": first, "gap": gap, "real_time_factor": rate}
    columns = ["", "first sound after s", "longest gap s", "real-time factor", "seconds"]
    report.table(f"Streams on {options.threads} threads, {options.repeats} runs each", columns, rows)
    report.values["streams"] = values


def measure_windows(synthesizer: Synthesizer, options: Any, report: Report) -> None:
    """Add what windows change, for the same codebook 1, and how many lines a live stream leaves unrepaired."""
    equal: list[list[float]] = []
    again: list[float] = []
    sounds: dict[str, list[Any]] = {"windows": [], "one go": []}
    for number, sentence in enumerate(SENTENCES):
        said = [
            join_speech(
                [
                    block.speech
                    for block in synthesizer.stream(sentence, seed=options.seed + number, live=False, windows=windows)
                    if block.speech is not None
                ]
            )
            for windows in (WINDOWS, None)
        ]
        equal.append((said[0].codes == said[1].codes).mean(axis=0).tolist())
        again.append(float(said[0].quality.attempts > 1))
        for name, speech in zip(sounds, said, strict=True):
            sounds[name].append(speech.audio)
    shares = np.mean(equal, axis=0)
    rows = [[f"codebook {index + 1}", f"{100 * share:.1f}"] for index, share in enumerate(shares)]
    report.table("Codes that are the same with windows as in one go", ["", "%"], rows)
    report.values["windows"] = {"equal": shares.tolist(), "spoken_again": float(np.mean(again))}
    report.table(
        "Lines that `say` spoke again, and a live stream would not", ["", "%"], [["", mean(again).text(percent=True)]]
    )
    try:
        judge = DNSMOS(threads=options.threads)
    except UserError as error:  # a judge that is not installed is left out
        print(f"no DNSMOS: {error}", file=sys.stderr)
        return
    overall = {name: mean([judge.score(audio).overall for audio in audios]) for name, audios in sounds.items()}
    report.table("DNSMOS OVRL", ["", "mean"], [[name, figure.text()] for name, figure in overall.items()])
    report.values["windows"]["overall"] = {name: vars(figure) for name, figure in overall.items()}


def resident_mb() -> float:
    """Return the memory of this process in MB: now on Linux, its peak so far elsewhere."""
    import resource

    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def measure_memory(synthesizer: Synthesizer, options: Any, report: Report) -> list[tuple[float, float]]:
    """Speak a long text to its end or to the minutes wanted; return (seconds of speech, MB) after each line."""
    from openvalle.media import sound_file

    text, curve, seconds = text_of(20 * max(1, round(options.minutes * 60 / 40)), 1), [], 0.0
    with sound_file(options.out / "long.flac", synthesizer.rate) as append:
        for speech in synthesizer.sentences(text, seed=options.seed):
            append(speech.audio)
            seconds += speech.seconds
            curve.append((seconds, resident_mb()))
            if seconds >= options.minutes * 60:
                break
    memory = np.array([value for _, value in curve])
    size = max(1, round(PART * len(memory)))
    start, end = float(memory[size : 2 * size].mean()), float(memory[-size:].mean())
    report.table(
        f"Memory over {seconds / 60:.1f} minutes of speech ({len(curve)} lines)",
        ["", "MB"],
        [["in the second fifth", f"{start:.0f}"], ["in the last fifth", f"{end:.0f}"], ["most", f"{memory.max():.0f}"]],
    )
    report.values["memory"] = {"seconds": seconds, "start": start, "end": end, "most": float(memory.max())}
    return curve


def draw(curve: Sequence[tuple[float, float]], path: Path) -> None:
    """Draw memory over seconds of speech."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(9, 3.6), layout="constrained")
    axis.plot([seconds / 60 for seconds, _ in curve], [value for _, value in curve])
    axis.set_ylim(0, 1.2 * max(value for _, value in curve))
    axis.set_xlabel("minutes of speech")
    axis.set_ylabel("memory, MB")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def parsed(arguments: Sequence[str] | None = None) -> Any:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/bench-stream"))
    parser.add_argument("--model", default="builtin", help="a model's name or folder")
    parser.add_argument("--sentences", type=int, nargs="*", default=list(COUNTS), help="lengths of the texts")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=5.0, help="of speech for the memory (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="threads of the models (default: %(default)s)")
    return parser.parse_args(arguments)


def main() -> None:
    """Run the benchmark."""
    options = parsed()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    from openvalle.synth.synthesizer import Synthesizer

    synthesizer = Synthesizer.load(options.model, device="cpu")
    synthesizer.say("Once to warm up.")
    windows = WINDOWS.model_dump()
    settings = {"model": synthesizer.describe(), "seed": options.seed, "threads": options.threads, "windows": windows}
    report = Report("stream", settings)
    measure_streams(synthesizer, options, report)
    measure_windows(synthesizer, options, report)
    curve = measure_memory(synthesizer, options, report)
    memory, streams = report.values["memory"], report.values["streams"]
    grown = memory["end"] - memory["start"]
    checks = [("memory that a long text adds, MB", grown, f"<= {FLAT_MB}", grown <= FLAT_MB)]
    for name, values in streams.items():
        if name.endswith(" live"):
            checks.append(
                (f"real-time factor, {name}", values["real_time_factor"], "< 1", values["real_time_factor"] < 1)
            )
    report.targets(checks)
    paths = report.write(options.out)
    draw(curve, options.out / "memory.png")
    print("wrote", *paths, options.out / "memory.png")


if __name__ == "__main__":
    run(main)
