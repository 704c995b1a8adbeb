"""Systems: whatever answers an item with sound. The model is one; so are the recording and its reconstruction.

Anything with a `name`, a `digest` and `say` can be measured. A failure is an `UserError`: it is counted and shown.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from openvalle.audio import Audio
from openvalle.evaluate.items import Item
from openvalle.evaluate.rows import SYNTHESISED
from openvalle.hub import BUILTIN, Kind, assets, find, sha256

if TYPE_CHECKING:
    from openvalle.codec.base import Codec
    from openvalle.synth.pipeline import Synthesizer

PURPOSE = "a recording of a test corpus, used for measurement only"  # noted as consent in voices that are not kept


@dataclass(frozen=True)
class Spoken:
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

    @property
    def digest(self) -> str:
        """Identity: answers are kept and used again as long as it stays the same."""

    def say(self, item: Item, prompt: Audio, seed: int) -> Spoken:
        """Return the item's text in the prompt's voice; `UserError` if it cannot."""


@dataclass
class ModelSystem:
    """A model of ours. Build it in the process that uses it: `partial(ModelSystem.load, "builtin")` travels."""

    synthesizer: Synthesizer
    digest: str
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
    ) -> ModelSystem:
        """Return the model called `model`, loaded."""
        import torch

        from openvalle.synth.pipeline import Synthesizer

        torch.set_num_threads(threads)
        return cls(Synthesizer.load(model, codec=codec, device=device), model_digest(model, codec), name)

    def say(self, item: Item, prompt: Audio, seed: int) -> Spoken:
        """Return the item's text, spoken."""
        key = f"{item.prompt.id} {item.prompt.start} {item.prompt.end} {item.condition}"
        if self.voices[0] != key:
            with hushed("openvalle.synth"):  # that prompts of 2.9 s are short is no news
                self.voices = key, self.synthesizer.voice(prompt, item.prompt.text, consent=PURPOSE)
        if not self.is_warm:
            self.synthesizer.say("one two three", voice=self.voices[1], seed=seed)
            self.is_warm = True
        started, processor = time.perf_counter(), time.process_time()
        speech = self.synthesizer.say(item.text.lower(), voice=self.voices[1], seed=seed)
        took, processor = time.perf_counter() - started, time.process_time() - processor
        ended = speech.quality.stopped_by == "end"
        return Spoken(speech.audio, took, processor, ended, speech.quality.flags, peak_memory())


@contextmanager
def hushed(name: str) -> Iterator[None]:
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


def model_digest(model: str | Path, codec: str | Path | None = None) -> str:
    """Return the identity of a model with its codec, from the bytes of their files."""
    folders = [find(Kind.MODEL, model)]
    own = folders[0] / "codec"
    folders.append(Path(codec) if codec and Path(codec).is_dir() else own if own.is_dir() else assets() / "codec")
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.suffix in (".safetensors", ".json")):
            digest.update(f"{path.relative_to(folder)} {sha256(path)}\n".encode())
    return digest.hexdigest()[:16]


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
