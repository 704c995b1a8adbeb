"""Clips whose words are known, judged, and the means of many with their intervals; which judges are installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np

from command import JUDGES
from openvalle.audio import Audio
from openvalle.errors import UserError
from openvalle.evaluate.protocols import Judges
from openvalle.evaluate.results import ratio
from openvalle.evaluate.scorers import Judgement, ScoreRequest, score_all
from openvalle.speech_models import recognizers
from openvalle.speech_models.wer import WordErrors, word_errors
from openvalle.speech_models.wheels import CAMPPLUS
from openvalle.statistics import Estimate

Z = 1.96  # of 95 %


@dataclass(frozen=True)
class Clip:
    """A sound and what should be heard in it."""

    audio: Audio
    text: str


@dataclass(frozen=True)
class JudgedClip(Judgement):
    """What the judges say of a clip, and the errors of the words heard."""

    errors: WordErrors = field(default_factory=WordErrors)


def judges_here() -> tuple[list[Judges], list[str]]:
    """Return the sets of judges that are installed, the one that hears best first, and what is missing."""
    notes = []
    try:
        if find_spec("faster_whisper") is None:
            raise UserError("no Whisper: faster-whisper is not installed", "pip install 'openvalle[asr]'")
        recognizers.WEIGHTS["base"].find()
        CAMPPLUS.find()
    except UserError as error:
        notes.append(f"words are heard by pocketsphinx alone, which mishears every fourth: {error}")
        return [JUDGES], notes
    best = JUDGES.model_copy(update={"asr": "whisper:base", "speaker": "campplus"})
    return [best, JUDGES.model_copy(update={"quality": "none"})], notes


def judge(clips: Sequence[Clip], options: Any, judges: Judges = JUDGES) -> list[JudgedClip]:
    """Return what is said of each clip; kept under `options.out`."""
    requests = [ScoreRequest(clip.audio) for clip in clips]
    found = score_all(requests, judges, options.out / "judged", options.workers)
    errors = [
        word_errors(clip.text, one["words"] or "", judges.normalizer) for clip, one in zip(clips, found, strict=True)
    ]
    return [JudgedClip(one.results, one.by, wrong) for one, wrong in zip(found, errors, strict=True)]


def mean(values: Sequence[float]) -> Estimate:
    """Return the mean of one value per item."""
    return ratio(values, [1.0] * len(values))


def share(found: Sequence[bool]) -> Estimate:
    """Return how many of independent trials there are, with Wilson's interval: all of 50 may be 93 % of many."""
    count = len(found)
    p, z2 = sum(found) / count, Z**2
    middle, reach = p + z2 / (2 * count), Z * np.sqrt(p * (1 - p) / count + z2 / (4 * count**2))
    low, high = ((middle - reach) / (1 + z2 / count), (middle + reach) / (1 + z2 / count))
    return Estimate(p, max(float(low), 0.0), min(float(high), 1.0), count)


def error_rate(errors: Sequence[WordErrors]) -> Estimate:
    """Return the corpus error rate: all errors over all reference words."""
    return ratio([item.errors for item in errors], [item.words for item in errors])
