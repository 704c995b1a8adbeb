"""The transcribe step: words for what came without, how sure they are, and whether a second recogniser agrees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import Field

from openvalle.audio import Audio
from openvalle.config import Config
from openvalle.data.shards import AudioShards, Row
from openvalle.errors import AudioError, UserError
from openvalle.prepare.units import Target, try_each
from openvalle.speech_models.asr import load_recognizer, transcribe_in
from openvalle.speech_models.recognizers import WINDOW_SECONDS, Recognizer, Transcript, WhisperRecognizer
from openvalle.speech_models.wer import NORMALIZER, character_errors
from openvalle.text.sentences import count_words
from openvalle.types import ENGLISH


class TranscribeSettings(Config):
    """Who writes down what is said. What is believed of it, the filter decides."""

    recognizer: str = Field(default="", description="whisper:base, pocketsphinx ...; empty: the best one installed")
    second: str = Field(default="", description="hears it again, to compare; empty: nobody")
    min_words: int = Field(default=1, ge=1, description="fewer words are none")


@dataclass(frozen=True)
class TranscribeWork:
    """Work of the transcribe step on one unit. Rows with words stay as they are; for others `load` is called by name.

    `audio`: the folder of their sound. Clips are heard together, up to `batch_seconds` of a language at a time.
    """

    audio: Path
    settings: TranscribeSettings
    load: Callable[[str], Recognizer] = load_recognizer
    batch_seconds: float = 240.0

    @cached_property
    def recognizers(self) -> list[Recognizer]:
        """The one that is believed and, if there is one, the one that it is compared with."""
        return [self.load(name) for name in (self.settings.recognizer, self.settings.second) if name]

    def __call__(self, target: Target, rows: list[Row]) -> tuple[list[Row], list[Row]]:
        """Return the rows with their words, and the rejected ones."""
        shards = AudioShards(self.audio, rows)
        heard: dict[int, list[Transcript | UserError]] = {}
        for batch in batches(rows, self.batch_seconds):
            clips, language = [shards[index] for index in batch], rows[batch[0]]["language"]
            for recognizer in self.recognizers:
                for index, found in zip(batch, transcribe_all(recognizer, clips, language), strict=True):
                    heard.setdefault(index, []).append(found)
        done, rejected = try_each(rows, lambda index, row: self._words(row, heard.get(index, [])))
        return [row for _, row in done], rejected

    def _words(self, row: Row, heard: list[Transcript | UserError]) -> Row:
        if row["text"]:
            return row
        first, *others = heard
        if isinstance(first, UserError):
            raise first
        if count_words(first.text) < self.settings.min_words:
            raise AudioError("no words were heard")
        about: Row = {"by": self.recognizers[0].name}
        if first.confidence is not None:
            about["confidence"] = round(first.confidence, 3)
        for other in others:
            text = other.text if isinstance(other, Transcript) else ""
            about |= {"again": text, "again_by": self.recognizers[1].name}
            rules = NORMALIZER if row["language"] == ENGLISH else "plain-1"  # that keeps the marks of kana
            about["cer"] = round(min(9.0, character_errors(first.text, text, rules).rate), 4)
        return row | {"text": first.text, "heard": about}


def batches(rows: Sequence[Row], seconds: float) -> Iterator[list[int]]:
    """Yield the numbers of the rows without words, up to so many seconds of one language at a time."""
    batch: list[int] = []
    for index, row in enumerate(rows):
        if row["text"]:
            continue
        together = sum(rows[other]["seconds"] for other in batch) + row["seconds"]
        if batch and (together > seconds or rows[batch[0]]["language"] != row["language"]):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def transcribe_all(recognizer: Recognizer, clips: Sequence[Audio], language: str) -> list[Transcript | UserError]:
    """Return what is said in each clip, or why it cannot be heard; by Whisper the short ones together."""
    found: dict[int, Transcript | UserError] = {}
    if isinstance(recognizer, WhisperRecognizer):
        together = [index for index, clip in enumerate(clips) if 0 < clip.seconds <= WINDOW_SECONDS]
        if len(together) > 1:
            heard = recognizer.transcribe_together([clips[index] for index in together], language)
            found = dict(zip(together, heard, strict=True))
    for index, clip in enumerate(clips):
        if index not in found:
            try:
                found[index] = transcribe_in(recognizer, clip, language)
            except AudioError as error:
                found[index] = error
    return [found[index] for index in range(len(clips))]
