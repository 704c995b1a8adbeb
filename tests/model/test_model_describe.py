"""Describing a model: every parameter counted once, the papers' arithmetic, memory as it is allocated, the picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lm_samples import AR_KINDS, NAR_KINDS, RECIPES, SMALL, ar_of, nar_of, utterance
from openvalle.cli.main import app
from openvalle.decode.prompt import prepare_inputs, zero_shot
from openvalle.engines.torch import TorchAR
from openvalle.model.config import ARConfig, NARConfig
from openvalle.model.describe import BLOCKS, ar_mask, describe, nar_mask, plot_masks
from openvalle.train.recipe import read_pair

SYSTEMS = ("valle", "vallex", "valler", "valle2")
PER_LAYER = 12 * 1024**2 + 5 * 1024 + 4096  # four matrices and their biases, D = 1024, feed-forward 4 D


@pytest.mark.parametrize("kind", AR_KINDS)
def test_every_parameter_of_the_ar_model_is_counted_once(kind):
    network = ar_of(kind)
    found = describe(network.config, NARConfig.parse(SMALL)).ar
    assert found.total == sum(parameter.numel() for parameter in network.parameters())
    assert found.blocks == sum(parameter.numel() for parameter in network.transformer.blocks.parameters())


@pytest.mark.parametrize("kind", NAR_KINDS)
def test_every_parameter_of_the_nar_model_is_counted_once(kind):
    network = nar_of(kind)
    found = describe(ARConfig.parse(SMALL), network.config).nar
    assert found.total == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("system", SYSTEMS)
def test_parameters_at_the_papers_size(system):
    """VALL-E 5.1: 12 layers, 1024, 4096: 151 M in the blocks. Tied heads cost nothing."""
    numbers = describe(*read_pair(RECIPES / f"{system}-paper.yaml"))
    for network in (numbers.ar, numbers.nar):
        assert network.parts[BLOCKS] == 12 * PER_LAYER
        assert "code heads" not in network.parts
    assert numbers.ar.blocks == 12 * (PER_LAYER + 4 * 1024)
    assert round(numbers.ar.blocks / 1e6) == 151
    assert numbers.ar.parts["code embeddings"] == 1025 * 1024
    assert numbers.nar.parts["code embeddings"] == 8 * 1024 * 1024
    norms = {
        "adaptive": 25 * (1024 * 2048 + 2048),  # a projection of the stage's embedding in each
        "separate": 25 * 7 * 2048,  # one set per stage
        "token": 25 * 2048,
    }
    assert numbers.nar.parts["norms"] == norms[read_pair(RECIPES / f"{system}-paper.yaml")[1].conditioning]


def test_grouping_and_merging_halve_the_steps():
    steps = {name: describe(*read_pair(RECIPES / f"{name}-paper.yaml")).ar_steps for name in SYSTEMS}
    assert steps == {"valle": 750, "vallex": 750, "valler": 375, "valle2": 375}
    numbers = describe(*read_pair(RECIPES / "valler-paper.yaml"))
    assert (numbers.codes_per_second, numbers.ar_codes_per_second, numbers.nar_passes) == (600, 37.5, 7)


@pytest.mark.parametrize("kind", ["valle", "valler", "valle2"])
def test_the_cache_is_as_large_as_described(kind):
    """A prompt of 3 s, the symbols of 13 s of text and 10 s of speech."""
    model = ar_of(kind)
    numbers = describe(model.config, NARConfig.parse(SMALL))
    step = model.config.step_frames
    voice = utterance(36, int(225 / step) * step, 0)
    prompt = zero_shot(model.config, voice, np.ones(120, np.int64)).ar(model.config)
    _, state = TorchAR(model).prefill(prepare_inputs(model.config, [prompt]), room=numbers.ar_steps)
    tensors = (state.inner.cache.keys, state.inner.cache.values)
    assert sum(tensor.numel() * tensor.element_size() for tensor in tensors) == numbers.cache


def test_masks_are_what_the_papers_state():
    """VALL-E, X, R: text sees the whole text and no audio; VALL-E 2: all to the left. The NAR model sees everything."""
    for system in SYSTEMS:
        ar, nar = read_pair(RECIPES / f"{system}-paper.yaml")
        seen, parts = ar_mask(ar)
        text, length = parts[0][1], len(seen)
        assert not seen[:text, text:].any()
        assert seen[text:, :text].all()
        assert np.array_equal(seen[text:, text:], np.tri(length - text, dtype=bool))
        expected = np.tri(text, dtype=bool) if system == "valle2" else np.ones((text, text), bool)
        assert np.array_equal(seen[:text, :text], expected)
        assert nar_mask(nar)[0].all()
    assert [name for name, _ in nar_mask(nar)[1]] == ["text, <EOS>", "prompt", "target", "<EOS>, stage"]
    alone = NARConfig.parse({**SMALL, "prompt": "none", "text": "target"})
    assert [name for name, _ in nar_mask(alone)[1]] == ["text", "target"]


def test_the_picture_shows_the_mask(tmp_path):
    from matplotlib.image import imread

    paths = [
        plot_masks(*read_pair(RECIPES / f"{name}-small.yaml"), tmp_path / f"{name}.png") for name in ("valle", "valle2")
    ]
    first, second = (imread(path) for path in paths)
    assert first.shape[0] > 300
    assert first.shape != second.shape or not np.array_equal(first, second)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["model", "describe", *arguments])
    return result.exit_code, result.stdout


def test_the_command_prints_tables_json_and_a_picture(tmp_path: Path):
    recipe, picture = str(RECIPES / "valler-paper.yaml"), tmp_path / "mask.svg"
    code, shown = run(recipe, "--plot", str(picture))
    assert code == 0
    assert "151.2 M" in shown
    assert "375" in shown
    assert picture.read_text().lstrip().startswith("<?xml")
    code, shown = run(recipe, "--json", "--seconds", "20")
    values = json.loads(shown)
    assert (values["ar_steps"], values["seconds"], values["plot"]) == (750, 20.0, None)
    assert values["memory"] == values["weights"] + values["cache"]


def test_a_model_is_described_too(tiny_model):
    code, shown = run(str(tiny_model), "--json")
    assert code == 0
    assert json.loads(shown)["ar_codes_per_second"] == 37.5


@pytest.mark.parametrize("name", ["nothing.yaml", "no-such-model"])
def test_what_is_not_there_is_said_in_one_line(name):
    result = CliRunner().invoke(app, ["model", "describe", name])
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_picture_of_an_unknown_kind_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["model", "describe", str(RECIPES / "valle-small.yaml"), "--plot", "mask.doc"])
    assert result.exit_code == 2
    assert "end it in .png" in result.stderr
