"""The results of a listening test: the blinding undone, raters left out by rule, systems with intervals, agreement."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.errors import UserError
from openvalle.files import atomic_path, write_text
from openvalle.listening_test.answers import Answer, Submission
from openvalle.listening_test.schedule import schedule
from openvalle.listening_test.study import Exclusion, Role, Stimulus, Study, TestKind
from openvalle.statistics import DRAWS, LEVEL, Estimate, draw_crossed, estimate


def clustered_mean(values: Sequence[float], raters: Sequence[str], items: Sequence[str], seed: int = 0) -> Estimate:
    """Return the mean of `values` with a bootstrap interval over raters and items; none with fewer than two raters."""
    if len(set(raters)) < 2:
        return Estimate(float(np.mean(values)) if len(values) else np.nan, np.nan, np.nan, len(values))
    sums = np.stack([np.asarray(values, np.float64), np.ones(len(values))], axis=1)
    return estimate(sums, draw_crossed(sums, np.random.default_rng(seed), raters, items))


def krippendorff_alpha(values: Sequence[float], units: Sequence[str], raters: Sequence[str]) -> float:
    """Return Krippendorff's alpha for interval data: 1 perfect agreement, 0 none beyond chance.

    A unit is what several raters rated; missing ratings are allowed. Not a number if no unit has two ratings, or
    if every rating is the same. Several ratings of one unit by one rater count as their mean.
    """
    cells: dict[tuple[str, str], list[float]] = {}
    for value, unit, rater in zip(values, units, raters, strict=True):
        cells.setdefault((unit, rater), []).append(value)
    by_unit: dict[str, list[float]] = {}
    for (unit, _), given in cells.items():
        by_unit.setdefault(unit, []).append(float(np.mean(given)))
    paired = [np.asarray(given) for given in by_unit.values() if len(given) > 1]
    if not paired:
        return float("nan")
    everything = np.concatenate(paired)
    n = len(everything)
    observed = sum(_squared_distances(given) / (len(given) - 1) for given in paired) / n
    expected = _squared_distances(everything) / (n * (n - 1))
    return float(1 - observed / expected) if expected > 0 else float("nan")


def _squared_distances(x: np.ndarray) -> float:
    """Return the sum of (a - b)^2 over all ordered pairs."""
    centred = x - x.mean()
    return float(2 * len(x) * np.sum(centred**2))


SAME_VOICE = 4.0  # smos catch: the reference itself must get this much
POOR_BELOW = 3.0  # mos catch: a spoilt clip must get less than this
CONSTANT_TRIALS = 8  # the same answer to so many trials is no judgement


@dataclass(frozen=True)
class Score:
    """What one rater gave one system on one item; `shown` is the answer as it was given."""

    rater: str
    system: str
    item: str
    value: float
    shown: float
    seconds: float


def shown_stimuli(study: Study, answer: Answer) -> list[Stimulus]:
    """Return what the clips of an answer are, in the order in which they were shown."""
    return [study.clips[name] for name in answer.clips]


def trial_role(study: Study, answer: Answer) -> Role:
    """Return what the answer's trial was for: tones, training, catch, or else a counted one."""
    role = study.clips[answer.clips[0]].role
    return role if role in (Role.TONES, Role.TRAINING, Role.CATCH) else Role.SYSTEM


def scores(study: Study, submission: Submission) -> list[Score]:
    """Return the scores of a rater's counted trials.

    CMOS is turned to "system compared with the baseline": positive, the system is better.
    """
    made = []
    for answer in submission.answers:
        if trial_role(study, answer) is not Role.SYSTEM:
            continue
        clips = shown_stimuli(study, answer)
        if study.design.kind is TestKind.CMOS:
            is_second = clips[1].system != study.design.baseline
            system, value = clips[is_second], answer.values[0] * (1 if is_second else -1)
            made.append(Score(submission.rater, system.system, system.item, value, answer.values[0], answer.seconds))
            continue
        for clip, value in zip(clips, answer.values, strict=True):
            made.append(Score(submission.rater, clip.system, clip.item, value, value, answer.seconds))
    return made


def is_caught(study: Study, answer: Answer) -> bool:
    """Return True if the answer to a catch trial is wrong."""
    value = answer.values[0]
    if study.design.kind is TestKind.CMOS:
        return bool(value >= 0 if shown_stimuli(study, answer)[1].poor else value <= 0)
    return value >= POOR_BELOW if study.design.kind is TestKind.MOS else value < SAME_VOICE


def reasons(study: Study, submission: Submission, rules: Exclusion) -> list[str]:
    """Return why a rater is left out; empty for one who counts."""
    by_role: dict[Role, list[Answer]] = {role: [] for role in Role}
    for answer in submission.answers:
        by_role[trial_role(study, answer)].append(answer)
    counted, tones = by_role[Role.SYSTEM], by_role[Role.TONES]
    found = []
    wrong = [is_caught(study, answer) for answer in by_role[Role.CATCH]]
    if wrong and np.mean(wrong) > rules.max_failed_catches:
        found.append(f"{sum(wrong)} of {len(wrong)} catch trials wrong")
    right = sum(answer.values[0] == study.clips[answer.clips[0]].answer for answer in tones)
    # a check left in the middle says nothing
    if len(tones) == len(study.headphones) > 0 and right < rules.min_headphones:
        found.append(f"{right} of {len(tones)} right in the headphone check")
    share = len(submission.answers) / len(schedule(study, submission.number))
    if share < rules.min_answers:
        found.append(f"answered {share:.0%} of the trials")
    seconds = np.median([answer.seconds for answer in counted]) if counted else np.inf
    if seconds < rules.min_seconds:
        found.append(f"{seconds:.1f} s for a trial")
    given = [value for answer in counted for value in answer.values]
    if rules.constant and len(counted) >= CONSTANT_TRIALS and len(set(given)) == 1:
        found.append(f"the same answer to {len(counted)} trials")
    if study.design.kind is TestKind.MUSHRA:
        clips = [clip for answer in counted for clip in shown_stimuli(study, answer)]
        pairs = zip(clips, given, strict=True)
        low = [value < rules.hidden_below for clip, value in pairs if clip.role is Role.HIDDEN]
        if low and np.mean(low) > rules.hidden_share:
            found.append(f"the hidden reference under {rules.hidden_below:g} in {sum(low)} of {len(low)} trials")
    return found


Results = dict[str, Any]


def results(study: Study, submissions: Sequence[Submission], rules: Exclusion, seed: int = 0) -> Results:
    """Return everything that is known about the systems, as plain data for JSON."""
    if not any(scores(study, submission) for submission in submissions):
        raise UserError("there are no answers yet", "serve the test, or give the files that raters sent")
    left_out = {submission.rater: why for submission in submissions if (why := reasons(study, submission, rules))}
    everything = [score for submission in submissions for score in scores(study, submission)]
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
            "all": len(submissions),
            "counted": len(submissions) - len(left_out),
            "unfinished": [submission.rater for submission in submissions if not submission.finished],
            "left_out": left_out,
        },
        "repeated_answers": sum(submission.repeats for submission in submissions),
        "interval": f"{LEVEL:.0%}, bootstrap over raters and items, {DRAWS} draws, seed {seed}",
        "systems": [_row(study, name, counted, everything, seed) for name in sorted({s.system for s in everything})],
        "agreement": _agreement(counted),
        "exclusion": rules.model_dump(),
        "design": design.model_dump(mode="json"),
        "comments": {submission.rater: submission.comment for submission in submissions if submission.comment},
    }
    if design.kind is TestKind.CMOS:
        found["baseline"] = design.baseline
        found["order_effect"] = _interval([s.shown for s in counted], counted, seed)
    return found


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
    found = clustered_mean(values, [s.rater for s in own], [s.item for s in own], seed)
    return {"mean": _number(found.value), "low": _number(found.low), "high": _number(found.high)}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no NaN


def _agreement(counted: Sequence[Score]) -> Results:
    """Return how far raters agree about (system, item): alpha, and each rater's own against the others' mean."""
    units = [f"{score.system}\n{score.item}" for score in counted]
    alpha = krippendorff_alpha([s.value for s in counted], units, [s.rater for s in counted])
    return {"krippendorff_alpha": _number(alpha), "metric": "interval"}


def write_test_results(folder: Path, study: Study, submissions: Sequence[Submission], found: Results) -> list[Path]:
    """Write `results.json`, `results.md` and `scores.csv` (one row per rating, in the clear); return their paths."""
    paths = [folder / name for name in ("results.json", "results.md", "scores.csv")]
    write_text(paths[0], json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    write_text(paths[1], markdown(found))
    with atomic_path(paths[2]) as part, part.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("rater", "system", "item", "score", "answer_as_shown", "seconds", "counted"))
        for submission in submissions:
            counted = submission.rater not in found["raters"]["left_out"]
            for s in scores(study, submission):
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
