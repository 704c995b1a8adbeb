"""Clips whose words are known, judged, and the means of many with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from command import JUDGES
from openvalle.audio import Audio
from openvalle.evaluate.results import ratio
from openvalle.evaluate.scorers import Judgement, ScoreRequest, score_all
from openvalle.speech_models.wer import WordErrors, word_errors
from openvalle.statistics import Estimate


@dataclass(frozen=True)
class Clip:
    """A sound and what should be heard in it."""

    audio: Audio
    text: str


@dataclass(frozen=True)
class JudgedClip(Judgement):
    """What the judges say of a clip, and the errors of the words heard."""

    errors: WordErrors = field(default_factory=WordErrors)


def judge(clips: Sequence[Clip], options: Any) -> list[JudgedClip]:
    """Return what is said of each clip, by `JUDGES`; kept under `options.out`."""
    requests = [ScoreRequest(clip.audio) for clip in clips]
    found = score_all(requests, JUDGES, options.out / "judged", options.workers)
    errors = [
        word_errors(clip.text, one["words"] or "", JUDGES.normalizer) for clip, one in zip(clips, found, strict=True)
    ]
    return [JudgedClip(one.results, one.by, wrong) for one, wrong in zip(found, errors, strict=True)]


def mean(values: Sequence[float]) -> Estimate:
    """Return the mean of one value per item."""
    return ratio(values, [1.0] * len(values))


def error_rate(errors: Sequence[WordErrors]) -> Estimate:
    """Return the corpus error rate: all errors over all reference words."""
    return ratio([item.errors for item in errors], [item.words for item in errors])
