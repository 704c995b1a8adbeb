"""The torch engine on NumPy arrays: the networks and the codec themselves, forked states, streams that join."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lm_samples import AR_KINDS, ENTRIES, NAR_KINDS, ar_engine, nar_engine, utterance
from openvalle.decode.nar import prepare_rows
from openvalle.decode.prompt import NARPrompt, prepare_inputs, zero_shot
from openvalle.engines.torch import TorchCodec, choose_device
from openvalle.errors import ModelError
from openvalle.types import to_alignment

TARGET = np.array([7, 8, 9])


@pytest.mark.parametrize("kind", AR_KINDS)
def test_a_forked_row_goes_on_alone_as_among_others(kind: str) -> None:
    """One prefix for many rows, and fewer rows than before: each gives what it gives alone."""
    engine = ar_engine(kind)
    prompts = [
        zero_shot(engine.config, utterance(5, frames, frames), TARGET, 1).ar(engine.config) for frames in (24, 36)
    ]
    inputs = prepare_inputs(engine.config, prompts)
    scores, state = engine.prefill(inputs, room=2)
    assert scores.codes.shape == (2, engine.config.group, ENTRIES + 1) and scores.codes.dtype == np.float32
    rows = np.array([1, 0, 1])
    groups = np.random.default_rng(0).integers(ENTRIES, size=(3, engine.config.group))
    place, language = np.full(3, 6), np.ones(3, np.int64)
    together, _ = engine.step(groups, place, language, state.fork(rows))
    for row in range(3):
        alone, _ = engine.step(groups[[row]], place[:1], language[:1], state.fork(rows[[row]]))
        np.testing.assert_allclose(alone.codes[0], together.codes[row], atol=1e-5)
        np.testing.assert_allclose(together.take(np.array([row])).codes[0], together.codes[row])


@pytest.mark.parametrize("kind", AR_KINDS)
def test_rows_join_and_leave_and_go_on_as_alone(kind: str) -> None:
    """Texts and prompts of other lengths, a cache that has to grow, rows that change places."""
    engine = ar_engine(kind)
    rng = np.random.default_rng(0)
    prompts = [
        zero_shot(engine.config, utterance(symbols, frames, frames), TARGET, 1).ar(engine.config)
        for symbols, frames in ((5, 24), (9, 48), (3, 12), (6, 36))
    ]
    steps = rng.integers(ENTRIES, size=(8, 4, engine.config.group))  # of each row

    def go_on(state, at: int, rows: list[int]):
        symbols, languages = np.array([prompts[row].prompt_symbols for row in rows]), np.ones(len(rows), np.int64)
        return engine.step(steps[at, rows], symbols, languages, state)

    alone = []
    for row, prompt in enumerate(prompts):
        scores, state = engine.prefill(prepare_inputs(engine.config, [prompt]), room=1)
        heard = [scores.codes[0]]
        for at in range(8):
            scores, state = go_on(state, at, [row])
            heard.append(scores.codes[0])
        alone.append(heard)
    scores, state = engine.prefill(prepare_inputs(engine.config, [prompts[0]]), room=1)
    taken, rows = [0] * 4, [0]
    for at, (joining, staying) in enumerate([([1, 2], [0, 1, 2]), ([], [2, 1]), ([3], [2, 3]), ([], [3]), ([], [3])]):
        if joining:
            scores, other = engine.prefill(prepare_inputs(engine.config, [prompts[row] for row in joining]), room=1)
            state, rows = state.join(other), [*rows, *joining]
            for place, row in enumerate(joining):
                np.testing.assert_allclose(scores.codes[place], alone[row][0], atol=1e-5)
        groups = np.stack([steps[taken[row], row] for row in rows])
        symbols = np.array([prompts[row].prompt_symbols for row in rows])
        scores, state = engine.step(groups, symbols, np.ones(len(rows), np.int64), state)
        for place, row in enumerate(rows):
            taken[row] += 1
            np.testing.assert_allclose(scores.codes[place], alone[row][taken[row]], atol=1e-5, err_msg=f"{at}")
        state = state.keep(np.array([rows.index(row) for row in staying]))
        rows = staying


@pytest.mark.parametrize("kind", NAR_KINDS)
def test_a_pass_fills_the_target_frames_row_by_row(kind: str) -> None:
    engine = nar_engine(kind)
    rows = []
    for frames in (9, 14):
        row = utterance(4, frames + 6, frames)
        alignment = to_alignment(row.durations)
        rows.append(NARPrompt(row.text, row.codes[6:, 0], 0, row.codes[:6], alignment, 1))
    inputs = prepare_rows(engine.config, rows)
    assert inputs.is_target.sum() == 9 + 14
    filled = engine.predict(inputs, engine.config.stages)
    assert filled.shape == (9 + 14, engine.config.codebooks - engine.config.stages)
    assert filled.dtype == np.int64 and 0 <= filled.min() <= filled.max() < ENTRIES


def test_blocks_of_the_codec_join_to_the_whole(tiny_codec) -> None:
    engine = TorchCodec(tiny_codec)
    samples = np.random.default_rng(0).normal(0, 0.1, 320 * 40).astype(np.float32)
    codes = engine.encode(samples, merge=2)
    assert codes.shape == (40, engine.spec.codebooks)
    assert np.array_equal(codes, tiny_codec.encode(torch.from_numpy(samples)[None], merge=2)[0].numpy())
    stream = engine.stream()
    blocks = [stream.push(codes[start : start + 7]) for start in range(0, 40, 7)]
    np.testing.assert_allclose(np.concatenate([*blocks, stream.flush()]), engine.decode(codes), atol=1e-5)


def test_a_device_that_is_not_there_is_refused_with_those_that_are() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(ModelError, match="no device 'abacus'") as caught:
        choose_device("abacus")
    assert "cpu" in caught.value.hint
