"""The codec on unseen speakers: what survives of voice, quality, harmonics and words, with 8, 4, 2 and 1 codebooks.

Run: make bench-codec (ARGS="--data FOLDER"). Two sets of judges, where they are installed, as `bench-speech` has them.
Prints tables, writes JSON, Markdown and a picture to --out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from command import parser, run
from judged import Clip, JudgedClip, error_rate, judge, judges_here, mean
from openvalle.audio import Audio, normalize
from openvalle.codec.base import Codec
from openvalle.codec.load import load_codec
from openvalle.errors import UserError
from openvalle.evaluate.corpus import CorpusUtterance, choose, read_corpus
from openvalle.evaluate.protocols import Judges
from openvalle.evaluate.test_list import CLEAN, apply_condition
from openvalle.statistics import Estimate
from peers import UNHEARD, Kokoro, absent_of_kokoro
from report import Report

QUALITY = {"overall": "DNSMOS OVRL", "signal": "SIG", "background": "BAK", "p808": "P.808"}
HARMONICITY = "harmonics over noise, dB"
COLOURS = ("blue", "orange", "green", "red", "purple", "brown", "gray", "olive", "cyan", "pink")


@dataclass(frozen=True)
class Coded:
    """The clips of a split and what the codec made of them. `codes`: (T, Q) each."""

    originals: list[Clip]
    codes: list[torch.Tensor]
    encode_seconds: float
    decode_seconds: float
    processor_seconds: float  # both ways; less than the two above together on a busy machine

    @property
    def seconds(self) -> float:
        """Seconds of speech."""
        return sum(clip.audio.seconds for clip in self.originals)

    def decoded(self, codec: Codec, codebooks: int, count: int) -> list[Clip]:
        """Return the first `count` clips decoded from their first codebooks."""
        pairs = list(zip(self.originals, self.codes, strict=True))[:count]
        return [Clip(_decode(codec, codes[:, :codebooks], clip.audio), clip.text) for clip, codes in pairs]


def encode_clips(codec: Codec, originals: list[Clip], merge: int) -> Coded:
    """Return the clips coded, with the time it took both ways."""
    codec.decode(codec.encode(torch.zeros(1, codec.spec.rate)))  # warm-up
    started, processor = time.perf_counter(), time.process_time()
    codes = [codec.encode(torch.from_numpy(clip.audio.samples)[None], merge)[0] for clip in originals]
    encoded = time.perf_counter()
    for item in codes:
        codec.decode(item[None])
    ended, processor = time.perf_counter(), time.process_time() - processor
    return Coded(originals, codes, encoded - started, ended - encoded, processor)


def _decode(codec: Codec, codes: torch.Tensor, like: Audio) -> Audio:
    samples = codec.decode(codes[None])[0].float().numpy()
    return Audio(samples[: len(like.samples)].astype(np.float32), like.rate)


def usage(codes: Sequence[torch.Tensor], entries: int) -> tuple[list[float], list[float]]:
    """Return per codebook the share of entries used and the perplexity."""
    shares, perplexities = [], []
    for column in torch.cat(list(codes)).T:
        counts = torch.bincount(column, minlength=entries).double()
        p = counts[counts > 0] / counts.sum()
        shares.append(float((counts > 0).double().mean()))
        perplexities.append(float(torch.exp(-(p * p.log()).sum())))
    return shares, perplexities


def summarize(
    found: Sequence[Sequence[JudgedClip]], originals: Sequence[Sequence[JudgedClip]], sets: Sequence[Judges]
) -> dict[str, Estimate]:
    """Return the figures of one row: what each set of judges says of its clips and of the originals beside them."""
    figures = {}
    for judges, ours, theirs in zip(sets, found, originals, strict=True):
        pairs = zip(ours, theirs, strict=True)
        figures[f"similarity, {judges.speaker}"] = mean([mine.likeness(other) for mine, other in pairs])
        figures[f"WER %, {judges.asr}"] = error_rate([item.errors for item in ours])
    for key, title in QUALITY.items():
        figures[title] = mean([getattr(item["quality"], key) for item in found[0]])
    harmonicity = [item["prosody"].harmonicity for item in found[0] if item["prosody"] is not None]
    figures[HARMONICITY] = mean([value for value in harmonicity if not np.isnan(value)])
    return figures


def row(name: str, count: int, figures: dict[str, Estimate]) -> list[str]:
    """Return the cells of a table row."""
    return [name, str(count), *(one.text(percent=title.startswith("WER")) for title, one in figures.items())]


def measure(codec: Codec, split: str, coded: Coded, options: Any, report: Report) -> None:
    """Judge one split and add its tables to the report."""
    count, fewer = len(coded.originals), min(len(coded.originals), options.fewer)
    levels = [q for q in (8, 4, 2, 1) if q <= codec.spec.codebooks]
    if not split.startswith("dev-") or "," in split:  # with fewer codebooks on plain recordings alone
        levels = levels[:1]
    rows = {q: coded.decoded(codec, q, count if q == levels[0] else fewer) for q in levels}
    sets, _ = judges_here()
    heard = [
        judge([*coded.originals, *(clip for decoded in rows.values() for clip in decoded)], options, judges)
        for judges in sets
    ]
    originals = [one[:count] for one in heard]
    parts = {"original": originals}
    if fewer < count:
        parts[f"original, first {fewer}"] = [one[:fewer] for one in originals]
    start = count
    for q, decoded in rows.items():
        parts[f"{q} codebook{'s' * (q > 1)}"] = [one[start : start + len(decoded)] for one in heard]
        start += len(decoded)
    figures = {
        name: summarize(part, [one[: len(part[0])] for one in originals], sets)
        for name, part in parts.items()
        if part[0]
    }
    table = [row(name, len(parts[name][0]), values) for name, values in figures.items()]
    report.table(f"{split}: {count} clips, {coded.seconds:.0f} s", ["", "clips", *figures["original"]], table)
    shares, perplexities = usage(coded.codes, codec.spec.entries)
    report.table(
        f"{split}: codebooks over {sum(map(len, coded.codes))} frames",
        ["", *(str(index + 1) for index in range(len(shares)))],
        [
            ["entries used %", *(f"{share * 100:.1f}" for share in shares)],
            ["perplexity", *(f"{value:.0f}" for value in perplexities)],
        ],
    )
    report.values[split] = {
        "clips": count,
        "seconds": coded.seconds,
        "rows": {name: {key: vars(figure) for key, figure in values.items()} for name, values in figures.items()},
        "entries_used": shares,
        "perplexity": perplexities,
        "encode_times_real_time": coded.seconds / coded.encode_seconds,
        "decode_times_real_time": coded.seconds / coded.decode_seconds,
        "processor_seconds_per_second": coded.processor_seconds / coded.seconds,
    }


def check_targets(values: dict[str, Any], codebooks: int, report: Report) -> None:
    """Add the table of targets, all on dev-clean."""
    original, coded = values["rows"]["original"], values["rows"][f"{codebooks} codebooks"]
    words = next(key for key in coded if key.startswith("WER"))  # of the recogniser that hears best
    alike, bar = coded["similarity, resemblyzer"]["value"], 0.85
    added = (coded[words]["value"] - original[words]["value"]) * 100
    used = min(values["entries_used"])
    quality = coded[QUALITY["overall"]]["value"]
    lost = original[HARMONICITY]["value"] - coded[HARMONICITY]["value"]  # ways to measure it differ by some dB
    speeds = [values[f"{way}_times_real_time"] for way in ("encode", "decode")]
    report.targets(
        [
            ("voice similarity (Resemblyzer)", alike, f">= {bar}", alike >= bar),
            ("DNSMOS OVRL", quality, ">= 3.1", quality >= 3.1),
            (f"{HARMONICITY}: lost", lost, "<= 2.1", lost <= 2.1),
            (f"points added to {words}", added, "<= 3", added <= 3),
            ("least used codebook, share of entries", used, ">= 0.80", used >= 0.80),
            ("encoding, times real time", speeds[0], "> 20", speeds[0] > 20),
            ("decoding, times real time", speeds[1], "> 20", speeds[1] > 20),
        ]
    )


def draw(report: Report, splits: Sequence[str], path: Path) -> None:
    """Draw the figures against the number of codebooks."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 4, figsize=(16, 4), layout="constrained")
    first = report.values[splits[0]]["rows"]["original"]
    words = next(key for key in first if key.startswith("WER"))
    panels = [("similarity, resemblyzer", 1), (QUALITY["overall"], 1), (words, 100)]
    for split, colour in zip(splits, (f"tab:{name}" for name in COLOURS), strict=False):
        rows = report.values[split]["rows"]
        names = sorted((name for name in rows if "codebook" in name), key=lambda name: int(name.split()[0]))
        counts = [int(name.split()[0]) for name in names]
        for axis, (key, scale) in zip(axes, panels, strict=False):
            figures = [rows[name][key] for name in names]
            value, low, high = (np.array([item[k] for item in figures]) * scale for k in ("value", "low", "high"))
            axis.errorbar(counts, value, [value - low, high - value], marker="o", color=colour, label=split)
            if not key.startswith("similarity"):
                level = rows["original"][key]["value"] * scale
                axis.axhline(level, color=colour, linestyle=":", label=f"{split}, original")
            axis.set(xlabel="codebooks", title=key, xscale="log", xticks=counts, xticklabels=counts)
            axis.minorticks_off()
        shares = np.array(report.values[split]["entries_used"]) * 100
        axes[3].plot(np.arange(1, len(shares) + 1), shares, marker="o", color=colour, label=split)
    axes[0].set_ylim(0, 1)
    axes[3].set(xlabel="codebook", title="entries used %", ylim=(0, 105))
    axes[1].legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def read_splits(options: Any) -> dict[str, list[Clip]]:
    """Return the clips of every split: unseen readers, the same in noise and rooms, a synthesiser, what is given."""
    corpus = read_corpus(options.data)
    readers = {name.strip() for name in options.readers.split(",") if name.strip()}
    found: dict[str, list[Clip]] = {}
    for split, limit in {"dev-clean": options.limit, "dev-other": options.other_limit}.items():
        known = [item for item in corpus if item.split == split]
        if readers and split == "dev-clean":
            known = [item for item in known if item.speaker in readers]
        found[split] = clips_of(choose(known, limit, options.seed))
    clean = found["dev-clean"][: options.fewer]
    for condition in [name.strip() for name in options.conditions.split(",") if name.strip() not in ("", CLEAN)]:
        found[f"dev-clean, {condition}"] = [
            replace(clip, audio=apply_condition(clip.audio, condition)) for clip in clean
        ]
    if options.kokoro is not None:
        if absent := absent_of_kokoro():
            raise UserError(f"Kokoro lacks {', '.join(absent)}", "install them (docs/evaluation.md), or no --kokoro")
        found["Kokoro"] = made_speech([clip.text for clip in clean], options.kokoro)
    for folder in options.clips:
        found[Path(folder).name] = clips_of(choose(read_corpus(folder), options.limit, options.seed))
    there = {split: clips for split, clips in found.items() if clips}
    if not there:
        raise UserError("no clips to code", "check --data, --readers and --limit")
    return there


def clips_of(utterances: Sequence[CorpusUtterance]) -> list[Clip]:
    """Return the sounds and words of utterances."""
    return [Clip(utterance.audio(), utterance.text) for utterance in utterances]


def made_speech(texts: Sequence[str], folder: Path) -> list[Clip]:
    """Return texts as Kokoro says them, in turn by those English voices in `folder` that no training had."""
    voices = [path for name in UNHEARD if (path := folder / f"{name}.bin").is_file()]
    if not voices:
        hint = "give the folder voices/ of the npm package kokoro-js"
        raise UserError(f"{folder} holds none of the voices {', '.join(UNHEARD)}", hint)
    speakers = [Kokoro.load(path) for path in voices]
    return [
        Clip(normalize(speakers[number % len(speakers)].speak(text.lower())), text) for number, text in enumerate(texts)
    ]


def main() -> None:
    """Run the benchmark."""
    options_parser = parser(__doc__.splitlines()[0], "out/bench-codec")
    options_parser.add_argument("--codec", default="builtin", help="a codec's name or folder")
    options_parser.add_argument(
        "--merge", type=int, default=2, help="frames that share codebook 1, as the model speaks (default: %(default)s)"
    )
    options_parser.add_argument(
        "--fewer", type=int, default=15, help="clips judged with fewer codebooks (default: %(default)s)"
    )
    options_parser.add_argument(
        "--readers", default="", help="of dev-clean, such as ls3664,ls4640: keep their clips alone"
    )
    options_parser.add_argument(
        "--conditions",
        default="noise-20,noise-10,room-0.4",
        help="what is done to clips of dev-clean, --fewer of each (default: %(default)s)",
    )
    options_parser.add_argument("--kokoro", type=Path, help="folder of Kokoro's voices: their speech is a split")
    options_parser.add_argument(
        "--clips", action="append", default=[], metavar="FOLDER", help="more clips with texts: a split; repeatable"
    )
    options = options_parser.parse_args()
    torch.set_num_threads(options.threads)
    codec = load_codec(options.codec)
    sets, notes = judges_here()
    settings = {
        "codec": f"{codec.spec.name} {codec.spec.digest}",
        "merge": options.merge,
        "seed": options.seed,
        "threads": options.threads,
        "judges": [judges.model_dump() for judges in sets],
        "intervals": "95 % bootstrap over clips",
    }
    report = Report("codec", settings)
    splits = read_splits(options)
    for split, clips in splits.items():
        measure(codec, split, encode_clips(codec, clips, options.merge), options, report)
    done = list(splits)
    speeds = [[report.values[s][f"{way}_times_real_time"] for way in ("encode", "decode")] for s in done]
    table = [[split, *(f"{speed:.1f}" for speed in pair)] for split, pair in zip(done, speeds, strict=True)]
    report.table(f"Speed on {options.threads} threads, times real time", ["", "encode", "decode"], table)
    if "dev-clean" in done:
        check_targets(report.values["dev-clean"], codec.spec.codebooks, report)
    paths = report.write(options.out)
    draw(report, done, options.out / "codec.png")
    for note in notes:
        print(f"note: {note}")
    print("wrote", *paths, options.out / "codec.png")


if __name__ == "__main__":
    run(main)
