"""Which of several samples of an item counts: one sample, the best by VALL-E 2's rule, or the best of each measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from openvalle.evaluate.metrics import METRICS
from openvalle.evaluate.protocols import Selection
from openvalle.evaluate.results import Result
from openvalle.evaluate.scorers import Judgement
from openvalle.evaluate.summary import SUMS
from openvalle.synth.rerank import Scores, enough_for, rank

# each is taken from the sample that is best in it; what is told of a voice goes with its similarity
MEASURES = ("wer", "cer", "sim_o", "sim_r", "dnsmos", "dnsmos_signal", "dnsmos_background", "dnsmos_p808", "utmos")
WITH = {"sim_o": ("sim_other", "right_above_wrong")}
ADDED = {"wall_seconds": "rtf", "processor_seconds": "processor_per_second"}  # every sample takes its time


@dataclass(frozen=True)
class Sample:
    """One sample's row, what was judged (None: it failed) and where the sound lies."""

    row: Result
    judgement: Judgement | None
    path: str


def select(samples: Sequence[Sample], rule: Selection | None, similarity: str, encoder: str) -> Sample:
    """Return the sample that counts, with the cost of all of them.

    `similarity`: the metric that decides, on the scale of the speaker model `encoder`. A sample that failed is left
    out and told, unless all did.
    """
    there = [sample for sample in samples if not sample.row.failed]
    if len(samples) == 1 or not there:
        return samples[0]
    scores = [
        Scores(one.row.metrics.get(similarity), one.row.metrics["word_errors"] / max(one.row.metrics["words"], 1))
        for one in there
    ]
    best = there[rank(scores, enough_for(encoder))[0]]
    metrics = _metric_wise(best.row, [one.row for one in there]) if rule is Selection.METRIC_WISE else best.row.metrics
    metrics = metrics | _costs(best.row, [one.row for one in there])
    said = "the sound is " if rule is Selection.METRIC_WISE else ""
    notes = [*best.row.notes, f"{said}sample {samples.index(best) + 1} of {len(samples)}"]
    notes += [f"sample {place + 1} failed: {one.row.error}" for place, one in enumerate(samples) if one.row.failed]
    return replace(best, row=replace(best.row, metrics=metrics, notes=tuple(notes)))


def describe_rule(rule: Selection | None, encoder: str) -> str:
    """Return the rule in words."""
    if rule is None:
        return "one sample"
    voice = f"[min(similarity, {enough_for(encoder):g}), 1 - WER]"
    if rule is Selection.SORTED:
        return f"sorted: the sample with the largest {voice}, compared in that order (VALL-E 2, eq. 23)"
    return f"metric-wise: each measure of the sample that is best in it (VALL-E 2, 4.1.4); sound and rest by {voice}"


def _metric_wise(best: Result, rows: Sequence[Result]) -> dict[str, float]:
    metrics = dict(best.metrics)
    for measure in MEASURES:
        above, below = SUMS.get(measure, (measure, None))
        known = [row.metrics for row in rows if above in row.metrics]
        if known:
            value = METRICS[measure].better
            top = max(known, key=lambda own: value * own[above])  # all samples have the same words
            metrics |= {name: top[name] for name in (above, below, *WITH.get(measure, ())) if name in top}
    return metrics


def _costs(best: Result, rows: Sequence[Result]) -> dict[str, float]:
    """Return what all samples took, for the length of the one that counts."""
    found = {}
    for name, factor in ADDED.items():
        if name in best.metrics and all(name in row.metrics for row in rows):
            found[name] = sum(row.metrics[name] for row in rows)
            found[factor] = found[name] / max(best.metrics["spoken_seconds"], 0.01)
    if "memory_mb" in best.metrics:
        found["memory_mb"] = max(row.metrics.get("memory_mb", 0.0) for row in rows)
    return found
