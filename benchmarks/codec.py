"""The codec on unseen speakers: what survives of voice, quality and words, with 8, 4, 2 and 1 codebooks.

Run: make bench-codec (ARGS="--data FOLDER"). Prints tables, writes JSON, Markdown and a picture to --out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from command import JUDGES, parser, run
from judged import Clip, JudgedClip, error_rate, judge, mean
from openvalle.audio import Audio
from openvalle.codec.base import Codec
from openvalle.codec.load import load_codec
from openvalle.evaluate.corpus import CorpusUtterance, choose, read_corpus
from report import Report

COLUMNS = ["", "clips", "similarity", "DNSMOS OVRL", "SIG", "BAK", "P.808", "WER %"]


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


def encode_split(codec: Codec, utterances: Sequence[CorpusUtterance], merge: int) -> Coded:
    """Return the split coded, with the time it took both ways."""
    originals = [Clip(utterance.audio(), utterance.text) for utterance in utterances]
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


def summarize(found: Sequence[JudgedClip], originals: Sequence[JudgedClip]) -> dict[str, Any]:
    """Return the figures of one row."""
    figures = {"similarity": mean([a.likeness(b) for a, b in zip(found, originals, strict=True)])}
    for key in ("overall", "signal", "background", "p808"):
        figures[key] = mean([getattr(item["quality"], key) for item in found])
    return figures | {"wer": error_rate([item.errors for item in found])}


def row(name: str, count: int, figures: dict[str, Any]) -> list[str]:
    """Return the cells of a table row."""
    cells = [figures[key].text() for key in ("similarity", "overall")]
    cells += [f"{figures[key].value:.2f}" for key in ("signal", "background", "p808")]
    return [name, str(count), *cells, figures["wer"].text(percent=True)]


def measure(codec: Codec, split: str, coded: Coded, options: Any, report: Report) -> None:
    """Judge one split and add its tables to the report."""
    count, fewer = len(coded.originals), min(len(coded.originals), options.fewer)
    levels = [q for q in (8, 4, 2, 1) if q <= codec.spec.codebooks]
    rows = {q: coded.decoded(codec, q, count if q == levels[0] else fewer) for q in levels}
    clips = [*coded.originals, *(clip for decoded in rows.values() for clip in decoded)]
    judged = iter(judge(clips, options))
    originals = [next(judged) for _ in coded.originals]
    figures = {"original": summarize(originals, originals)}
    table = [row("original", count, figures["original"])]
    if fewer < count:
        figures[f"original, first {fewer}"] = summarize(originals[:fewer], originals[:fewer])
    for q, decoded in rows.items():
        name = f"{q} codebook{'s' * (q > 1)}"
        figures[name] = summarize([next(judged) for _ in decoded], originals[: len(decoded)])
        table.append(row(name, len(decoded), figures[name]))
        if q == levels[0] and fewer < count:
            table.append(row(f"original, first {fewer}", fewer, figures[f"original, first {fewer}"]))
    report.table(f"{split}: {count} clips, {coded.seconds:.0f} s", COLUMNS, table)
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
    similarity = coded["similarity"]["value"]
    quality = original["overall"]["value"] - coded["overall"]["value"]
    words = (coded["wer"]["value"] - original["wer"]["value"]) * 100
    used = min(values["entries_used"])
    speeds = [values[f"{way}_times_real_time"] for way in ("encode", "decode")]
    report.targets(
        [
            ("voice similarity", similarity, ">= 0.85", similarity >= 0.85),
            ("DNSMOS OVRL lost", quality, "<= 0.35", quality <= 0.35),
            ("WER points added", words, "<= 8", words <= 8),
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
    panels = [("similarity", "voice similarity", 1), ("overall", "DNSMOS OVRL", 1), ("wer", "WER %", 100)]
    for split, colour in zip(splits, ("tab:blue", "tab:orange"), strict=False):
        rows = report.values[split]["rows"]
        names = sorted((name for name in rows if "codebook" in name), key=lambda name: int(name.split()[0]))
        counts = [int(name.split()[0]) for name in names]
        for axis, (key, title, scale) in zip(axes, panels, strict=False):
            figures = [rows[name][key] for name in names]
            value, low, high = (np.array([item[k] for item in figures]) * scale for k in ("value", "low", "high"))
            axis.errorbar(counts, value, [value - low, high - value], marker="o", color=colour, label=split)
            if key != "similarity":
                level = rows["original"][key]["value"] * scale
                axis.axhline(level, color=colour, linestyle=":", label=f"{split}, original")
            axis.set(xlabel="codebooks", title=title, xscale="log", xticks=counts, xticklabels=counts)
            axis.minorticks_off()
        shares = np.array(report.values[split]["entries_used"]) * 100
        axes[3].plot(np.arange(1, len(shares) + 1), shares, marker="o", color=colour, label=split)
    axes[0].set_ylim(0, 1)
    axes[3].set(xlabel="codebook", title="entries used %", ylim=(0, 105))
    axes[1].legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


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
    options = options_parser.parse_args()
    torch.set_num_threads(options.threads)
    corpus = read_corpus(options.data)
    codec = load_codec(options.codec)
    settings = {
        "codec": f"{codec.spec.name} {codec.spec.digest}",
        "merge": options.merge,
        "seed": options.seed,
        "threads": options.threads,
        "judges": JUDGES.model_dump(),
        "intervals": "95 % bootstrap over clips",
    }
    report = Report("codec", settings)
    splits = {"dev-clean": options.limit, "dev-other": options.other_limit}
    for split, limit in splits.items():
        chosen = choose([item for item in corpus if item.split == split], limit, options.seed)
        if chosen:
            measure(codec, split, encode_split(codec, chosen, options.merge), options, report)
    done = [split for split in splits if split in report.values]
    speeds = [[report.values[s][f"{way}_times_real_time"] for way in ("encode", "decode")] for s in done]
    table = [[split, *(f"{speed:.1f}" for speed in pair)] for split, pair in zip(done, speeds, strict=True)]
    report.table(f"Speed on {options.threads} threads, times real time", ["", "encode", "decode"], table)
    if "dev-clean" in done:
        check_targets(report.values["dev-clean"], codec.spec.codebooks, report)
    paths = report.write(options.out)
    draw(report, done, options.out / "codec.png")
    print("wrote", *paths, options.out / "codec.png")


if __name__ == "__main__":
    run(main)
