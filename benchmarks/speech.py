"""Zero-shot speech on unseen speakers: `openvalle evaluate` by the quick protocol on two splits, and the targets.

Run: make bench-speech (ARGS="--data FOLDER"). Prints tables, writes JSON and Markdown to --out, and each split's whole
report (rows, page with players, synthesised clips) to a folder of its name.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from command import JUDGES, parser, run
from openvalle.errors import UserError
from openvalle.evaluate.corpus import corpus_folder
from openvalle.evaluate.items import CORPUS
from openvalle.evaluate.lists import drawn_before
from openvalle.evaluate.models import candidate, codec_of
from openvalle.evaluate.protocols import protocol
from openvalle.evaluate.report import Report as Evaluation
from openvalle.evaluate.rows import ORIGINAL, RECONSTRUCTED, SYNTHESISED
from openvalle.evaluate.run import Candidate, Options, evaluate
from openvalle.evaluate.statistics import Figure
from report import Report

ROWS = (ORIGINAL, RECONSTRUCTED, SYNTHESISED)
COLUMNS = ["", "WER %", "right speaker", "wrong speaker", "right > wrong %", "OVRL", "seconds"]
FIGURES = {  # this benchmark's names for the metrics
    "wer": "wer",
    "right": "sim_o",
    "wrong": "sim_other",
    "right_above_wrong": "right_above_wrong",
    "overall": "dnsmos",
    "seconds": "seconds",
}


def measure(split: str, limit: int, candidates: list[Candidate], options: Any, report: Report) -> None:
    """Evaluate one split and add its table to the report."""
    quick, data, folder = protocol("quick"), corpus_folder(options.data), options.out / split
    tests = drawn_before(folder / "items.jsonl", quick, data, seed=options.seed, limit=limit, split=split)
    settings = Options(folder, (options.seed,), workers=options.workers, fresh=True)
    codec = codec_of(options.model, options.codec)
    evaluation = evaluate(tests, quick, candidates, {CORPUS: data}, settings, codec)
    evaluation.save(folder)
    figures = {name: _figures(evaluation, name) for name in ROWS}
    report.table(
        f"{split}: {len(tests.items)} pairs, {len({item.reference.speaker for item in tests.items})} speakers",
        COLUMNS,
        [_cells(name, values) for name, values in figures.items()],
    )
    spoken = evaluation.figures(SYNTHESISED)
    report.values[split] = {
        "pairs": len(tests.items),
        "list": tests.digest,
        "judges": evaluation.record["judges"],
        "rows": {name: {key: asdict(figure) for key, figure in values.items()} for name, values in figures.items()},
        "real_time_factor": spoken["rtf"].value,
        "processor_seconds_per_second": spoken["processor_per_second"].value,
        "ended_properly": spoken["ended"].value,
        "warnings": evaluation.warnings(),
    }


def _figures(evaluation: Evaluation, system: str) -> dict[str, Figure]:
    found = evaluation.figures(system)
    return {ours: found[name] for ours, name in FIGURES.items() if name in found}


def _cells(name: str, figures: dict[str, Figure]) -> list[str]:
    shares = {"wer", "right_above_wrong"}
    order = ("wer", "right", "wrong", "right_above_wrong", "overall")
    return [name, *(figures[key].text(percent=key in shares) for key in order), f"{figures['seconds'].value:.1f}"]


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


def main() -> None:
    """Run the benchmark."""
    options_parser = parser(__doc__.splitlines()[0], "out/bench-speech")
    options_parser.add_argument("--model", default="builtin", help="a model's name or folder")
    options_parser.add_argument("--codec", default=None, help="a codec's name or folder (default: the model's)")
    options = options_parser.parse_args()
    torch.set_num_threads(options.threads)
    system = candidate(options.model, options.codec, threads=options.threads)
    settings = {
        "model": options.model,
        "weights": system.digest,
        "seed": options.seed,
        "threads": options.threads,
        "judges": JUDGES.model_dump(),
        "prompt": "3 s cut at a word boundary, its true transcript given",
        "intervals": "95 % bootstrap over pairs",
    }
    report = Report("speech", settings)
    problems = []
    for split, limit in {"dev-clean": options.limit, "dev-other": options.other_limit}.items():
        if limit < 1:
            continue
        try:
            measure(split, limit, [system], options, report)
        except UserError as error:
            problems.append(error)
    done = list(report.values)
    if not done:
        raise problems[0] if problems else UserError("nothing to do", "raise --limit")
    speed = [_speed(split, report.values[split]) for split in done]
    columns = ["", "real-time factor", "processor s per s", "ended properly %"]
    report.table(f"Synthesis on {options.threads} threads", columns, speed)
    if "dev-clean" in done:
        check_targets(report.values["dev-clean"], report)
    paths = report.write(options.out)
    print("wrote", *paths, *(Path(options.out) / split / "report.html" for split in done))


def _speed(split: str, values: dict[str, Any]) -> list[str]:
    shown = [f"{values[name]:.3f}" for name in ("real_time_factor", "processor_seconds_per_second")]
    return [split, *shown, f"{values['ended_properly'] * 100:.1f}"]


if __name__ == "__main__":
    run(main)
