"""The results of a listening test: systems with intervals, who was left out and why, how far raters agree."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openvalle.errors import UserError
from openvalle.evaluate.listening.answers import Ballot
from openvalle.evaluate.listening.design import Exclusion, TestKind
from openvalle.evaluate.listening.scores import Score, reasons, scores
from openvalle.evaluate.listening.statistics import DRAWS, LEVEL, clustered_mean, krippendorff_alpha
from openvalle.evaluate.listening.study import Study
from openvalle.files import atomic_path, write_text

Results = dict[str, Any]


def results(study: Study, ballots: Sequence[Ballot], rules: Exclusion, seed: int = 0) -> Results:
    """Return everything that is known about the systems, as plain data for JSON."""
    if not any(scores(study, ballot) for ballot in ballots):
        raise UserError("there are no answers yet", "serve the test, or give the files that raters sent")
    left_out = {ballot.rater: why for ballot in ballots if (why := reasons(study, ballot, rules))}
    everything = [score for ballot in ballots for score in scores(study, ballot)]
    counted = [score for score in everything if score.rater not in left_out]
    design = study.design
    found: Results = {
        "study": study.id,
        "kind": str(design.kind),
        "title": design.title,
        "question": design.asks(),
        "scale": design.scale().model_dump(),
        "items": len(study.items),
        "raters": {
            "all": len(ballots),
            "counted": len(ballots) - len(left_out),
            "unfinished": [ballot.rater for ballot in ballots if not ballot.finished],
            "left_out": left_out,
        },
        "repeated_answers": sum(ballot.repeats for ballot in ballots),
        "interval": f"{LEVEL:.0%}, bootstrap over raters and items, {DRAWS} draws, seed {seed}",
        "systems": [_row(study, name, counted, everything, seed) for name in _systems(everything)],
        "agreement": _agreement(counted),
        "exclusion": rules.model_dump(),
        "design": design.model_dump(mode="json"),
        "comments": {ballot.rater: ballot.comment for ballot in ballots if ballot.comment},
    }
    if design.kind is TestKind.CMOS:
        found["baseline"] = design.baseline
        found["order_effect"] = _interval([s.shown for s in counted], counted, seed)
    return found


def _systems(found: Sequence[Score]) -> list[str]:
    return sorted({score.system for score in found})


def _row(study: Study, name: str, counted: Sequence[Score], everything: Sequence[Score], seed: int) -> Results:
    own = [score for score in counted if score.system == name]
    of_all = [score.value for score in everything if score.system == name]
    row: Results = {
        "system": name,
        **_interval([score.value for score in own], own, seed),
        "answers": len(own),
        "raters": len({score.rater for score in own}),
        "items": len({score.item for score in own}),
        "mean_with_all_raters": sum(of_all) / len(of_all),
    }
    if study.design.kind is TestKind.CMOS and own:
        row["better"] = sum(score.value > 0 for score in own) / len(own)
        row["same"] = sum(score.value == 0 for score in own) / len(own)
        row["worse"] = sum(score.value < 0 for score in own) / len(own)
    return row


def _interval(values: list[float], own: Sequence[Score], seed: int) -> Results:
    estimate = clustered_mean(values, [s.rater for s in own], [s.item for s in own], seed)
    return {key: _number(value) for key, value in vars(estimate).items()}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no NaN


def _agreement(counted: Sequence[Score]) -> Results:
    """Return how far raters agree about (system, item): alpha, and each rater's own against the others' mean."""
    units = [f"{score.system}\n{score.item}" for score in counted]
    alpha = krippendorff_alpha([s.value for s in counted], units, [s.rater for s in counted])
    return {"krippendorff_alpha": _number(alpha), "metric": "interval"}


def write_results(folder: Path, study: Study, ballots: Sequence[Ballot], found: Results) -> list[Path]:
    """Write `results.json`, `results.md` and `scores.csv` (one row per rating, in the clear); return their paths."""
    paths = [folder / name for name in ("results.json", "results.md", "scores.csv")]
    write_text(paths[0], json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    write_text(paths[1], markdown(found))
    with atomic_path(paths[2]) as part, part.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("rater", "system", "item", "score", "answer_as_shown", "seconds", "counted"))
        for ballot in ballots:
            counted = ballot.rater not in found["raters"]["left_out"]
            for s in scores(study, ballot):
                table.writerow(
                    (s.rater, s.system, s.item, f"{s.value:g}", f"{s.shown:g}", f"{s.seconds:g}", int(counted))
                )
    return paths


def markdown(found: Results) -> str:
    """Return the results as a page."""
    is_cmos = found["kind"] == TestKind.CMOS
    name = found["kind"].upper()
    columns = ["system", name, "95 % interval", "answers", "raters"] + (["better / same / worse"] if is_cmos else [])
    lines = [f"# {found['title']}: {name}", "", f"Question: {found['question']}", ""]
    if is_cmos:
        lines += [f"Compared with **{found['baseline']}**: above 0, the system is better than it.", ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in found["systems"]:
        cells = [
            row["system"],
            _shown(row["mean"], is_cmos),
            f"{_shown(row['low'], is_cmos)} … {_shown(row['high'], is_cmos)}",
        ]
        cells += [str(row["answers"]), str(row["raters"])]
        if is_cmos:
            cells.append(" / ".join(f"{row.get(key, 0):.0%}" for key in ("better", "same", "worse")))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines + _notes(found, is_cmos)) + "\n"


def _notes(found: Results, is_cmos: bool) -> list[str]:
    raters, alpha = found["raters"], found["agreement"]["krippendorff_alpha"]
    notes = ["", f"- Intervals: {found['interval']}."]
    notes.append(
        f"- Raters: {raters['counted']} of {raters['all']} counted, {len(raters['unfinished'])} did not finish."
    )
    notes += [f"- Left out: {rater} ({'; '.join(why)})." for rater, why in raters["left_out"].items()]
    notes.append(f"- Agreement of raters (Krippendorff's alpha, interval): {_shown(alpha, False)}.")
    if is_cmos:
        effect = found["order_effect"]
        shown = f"{_shown(effect['mean'], True)} ({_shown(effect['low'], True)} … {_shown(effect['high'], True)})"
        notes.append(f"- Mean answer as shown, B against A, whatever B was: {shown}; 0 means no effect of the order.")
    if found["repeated_answers"]:
        notes.append(f"- {found['repeated_answers']} repeated answers were not counted: the first one stands.")
    return notes


def _shown(value: float | None, is_signed: bool) -> str:
    if value is None:
        return "n/a"
    return f"{value:+.2f}" if is_signed else f"{value:.2f}"
