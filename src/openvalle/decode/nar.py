"""The passes after the autoregressive loop: codebooks 2..Q, greedy, one pass each (VALL-E 4.3) or fewer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from openvalle.model.config import Alignment, NARConfig, NARPrompt, NARText
from openvalle.model.nar import NAR, NARInputs
from openvalle.model.prompts import frames_of, restarts


@dataclass(frozen=True)
class NARPromptRow:
    """One row to fill. Everything is at the codec's frame rate."""

    text: Tensor  # (S,) symbols of the prompt, then of the target
    first: Tensor  # (T,) codebook 1 of the target
    prompt_symbols: int = 0
    prompt: Tensor | None = None  # (Tp, Q) all codebooks of the prompt; None: no prompt
    path: Tensor | None = None  # (Tp + T,) index of each frame's symbol in `text`; needed with alignment
    language: int = 0
    prompt_language: int | None = None
    own: int = 0  # last frames of `prompt` that are the target's


@torch.inference_mode()
def fill(model: NAR, rows: Sequence[NARPromptRow]) -> list[Tensor]:
    """Return the codes (T, Q) of each row's target."""
    config, device = model.config, model.codes.device
    prompts = [_prompt(row, config) for row in rows]
    inputs = _inputs(config, rows, prompts, device)
    codes, is_target = inputs.frames.codes, inputs.frames.scored
    for stage in range(1, config.stages + 1):
        hidden = model(inputs, torch.tensor([stage], device=device))
        chosen = model.choose(hidden[is_target], stage)
        codes[..., stage : stage + chosen.shape[-1]][is_target] = chosen
    return [
        codes[index, len(prompt) : len(prompt) + len(row.first)]
        for index, (row, prompt) in enumerate(zip(rows, prompts, strict=True))
    ]


def _prompt(row: NARPromptRow, config: NARConfig) -> Tensor:
    """Return the prompt's codes (Tp, Q), empty without one."""
    if row.prompt is None or config.prompt == NARPrompt.NONE:
        return torch.zeros(0, config.codebooks, dtype=torch.long)
    return row.prompt.long().cpu()


def _inputs(
    config: NARConfig, rows: Sequence[NARPromptRow], prompts: Sequence[Tensor], device: torch.device
) -> NARInputs:
    texts, paths, codes, languages, text_languages = [], [], [], [], []
    for row, prompt in zip(rows, prompts, strict=True):
        dropped = row.prompt_symbols if config.text == NARText.TARGET else 0  # as in training: see `NARText`
        texts.append(row.text[dropped:].long().cpu())
        target = torch.zeros(len(row.first), config.codebooks, dtype=torch.long)
        target[:, 0] = row.first.cpu()
        codes.append(torch.cat([prompt, target]))
        if config.alignment == Alignment.PHONEME:
            paths.append(_path(row, len(prompt), dropped))
        before = row.language if row.prompt_language is None else row.prompt_language
        languages.append(_spread(before, max(0, len(prompt) - row.own), row.language, len(codes[-1])))
        text_languages.append(_spread(before, row.prompt_symbols, row.language, len(row.text))[dropped:])
    frames = frames_of(
        pad_sequence(codes, batch_first=True),
        torch.tensor([len(each) for each in codes]),
        torch.tensor([len(prompt) for prompt in prompts]),
        pad_sequence(paths, batch_first=True) if paths else None,
        restart=restarts(config),
    )
    return NARInputs(
        pad_sequence(texts, batch_first=True).to(device),
        torch.tensor([len(text) for text in texts], device=device),
        frames.to(device),
        pad_sequence(languages, batch_first=True).to(device),
        pad_sequence(text_languages, batch_first=True).to(device),
    )


def _path(row: NARPromptRow, prompt_length: int, dropped: int) -> Tensor:
    """Return the symbol of each frame (Tp + T,); frames of symbols that are not read have none (-1)."""
    assert row.path is not None, "this model needs the symbol of each frame"
    length = prompt_length + len(row.first)
    path = row.path.long().cpu()[len(row.path) - length :]
    return torch.where(path >= dropped, path - dropped, -1)


def _spread(first: int, count: int, then: int, length: int) -> Tensor:
    """Return (length,) with `first` in the first `count` places and `then` in the others."""
    values = torch.full((length,), then)
    values[:count] = first
    return values
