"""Zero-shot speech on unseen speakers: `openvalle evaluate` by the quick protocol on two splits, with other systems.

Run: make bench-speech (ARGS="--data FOLDER"). Two sets of judges, where they are installed: Whisper base and CAM++,
then pocketsphinx and Resemblyzer. Prints tables, writes JSON and Markdown to --out, and each split's whole report
(rows, page with players, synthesised clips) to a folder of its name. Goes on where it was stopped.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from command import parser, run
from judged import judges_here
from openvalle.engines.choose import AUTO
from openvalle.errors import UserError
from openvalle.evaluate.build_list import ListSource, find_list
from openvalle.evaluate.corpus import find_corpus
from openvalle.evaluate.protocols import Judges, protocol
from openvalle.evaluate.report import Report as Evaluation
from openvalle.evaluate.report_pages import save_report
from openvalle.evaluate.results import ORIGINAL, RECONSTRUCTED, SYNTHESISED, write_results
from openvalle.evaluate.run import EvaluationOptions, evaluate
from openvalle.evaluate.systems.base import Candidate
from openvalle.evaluate.systems.config import build_candidate, read_systems
from openvalle.evaluate.systems.ours import build_model_candidate, load_model_codec
from openvalle.evaluate.test_list import CORPUS, TestList
from openvalle.statistics import Estimate
from peers import FOREIGN, peers
from report import Report

ROWS = (ORIGINAL, RECONSTRUCTED, SYNTHESISED)
FIGURES = {  # this benchmark's names for the metrics
    "wer": "wer",
    "right": "sim_o",
    "wrong": "sim_other",
    "right_above_wrong": "right_above_wrong",
    "overall": "dnsmos",
    "harmonicity": "harmonicity",
    "seconds": "seconds",
}
SHARES = ("wer", "right_above_wrong")


def test_list(split: str, limit: int, options: Any) -> TestList:
    """Return the pairs of a split; with --readers those of these readers alone, the same ones as without it."""
    path = options.out / split / "drawn.jsonl"
    data = find_corpus(options.data)
    tests = find_list(protocol("quick"), ListSource(data, seed=options.seed, limit=limit, split=split), path)
    tests.write(path)
    wanted = {name.strip() for name in options.readers.split(",") if name.strip()} if split == "dev-clean" else set()
    items = [item for item in tests.items if not wanted or item.reference.speaker in wanted]
    if not items:
        raise UserError(f"none of {options.readers} reads in {split}", "give --readers names from the manifest")
    return replace(tests, items=tuple(replace(item, text=item.text.lower()) for item in items))


def measure(split: str, limit: int, options: Any, report: Report) -> None:
    """Evaluate one split by all judges and add its tables to the report."""
    tests, folder = test_list(split, limit, options), options.out / split
    ours = build_model_candidate(options.model, options.codec, threads=options.threads, engine=options.engine)
    others, notes = ([], []) if options.no_peers else peers(options.kokoro)
    added = (
        [build_candidate(name, config) for name, config in read_systems(options.systems).items()]
        if options.systems
        else []
    )
    found: list[dict[str, dict[str, Estimate]]] = []
    sets, missing = judges_here()
    said = report.values.setdefault("notes", [])
    said += [note for note in (*missing, *notes) if note not in said]
    for number, judges in enumerate(sets):
        own = _evaluated(tests, judges, [ours, *added], options, folder, options.seeds)
        figures = {name: _figures(own, name) for name in own.systems}
        if others:  # they say a text always alike: one seed
            foreign = _evaluated(tests, judges, others, options, folder, options.seeds[:1])
            figures |= {name + FOREIGN: _figures(foreign, name) for name in foreign.systems if name not in figures}
        found.append(figures)
        if number == 0:
            save_report(own, folder)
            best = own
        else:
            write_results(folder / "rows-2.jsonl", own.results)
    _tables(
        f"{split}: {len(tests.items)} pairs, {len({item.reference.speaker for item in tests.items})} readers",
        found,
        sets,
        report,
    )
    spoken = best.summarise(SYNTHESISED)
    report.values[split] = {
        "pairs": len(tests.items),
        "list": tests.digest,
        "judges": [_names(one) for one in sets],
        "record": best.record,
        "rows": [
            {name: {key: asdict(figure) for key, figure in values.items()} for name, values in figures.items()}
            for figures in found
        ],
        "real_time_factor": spoken["rtf"].value,
        "processor_seconds_per_second": spoken["processor_per_second"].value,
        "ended_properly": spoken["ended"].value,
        "warnings": best.warnings(),
    }


def _evaluated(
    tests: TestList, judges: Judges, systems: list[Candidate], options: Any, folder: Path, seeds: tuple[int, ...]
) -> Evaluation:
    chosen = protocol("quick").model_copy(update={"judges": judges})
    settings = EvaluationOptions(folder, seeds, workers=options.workers)
    codec = load_model_codec(options.model, options.codec)
    return evaluate(tests, chosen, systems, {CORPUS: find_corpus(options.data)}, settings, codec)


def _names(judges: Judges) -> str:
    return f"{judges.asr}, {judges.speaker}"


def _tables(title: str, found: list[dict[str, dict[str, Estimate]]], sets: list[Judges], report: Report) -> None:
    """Add what was heard (words by each recogniser, quality) and whose voice it was (by each speaker model)."""
    names = list(found[0])
    columns = ["", *(f"WER %, {judges.asr}" for judges in sets), "DNSMOS OVRL", "harmonics over noise, dB", "seconds"]
    rows = [
        [
            name,
            *(_cell(one[name], "wer") for one in found),
            _cell(found[0][name], "overall"),
            _cell(found[0][name], "harmonicity", 1),
            _cell(found[0][name], "seconds", 1),
        ]
        for name in names
    ]
    report.table(title, columns, rows)
    kinds = {"right": "same", "wrong": "other", "right_above_wrong": "same nearer %"}
    columns = ["", *(f"{judges.speaker}, {kind}" for judges in sets for kind in kinds.values())]
    report.table(
        f"{title}: voice", columns, [[n, *(_cell(one[n], kind) for one in found for kind in kinds)] for n in names]
    )


def _figures(evaluation: Evaluation, system: str) -> dict[str, Estimate]:
    found = evaluation.summarise(system)
    return {ours: found[name] for ours, name in FIGURES.items() if name in found}


def _cell(figures: dict[str, Estimate], key: str, digits: int = 2) -> str:
    return figures[key].text(percent=key in SHARES, digits=digits) if key in figures else "-"


def check_targets(values: dict[str, Any], report: Report) -> None:
    """Add the table of targets, all on dev-clean, by the first judges."""
    coded, spoken = (values["rows"][0][name] for name in ROWS[1:])
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
    options_parser.add_argument("--engine", default=AUTO, help="as `say --engine` (default: %(default)s)")
    options_parser.add_argument("--seeds", default="0,1,2", help="of what is spoken (default: %(default)s)")
    options_parser.add_argument(
        "--readers", default="", help="of dev-clean, such as ls3664,ls4640: keep their pairs alone"
    )
    options_parser.add_argument("--systems", type=Path, help="more rows: a file as of `openvalle compare`")
    options_parser.add_argument("--kokoro", type=Path, help="folder of Kokoro's voices, if its packages are installed")
    options_parser.add_argument("--no-peers", action="store_true", help="no rows for espeak-ng, flite and Kokoro")
    options = options_parser.parse_args()
    options.seeds = seeds_of(options.seeds)
    torch.set_num_threads(options.threads)
    settings = {
        "model": options.model,
        "engine": options.engine,
        "list seed": options.seed,
        "seeds": list(options.seeds),
        "threads": options.threads,
        "judges": [_names(judges) for judges in judges_here()[0]],
        "prompt": "3 s cut at a word boundary, its true transcript given",
        "intervals": "95 % bootstrap over readers and their pairs, all seeds of a pair together",
    }
    report = Report("speech", settings)
    problems, done = [], []
    for split, limit in {"dev-clean": options.limit, "dev-other": options.other_limit}.items():
        if limit < 1:
            continue
        try:
            measure(split, limit, options, report)
            done.append(split)
        except UserError as error:
            problems.append(error)
    if not done:
        raise problems[0] if problems else UserError("nothing to do", "raise --limit")
    speed = [_speed(split, report.values[split]) for split in done]
    columns = ["", "real-time factor", "processor s per s", "ended properly %"]
    report.table(f"Synthesis on {options.threads} threads", columns, speed)
    if "dev-clean" in done:
        check_targets(report.values["dev-clean"], report)
    for note in (*report.values["notes"], *map(str, problems)):
        print(f"note: {note}")
    paths = report.write(options.out)
    print("wrote", *paths, *(Path(options.out) / split / "report.html" for split in done))


def seeds_of(text: str) -> tuple[int, ...]:
    """Return the seeds in a text such as 0,1,2."""
    if not all(part.strip().isdecimal() for part in text.split(",")):
        raise UserError(f"{text!r} are no seeds", "write numbers with commas, such as 0,1,2")
    return tuple(dict.fromkeys(int(part) for part in text.split(",")))


def _speed(split: str, values: dict[str, Any]) -> list[str]:
    shown = [f"{values[name]:.3f}" for name in ("real_time_factor", "processor_seconds_per_second")]
    return [split, *shown, f"{values['ended_properly'] * 100:.1f}"]


if __name__ == "__main__":
    run(main)
