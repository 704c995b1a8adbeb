"""The filter step: what is left out for what its words or its sound are like; each for a reason that is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field

from openvalle.audio import Audio
from openvalle.config import Config
from openvalle.data.shards import AudioShards, Row
from openvalle.errors import AudioError, ConfigError
from openvalle.prepare.units import Target, try_each
from openvalle.speech_models.acoustics import bandwidth
from openvalle.speech_models.mos import DNSMOS


class FilterSettings(Config):
    """What an utterance has to be like. None: that is not looked at, and costs nothing."""

    min_letters: float = Field(default=1.0, ge=0, description="letters or signs a second of the sound")
    max_letters: float = Field(default=30.0, gt=0, description="letters or signs a second of the sound")
    min_confidence: float | None = Field(
        default=-1.0, le=0, description="mean log-probability of a token that a recogniser wrote down"
    )
    max_cer: float | None = Field(
        default=0.3, ge=0, description="share of letters in which a second recogniser differs, if one was asked"
    )
    min_mos: float | None = Field(default=None, ge=1, le=5, description="DNSMOS, overall")
    min_bandwidth: float | None = Field(default=None, gt=0, description="highest frequency in the sound, in hertz")
    min_language: float | None = Field(
        default=None, gt=0, le=1, description="probability, by Whisper, that the language is the one it is said to be"
    )
    language_recognizer: str = Field(default="whisper:base", description="who tells languages")


@dataclass(frozen=True)
class FilterWork:
    """Work of the filter step on one unit: the rows that pass stay as they are. `audio`: the folder of their sound."""

    audio: Path
    settings: FilterSettings
    load_mos: Callable[[], Any] = DNSMOS
    device: str = "cpu"

    @cached_property
    def mos(self) -> Any:
        """DNSMOS, loaded when it is first asked."""
        return self.load_mos()

    @cached_property
    def linguist(self) -> Any:
        """The recogniser that tells languages."""
        from openvalle.speech_models.asr import load_recognizer
        from openvalle.speech_models.recognizers import WhisperRecognizer

        found = load_recognizer(self.settings.language_recognizer, self.device)
        if not isinstance(found, WhisperRecognizer):
            raise ConfigError(f"{found.name} does not tell languages", "take whisper:base")
        return found

    def __call__(self, target: Target, rows: list[Row]) -> tuple[list[Row], list[Row]]:
        """Return the rows that pass, and the others with the first reason against each, cheap ones first."""
        shards = AudioShards(self.audio, rows)
        done, rejected = try_each(rows, lambda index, row: self._check(row, lambda: shards[index]))
        return [row for row, _ in done], rejected

    def _check(self, row: Row, sound: Callable[[], Audio]) -> None:
        wanted = self.settings
        letters = sum(char.isalnum() for char in row["text"]) / max(1e-3, row["seconds"])
        if letters < wanted.min_letters:
            raise AudioError(f"{letters:.1f} letters a second, fewer than {wanted.min_letters:g}")
        if letters > wanted.max_letters:
            raise AudioError(f"{letters:.1f} letters a second, more than {wanted.max_letters:g}")
        heard = row["heard"] or {}
        sure, cer = heard.get("confidence"), heard.get("cer")
        if sure is not None and wanted.min_confidence is not None and sure < wanted.min_confidence:
            raise AudioError(f"the words are not sure: {sure:.2f} a token, less than {wanted.min_confidence:g}")
        if cer is not None and wanted.max_cer is not None and cer > wanted.max_cer:
            raise AudioError(f"the second recogniser differs in {cer:.2f} of the letters, more than {wanted.max_cer:g}")
        if wanted.min_bandwidth is not None and (width := bandwidth(sound())) < wanted.min_bandwidth:
            raise AudioError(f"bandwidth {width:.0f} Hz, less than {wanted.min_bandwidth:g}")
        if wanted.min_mos is not None and (mos := self.mos.score(sound()).overall) < wanted.min_mos:
            raise AudioError(f"DNSMOS {mos:.2f}, less than {wanted.min_mos:g}")
        if wanted.min_language is not None:
            likely = self.linguist.language_probability(sound(), row["language"])
            if likely < wanted.min_language:
                raise AudioError(f"it is {row['language']} with a probability of {likely:.2f} only")
