"""Models of other libraries as systems: transformers' text-to-speech models, coqui TTS."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from openvalle.audio import RATE, Audio, resample
from openvalle.config import Config
from openvalle.errors import ModelError, UserError, import_extra
from openvalle.evaluate.systems.base import Output
from openvalle.evaluate.test_list import TestItem
from openvalle.media import write

# what these libraries raise for a model that is not there, does not fit or does not know an option
FAULTS = (OSError, ValueError, TypeError, KeyError, RuntimeError, IndexError, AttributeError)


class TransformersConfig(Config):
    """Any text-to-speech model of the transformers library: VITS and MMS, Bark, SpeechT5, ..."""

    kind: Literal["transformers"] = "transformers"
    model: str = Field(description="name on the hub, or folder")
    revision: str | None = None
    options: dict[str, Any] = Field(
        default_factory=dict, description="for its call, such as speaker_id; lists become tensors"
    )
    preprocess: dict[str, Any] = Field(default_factory=dict, description="for its processor, such as voice_preset")
    device: str = "cpu"


class CoquiConfig(Config):
    """A model of coqui TTS (XTTS v2, YourTTS), which has to be installed: pip install coqui-tts."""

    kind: Literal["coqui"] = "coqui"
    model: str = "tts_models/multilingual/multi-dataset/xtts_v2"
    language: str | None = Field(None, description="default: the item's; empty for models of one language")
    options: dict[str, Any] = Field(default_factory=dict, description="for its call")
    device: str = "cpu"


@dataclass(frozen=True)
class TransformersSystem:
    """A text-to-speech pipeline of transformers. Most of these models do not clone: they ignore the prompt."""

    name: str
    config: TransformersConfig
    pipeline: Any = field(repr=False)

    @classmethod
    def load(cls, name: str, config: TransformersConfig) -> TransformersSystem:
        """Return the system with its model loaded; from the hub if it is not a folder."""
        pipeline = import_extra("transformers", "transformers", "eval").pipeline
        try:
            made = pipeline("text-to-audio", model=config.model, revision=config.revision, device=config.device)
        except FAULTS as error:
            raise ModelError(f"transformers cannot load {config.model} ({_line(error)})", "check its name") from None
        return cls(name, config, made)

    def say(self, item: TestItem, prompt: Audio, seed: int) -> Output:
        """Return the item's text as the model speaks it."""
        import torch

        config, started = self.config, time.perf_counter()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # these models draw from the global generator
            try:
                found = self.pipeline(
                    item.text,
                    preprocess_params=dict(config.preprocess),
                    forward_params={key: _tensor(value) for key, value in config.options.items()},
                )
            except FAULTS as error:
                raise UserError(f"{config.model} failed: {_line(error)}") from None
        return Output(to_audio(found["audio"], found["sampling_rate"]), time.perf_counter() - started)


@dataclass(frozen=True)
class CoquiSystem:
    """A model of coqui TTS, speaking in the prompt's voice where it can."""

    name: str
    config: CoquiConfig
    api: Any = field(repr=False)

    @classmethod
    def load(cls, name: str, config: CoquiConfig) -> CoquiSystem:
        """Return the system with its model loaded; coqui TTS downloads it at first use."""
        api = import_extra("TTS.api", "coqui TTS", "", "run: pip install coqui-tts")
        try:
            return cls(name, config, api.TTS(model_name=config.model, progress_bar=False).to(config.device))
        except FAULTS as error:
            raise ModelError(f"coqui TTS cannot load {config.model} ({_line(error)})", "check its name") from None

    def say(self, item: TestItem, prompt: Audio, seed: int) -> Output:
        """Return the item's text as the model speaks it."""
        import torch

        language = item.reference.language if self.config.language is None else self.config.language
        options: Mapping[str, Any] = {**({"language": language} if language else {}), **self.config.options}
        with tempfile.TemporaryDirectory(prefix="openvalle-") as folder, torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            clip = write(Path(folder) / "prompt.wav", prompt)
            started = time.perf_counter()
            try:
                samples = self.api.tts(text=item.text, speaker_wav=str(clip), **options)
            except FAULTS as error:
                raise UserError(f"{self.config.model} failed: {_line(error)}") from None
            took = time.perf_counter() - started
        return Output(to_audio(samples, self.api.synthesizer.output_sample_rate), took)


def to_audio(samples: Any, rate: int) -> Audio:
    """Return whatever a library calls samples as mono sound at 24 kHz; `UserError` if there are none."""
    array = np.asarray(samples, np.float32).squeeze()
    if array.ndim == 2:
        array = array.mean(axis=int(np.argmin(array.shape)))  # channels are the shorter side
    if array.ndim != 1 or not array.size:
        raise UserError(f"the model gave no sound but an array of shape {array.shape}")
    return resample(Audio(np.ascontiguousarray(array, np.float32), int(rate)), RATE)


def _tensor(value: Any) -> Any:
    """Return lists, which is how files write speaker embeddings, as tensors."""
    import torch

    return torch.tensor(value) if isinstance(value, list) else value


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
