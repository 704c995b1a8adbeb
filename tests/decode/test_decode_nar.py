"""Filling codebooks 2..Q: batched = alone, codebook 1 kept, each stage the argmax given those before."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lm_samples import ENTRIES, NAR_KINDS, SMALL, nar_engine, nar_of, shaken
from openvalle.decode.nar import fill
from openvalle.decode.prompt import NARPrompt
from openvalle.engines.torch import TorchNAR
from openvalle.model.config import NARConfig
from openvalle.model.nar import NAR

EVERY = pytest.mark.parametrize("kind", NAR_KINDS)


def row(seed: int, symbols: int, frames: int, prompt: int) -> NARPrompt:
    rng = np.random.default_rng(seed)
    alignment = np.concatenate(
        [np.arange(prompt) * 2 // max(1, prompt), 2 + np.arange(frames) * (symbols - 2) // frames]
    )
    return NARPrompt(
        text=rng.integers(1, SMALL["symbols"], size=symbols),
        codebook1=rng.integers(ENTRIES, size=frames),
        prompt_symbols=2,
        prompt=rng.integers(ENTRIES, size=(prompt, 8)) if prompt else None,
        alignment=alignment,
        language=1,
        prompt_language=2,
    )


ROWS = [row(1, 6, 14, 8), row(2, 4, 9, 0), row(3, 9, 20, 3)]


@EVERY
def test_a_row_in_a_batch_is_the_row_alone(kind):
    model = nar_engine(kind)
    together = fill(model, ROWS)
    for one, codes in zip(ROWS, together, strict=True):
        assert codes.shape == (len(one.codebook1), 8)
        assert np.array_equal(codes[:, 0], one.codebook1)
        assert np.array_equal(fill(model, [one])[0], codes)


@EVERY
def test_the_prompt_changes_the_voice(kind):
    model = TorchNAR(shaken(nar_of(kind), std=0.2 if kind == "prenets" else 0.6))
    other = dataclasses.replace(ROWS[0], prompt=(ROWS[0].prompt + 1) % ENTRIES)
    assert not np.array_equal(fill(model, [ROWS[0]])[0], fill(model, [other])[0])


def test_a_model_without_prompts_ignores_them():
    model = NAR(NARConfig.parse({**SMALL, "prompt": "none", "text": "target"})).eval()
    model = TorchNAR(model)
    assert np.array_equal(fill(model, [ROWS[0]])[0], fill(model, [dataclasses.replace(ROWS[0], prompt=None)])[0])


def test_the_prompts_words_are_read_only_if_training_had_them():
    """They are the beginning of the text with prompt `prefix`; else the text was the target's alone."""
    other = dataclasses.replace(ROWS[0], text=np.concatenate([ROWS[0].text[:2] % 5 + 6, ROWS[0].text[2:]]))
    for kind, is_read in ({"prompt": "prefix"}, True), ({"prompt": "segment", "text": "target"}, False):
        model = NAR(NARConfig.parse({**SMALL, **kind}))
        model = TorchNAR(shaken(model, std=1.0))
        assert np.array_equal(fill(model, [ROWS[0]])[0], fill(model, [other])[0]) is not is_read


def test_the_rest_is_taken_as_the_quantiser_takes_it():
    """Each codebook the entry nearest to what is left of the expectation; one pass fills all that are left."""
    values = {**SMALL, "residual": {"passes": 2, "gain": 1.5}, "latent": 6}
    model = shaken(NAR(NARConfig.parse(values)), std=1.0)
    hidden = torch.randn(5, SMALL["transformer"]["width"], generator=torch.Generator().manual_seed(0))
    assert model.predict(hidden, 1).shape == (5, 1)
    left = 1.5 * model.residual_head.linear(hidden) * sum(table.square().mean() for table in model.codes[2:]).sqrt()
    chosen = model.predict(hidden, 2)
    assert chosen.shape == (5, 6)
    for book, entries in zip(range(2, 8), chosen.T, strict=True):
        assert torch.equal(entries, torch.cdist(left, model.codes[book]).argmin(-1))
        left = left - model.codes[book][entries]


def test_likeliest_choice_takes_the_highest_score():
    for own in ({}, {"residual": {"predicts": False}}):
        model = shaken(NAR(NARConfig.parse({**SMALL, **own, "latent": 6})), std=1.0)
        hidden = torch.randn(5, SMALL["transformer"]["width"], generator=torch.Generator().manual_seed(0))
        assert torch.equal(model.predict(hidden, 3)[:, 0], model.logits(hidden, 3).argmax(-1))
