"""The watermark: how often it is found, clean and after attacks, how often by mistake, and what it costs the sound.

Run: make bench-watermark (ARGS="--data FOLDER"). Prints tables, writes JSON, Markdown and a picture to --out.
"""

from __future__ import annotations

import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attacks import attacks, recoded
from command import JUDGES, parser, run
from judged import Clip, error_rate, judge, mean
from openvalle.audio import RATE, Audio
from openvalle.codec.base import Codec
from openvalle.codec.load import load_codec
from openvalle.errors import AudioError, UserError
from openvalle.evaluate.corpus import choose, read_corpus
from openvalle.safety.watermark import FOUND, NAME, Detector, Marker
from report import Report

SECONDS = 6.0  # of each recording; its start
COLUMNS = ["after", "found %", "lowest score", "false alarms %", "highest score"]
WANTED = (
    "none",
    "MP3 64 kb/s",
    "through 16 kHz",
    "through 8 kHz",
    "cut to 3 s",
    "20 dB quieter",
    "12 dB louder, clipped",
)


def score(detector: Detector, audio: Audio) -> float:
    """Return the surest part's score; 0 where there is nothing to hear."""
    try:
        return detector.detect(audio).score
    except AudioError:
        return 0.0


def scores(detector: Detector, clips: Sequence[Audio], codec: Codec, seed: int) -> dict[str, list[float]]:
    """Return the score of every clip after every attack."""
    found: dict[str, list[float]] = {}
    for name, attack in attacks(codec).items():
        print(f"after: {name}", file=sys.stderr)
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        found[name] = [score(detector, attack(clip, rng)) for clip in clips]
    return found


def rate(values: Sequence[float]) -> Any:
    """Return the share of scores that count as found, with its interval."""
    return mean([float(value >= FOUND) for value in values])


def measure_attacks(kind: str, clean: Sequence[Audio], detector: Detector, options: Any, report: Report) -> None:
    """Add the table of one kind of sound: found and false alarms after each attack."""
    codec, marker = load_codec("builtin"), Marker()
    marked = [marker.mark(clip) for clip in clean]
    hits = scores(detector, marked, codec, options.seed)
    alarms = scores(detector, clean, codec, options.seed)
    rows = [
        [
            name,
            rate(hits[name]).text(percent=True),
            f"{min(hits[name]):.2f}",
            rate(alarms[name]).text(percent=True),
            f"{max(alarms[name]):.2f}",
        ]
        for name in hits
    ]
    seconds = sum(clip.seconds for clip in clean)
    report.table(f"{kind}: {len(clean)} clean and {len(clean)} marked clips, {seconds:.0f} s", COLUMNS, rows)
    report.values[kind] = {
        name: {
            "found": vars(rate(hits[name])),
            "false_alarms": vars(rate(alarms[name])),
            "marked_scores": hits[name],
            "clean_scores": alarms[name],
        }
        for name in hits
    }


def no_speech(count: int, seed: int) -> list[Audio]:
    """Return noises of several colours and chords: what the network was not trained on."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(SECONDS * RATE)) / RATE
    sounds = []
    for index in range(count):
        if index % 2:
            spectrum = np.fft.rfft(rng.standard_normal(len(times)))
            spectrum /= np.maximum(np.fft.rfftfreq(len(times), 1 / RATE), 50) ** rng.uniform(0, 1)
            samples = np.fft.irfft(spectrum, len(times))
        else:
            samples = sum(np.sin(2 * np.pi * hertz * times) for hertz in rng.uniform(80, 1500, 4))
        sounds.append(Audio((0.2 * samples / np.abs(samples).max()).astype(np.float32), RATE))
    return sounds


def measure_cost(clean: Sequence[Clip], options: Any, report: Report) -> None:
    """Add what the mark costs: level, voice, quality and words, before and after, and time."""
    marker, detector = Marker(), Detector()
    started = time.process_time()
    marked = [Clip(marker.mark(clip.audio), clip.text) for clip in clean]
    marking = time.process_time() - started
    for clip in marked:
        score(detector, clip.audio)
    finding = time.process_time() - started - marking
    seconds = sum(clip.audio.seconds for clip in clean)
    ratios = [_ratio(a.audio, b.audio) for a, b in zip(clean, marked, strict=True)]
    judged = judge([*clean, *marked], options)
    before, after = judged[: len(clean)], judged[len(clean) :]
    figures = {
        "level": mean(ratios),
        "similarity": mean([a.likeness(b) for a, b in zip(before, after, strict=True)]),
        "before": mean([item["quality"].overall for item in before]),
        "after": mean([item["quality"].overall for item in after]),
        "lost": mean([a["quality"].overall - b["quality"].overall for a, b in zip(before, after, strict=True)]),
        "wer_before": error_rate([item.errors for item in before]),
        "wer_after": error_rate([item.errors for item in after]),
    }
    rows = [
        ["speech over mark, dB", figures["level"].text(digits=1)],
        ["voice similarity to the unmarked", figures["similarity"].text(digits=3)],
        ["DNSMOS OVRL before", figures["before"].text()],
        ["DNSMOS OVRL after", figures["after"].text()],
        ["DNSMOS OVRL lost", figures["lost"].text(digits=3)],
        ["WER % before", figures["wer_before"].text(percent=True)],
        ["WER % after", figures["wer_after"].text(percent=True)],
        ["marking, processor s per s", f"{marking / seconds:.3f}"],
        ["finding, processor s per s", f"{finding / seconds:.3f}"],
    ]
    report.table(f"What it costs: {len(clean)} recordings, {seconds:.0f} s", ["", "value [95 %]"], rows)
    report.values["cost"] = {name: vars(figure) for name, figure in figures.items()}
    report.values["cost"] |= {"marking": marking / seconds, "finding": finding / seconds, "clips": len(clean)}


def _ratio(plain: Audio, marked: Audio) -> float:
    change = marked.samples - plain.samples
    return float(10 * np.log10(np.sum(plain.samples**2) / max(float(np.sum(change**2)), 1e-12)))


def check_targets(values: dict[str, Any], report: Report) -> None:
    """Add the table of targets, on real recordings."""
    real = values["recordings"]
    checks = []
    for name in WANTED:
        found, alarms = real[name]["found"]["value"], real[name]["false_alarms"]["value"]
        checks.append((f"found, after: {name}", found, ">= 0.99", found >= 0.99))
        checks.append((f"false alarms, after: {name}", alarms, "<= 0.01", alarms <= 0.01))
    similarity, lost = (values["cost"][key]["value"] for key in ("similarity", "lost"))
    checks.append(("voice similarity to the unmarked", similarity, ">= 0.95", similarity >= 0.95))
    checks.append(("DNSMOS OVRL lost", lost, "<= 0.1", lost <= 0.1))
    report.targets(checks)


def draw(report: Report, kinds: Sequence[str], path: Path) -> None:
    """Draw every score: marked and clean, after each attack."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(kinds), figsize=(7 * len(kinds), 5), layout="constrained", squeeze=False)
    rng = np.random.default_rng(0)
    for axis, kind in zip(axes[0], kinds, strict=True):
        names = list(report.values[kind])
        for place, name in enumerate(names):
            for key, colour in (("clean_scores", "tab:blue"), ("marked_scores", "tab:red")):
                found = report.values[kind][name][key]
                axis.scatter(found, place + rng.uniform(-0.3, 0.3, len(found)), s=6, color=colour, alpha=0.5)
        axis.axvline(FOUND, color="black", linewidth=1, linestyle=":")
        axis.set(yticks=range(len(names)), yticklabels=names, xlim=(-0.05, 1.05), xlabel="score", title=kind)
        axis.invert_yaxis()
    axes[0][0].legend(["clean", "marked"], loc="center")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    """Run the benchmark."""
    options_parser = parser(__doc__.splitlines()[0], "out/bench-watermark")
    options_parser.set_defaults(limit=100, other_limit=25)
    options_parser.add_argument(
        "--judged", type=int, default=40, help="recordings judged before and after (default: %(default)s)"
    )
    options = options_parser.parse_args()
    torch.set_num_threads(options.threads)
    corpus = read_corpus(options.data)
    chosen = []
    for split, limit in (("dev-clean", options.limit), ("dev-other", options.other_limit)):
        chosen += choose([item for item in corpus if item.split == split], limit, options.seed)
    if not chosen:
        raise UserError("the data hold no dev-clean or dev-other utterances", "check --data")
    sounds = [utterance.audio() for utterance in chosen]
    starts = [Audio(sound.samples[: round(SECONDS * RATE)], RATE) for sound in sounds]
    settings = {
        "mark": NAME,
        "threshold": FOUND,
        "seed": options.seed,
        "seconds": SECONDS,
        "judges": JUDGES.model_dump(),
    }
    report = Report("watermark", settings)
    detector, codec = Detector(), load_codec("builtin")
    measure_attacks("recordings", starts, detector, options, report)
    measure_attacks("out of the codec", [recoded(clip, codec) for clip in starts], detector, options, report)
    alarms = [score(detector, sound) for sound in no_speech(len(starts), options.seed)]
    report.table(
        f"No speech: {len(alarms)} noises and chords",
        ["", "false alarms %", "highest score"],
        [["clean", rate(alarms).text(percent=True), f"{max(alarms):.2f}"]],
    )
    report.values["no speech"] = {"false_alarms": vars(rate(alarms)), "clean_scores": alarms}
    pairs = list(zip(chosen, sounds, strict=True))[: options.judged]
    measure_cost([Clip(sound, utterance.text) for utterance, sound in pairs], options, report)
    check_targets(report.values, report)
    paths = report.write(options.out)
    draw(report, ["recordings", "out of the codec"], options.out / "watermark.png")
    print("wrote", *paths, options.out / "watermark.png")


if __name__ == "__main__":
    run(main)
