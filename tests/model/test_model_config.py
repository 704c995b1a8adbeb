"""Combinations that mean nothing are refused with a reason; every field changes something."""

from __future__ import annotations

import pytest
import torch

from lm_samples import AR_KINDS, NAR_KINDS, SMALL, STACK, batch_for, utterance
from openvalle.errors import ConfigError
from openvalle.model.ar import AR
from openvalle.model.config import ARConfig, NARConfig, ResidualConfig, check_pair
from openvalle.model.nar import NAR


@pytest.mark.parametrize(
    ("kind", "values", "reason"),
    [
        (ARConfig, {"transformer": {**STACK, "heads": 3}}, "multiple of heads"),
        (ARConfig, {"positions": "learnt"}, "need max_positions"),
        (ARConfig, {"max_positions": 10}, "no longest part"),
        (ARConfig, {"language_dropout": 0.1}, "without languages"),
        (ARConfig, {"language_on": "audio-and-text"}, "without languages"),
        (ARConfig, {"phoneme_lead": 0}, "no phoneme stream"),
        (ARConfig, {"phoneme_weight": 2.0}, "no phoneme stream"),
        (ARConfig, {"history_noise": 0.5}, "no phoneme stream"),
        (ARConfig, {"text_attention": "causal", "text_prenet": "conv"}, "sees the symbols ahead"),
        (ARConfig, {"text_attention": "causal", "text_prenet": "stack"}, "sees the symbols ahead"),
        (ARConfig, {"positions": "rotary", "max_positions": 10}, "no longest part"),
        (ARConfig, {"positions": "rotary", "scale_positions": True}, "belongs to sinusoidal"),
        (ARConfig, {"text_prenet": "linear"}, "it is for frames"),
        (ARConfig, {"audio_prenet": "conv"}, "sees the frames ahead"),
        (ARConfig, {"head_bias": True}, "a shared table has none"),
        (ARConfig, {"prompt_codebooks": 8, "use_bos": False}, "needs use_bos"),
        (ARConfig, {"prompt_codebooks": 8, "alignment": "phoneme"}, "a prompt apart has no symbols"),
        (ARConfig, {"transformer": {**STACK, "norm": "adanorm"}}, "which the AR model does not have"),
        (NARConfig, {"transformer": {**STACK, "norm": "adanorm"}}, "goes with conditioning separate"),
        (NARConfig, {"prompt_codebooks": 4}, "0 or all 8 codebooks"),
        (NARConfig, {"prompt_codebooks": 8}, "goes with prompts from elsewhere"),
        (ARConfig, {"use_bos": False, "text_eos": False}, "nothing to predict the first code at"),
        (ARConfig, {"needs_prompt": True}, "means nothing with use_bos"),
        (ARConfig, {"alignment": "phoneme", "use_bos": False}, "<BOS> holds the first frame's phoneme"),
        (ARConfig, {"grup": 2}, "grup"),
        (NARConfig, {"conditioning": "token", "stage_width": 8}, "adaptive"),
        (NARConfig, {"stage_weights": [1.0, 1.0]}, "7 numbers"),
        (NARConfig, {"stage_weights": [0.0] * 7}, "positive"),
        (NARConfig, {"residual": {"predicts": False, "code_weight": 0.0}}, "no entry is scored"),
        (NARConfig, {"residual": {"predicts": False, "passes": 2}}, "means nothing if predicts is false"),
        (NARConfig, {"residual": {"predicts": False, "gain": 2.0}}, "means nothing if predicts is false"),
        (NARConfig, {"residual": {"passes": 8}}, "7 codebooks to fill"),
        (NARConfig, {"codebook1_noise": 0.1}, "needs alignment"),
        (NARConfig, {"prompt_min": 5, "prompt_max": 4}, "exceeds"),
        (NARConfig, {"frame_prenet": "stack"}, "it is for text"),
        (NARConfig, {"restart_positions": False}, "positions never restart"),
        (NARConfig, {"transformer": {**STACK, "norm": "rms"}, "conditioning": "separate"}, "separate norms"),
        (NARConfig, {"prompt": "staged", "text": "target"}, "must be `both`"),
        (NARConfig, {"text": "target"}, "must be `both`"),
        (NARConfig, {"prompt": "sentence"}, "must be `target`"),
        (NARConfig, {"prompt": "segment"}, "must be `target`"),
        (NARConfig, {"prompt": "none"}, "must be `target`"),
        (NARConfig, {"prompt": "none", "prompt_none": 0.5}, "never a prompt"),
        (NARConfig, {"prompt": "none", "prompt_max": 500}, "no prompt is cut"),
        (NARConfig, {"merge": 2}, "without alignment"),
    ],
)
def test_meaningless_combinations_are_refused(kind, values, reason):
    with pytest.raises(ConfigError, match=reason):
        kind.parse({**SMALL, **values})


@pytest.mark.parametrize(
    ("ar", "nar", "reason"),
    [
        ({"codebook_size": 19}, {}, "codebook_size is 19 in the AR model"),
        ({"symbols": 13}, {}, "symbols is 13 in the AR model"),
        ({}, {"alignment": "phoneme"}, "needs each frame's symbol"),
        ({"alignment": "phoneme", "merge": 2}, {"alignment": "phoneme"}, "alignments would not fit"),
    ],
)
def test_networks_that_cannot_speak_together_are_refused(ar, nar, reason):
    first, second = ARConfig.parse({**SMALL, **ar}), NARConfig.parse({**SMALL, **nar})
    with pytest.raises(ValueError, match=reason):
        check_pair(first, second)


@pytest.mark.parametrize(("kind", "values"), [*((ARConfig, v) for v in AR_KINDS.values())])
def test_a_config_survives_the_disk(kind, values, tmp_path):
    config = kind.parse({**SMALL, **values})
    config.save(tmp_path / "c.json")
    assert kind.load(tmp_path / "c.json") == config


@pytest.mark.parametrize("kind", [ARConfig, NARConfig, ResidualConfig])
def test_every_field_is_described(kind):
    assert all(field.description for name, field in kind.model_fields.items() if name != "transformer")


ALIGNED = {"alignment": "phoneme"}
SPOKEN = {"languages": 2, "language_on": "audio-and-text"}
PROMPT = {"prompt_min": 3, "prompt_max": 5}
EXPECTED = {"residual": {}}
ELSEWHERE = {"prompt": "segment", "text": "target"}
AR_CHANGES = {
    "transformer": ({}, {"transformer": {**STACK, "depth": 1}}),
    "symbols": ({}, {"symbols": 13}),
    "codebook_size": ({}, {"codebook_size": 21}),
    "positions": ({}, {"positions": "learnt", "max_positions": 99}),
    "max_positions": (
        {"positions": "learnt", "max_positions": 99},
        {"positions": "learnt", "max_positions": 98},
    ),
    "scale_positions": ({}, {"scale_positions": True}),
    "text_bos": ({}, {"text_bos": True}),
    "text_eos": ({}, {"text_eos": False}),
    "audio_prenet": ({}, {"audio_prenet": "linear"}),
    "head_bias": ({"tie_output": False}, {"tie_output": False, "head_bias": True}),
    "prompt_codebooks": ({}, {"prompt_codebooks": 8}),
    "alignment": ({}, ALIGNED),
    "text_prenet": ({}, {"text_prenet": "conv"}),
    "languages": ({}, {"languages": 2}),
    "language_on": ({"languages": 2}, SPOKEN),
    "language_dropout": (SPOKEN, {**SPOKEN, "language_dropout": 0.9}),
    "merge": ({}, {"merge": 2}),
    "tie_output": ({}, {"tie_output": False}),
    "text_attention": ({}, {"text_attention": "causal"}),
    "group": ({}, {"group": 2}),
    "use_bos": ({}, {"use_bos": False}),
    "phoneme_lead": (ALIGNED, {**ALIGNED, "phoneme_lead": 0}),
    "phoneme_weight": (ALIGNED, {**ALIGNED, "phoneme_weight": 0.5}),
    "history_noise": (ALIGNED, {**ALIGNED, "history_noise": 0.9}),
    "label_smoothing": ({}, {"label_smoothing": 0.1}),
}
NAR_CHANGES = {
    **{name: AR_CHANGES[name] for name in ARConfig.model_fields if name in NARConfig.model_fields},
    "text_eos": ({}, {"text_eos": True}),
    "prompt_codebooks": (ELSEWHERE, {**ELSEWHERE, "prompt_codebooks": 8}),
    "restart_positions": (ELSEWHERE, {**ELSEWHERE, "restart_positions": False}),
    "merge": ({**ALIGNED, **PROMPT}, {**ALIGNED, **PROMPT, "merge": 2}),
    "codebooks": ({}, {"codebooks": 4}),
    "conditioning": ({}, {"conditioning": "separate"}),
    "stage_width": ({}, {"stage_width": 3}),
    "stage_draw": ({}, {"stage_draw": "sample"}),
    "stage_weights": ({}, {"stage_weights": [0, 0, 0, 0, 0, 0, 1]}),
    "prompt": ({}, {"prompt": "none", "text": "target"}),
    "prompt_min": ({"prompt_max": 9, "prompt_min": 9}, {"prompt_max": 9, "prompt_min": 1}),
    "prompt_max": ({"prompt_max": 5, "prompt_min": 5}, {"prompt_max": 9, "prompt_min": 5}),
    "residual": ({}, EXPECTED),
    "residual.weight": (EXPECTED, {"residual": {"weight": 0.5}}),
    "residual.code_weight": (EXPECTED, {"residual": {"code_weight": 0.5}}),
    "residual.passes": ({**EXPECTED, "stage_draw": "sample"}, {"residual": {"passes": 1}, "stage_draw": "sample"}),
    "latent": (EXPECTED, {**EXPECTED, "latent": 5}),
    "codebook1_noise": ({**ALIGNED, **PROMPT}, {**ALIGNED, **PROMPT, "codebook1_noise": 0.9}),
    "frame_prenet": ({}, {"frame_prenet": "conv"}),
    "prompt_none": (PROMPT, {**PROMPT, "prompt_none": 0.99}),
}


def losses(network_type, config, rows):
    """Return a few training losses: they depend on weights, function and draws."""
    torch.manual_seed(0)
    network = network_type(config)
    for name, parameter in network.named_parameters():  # leave the starts at zero or identity
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(len(name)))
    rng = torch.Generator().manual_seed(0)
    batch = batch_for(config, rows)
    return [float(network.loss(batch, rng).total.detach()) for _ in range(4)]


@pytest.mark.parametrize("name", AR_CHANGES)
def test_every_ar_field_changes_something(name, utterances):
    first, second = (ARConfig.parse({**SMALL, **values}) for values in AR_CHANGES[name])
    if name == "max_positions":
        assert AR(first).positions.table.shape != AR(second).positions.table.shape
    else:
        assert losses(AR, first, utterances) != losses(AR, second, utterances)


@pytest.mark.parametrize("name", NAR_CHANGES)
def test_every_nar_field_changes_something(name):
    first, second = (NARConfig.parse({**SMALL, **values}) for values in NAR_CHANGES[name])
    rows = [utterance(5, 32, 0), utterance(9, 24, 1)]
    if name == "max_positions":
        assert NAR(first).positions.table.shape != NAR(second).positions.table.shape
    elif name == "codebooks":
        few = [utterance(5, 32, 0, codebooks=4)]
        assert len(NAR(first).codes) == 8
        assert len(NAR(second).codes) == 4
        losses(NAR, second, few)
    else:
        assert losses(NAR, first, rows) != losses(NAR, second, rows)


def test_all_fields_are_covered():
    decoded = {"marks", "needs_prompt"}  # tested where the pointer passes them over, and where prompts are checked
    assert set(AR_CHANGES) | decoded == set(ARConfig.model_fields)
    residual = {f"residual.{name}" for name in ResidualConfig.model_fields}
    filled = {"text", "residual.predicts", "residual.gain"}  # tested where rows are filled
    assert set(NAR_CHANGES) | filled == set(NARConfig.model_fields) | residual
    assert NAR_KINDS
