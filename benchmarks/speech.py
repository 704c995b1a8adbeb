"""Zero-shot speech on unseen speakers: original, codec-reconstructed and synthesised, side by side.

Run: make bench-speech (ARGS="--data FOLDER"). Prints tables, writes JSON, Markdown, a picture and the synthesised
clips to --out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from command import parser, run
from corpus import read_corpus
from judging import JUDGES, Clip, Judgement, judge_all
from openvalle.audio import Audio
from openvalle.codec.base import Codec
from openvalle.errors import UserError
from pairs import Pair, make_pairs
from report import Figure, Report, error_rate, mean

if TYPE_CHECKING:
    from openvalle.synth.pipeline import Synthesizer

ROWS = ("original", "codec-reconstructed", "synthesised")
COLUMNS = ["", "WER %", "right speaker", "wrong speaker", "right > wrong %", "OVRL", "seconds"]


@dataclass(frozen=True)
class Spoken:
    """A synthesised sentence: the sound, the seconds and processor seconds it took, whether it ended by itself."""

    audio: Audio
    took: float
    processor: float
    ended: bool
    flags: tuple[str, ...]


def speak(synthesizer: Synthesizer, pairs: Sequence[Pair], seed: int, folder: Path) -> list[Spoken]:
    """Return every pair's text in its prompt's voice; the clips are kept in `folder`."""
    spoken = []
    for number, pair in enumerate(track(pairs, "speaking", console=Console(stderr=True))):
        voice = synthesizer.voice(pair.prompt.audio, pair.prompt.text)
        started, processor = time.perf_counter(), time.process_time()
        speech = synthesizer.say(pair.target.text.lower(), voice=voice, seed=seed + number)
        took, processor = time.perf_counter() - started, time.process_time() - processor
        speech.save(folder / f"{number:03d}-{pair.target.id}.wav")
        ended = speech.quality.stopped_by == "end"
        spoken.append(Spoken(speech.audio, took, processor, ended, speech.quality.flags))
    return spoken


def reconstruct(codec: Codec, audio: Audio) -> Audio:
    """Return the sound after the codec."""
    samples = torch.from_numpy(audio.samples)[None]
    decoded = codec.decode(codec.encode(samples))[0].float().cpu().numpy()
    return Audio(decoded[: len(audio.samples)].astype(np.float32), audio.rate)


def summarize(
    found: Sequence[Judgement], right: Sequence[Judgement], wrong: Sequence[Judgement], clips: Sequence[Clip]
) -> dict[str, Figure]:
    """Return the figures of one row."""
    own = [item.likeness(prompt) for item, prompt in zip(found, right, strict=True)]
    other = [item.likeness(prompt) for item, prompt in zip(found, wrong, strict=True)]
    return {
        "wer": error_rate([item.errors for item in found]),
        "right": mean(own),
        "wrong": mean(other),
        "right_above_wrong": mean([float(a > b) for a, b in zip(own, other, strict=True)]),
        "overall": mean([item.quality.overall for item in found]),
        "seconds": mean([clip.audio.seconds for clip in clips]),
    }


def measure(synthesizer: Synthesizer, split: str, pairs: Sequence[Pair], options: Any, report: Report) -> None:
    """Speak and judge one split and add its table to the report."""
    spoken = speak(synthesizer, pairs, options.seed, options.out / split)
    originals = [pair.target.audio() for pair in pairs]
    sounds = {
        ROWS[0]: originals,
        ROWS[1]: [reconstruct(synthesizer.utterer.codec, audio) for audio in originals],
        ROWS[2]: [item.audio for item in spoken],
    }
    rows = {
        name: [Clip(audio, pair.target.text) for audio, pair in zip(audios, pairs, strict=True)]
        for name, audios in sounds.items()
    }
    prompts = {
        name: [Clip(prompt.audio, prompt.text) for prompt in chosen]
        for name, chosen in (
            ("right", [pair.prompt for pair in pairs]),
            ("wrong", [pair.wrong for pair in pairs]),
        )
    }
    everything = [clip for clips in (*rows.values(), *prompts.values()) for clip in clips]
    judged = iter(judge_all(everything, options.out / "judged", options.workers))
    judgements = {name: [next(judged) for _ in pairs] for name in (*rows, *prompts)}
    figures = {
        name: summarize(judgements[name], judgements["right"], judgements["wrong"], clips)
        for name, clips in rows.items()
    }
    report.table(
        f"{split}: {len(pairs)} pairs, {len({pair.target.speaker for pair in pairs})} speakers",
        COLUMNS,
        [_cells(name, values) for name, values in figures.items()],
    )
    seconds = sum(item.audio.seconds for item in spoken)
    report.values[split] = {
        "pairs": len(pairs),
        "rows": {name: {key: vars(figure) for key, figure in values.items()} for name, values in figures.items()},
        "real_time_factor": sum(item.took for item in spoken) / seconds,
        "processor_seconds_per_second": sum(item.processor for item in spoken) / seconds,
        "ended_properly": float(np.mean([item.ended for item in spoken])),
        "each": [_one(*item) for item in zip(pairs, spoken, judgements[ROWS[2]], judgements["right"], strict=True)],
    }


def _cells(name: str, figures: dict[str, Figure]) -> list[str]:
    shares = {"wer", "right_above_wrong"}
    order = ("wer", "right", "wrong", "right_above_wrong", "overall")
    return [name, *(figures[key].text(percent=key in shares) for key in order), f"{figures['seconds'].value:.1f}"]


def _one(pair: Pair, spoken: Spoken, judged: Judgement, prompt: Judgement) -> dict[str, Any]:
    return {
        "prompt": pair.prompt.source.id,
        "prompt_text": pair.prompt.text,
        "target": pair.target.id,
        "text": pair.target.text,
        "heard": judged.heard,
        "wer": judged.errors.rate,
        "similarity": judged.likeness(prompt),
        "overall": judged.quality.overall,
        "seconds": spoken.audio.seconds,
        "original_seconds": pair.target.seconds,
        "ended": spoken.ended,
        "flags": list(spoken.flags),
    }


def check_targets(values: dict[str, Any], report: Report) -> None:
    """Add the table of targets, all on dev-clean."""
    coded, spoken = (values["rows"][name] for name in ROWS[1:])
    ratio = spoken["wer"]["value"] / max(coded["wer"]["value"], 1e-9)
    above = spoken["right_above_wrong"]["value"]
    quality = coded["overall"]["value"] - spoken["overall"]["value"]
    ended, factor = values["ended_properly"], values["real_time_factor"]
    report.targets(
        [
            ("WER over that of the reconstruction", ratio, "<= 1.5", ratio <= 1.5),
            ("share of pairs nearer to the right speaker", above, ">= 0.85", above >= 0.85),
            ("DNSMOS OVRL under the reconstruction", quality, "<= 0.5", quality <= 0.5),
            ("share of runs that ended properly", ended, "= 1", ended == 1),
            ("real-time factor", factor, "< 0.5", factor < 0.5),
        ]
    )


def draw(report: Report, splits: Sequence[str], path: Path) -> None:
    """Draw the rows side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [("wer", "WER %", 100), ("right", "similarity to the right speaker", 1)]
    panels += [("wrong", "similarity to a wrong speaker", 1), ("overall", "DNSMOS OVRL", 1)]
    figure, axes = pyplot.subplots(1, len(panels), figsize=(4 * len(panels), 4), layout="constrained")
    for axis, (key, title, scale) in zip(axes, panels, strict=True):
        for shift, split in enumerate(splits):
            figures = [report.values[split]["rows"][name][key] for name in ROWS]
            value, low, high = (np.array([item[k] for item in figures]) * scale for k in ("value", "low", "high"))
            places = np.arange(len(ROWS)) + 0.4 * shift
            axis.bar(places, value, 0.38, yerr=[value - low, high - value], capsize=3, label=split)
        axis.set_xticks(np.arange(len(ROWS)) + 0.2 * (len(splits) - 1), ["original", "codec", "synthesised"])
        axis.set_title(title)
    for axis in axes[1:3]:
        axis.set_ylim(0, 1)
    axes[0].legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    """Run the benchmark."""
    options_parser = parser(__doc__.splitlines()[0], "out/bench-speech")
    options_parser.add_argument("--model", default="builtin", help="a model's name or folder")
    options_parser.add_argument("--codec", default=None, help="a codec's name or folder (default: the model's)")
    options = options_parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.getLogger("openvalle.synth").setLevel(logging.ERROR)  # that prompts of 2.9 s are short is no news
    corpus = read_corpus(options.data)
    from openvalle.synth.pipeline import Synthesizer

    synthesizer = Synthesizer.load(options.model, codec=options.codec, device="cpu")
    settings = {
        "model": synthesizer.describe(),
        "seed": options.seed,
        "threads": options.threads,
        "judges": JUDGES,
        "prompt": "3 s cut at a word boundary, its true transcript given",
        "intervals": "95 % bootstrap over pairs",
    }
    report = Report("speech", settings)
    splits = {"dev-clean": options.limit, "dev-other": options.other_limit}
    for split, limit in splits.items():
        pairs = make_pairs([item for item in corpus if item.split == split], limit, options.seed)
        if pairs:
            synthesizer.say("one two three", voice=pairs[0].prompt.audio, prompt_text=pairs[0].prompt.text)
            measure(synthesizer, split, pairs, options, report)
    done = [split for split in splits if split in report.values]
    if not done:
        raise UserError("the data hold no dev-clean or dev-other utterances of 4 to 10 s", "check --data")
    speed = [
        [
            split,
            f"{report.values[split]['real_time_factor']:.3f}",
            f"{report.values[split]['processor_seconds_per_second']:.3f}",
            f"{report.values[split]['ended_properly'] * 100:.1f}",
        ]
        for split in done
    ]
    report.table(
        f"Synthesis on {options.threads} threads",
        ["", "real-time factor", "processor s per s", "ended properly %"],
        speed,
    )
    if "dev-clean" in done:
        check_targets(report.values["dev-clean"], report)
    paths = report.write(options.out)
    draw(report, done, options.out / "speech.png")
    print("wrote", *paths, options.out / "speech.png")


if __name__ == "__main__":
    run(main)
