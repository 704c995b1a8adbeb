"""Prompt modes (VALL-E 4.3): a recording and a text as both networks read them. Text first, always.

`zero_shot`: symbols of the prompt's transcript, then of the target; the prompt's codes come before the target's.
`continual`: symbols of a whole transcript; the prompt is how its recording begins. Nothing but the inputs differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from openvalle.decode.ar import AROptions, ARResult, generate
from openvalle.decode.inputs import Accent, ARPrompt
from openvalle.decode.nar import NARPromptRow, fill
from openvalle.errors import ModelError
from openvalle.model.alignment import cut_durations
from openvalle.model.ar import AR
from openvalle.model.batch import Utterance, whole_blocks
from openvalle.model.config import Alignment, ARConfig
from openvalle.model.nar import NAR

CONTINUED_FRAMES = 225  # of the recording that `continual` goes on from: 3 s (VALL-E 4.3)


@dataclass(frozen=True)
class SpeechPrompt:
    """What both networks speak from. The prompt is cut to whole groups of the AR model's codes, for the NAR model
    too, so that both see the same speech (VALL-E 2 3.1)."""

    text: Tensor  # (S,) symbols of the prompt, then of the target
    prompt_symbols: int  # how many of them are the prompt's
    codes: Tensor | None  # (T, Q) of the prompt; None: the model makes up a voice
    path: Tensor | None  # (T,) symbol of each of its frames
    language: int
    prompt_language: int
    is_beginning: bool = False  # the prompt's words are in `text`, nobody knows how many

    def ar(self, config: ARConfig) -> ARPrompt:
        """Return what the AR model starts from."""
        merge = config.merge
        return ARPrompt(
            text=self.text,
            prompt_symbols=self.prompt_symbols,
            codes=None if self.codes is None else self.codes[::merge, 0],
            path=None if self.path is None else self.path[::merge],
            language=self.language,
            prompt_language=self.prompt_language,
            is_beginning=self.is_beginning,
        )

    def nar(self, result: ARResult, config: ARConfig, accent: Accent = Accent.NATIVE) -> NARPromptRow:
        """Return what the NAR model fills in, given what the AR model said."""
        path = None
        if result.path is not None:
            spoken = result.path.cpu().repeat_interleave(config.merge) + self.prompt_symbols
            path = spoken if self.path is None else torch.cat([self.path, spoken])
        return NARPromptRow(
            text=self.text,
            first=result.codes.cpu().repeat_interleave(config.merge),
            prompt_symbols=self.prompt_symbols,
            prompt=self.codes,
            path=path,
            language=self.ar(config).spoken(accent),
            prompt_language=self.prompt_language,
        )


def zero_shot(config: ARConfig, recording: Utterance | None, text: Tensor, language: int = 0) -> SpeechPrompt:
    """Return the prompt for speaking `text` (S,) in the voice of `recording`, in its own language or another.

    Without durations an aligned model refuses the recording when it speaks.
    """
    if recording is None:
        return SpeechPrompt(text, 0, None, None, language, language)
    codes, path = _whole(config, recording)
    together = torch.cat([recording.text.long(), text.long()])
    return SpeechPrompt(together, len(recording.text), codes, path, language, recording.language)


def continual(config: ARConfig, recording: Utterance, frames: int = CONTINUED_FRAMES) -> SpeechPrompt:
    """Return the prompt for saying again what `recording` says after its first `frames`.

    Its text is the whole transcript. With durations the target begins with the symbol that was being spoken; without,
    the border is unknown, and the bounds on the length hold for prompt and target together.
    """
    frames, text, language = min(frames, len(recording.codes)), recording.text.long(), recording.language
    codes = recording.codes[:frames]
    if recording.durations is None:
        codes, _ = _whole(config, Utterance(text, codes))
        return SpeechPrompt(text, 0, codes, None, language, language, is_beginning=True)
    ends = recording.durations.long().cumsum(0)
    begun = int((ends < frames).sum()) + 1  # symbols of which something is heard
    durations = cut_durations(recording.durations.long(), 0, frames)[:begun]
    codes, path = _whole(config, Utterance(text[:begun], codes, durations))
    finished = begun if int(ends[begun - 1]) == frames else begun - 1
    return SpeechPrompt(text, finished, codes, path, language, language)


def _whole(config: ARConfig, recording: Utterance) -> tuple[Tensor, Tensor | None]:
    """Return codes (T, Q) and path (T,) cut to whole groups."""
    if len(recording.codes) < config.block:
        raise ModelError("the prompt is shorter than one step of the model", "give a longer recording")
    codes, path = whole_blocks(recording, config.merge, config.group)
    return codes, path if config.alignment == Alignment.PHONEME else None


@torch.inference_mode()
def speak(
    ar: AR,
    nar: NAR,
    prompts: Sequence[SpeechPrompt],
    options: AROptions,
    generators: Sequence[torch.Generator],
) -> list[Tensor]:
    """Return the codes (T, Q) of each prompt's target: the AR model's loop, then the NAR model's passes."""
    config = ar.config
    results = generate(ar, [prompt.ar(config) for prompt in prompts], options, generators)
    fan = len(generators) // len(prompts)
    rows = [prompts[index // fan].nar(result, config, options.accent) for index, result in enumerate(results)]
    return fill(nar, rows)
