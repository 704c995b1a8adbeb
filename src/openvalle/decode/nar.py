"""The passes after the autoregressive loop: codebooks 2..Q, greedy, one pass each (VALL-E 4.3) or fewer.

Codebooks 2..Q of a line that is still being spoken: the NAR model goes through it in windows.

The NAR model reads a whole utterance in both directions, so its exact result is known only at the end. Here it reads
the prompt, all finished frames before a window as more of it, the window, and codebook 1 of a few frames after it: what
a longer prefix of the utterance is in training. That is so for models of the `prefix` kind alone. Others have met each
utterance from its beginning on only, with a prompt from elsewhere: they fill a line in one go. Where windows begin and
end depends on frame counts alone, so that pieces of any size give the same codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from openvalle.config import Config
from openvalle.model.config import Alignment, NARConfig, NARPrompt, NARText
from openvalle.model.nar import NAR, NARInputs
from openvalle.model.nar_inputs import frames_of, restarts


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


class Windows(Config):
    """How a line is cut for a listener who waits. Frames are the codec's (75 a second).

    Every window is as long as all that was spoken before it in the text, because that is how long a listener is
    busy: speech at twice real time never keeps one waiting, and long texts are filled in long windows.
    """

    first: int = Field(40, ge=1, description="frames of a text's first window")
    look_ahead: int = Field(12, ge=0, description="frames after a window whose codebook 1 the model reads with it")


class WindowFiller:
    """Codebooks 2..Q of one row, window by window, as its codebook 1 comes in."""

    def __init__(self, model: NAR, row: NARPromptRow, windows: Windows | None, spoken: int = 0) -> None:
        """`row`: text and prompt, with no frames of the target yet; `windows` None: the row in one go; `spoken`: frames
        before it in the text."""
        assert not len(row.first), "codebook 1 comes by `push`"
        self.model, self.row, self.spoken = model, row, spoken
        self.windows = windows if model.config.prompt == NARPrompt.PREFIX else None
        self.first = row.first  # (T,) so far
        self.path = row.path  # (Tp + T,) so far
        self.codes = torch.zeros(0, model.config.codebooks, dtype=torch.long)  # (t, Q) finished

    def push(self, first: Tensor, path: Tensor | None = None) -> Iterator[Tensor]:
        """Take codebook 1 (t,) and the symbol of each frame (t,); yield the codes (n, Q) of windows that are full."""
        self.first = torch.cat([self.first, first])
        if self.path is not None:
            assert path is not None, "this model needs the symbol of each frame"
            self.path = torch.cat([self.path, path])
        while self.windows and len(self.first) >= len(self.codes) + self._size() + self.windows.look_ahead:
            yield self._fill(len(self.codes) + self._size())

    def flush(self) -> Iterator[Tensor]:
        """Yield the codes (n, Q) of what is left."""
        if len(self.first) > len(self.codes):
            yield self._fill(len(self.first))

    def _size(self) -> int:
        assert self.windows is not None
        return max(self.windows.first, self.spoken)

    def _fill(self, end: int) -> Tensor:
        """Return the codes of the frames up to `end`."""
        start, prompt, path = len(self.codes), self.row.prompt, self.path
        stop = min(end + (self.windows.look_ahead if self.windows else 0), len(self.first))
        if path is not None:
            path = path[: len(path) - len(self.first) + stop]
        known = self.codes if prompt is None else torch.cat([prompt, self.codes])
        row = replace(
            self.row, first=self.first[start:stop], prompt=known if len(known) else None, path=path, own=start
        )
        codes = fill(self.model, [row])[0][: end - start].cpu()
        self.codes = torch.cat([self.codes, codes])
        self.spoken += len(codes)
        return codes
