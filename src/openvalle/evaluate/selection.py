"""Which of several samples of an item counts: one sample, the best by VALL-E 2's rule, or the best of each measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from openvalle.evaluate.metrics import METRICS, Group
from openvalle.evaluate.protocols import Selection
from openvalle.evaluate.results import Result
from openvalle.evaluate.scorers import Judgement
from openvalle.synth.rerank import Scores, enough_for, rank


@dataclass(frozen=True)
class Sample:
    """One sample's result, what was judged (None: it failed) and where the sound lies."""

    result: Result
    judgement: Judgement | None
    path: str


def select(samples: Sequence[Sample], rule: Selection | None, similarity: str, encoder: str) -> Sample:
    """Return the sample that counts, with the cost of all of them.

    `similarity`: the metric that decides, on the scale of the speaker model `encoder`. A sample that failed is left
    out and told, unless all did.
    """
    there = [sample for sample in samples if not sample.result.failed]
    if len(samples) == 1 or not there:
        return samples[0]
    scores = [
        Scores(
            one.result.metrics.get(similarity), one.result.metrics["word_errors"] / max(one.result.metrics["words"], 1)
        )
        for one in there
    ]
    best = there[rank(scores, enough_for(encoder))[0]]
    metrics = (
        _metric_wise(best.result, [one.result for one in there])
        if rule is Selection.METRIC_WISE
        else best.result.metrics
    )
    metrics = metrics | _costs(best.result, [one.result for one in there])
    said = "the sound is " if rule is Selection.METRIC_WISE else ""
    notes = [*best.result.notes, f"{said}sample {samples.index(best) + 1} of {len(samples)}"]
    notes += [
        f"sample {place + 1} failed: {one.result.error}" for place, one in enumerate(samples) if one.result.failed
    ]
    return replace(best, result=replace(best.result, metrics=metrics, notes=tuple(notes)))


def describe_rule(rule: Selection | None, encoder: str) -> str:
    """Return the rule in words."""
    if rule is None:
        return "one sample"
    voice = f"[min(similarity, {enough_for(encoder):g}), 1 - WER]"
    if rule is Selection.SORTED:
        return f"sorted: the sample with the largest {voice}, compared in that order (VALL-E 2, eq. 23)"
    return f"metric-wise: each measure of the sample that is best in it (VALL-E 2, 4.1.4); sound and rest by {voice}"


def _metric_wise(best: Result, samples: Sequence[Result]) -> dict[str, float]:
    """Return the metrics of `best`, those of words, voice and quality from the sample that is best in each."""
    metrics = dict(best.metrics)
    for metric in METRICS.values():
        known = [one.metrics for one in samples if metric.name in one.metrics]
        if metric.group is Group.QUALITY and metric.better and not metric.beside and known:
            top = max(known, key=lambda own: metric.better * own[metric.name])
            names = [metric.name, *(metric.ratio or ()), *(m.name for m in METRICS.values() if m.beside == metric.name)]
            metrics |= {name: top[name] for name in names if name in top}
    return metrics


def _costs(best: Result, samples: Sequence[Result]) -> dict[str, float]:
    """Return what all samples took, for the length of the one that counts."""
    found = {}
    for metric in METRICS.values():
        spent, spoken = metric.ratio or ("", "")
        if metric.group is Group.COST and spent in best.metrics and all(spent in one.metrics for one in samples):
            found[spent] = sum(one.metrics[spent] for one in samples)
            found[metric.name] = found[spent] / best.metrics[spoken]
    if "memory_mb" in best.metrics:
        found["memory_mb"] = max(one.metrics.get("memory_mb", 0.0) for one in samples)
    return found
