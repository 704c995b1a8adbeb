"""Codebooks 2..Q, greedy, one pass each (VALL-E 4.3) or fewer: of whole rows (`fill`), or in windows (`fill_windows`).

Windows serve a line that is still being spoken. The NAR model reads a whole utterance in both directions, so its exact
result is known only at the end. Here it reads the prompt, all finished frames before a window as more of it, the
window, and codebook 1 of a few frames after it: what a longer prefix of the utterance is in training. That is so for
models of the `prefix` kind alone. Others have met each utterance from its beginning on only, with a prompt from
elsewhere: they fill a line in one go. Where windows begin and end depends on frame counts alone, so that pieces of any
size give the same codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from pydantic import Field

from openvalle.config import Config
from openvalle.decode.prompt import NARPrompt
from openvalle.engines.base import NAREngine, NARRows, pad
from openvalle.model.config import NARConfig
from openvalle.model.kinds import Alignment, NARText, PromptKind


def fill(engine: NAREngine, rows: Sequence[NARPrompt]) -> list[np.ndarray]:
    """Return the codes (T, Q) of each row's target."""
    inputs = prepare_rows(engine.config, rows)
    codes, is_target = inputs.codes, inputs.is_target
    for stage in range(1, engine.config.stages + 1):
        predicted = engine.predict(inputs, stage)  # (M, n)
        codes[is_target, stage : stage + predicted.shape[1]] = predicted
    return [codes[index][is_target[index]] for index in range(len(rows))]


def prepare_rows(config: NARConfig, rows: Sequence[NARPrompt]) -> NARRows:
    """Return the model's inputs: prompt and target of each row without a gap, of the target codebook 1 alone."""
    texts, alignments, codes, prompts, languages, text_languages = [], [], [], [], [], []
    for row in rows:
        has_prompt = row.prompt is not None and config.prompt != PromptKind.NONE
        prompt = row.prompt if has_prompt else np.zeros((0, config.codebooks), np.int64)
        assert prompt is not None
        prompts.append(len(prompt))
        dropped = row.prompt_symbols if config.text == NARText.TARGET else 0  # as in training: see `NARText`
        texts.append(row.text[dropped:])
        target = np.zeros((len(row.codebook1), config.codebooks), np.int64)
        target[:, 0] = row.codebook1
        codes.append(np.concatenate([prompt, target]))
        length = len(codes[-1])
        if config.alignment == Alignment.PHONEME:
            assert row.alignment is not None, "this model needs the symbol of each frame"
            alignment = row.alignment[len(row.alignment) - length :]
            # symbols that are not read are none
            alignments.append(np.where(alignment >= dropped, alignment - dropped, -1))
        before = row.language if row.prompt_language is None else row.prompt_language
        languages.append(np.where(np.arange(length) < len(prompt) - row.own, before, row.language))
        of_text = np.where(np.arange(len(row.text)) < row.prompt_symbols, before, row.language)
        text_languages.append(of_text[dropped:])
    return NARRows(
        text=pad(texts),
        text_lens=np.array([len(text) for text in texts]),
        codes=pad(codes),
        lens=np.array([len(each) for each in codes]),
        prompt_lens=np.array(prompts),
        alignment=pad(alignments) if alignments else None,
        languages=pad(languages),
        text_languages=pad(text_languages),
    )


class Windows(Config):
    """How a line is cut for a listener who waits. Frames are the codec's (75 a second).

    Every window is as long as all that was spoken before it in the text, because that is how long a listener is
    busy: speech at twice real time never keeps one waiting, and long texts are filled in long windows.
    """

    first: int = Field(40, ge=1, description="frames of a text's first window")
    look_ahead: int = Field(12, ge=0, description="frames after a window whose codebook 1 the model reads with it")


def fill_windows(
    engine: NAREngine,
    row: NARPrompt,
    windows: Windows | None,
    pieces: Iterable[tuple[np.ndarray, np.ndarray | None]],
    spoken: int = 0,
) -> Iterator[np.ndarray]:
    """Yield the codes (n, Q) of a row, window by window, as its codebook 1 comes in.

    `row`: text and prompt, with no frames of the target yet; `windows` None: the row in one go; `pieces`: codebook 1
    (t,) and the symbol of each frame (t,); `spoken`: frames before the row in the text.
    """
    windows = windows if engine.config.prompt == PromptKind.PREFIX else None
    ahead = windows.look_ahead if windows else 0
    codebook1, alignment = row.codebook1, row.alignment  # (T,), (Tp + T,) so far
    done = np.zeros((0, engine.config.codebooks), np.int64)  # (t, Q)

    def fill_to(end: int) -> np.ndarray:
        """Return the codes of the frames up to `end`."""
        nonlocal done, spoken
        stop, start = min(end + ahead, len(codebook1)), len(done)
        known = done if row.prompt is None else np.concatenate([row.prompt, done])
        window = replace(
            row,
            codebook1=codebook1[start:stop],
            prompt=known if len(known) else None,
            alignment=None if alignment is None else alignment[: len(alignment) - len(codebook1) + stop],
            own=start,
        )
        codes = fill(engine, [window])[0][: end - start]
        done, spoken = np.concatenate([done, codes]), spoken + len(codes)
        return codes

    for codes, symbols in pieces:
        codebook1 = np.concatenate([codebook1, codes])
        if alignment is not None:
            assert symbols is not None, "this model needs the symbol of each frame"
            alignment = np.concatenate([alignment, symbols])
        while windows and len(codebook1) >= (end := len(done) + max(windows.first, spoken)) + ahead:
            yield fill_to(end)
    if len(codebook1) > len(done):
        yield fill_to(len(codebook1))
