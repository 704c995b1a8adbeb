"""A model of ours as a system, in the process that uses it, and as a candidate."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from openvalle import __version__
from openvalle.audio import Audio, concatenate
from openvalle.config import Config
from openvalle.evaluate.protocols import Decoding
from openvalle.evaluate.results import SYNTHESISED
from openvalle.evaluate.systems.base import Candidate, Output, commit, peak_memory
from openvalle.evaluate.test_list import TestItem
from openvalle.files import sha256
from openvalle.hub import BUILTIN, Kind, find
from openvalle.model.adapter import Adapter
from openvalle.synth.speech import Speech, join_speech
from openvalle.types import ENGLISH

if TYPE_CHECKING:
    from openvalle.codec.base import Codec
    from openvalle.synth.synthesizer import Synthesizer


AUTO = "auto"  # the engine that `say` takes
PURPOSE = "a recording of a test corpus, used for measurement only"  # noted as consent in voices that are not kept


class ModelConfig(Config):
    """A model of ours."""

    kind: Literal["model"] = "model"
    model: str = Field("builtin", description="its name or folder")
    codec: str | None = Field(None, description="a codec's name or folder; default: the model's")
    adapter: str | None = Field(None, description="what `openvalle finetune` made, which is added to the model")
    decode: tuple[str, ...] = Field((), description="decode otherwise than the protocol, `key=value` each")
    engine: str = Field(AUTO, description="what computes it, as `say --engine`")


@dataclass
class ModelSystem:
    """A model of ours. Build it in the process that uses it: `partial(ModelSystem.load, "builtin")` travels."""

    synthesizer: Synthesizer
    decoding: Decoding
    options: Any  # `AROptions`: the model's own, changed as `decoding` says
    name: str = SYNTHESISED
    voices: tuple[str, Any] = ("", None)  # the last prompt's voice: several seeds share it
    is_warm: bool = False  # the first sentence is slower than all others and is not timed

    @classmethod
    def load(
        cls,
        model: str | Path = BUILTIN,
        codec: str | Path | None = None,
        device: str = "cpu",
        threads: int = 1,
        name: str = SYNTHESISED,
        decoding: Decoding | None = None,
        adapter: str | Path | None = None,
        engine: str = AUTO,
    ) -> ModelSystem:
        """Return the model called `model`, loaded, with an `adapter` in it where one is given.

        `ConfigError` for a setting of decoding that it does not know.
        """
        import torch

        from openvalle.synth.synthesizer import Synthesizer

        torch.set_num_threads(threads)
        synthesizer = Synthesizer.load(model, codec=codec, device=device, engine=engine, adapter=adapter)
        decoding = decoding or Decoding()
        options = synthesizer.sampling(
            attempts=decoding.attempts, detectors=decoding.detectors, settings=decoding.settings
        )
        return cls(synthesizer, decoding, options, name)

    def settings(self) -> dict[str, Any]:
        """Return all that shapes what is spoken, but for the weights."""
        spec, marker = self.synthesizer.generator.spec, self.synthesizer.marker
        return {
            "prompt mode": self.decoding.mode,
            "codebooks 2 to Q": "in windows, as a stream" if self.decoding.windows else "a whole line at a time",
            "lines": "one for each text" if self.decoding.as_one else "one for each sentence",
            "options": self.options.model_dump(mode="json"),
            "codec": f"{spec.name}, tokens {spec.digest}",
            "watermark": marker.name if marker else "none",
        }

    def say(self, item: TestItem, prompt: Audio, seed: int) -> Output:
        """Return the item's text, spoken."""
        key = f"{item.prompt.id} {item.prompt.start} {item.prompt.end} {item.condition}"
        if self.voices[0] != key:
            about = {"consent": PURPOSE, "language": item.prompt.language}
            with quiet_log("openvalle.synth"):  # that prompts of 2.9 s are short is no news
                self.voices = key, self.synthesizer.voice(prompt, item.prompt.text, **about)
        if not self.is_warm:
            self._speech("one two three" if item.language == ENGLISH else item.text, seed, item.language)
            self.is_warm = True
        started, processor = time.perf_counter(), time.process_time()
        speech = self._speech(item.text.lower(), seed, item.language)
        took, processor = time.perf_counter() - started, time.process_time() - processor
        ended = speech.quality.stopped_by == "end"
        return Output(speech.audio, took, processor, ended, speech.quality.flags, peak_memory())

    def _speech(self, text: str, seed: int, language: str) -> Speech:
        how: dict[str, Any] = {"seed": seed, "options": self.options, "language": language}
        how |= {"mode": self.decoding.mode, "as_one": self.decoding.as_one}
        if not self.decoding.windows:
            return self.synthesizer.say(text, voice=self.voices[1], **how)
        blocks = list(self.synthesizer.stream(text, voice=self.voices[1], live=False, **how))
        whole = join_speech([block.speech for block in blocks if block.speech])
        return replace(whole, audio=concatenate([block.audio for block in blocks]))


@contextmanager
def quiet_log(name: str) -> Iterator[None]:
    """Let a part of the package log errors only, for a while."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def build_model_candidate(
    model: str | Path = BUILTIN,
    codec: str | Path | None = None,
    *,
    name: str = SYNTHESISED,
    device: str = "cpu",
    threads: int = 1,
    decoding: Decoding | None = None,
    adapter: str | Path | None = None,
    engine: str = AUTO,
) -> Candidate:
    """Return a model, with an `adapter` in it where one is given, as a candidate. Its answers are kept until weights,
    source or any setting changes.

    The model is loaded once to ask: `ModelError` or `ConfigError` for what cannot speak.
    """
    build = partial(ModelSystem.load, model, codec, device, threads, name, decoding, adapter, engine)
    system = build()
    facts = {
        "model": f"{model}, weights {folder_digest(find(Kind.MODEL, model))}",
        **system.settings(),
        "codec weights": codec_digest(load_model_codec(model, codec)),
        "device": device,
        "threads": threads,
        "engine": engine,
    }
    if adapter is not None:
        facts["adapter"] = f"{adapter}, {Adapter.load(adapter).digest[:16]}"
    identity = json.dumps([facts, __version__, commit()], sort_keys=True)
    return Candidate(name, hashlib.sha256(identity.encode()).hexdigest()[:16], build, facts)


def load_model_codec(model: str | Path = BUILTIN, codec: str | Path | None = None) -> Codec:
    """Return the codec that a model speaks through."""
    from openvalle.codec.load import find_kept_codec, load_codec
    from openvalle.model.bundle import OWN, BundleConfig

    if codec is not None:
        return load_codec(codec)
    folder = find(Kind.MODEL, model)
    return load_codec(find_kept_codec(BundleConfig.load(folder / "config.json").codec.name, folder / OWN))


def folder_digest(folder: Path) -> str:
    """Return the identity of a model, from the bytes of its files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".safetensors", ".json")):
        digest.update(f"{path.relative_to(folder)} {sha256(path)}\n".encode())
    return digest.hexdigest()[:16]


def codec_digest(codec: Codec) -> str:
    """Return the identity of all that a codec's sound depends on: its decoder too, unlike that of its tokens."""
    import torch

    digest = hashlib.sha256(codec.spec.digest.encode())
    if isinstance(codec, torch.nn.Module):
        for name, tensor in sorted(codec.state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
