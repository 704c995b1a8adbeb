"""The watermark: how often it is found, clean and after attacks, how often by mistake, and what it costs the sound.

Run: make bench-watermark (ARGS="--data FOLDER"). In recordings, in what the codec makes of them, and in what the model
says in the languages that it speaks. `--after NAME` tries one attack alone, on more clips in the same time. Prints
tables, writes JSON, Markdown and a picture to --out.
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

from attacks import ATTACKS, NEURAL, attacks, recoded
from command import JUDGES, parser, run
from judged import Clip, error_rate, judge, mean, share
from language_items import OWN
from openvalle.audio import RATE, Audio
from openvalle.codec.base import Codec
from openvalle.codec.load import load_codec
from openvalle.errors import AudioError, UserError
from openvalle.evaluate.corpus import choose, read_corpus
from openvalle.hub import VOICE_SUFFIX, assets
from openvalle.safety.watermark import FOUND, NAME, Detector, Marker
from openvalle.synth.synthesizer import Synthesizer
from openvalle.synth.voice import Voice
from report import Report

SECONDS = 6.0  # of each recording; its start
REAL, CODED, SPOKEN = "recordings", "out of the codec", "said by the model"
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


def scores(detector: Detector, clips: Sequence[Audio], codec: Codec, options: Any) -> dict[str, list[float]]:
    """Return the score of every clip after every attack, or after those named."""
    found: dict[str, list[float]] = {}
    known = attacks(codec)
    for name in options.after or known:
        attack = known[name]
        print(f"after: {name}", file=sys.stderr)
        rng = np.random.default_rng([options.seed, zlib.crc32(name.encode())])
        found[name] = [score(detector, attack(clip, rng)) for clip in clips]
    return found


def rate(values: Sequence[float]) -> Any:
    """Return the share of scores that count as found, with its interval."""
    return share([value >= FOUND for value in values])


def measure_attacks(kind: str, clean: Sequence[Audio], detector: Detector, options: Any, report: Report) -> None:
    """Add the table of one kind of sound: found and false alarms after each attack."""
    codec, marker = load_codec("builtin"), Marker()
    marked = [marker.mark(clip) for clip in clean]
    hits = scores(detector, marked, codec, options)
    alarms = scores(detector, clean, codec, options)
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


def spoken(count: int, seed: int) -> list[Audio]:
    """Return what the model says, unmarked: sentences of each language in turn, by the built-in voices of it."""
    synthesizer = Synthesizer.load(watermark=False)
    voices: dict[str, list[str]] = {}
    for path in sorted((assets() / "voices").glob(f"*{VOICE_SUFFIX}")):
        voices.setdefault(Voice.load(path).language, []).append(path.name.removesuffix(VOICE_SUFFIX))
    lines = [line.split("\t") for line in OWN.read_text(encoding="utf-8").splitlines() if line]
    texts = {language: [text for name, text in lines if name == language] for language in voices}
    turns = [(language, turn) for turn in range(count) for language in voices][:count]
    return [
        synthesizer.say(
            texts[language][turn % len(texts[language])],
            voices[language][turn % len(voices[language])],
            seed=seed + turn,
            language=language,
        ).audio
        for language, turn in turns
    ]


def no_speech(count: int, seed: int) -> dict[str, list[Audio]]:
    """Return what the networks were not trained on: `count` each of tones, chords, melodies and noises."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(SECONDS * RATE)) / RATE

    def tones(hertz: np.ndarray) -> np.ndarray:
        return np.sum([np.sin(2 * np.pi * one * times) for one in hertz], axis=0)

    def chord() -> np.ndarray:
        """Some steady tones; every other chord has overtones and trembles as a choir does."""
        hertz = rng.uniform(80, 1500, rng.integers(2, 6))
        if rng.random() < 0.5:
            return tones(hertz)
        depth = rng.uniform(0.001, 0.01) * np.sin(2 * np.pi * 5 * times) / 5
        parts = [np.sin(2 * np.pi * one * k * times + one * k * depth) / k for one in hertz / 2 for k in range(1, 8)]
        return np.sum(parts, axis=0)

    def melody() -> np.ndarray:
        """Four notes a second with overtones, which die away as a plucked string's do."""
        samples, step = np.zeros(len(times)), RATE // 4
        for start in range(0, len(times), step):
            rest = times[: len(times) - start]
            hertz = 110 * 2 ** (rng.integers(0, 30) / 12)
            waves = [np.sin(2 * np.pi * hertz * k * rest) / k for k in range(1, 8)]
            samples[start:] += np.sum(waves, axis=0) * np.exp(-6 * rest)
        return samples

    def noise() -> np.ndarray:
        spectrum = np.fft.rfft(rng.standard_normal(len(times)))
        spectrum /= np.maximum(np.fft.rfftfreq(len(times), 1 / RATE), 50) ** rng.uniform(0, 1)
        return np.fft.irfft(spectrum, len(times))

    made = {"pure tones": lambda: tones(rng.uniform(60, 4000, 1)), "chords": chord, "melodies": melody, "noises": noise}
    return {name: [_levelled(make()) for _ in range(count)] for name, make in made.items()}


def _levelled(samples: np.ndarray) -> Audio:
    return Audio((0.2 * samples / np.abs(samples).max()).astype(np.float32), RATE)


def measure_alarms(count: int, detector: Detector, options: Any, report: Report) -> None:
    """Add the table of false alarms on what is no speech."""
    found = {
        name: [score(detector, sound) for sound in sounds] for name, sounds in no_speech(count, options.seed).items()
    }
    rows = [
        [name, str(len(values)), rate(values).text(percent=True), f"{max(values):.2f}"]
        for name, values in found.items()
    ]
    report.table("No speech", ["", "sounds", "false alarms %", "highest score"], rows)
    report.values["no speech"] = {
        name: {"false_alarms": vars(rate(values)), "clean_scores": values} for name, values in found.items()
    }


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
    """Add the table of targets."""
    checks = []
    for kind in (REAL, CODED, SPOKEN):
        for name in WANTED:
            if name not in values.get(kind, {}):
                continue
            found, alarms = (values[kind][name][key]["value"] for key in ("found", "false_alarms"))
            checks.append((f"{kind}: found, after: {name}", found, ">= 0.99", found >= 0.99))
            checks.append((f"{kind}: false alarms, after: {name}", alarms, "<= 0.01", alarms <= 0.01))
    for name, one in values["no speech"].items():
        alarms = one["false_alarms"]["value"]
        checks.append((f"false alarms: {name}", alarms, "<= 0.01", alarms <= 0.01))
    if "cost" in values:
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
    options_parser.add_argument(
        "--spoken", type=int, default=30, help="sentences that the model says (default: %(default)s)"
    )
    options_parser.add_argument(
        "--after",
        action="append",
        choices=[*ATTACKS, NEURAL],
        default=[],
        help="this attack alone; repeatable (default: all)",
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
    kinds = {
        REAL: starts,
        CODED: [recoded(clip, codec) for clip in starts],
        SPOKEN: spoken(options.spoken, options.seed),
    }
    kinds = {name: clips for name, clips in kinds.items() if clips}
    for name, clips in kinds.items():
        measure_attacks(name, clips, detector, options, report)
    measure_alarms(len(starts), detector, options, report)
    if options.judged:
        pairs = list(zip(chosen, sounds, strict=True))[: options.judged]
        measure_cost([Clip(sound, utterance.text) for utterance, sound in pairs], options, report)
    check_targets(report.values, report)
    paths = report.write(options.out)
    draw(report, list(kinds), options.out / "watermark.png")
    print("wrote", *paths, options.out / "watermark.png")


if __name__ == "__main__":
    run(main)
