"""Choosing among samples of one sentence by what a recogniser and a speaker encoder hear (VALL-E 2 4.1.4, eq. 23)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from openvalle.audio import Audio
from openvalle.errors import AudioError
from openvalle.listen.scoring import word_errors

if TYPE_CHECKING:
    from openvalle.listen.asr import Recognizer
    from openvalle.listen.quality import DNSMOS
    from openvalle.listen.speaker import SpeakerEncoder

SAMPLES = 5  # that the paper draws
ENOUGH = 0.3  # similarity beyond which words decide, on the scale of the paper's WavLM encoder
ENOUGH_OF = {"resemblyzer": 0.7}  # other scales: different readers have about 0.6 here, the same one 0.75 and more


@dataclass(frozen=True)
class Scores:
    """What was heard in one sample: cosine to the prompt's voice, word error rate, and quality (DNSMOS overall)."""

    similarity: float
    error_rate: float
    quality: float | None = None


def sorted_choice(scores: Sequence[Scores], enough: float = ENOUGH) -> int:
    """Return the index of the best sample: the largest [min(similarity, enough), 1 - error rate], compared in that
    order; the first of equals."""
    assert scores, "nothing to choose from"
    keys = [(min(score.similarity, enough), 1 - score.error_rate) for score in scores]
    return max(range(len(keys)), key=lambda index: (keys[index], -index))


def metric_wise(scores: Sequence[Scores]) -> Scores:
    """Return the best of each measure over the samples: a bound for reports, as no one sample need have them all."""
    assert scores, "nothing to choose from"
    qualities = [score.quality for score in scores if score.quality is not None]
    return Scores(
        similarity=max(score.similarity for score in scores),
        error_rate=min(score.error_rate for score in scores),
        quality=max(qualities) if qualities else None,
    )


class SampleJudge:
    """Scores samples of one voice. `prompt` is its sound, as recorded or as the codec gives it."""

    def __init__(
        self, prompt: Audio, recognizer: Recognizer, encoder: SpeakerEncoder, quality: DNSMOS | None = None
    ) -> None:
        self.recognizer, self.encoder, self.quality = recognizer, encoder, quality
        self.voice = encoder.embed(prompt)
        self.enough = ENOUGH_OF.get(encoder.name, ENOUGH)

    def scores(self, sample: Audio, text: str) -> Scores:
        """Return what is heard in a sample of `text`; in silence nobody speaks and every word is missing."""
        try:
            heard = self.recognizer.transcribe(sample).text
            similarity = float(np.dot(self.encoder.embed(sample), self.voice))
        except AudioError:
            return Scores(0.0, 1.0, None)
        quality = None if self.quality is None else self.quality.score(sample).overall
        return Scores(similarity, word_errors(text, heard).rate, quality)

    def choose(self, samples: Sequence[Audio], text: str) -> int:
        """Return the index of the best sample."""
        return sorted_choice([self.scores(sample, text) for sample in samples], self.enough)
