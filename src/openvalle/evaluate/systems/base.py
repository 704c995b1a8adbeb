"""Systems: whatever answers an item with sound. The model is one; so are the recording and its reconstruction.

Anything with a `name` and `say` can be measured. A failure is an `UserError`: it is counted and shown.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from openvalle.audio import Audio, concatenate
from openvalle.evaluate.protocols import Decoding
from openvalle.evaluate.results import SYNTHESISED
from openvalle.evaluate.test_list import TestItem
from openvalle.hub import BUILTIN
from openvalle.synth.speech import Speech, join_speech

if TYPE_CHECKING:
    from openvalle.codec.base import Codec
    from openvalle.synth.synthesizer import Synthesizer


PURPOSE = "a recording of a test corpus, used for measurement only"  # noted as consent in voices that are not kept


@dataclass(frozen=True)
class Output:
    """An answer: the sound and what it took.

    `seconds`: wall clock, NaN if unknown; `processor`: processor seconds, 0 if unknown; `ended`: False if it was
    cut off at a limit, None if the system does not say; `memory`: peak bytes, 0 if unknown.
    """

    audio: Audio
    seconds: float
    processor: float = 0.0
    ended: bool | None = None
    flags: tuple[str, ...] = ()
    memory: int = 0


class System(Protocol):
    """Anything that speaks."""

    @property
    def name(self) -> str:
        """What the rows are called."""

    def say(self, item: TestItem, prompt: Audio, seed: int) -> Output:
        """Return the item's text in the prompt's voice; `UserError` if it cannot."""


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
    ) -> ModelSystem:
        """Return the model called `model`, loaded. `ConfigError` for a setting of decoding that it does not know."""
        import torch

        from openvalle.synth.synthesizer import Synthesizer

        torch.set_num_threads(threads)
        synthesizer, decoding = Synthesizer.load(model, codec=codec, device=device), decoding or Decoding()
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
            self._speech("one two three", seed)
            self.is_warm = True
        started, processor = time.perf_counter(), time.process_time()
        speech = self._speech(item.text.lower(), seed)
        took, processor = time.perf_counter() - started, time.process_time() - processor
        ended = speech.quality.stopped_by == "end"
        return Output(speech.audio, took, processor, ended, speech.quality.flags, peak_memory())

    def _speech(self, text: str, seed: int) -> Speech:
        how: dict[str, Any] = {"seed": seed, "options": self.options}
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


def reconstruct(codec: Codec, audio: Audio) -> Audio:
    """Return the sound after the codec."""
    import torch

    samples = torch.from_numpy(audio.samples)[None]
    decoded = codec.decode(codec.encode(samples))[0].float().cpu().numpy()
    return Audio(decoded[: len(audio.samples)].astype(np.float32), audio.rate)


def reset_peak_memory() -> None:
    """Let the most memory that this process has held begin anew, where the system knows how (Linux, accelerators)."""
    import torch

    from openvalle.synth.generate import release_memory

    release_memory()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory() -> int:
    """Return the most memory this process has held, in bytes; the accelerator's where there is one."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit
