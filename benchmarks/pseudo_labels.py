"""Recordings without words, all the way: LibriLight's layout -> segments -> words -> a model that learns from them.

    python benchmarks/pseudo_labels.py --data SPEECH --hours 2 [--executor ray]

SPEECH is a folder with a manifest.jsonl (audio, text, speaker), as the other benchmarks take. Its utterances are laid
behind each other as LibriLight's chapters, without their words; what is written down is compared with those words,
before and after the filter, and a small AR model is trained on what is left. The extra `asr` is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from command import run
from openvalle import media
from openvalle.audio import Audio
from openvalle.config import json_line
from openvalle.data.shards import Row, read_rows
from openvalle.errors import UserError
from openvalle.evaluate.corpus import CorpusUtterance, choose, read_corpus
from openvalle.files import write_text
from openvalle.parallel import progress
from openvalle.prepare.executor import Executor
from openvalle.prepare.filter import FilterSettings
from openvalle.prepare.perf import estimate
from openvalle.prepare.run import prepare
from openvalle.prepare.steps import PrepareOptions, Step
from openvalle.prepare.transcribe import TranscribeSettings
from openvalle.speech_models.wer import normalize_words
from openvalle.statistics import Estimate, draw
from openvalle.statistics import estimate as estimate_ratio
from openvalle.train.recipe import run as train
from pace import RECIPES
from report import Report

RATE = 16_000  # of LibriLight
CHAPTER_SECONDS = (60.0, 300.0)  # the shorter, the fewer hours: so that there are several speakers
PAUSES = (0.4, 0.9)  # seconds between utterances
AGREEMENTS = (9.0, 0.3, 0.1, 0.05, 0.02, 0.01)  # shares of letters in which two recognisers differ at most
FALL, FROM_STEP = 0.2, 50  # how much the held-out loss has to fall, and from which step on


@dataclass(frozen=True)
class Told:
    """Words of an utterance and where they are said in a chapter, in seconds."""

    start: float
    end: float
    text: str

    def share_in(self, spans: Sequence[tuple[float, float]]) -> float:
        """Return which part of it lies in stretches that do not overlap."""
        inside = sum(max(0.0, min(self.end, end) - max(self.start, start)) for start, end in spans)
        return inside / (self.end - self.start)


def make_librilight(corpus: Sequence[CorpusUtterance], hours: float, folder: Path, seed: int) -> dict[str, list[Told]]:
    """Write chapters as LibriLight has them; return what is said in each, by its id."""
    rng = np.random.default_rng(seed)
    said: dict[str, list[CorpusUtterance]] = defaultdict(list)
    for item in choose(corpus, len(corpus), seed):
        said[item.speaker].append(item)
    truth: dict[str, list[Told]] = {}
    total, longest = 0.0, float(np.clip(300 * hours, *CHAPTER_SECONDS))
    while total < 3600 * hours and any(said.values()):
        for speaker, items in said.items():
            if not items or total >= 3600 * hours:
                continue
            ends = accumulate(each.seconds for each in items)
            count = next((number for number, end in enumerate(ends, 1) if end > longest), len(items))
            part, said[speaker] = items[:count], items[count:]
            name = f"{speaker}/a_book_0000_librivox_64kb_mp3/chapter_{len(truth):04d}"
            truth[name] = write_chapter(folder / "small" / f"{name}.flac", speaker, part, rng)
            total += truth[name][-1].end
    if total < 0.9 * 3600 * hours:
        raise UserError(f"the speech lasts {total / 3600:.1f} h only", "give more, or ask for fewer --hours")
    return truth


def write_chapter(path: Path, speaker: str, items: Sequence[CorpusUtterance], rng: np.random.Generator) -> list[Told]:
    """Write utterances with pauses between them, and what LibriLight has beside a chapter; return what is said when."""
    pieces, told, place = [], [], 0
    for item in items:
        sound = media.read(item.path, RATE).samples
        told.append(Told(place / RATE, (place + len(sound)) / RATE, item.text))
        pause = np.zeros(round(rng.uniform(*PAUSES) * RATE), np.float32)
        pieces += [sound, pause]
        place += len(sound) + len(pause)
    media.write(path, Audio(np.concatenate(pieces), RATE))
    write_text(path.with_suffix(".json"), json.dumps({"speaker": speaker, "snr": 0.0, "voice_activity": []}) + "\n")
    return told


def count_errors(truth: dict[str, list[Told]], out: Path) -> dict[str, tuple[int, int]]:
    """Return errors and words of the truth for each segment that was written down.

    The words of a chapter are aligned with all that was heard in it; an error belongs to the segment in which a word
    was heard, a word that nobody heard to the segment before it. Words of segments that were left out are no errors.
    """
    import jiwer

    places = {row["id"]: row for row in read_rows(out / Step.SEGMENT / "index.jsonl")}
    heard: dict[str, list[Row]] = defaultdict(list)
    for row in read_rows(out / Step.TRANSCRIBE / "index.jsonl"):
        heard[row["recording"].partition("@")[0]].append(row)
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for chapter, rows in heard.items():
        rows.sort(key=lambda row: places[row["id"]]["start"])
        spans = [
            (places[row["id"]]["start"], places[row["id"]]["start"] + places[row["id"]]["seconds"]) for row in rows
        ]
        # Utterances of which segments hold less than half were left out before: they are missing, not wrong.
        kept = [told for told in truth[chapter] if told.share_in(spans) >= 0.5]
        expected = normalize_words(" ".join(told.text for told in kept))
        pairs = [(word, row["id"]) for row in rows for word in normalize_words(row["text"]).split()]
        output = jiwer.process_words(expected, " ".join(word for word, _ in pairs))
        for chunk in output.alignments[0]:
            for place in range(max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)):
                where = min(len(pairs) - 1, chunk.hyp_start_idx + (place if chunk.type != "delete" else 0))
                counts = found[pairs[where][1]]
                counts[0] += chunk.type != "equal"
                counts[1] += chunk.type != "insert"
    return {name: (errors, words) for name, (errors, words) in found.items()}


def rate(counts: dict[str, tuple[int, int]], names: set[str]) -> tuple[Estimate, int]:
    """Return the word error rate of some segments, with its interval over readers, and their words."""
    by_reader: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name in sorted(names & counts.keys()):
        for place, count in enumerate(counts[name]):
            by_reader[name.partition("/")[0]][place] += count
    sums = np.array([*by_reader.values()] or [[0, 0]], float)
    drawn = draw(len(sums), np.random.default_rng(0)) @ sums
    return estimate_ratio(sums, drawn), int(sums[:, 1].sum())


def held_out_losses(folder: Path) -> Iterator[tuple[int, float]]:
    """Yield steps and held-out losses of a training."""
    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row: dict[str, Any] = json.loads(line)
        if row["group"] == "valid":
            yield row["step"], row["loss"]


def learn(out: Path, folder: Path, steps: int, frames: int) -> list[tuple[int, float]]:
    """Train the small AR model of VALL-E on the tokens; return its held-out losses."""
    overrides = (
        f"data={out}",
        "valid_split=dev",
        "valid_batches=8",
        f"loop.steps={steps}",
        f"loop.validate_every={FROM_STEP}",
        "loop.log_every=10",
        "loop.save_minutes=60",
        "loop.optim={learning_rate: 1.0e-3, warmup: 40, weight_decay: 0.01, ema: 0.0}",
        f"batches={{frames: {frames}, max_seconds: 13, speaker_power: 1.0}}",
    )
    train("ar", RECIPES / "valle-small.yaml", overrides, folder)
    return list(held_out_losses(folder))


def measure(options: argparse.Namespace) -> None:
    """Make the recordings, prepare them, judge the words, train; write the report."""
    report = Report("pseudo_labels", {key: str(value) for key, value in vars(options).items()})
    truth = make_librilight(
        read_corpus(options.data, options.split), options.hours, options.out / "librilight", options.seed
    )
    write_text(
        options.out / "truth.jsonl", "".join(json_line([name, *map(vars, told)]) for name, told in truth.items())
    )
    asked = PrepareOptions(
        transcribe=TranscribeSettings(recognizer=options.recognizer, second=options.second),
        filter=FilterSettings(max_cer=options.max_cer, min_mos=options.min_mos),
        merge=1,
    )
    out, clock = options.out / "prepared", time.monotonic()
    with progress() as show:
        done = prepare(
            options.out / "librilight" / "small",
            out,
            jobs=options.jobs,
            options=asked,
            executor=Executor(options.executor),
            progress=show,
        )
    minutes = (time.monotonic() - clock) / 60
    counts = count_errors(truth, out)
    hours = {step: sum(row["seconds"] for row in read_rows(out / step / "index.jsonl")) / 3600 for step in asked.steps}
    rows, rates = [], {}
    for step in (Step.TRANSCRIBE, Step.ALIGN, Step.FILTER):
        rates[step], words = rate(counts, names_of(out, step, set(counts)))
        share = hours[step] / hours[Step.SCAN]
        rows.append([step, rates[step].text(percent=True), f"{words:,}", f"{hours[step]:.3f}", f"{100 * share:.0f}"])
    report.table("Words that were written down", ["after", "WER %", "words", "hours", "% of the sound"], rows)
    heard = [row for row in read_rows(out / Step.TRANSCRIBE / "index.jsonl") if "cer" in row["heard"]]
    agreed = []
    for most in AGREEMENTS if heard else ():
        passed = [row for row in heard if row["heard"]["cer"] <= most]
        share = sum(row["seconds"] for row in passed) / sum(row["seconds"] for row in heard)
        agreed.append(
            [f"{most:g}", rate(counts, {row["id"] for row in passed})[0].text(percent=True), f"{100 * share:.0f}"]
        )
    report.table("What other thresholds would leave", ["--max-cer", "WER %", "% of the sound"], agreed)
    reasons = json.loads((out / Step.FILTER / "perf.json").read_text(encoding="utf-8"))["reasons"]
    report.table(
        "Left out by the filter", ["reason", "segments"], [[why, str(count)] for why, count in reasons.items()]
    )
    costs = estimate(out, asked.steps, 60_000)
    report.table(
        "60,000 h of such recordings",
        ["step", "CPU hours", "GB"],
        [[cost.step, f"{cost.cpu_hours:,.0f}", f"{cost.gigabytes:,.0f}"] for cost in costs],
    )
    losses = learn(out, options.out / "ar", options.steps, options.frames)
    report.table(
        "Held-out loss of the AR model", ["step", "loss"], [[str(step), f"{loss:.3f}"] for step, loss in losses]
    )
    first, best = dict(losses)[FROM_STEP], min(loss for _, loss in losses)
    fall = 1 - best / first
    wer = {step: vars(found) for step, found in rates.items()}
    report.values |= {"kept": done.kept, "minutes": minutes, "wer": wer, "hours": hours, "losses": losses}
    report.targets(
        [
            (
                "WER after the filter / before",
                rates[Step.FILTER].value / max(1e-9, rates[Step.TRANSCRIBE].value),
                "< 1",
                rates[Step.FILTER].value < rates[Step.TRANSCRIBE].value,
            ),
            (f"fall of the held-out loss from step {FROM_STEP}", fall, f">= {FALL}", fall >= FALL),
        ]
    )
    report.write(options.out)


def names_of(out: Path, step: Step, segments: set[str]) -> set[str]:
    """Return the segments of which something passed a step; a long one was cut when it was aligned."""
    names = {row["id"] for row in read_rows(out / step / "index.jsonl")}
    return {name for name in segments if name in names or any(f"{name}-{n}" in names for n in range(10))}


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data",
        default=os.environ.get("OPENVALLE_SPEECH"),
        help="folder with manifest.jsonl (default: $OPENVALLE_SPEECH)",
    )
    parser.add_argument("--out", type=Path, default=Path("out/bench-labels"), help="folder for results (%(default)s)")
    parser.add_argument("--hours", type=float, default=2.0, help="of recordings (%(default)s)")
    parser.add_argument("--executor", choices=list(Executor), default=Executor.RAY)
    parser.add_argument("--jobs", type=int, default=2, help="processes (%(default)s)")
    parser.add_argument("--recognizer", default="whisper:base", help="who writes down (%(default)s)")
    parser.add_argument("--second", default="whisper:tiny.en", help="who is compared with it (%(default)s)")
    parser.add_argument("--max-cer", type=float, default=0.02, help="in which they may differ (%(default)s)")
    parser.add_argument("--min-mos", type=float, help="DNSMOS that is asked")
    parser.add_argument("--steps", type=int, default=400, help="of training (%(default)s)")
    parser.add_argument("--frames", type=int, default=3500, help="of a batch (%(default)s)")
    parser.add_argument("--split", default="train", help="of the speech (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not options.data:
        raise UserError("no speech is given", "give --data, or set OPENVALLE_SPEECH")
    measure(options)


if __name__ == "__main__":
    run(main)
