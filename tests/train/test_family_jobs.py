"""Each system from its small recipe: trained on tokens, packed, loaded, spoken with in both modes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lm_samples import speak
from openvalle.config import write_json_lines
from openvalle.data.batches import take_symbols
from openvalle.data.shards import TokenShards
from openvalle.decode.prompt import continuation, zero_shot
from openvalle.engines.torch import TorchAR, TorchNAR
from openvalle.errors import ConfigError
from openvalle.model.checkpoint import Part, load_bundle, save_bundle
from openvalle.synth.load import parse_options
from openvalle.train.lm import LanguageModelRecipe, LanguageModelTask
from openvalle.train.loop import TrainingProgress
from openvalle.train.recipe import read_job, run
from token_samples import write_random_tokens

RECIPES = Path(__file__).parents[2] / "src" / "openvalle" / "recipes"
TINY = "{width: 16, heads: 2, depth: 1, feedforward: 32, dropout: 0.1}"
SPEAKERS = ("anna", "ben", "anna", "anna", "ben", "cleo")


def tokens(folder: Path, merge: int) -> Path:
    """Write six rows of three speakers; codebook 1 is merged."""
    return write_random_tokens(folder, SPEAKERS, merge, {})


def settings(data: Path) -> tuple[str, ...]:
    return (
        f"data={data}",
        "valid_split=train",
        "valid_batches=1",
        f"model.transformer={TINY}",
        "loop={steps: 2, precision: float32, optim: {warmup: 1}}",
        "batches={frames: 120, max_seconds: 0.4}",
    )


@pytest.mark.parametrize("system", ["valle", "vallex", "valler", "valle2"])
def test_from_a_recipe_to_speech(system, tmp_path):
    recipe, data = RECIPES / f"{system}-small.yaml", tokens(tmp_path, 2 if system == "valler" else 1)
    for part in ("ar", "nar"):
        run(part, recipe, settings(data), tmp_path / part)
    where = tuple(f"{part}={tmp_path / part}" for part in ("ar", "nar"))
    bundle = load_bundle(run("pack", recipe, (*where, "storage=float32"), tmp_path / "model"))
    options = parse_options(bundle.generation, system).model_copy(update={"symbol_frames": 6, "most_frames": 6.0})
    item = TokenShards.open(data, "train")[5]
    row = replace(item, language=1)
    prompts = [
        zero_shot(bundle.ar.config, row, np.array([45, 3, 49, 46]), language=1),
        continuation(bundle.ar.config, row, np.array([45, 3, 49, 46]), 1),
    ]
    spoken = speak(TorchAR(bundle.ar), TorchNAR(bundle.nar), prompts, options, [1, 2])
    assert all(codes.ndim == 2 and codes.shape[1] == 8 for codes in spoken)
    save_bundle(bundle, tmp_path / "copy")
    copy = load_bundle(tmp_path / "copy")
    again = speak(TorchAR(copy.ar), TorchNAR(copy.nar), prompts, options, [1, 2])
    assert all(np.array_equal(a, b) for a, b in zip(spoken, again, strict=True))


def task(system: str, data: Path, part: Part, *overrides: str) -> LanguageModelTask:
    recipe = RECIPES / f"{system}-small.yaml"
    values = read_job(part.value, recipe, (*settings(data), *overrides))
    return LanguageModelTask(part, LanguageModelRecipe.parse(values))


def test_the_prompt_of_x_is_what_the_speaker_said_before(tmp_path):
    made = task("vallex", tokens(tmp_path, 1), Part.NAR)
    shards = made.train
    elsewhere = [made._row(shards[index], shards).speaker_codes for index in range(len(SPEAKERS))]
    expected = [2, 4, 0, 2, 1]  # the first sentences of anna and ben have the next one
    for index, other in enumerate(expected):
        assert np.array_equal(elsewhere[index], shards[other].codes)
    assert len(elsewhere[5]) == 0  # cleo said nothing else: no prompt
    assert (
        float(made.losses(made.batch(0, 0, 1), TrainingProgress(0, 0.0), torch.Generator()).minimise["nar"].detach())
        > 0
    )


def test_the_prompt_of_valle_is_from_the_recording_that_was_cropped(tmp_path):
    made = task("valle", tokens(tmp_path, 1), Part.NAR)
    whole = made.train[5]
    part = take_symbols(take_symbols(whole, 1, 3), 1, 2)
    row = made._row(part, made.train)
    assert np.array_equal(row.speaker_codes, whole.codes)
    assert np.array_equal(row.codes, whole.codes[row.speaker_start :][: len(row.codes)])
    assert row.speaker_start == 10
    assert made._row(whole, made.train).speaker_start == 0  # cleo said nothing else


def test_the_recording_of_a_whole_row_goes_on_in_what_the_speaker_said_before(tmp_path):
    made = task("valle", tokens(tmp_path, 1), Part.NAR)
    row, before = made.train[2], made.train[0]
    given = made._row(row, made.train)
    assert np.array_equal(given.speaker_codes, np.concatenate([before.codes, row.codes]))
    assert given.speaker_start == len(before.codes)


def test_tokens_that_are_merged_otherwise_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"made with merge 1 and the model has merge 2.*--merge 2"):
        task("valler", tokens(tmp_path, 1), Part.AR)


def test_another_table_of_symbols_than_the_recipe_says_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="the recipe says 4000"):
        task("valle", tokens(tmp_path, 1), Part.AR, "model.symbols=4000", "nar.model.symbols=4000")


def test_more_languages_than_the_model_has_are_refused_before_training(tmp_path):
    folder = tokens(tmp_path, 1)
    path = folder / "tokens" / "index.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    write_json_lines(path, [{**row, "language": ["en", "zh", "ja"][index % 3]} for index, row in enumerate(rows)])
    with pytest.raises(ConfigError, match="3 languages, the model 2"):
        task("vallex", folder, Part.AR)
