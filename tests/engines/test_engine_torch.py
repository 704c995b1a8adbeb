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
