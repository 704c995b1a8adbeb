"""What the autoregressive loop starts from: prompts as the model's inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from openvalle.errors import ModelError
from openvalle.model.ar import ARInputs, ARLogits, ARState
from openvalle.model.config import Alignment, ARConfig


class Accent(StrEnum):
    """Which language id generated frames carry (VALL-E X 3.3)."""

    NATIVE = "native"  # the target's
    FOREIGN = "foreign"  # the prompt's: the accent of the voice's own language
    NONE = "none"  # the null id, learnt by `language_dropout`


class ARModel(Protocol):
    """The step interface: what the loop needs of a model."""

    config: ARConfig

    def input_path(self, path: Tensor, lens: Tensor, following: Tensor) -> Tensor:
        """Return symbol indices (B, N + 1) that enter with <BOS> and N groups."""

    def prefill(self, inputs: ARInputs, room: int) -> tuple[ARLogits, ARState]:
        """Return the scores after the prompt and a state with `room` steps left."""

    def step(
        self, groups: Tensor, aligned: Tensor | None, languages: Tensor, state: ARState
    ) -> tuple[ARLogits, ARState]:
        """Take one group per row and return the next scores."""


@dataclass(frozen=True)
class ARPrompt:
    """The text of prompt and target, and the prompt's audio (none: the model makes up a voice)."""

    text: Tensor  # (S,) symbols of the prompt, then of the target
    prompt_symbols: int = 0  # how many of them are the prompt's
    codes: Tensor | None = None  # (Tp,) merged codebook 1
    path: Tensor | None = None  # (Tp,) index of each code's symbol; needed with alignment
    language: int = 0  # of the target; 0 = null
    prompt_language: int | None = None  # None: the same
    following_symbols: int = 0  # how many of the last ones are read, but not spoken; needs alignment
    is_beginning: bool = False  # `codes` are how `text` begins, whose border nobody knows: `prompt_symbols` is 0

    def spoken(self, accent: Accent) -> int:
        """Return the language id of generated frames."""
        if accent is Accent.NONE:
            return 0
        if accent is Accent.FOREIGN and self.prompt_language is not None:
            return self.prompt_language
        return self.language


def inputs_of(model: ARModel, prompts: Sequence[ARPrompt], accent: Accent = Accent.NATIVE) -> tuple[ARInputs, Tensor]:
    """Return the model's inputs and the codes so far (B, Tp; -1 = none), right-aligned."""
    config, device = model.config, _device(model)
    if accent is not Accent.NATIVE and not config.languages:
        raise ModelError(f"this model knows no languages and cannot speak with the accent {accent}", "use native")
    for prompt in prompts:
        _check(prompt, config)
    codes = [_whole_groups(prompt.codes, config.group) for prompt in prompts]
    lens = torch.tensor([len(row) // config.group for row in codes])
    texts = [prompt.text.long().cpu() for prompt in prompts]
    aligned = None
    if config.alignment == Alignment.PHONEME:
        paths = [_whole_groups(prompt.path, config.group)[:: config.group] for prompt in prompts]
        following = torch.tensor([prompt.prompt_symbols for prompt in prompts])
        aligned = model.input_path(pad_sequence(paths, batch_first=True), lens, following).to(device)
    languages, text_languages = _languages(prompts, lens, accent)
    groups = pad_sequence(codes, batch_first=True).unflatten(1, (-1, config.group))
    history = pad_sequence(codes, batch_first=True, padding_value=-1, padding_side="left")
    inputs = ARInputs(
        pad_sequence(texts, batch_first=True).to(device),
        torch.tensor([len(text) for text in texts], device=device),
        groups.to(device),
        lens.to(device),
        aligned,
        languages.to(device),
        text_languages.to(device),
    )
    return inputs, history.to(device)


def _languages(prompts: Sequence[ARPrompt], lens: Tensor, accent: Accent) -> tuple[Tensor, Tensor]:
    """Return the languages of audio inputs (B, N + 1) and of text (B, S): each frame carries its own audio's, <BOS>
    the first frame's. The accent is the audio's; words keep their language."""
    of_prompt = [
        p.spoken(accent) if p.codes is None else p.language if p.prompt_language is None else p.prompt_language
        for p in prompts
    ]
    audio = torch.tensor(of_prompt)[:, None].expand(-1, int(lens.max()) + 1)
    rows = []
    for prompt in prompts:
        before = prompt.language if prompt.prompt_language is None else prompt.prompt_language
        row = torch.full((len(prompt.text),), prompt.language)
        row[: prompt.prompt_symbols] = before
        rows.append(row)
    return audio, pad_sequence(rows, batch_first=True)


def _whole_groups(values: Tensor | None, group: int) -> Tensor:
    """Return (Tp,) without the first values that fill no group."""
    if values is None:
        return torch.zeros(0, dtype=torch.long)
    return values[len(values) % group :].long().cpu()


def _check(prompt: ARPrompt, config: ARConfig) -> None:
    if len(prompt.text) <= prompt.prompt_symbols:
        raise ModelError("there is no text to speak after the prompt's", "give a text with speakable words")
    is_aligned = config.alignment == Alignment.PHONEME
    assert is_aligned or not prompt.following_symbols, "only a pointer knows where what follows begins"
    if prompt.codes is not None and is_aligned and (prompt.path is None or len(prompt.path) != len(prompt.codes)):
        raise ModelError("this model needs the symbol of each prompt frame", "align the prompt with its transcript")


def _device(model: ARModel) -> torch.device:
    parameters = getattr(model, "parameters", None)
    return next(parameters()).device if parameters is not None else torch.device("cpu")
