"""The transcribe step: words for what came without, and how sure they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import Field

from openvalle.config import Config
from openvalle.data.shards import AudioShards, Row
from openvalle.errors import AudioError
from openvalle.prepare.executor import UNIT, Progress, StepResult, run_step, try_each
from openvalle.speech_models.asr import Recognizer, best_available


class TranscribeSettings(Config):
    """Who writes down what is said, and what is believed."""

    recognizer: str = Field(default="", description="whisper:base, pocketsphinx ...; empty: the best one installed")
    min_confidence: float = Field(
        default=-1.0, le=0, description="mean log-probability of a token; less sure words are left out"
    )
    min_words: int = Field(default=1, ge=1, description="fewer words are none")


@dataclass(frozen=True)
class TranscribeWork:
    """Work of the transcribe step on one unit. Rows with words stay as they are."""

    audio: Path
    settings: TranscribeSettings
    recognizer: Recognizer

    def __call__(self, unit: int, rows: list[Row]) -> tuple[list[Row], list[Row]]:
        """Return the rows with their words, and the rejected ones."""
        shards = AudioShards(self.audio, rows)
        done, rejected = try_each(rows, lambda index, row: self._words(index, row, shards))
        return [row for _, row in done], rejected

    def _words(self, index: int, row: Row, shards: AudioShards) -> Row:
        if row["text"]:
            return row
        heard = self.recognizer.transcribe(shards[index])
        if len(heard.text.split()) < self.settings.min_words:
            raise AudioError("no words were heard")
        if heard.confidence is not None and heard.confidence < self.settings.min_confidence:
            raise AudioError(f"the words are not sure: {heard.confidence:.2f} a token")
        found = {"text": heard.text, "heard_by": self.recognizer.name}
        return row | found | ({} if heard.confidence is None else {"confidence": round(heard.confidence, 3)})


def _build(audio: Path, settings: TranscribeSettings, load: Callable[[str], Recognizer]) -> TranscribeWork:
    return TranscribeWork(audio, settings, load(settings.recognizer))


def run_transcribe(
    rows: list[Row],
    folder: Path,
    audio: Path,
    settings: TranscribeSettings,
    jobs: int = 1,
    unit: int = UNIT,
    progress: Progress | None = None,
    *,
    load: Callable[[str], Recognizer] = best_available,
) -> StepResult:
    """Write down what the rows without words say; `audio` is the folder of their sound.

    `load` makes the recogniser by its name, once in each process.
    """
    if all(row["text"] for row in rows):
        return StepResult(rows, [])
    name = load(settings.recognizer).name  # the best one installed may be another one tomorrow
    build = partial(_build, audio, settings, load)
    return run_step(folder, rows, build, settings.model_dump() | {"heard by": name}, jobs, unit, progress)
