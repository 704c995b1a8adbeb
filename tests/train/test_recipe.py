"""Recipes of whole systems: one file for all jobs, checked when it is read; and the recipes that we ship."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from openvalle.codec.settings import BuiltinCodecConfig
from openvalle.decode.ar import AROptions
from openvalle.decode.failures import find_silence_codes
from openvalle.engines.choose import Choice
from openvalle.engines.load import load_codec
from openvalle.errors import ConfigError
from openvalle.hub import assets
from openvalle.model.bundle import BundleConfig
from openvalle.model.config import ARConfig, NARConfig
from openvalle.text.symbols import inventory
from openvalle.train.codec import CodecRecipe
from openvalle.train.lm import LanguageModelRecipe
from openvalle.train.pack import PackRecipe
from openvalle.train.predict import PredictRecipe
from openvalle.train.recipe import read_job, read_pair

SHIPPED = Path(__file__).parents[2] / "src" / "openvalle" / "recipes"
SYSTEMS = ["speedrun", "trilingual"]
SYSTEMS += [f"{name}-{size}" for name in ("valle", "vallex", "valler", "valle2") for size in ("paper", "small")]
SYSTEM = {
    "data": "data",
    "ar": {"model": {"merge": 2, "alignment": "phoneme"}, "loop": {"steps": 3}},
    "nar": {"model": {}, "loop": {"steps": 4}, "valid_split": "other"},
    "pack": {"ar": "a", "nar": "n", "name": "x", "licence": "CC0-1.0"},
}


@pytest.fixture
def system(tmp_path: Path) -> Path:
    path = tmp_path / "system.yaml"
    path.write_text(yaml.safe_dump(SYSTEM))
    return path


def test_each_job_reads_its_section_and_what_is_shared(system):
    assert read_job("ar", system) == {"data": "data", **SYSTEM["ar"]}
    assert read_job("nar", system) == {"data": "data", **SYSTEM["nar"]}
    assert read_job("pack", system) == SYSTEM["pack"]


def test_overrides_are_of_the_job_or_name_a_section(system):
    values = read_job("ar", system, ("loop.steps=7", "ar.model.group=2", "nar.loop.steps=9", "data=other"))
    assert values["loop"] == {"steps": 7}
    assert values["model"]["group"] == 2
    assert values["data"] == "other"
    assert read_job("pack", system, ("ar=elsewhere", "pack.nar=there"))["ar"] == "elsewhere"


def test_a_recipe_of_one_job_is_read_as_before(tmp_path):
    path = tmp_path / "one.yaml"
    path.write_text(yaml.safe_dump({"data": "d", "loop": {"steps": 1}}))
    assert read_job("nar", path, ("loop.steps=2",)) == {"data": "d", "loop": {"steps": 2}}
    path.write_text(yaml.safe_dump({"ar": "runs/ar", "nar": "runs/nar", "name": "x"}))
    assert read_job("pack", path) == {"ar": "runs/ar", "nar": "runs/nar", "name": "x"}


def test_networks_that_do_not_fit_are_refused_when_the_recipe_is_read(system):
    with pytest.raises(ConfigError, match="only an AR model with it tells"):
        read_job("ar", system, ("ar.model.merge=1", "model.alignment=none", "nar.model.alignment=phoneme"))
    with pytest.raises(ConfigError, match=r"nar\.model: .*text must be `both`"):
        read_job("ar", system, ("nar.model.text=target",))


def test_a_part_of_the_model_beside_a_start_is_laid_over_what_the_start_is(system, tmp_path):
    """`model: {history_noise: ...}` alone is no AR model: it needs the alignment that the built-in one has."""
    builtin = BundleConfig.load(assets() / "model" / "config.json")
    values = {**SYSTEM, "ar": {"start": "builtin", "model": {"history_noise": 0.3}, "loop": {"steps": 3}}}
    values["nar"] = {**SYSTEM["nar"], "start": "builtin", "model": {}}
    system.write_text(yaml.safe_dump(values))
    assert read_job("ar", system)["model"] == {"history_noise": 0.3}
    assert read_pair(system)[0] == builtin.ar.model_copy(update={"history_noise": 0.3})
    with pytest.raises(ConfigError, match="history_noise"):
        read_job("ar", system, ("model.history_noise=7",))
    run = tmp_path / "run"
    run.mkdir()
    (run / "ar.json").write_text(json.dumps({"config": builtin.ar.model_dump(mode="json")}))
    assert read_job("nar", system, (f"ar.start={run}",)) and read_pair(system)
    assert read_job("nar", system, ("ar.start=nowhere",)), "the AR network is not what is trained"


def test_a_missing_section_is_named(system, tmp_path):
    path = tmp_path / "half.yaml"
    path.write_text(yaml.safe_dump({"data": "d", "ar": SYSTEM["ar"]}))
    with pytest.raises(ConfigError, match="no section `nar`; it has ar"):
        read_job("nar", path)
    with pytest.raises(ConfigError, match="no sections `ar` and `nar`"):
        read_pair(path)


@pytest.mark.parametrize("part", ["ar", "nar", "pack"])
@pytest.mark.parametrize(
    ("generation", "key"),
    [
        ({"smpling": {"window": 5}}, "smpling"),
        ({"sampling": {"windw": 5}}, r"sampling\.windw"),
        ({"watch": {"loop_frames": "many"}}, r"watch\.loop_frames"),
    ],
)
def test_a_misspelt_decoding_option_is_refused_when_the_recipe_is_read(part, generation, key, tmp_path):
    path = tmp_path / "system.yaml"
    path.write_text(yaml.safe_dump({**SYSTEM, "pack": {**SYSTEM["pack"], "generation": generation}}))
    with pytest.raises(ConfigError, match=rf"system\.yaml: pack\.generation: {key}: ") as refused:
        read_job(part, path)
    assert "\n" not in str(refused.value)
    with pytest.raises(ConfigError, match=rf"generation\.{key}: "):
        PackRecipe.parse({**SYSTEM["pack"], "generation": generation}, str(path))


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_shipped_recipe_is_complete(name):
    path = SHIPPED / f"{name}.yaml"
    for part in ("ar", "nar"):
        LanguageModelRecipe.parse(read_job(part, path))
    PackRecipe.parse(read_job("pack", path))


def test_the_built_in_model_is_what_its_recipes_say():
    built = BundleConfig.load(assets() / "model" / "config.json")
    path = SHIPPED / "trilingual.yaml"
    ar, nar = (LanguageModelRecipe.parse(read_job(part, path)) for part in ("ar", "nar"))
    table = inventory()
    assert ARConfig.parse({**ar.model, "symbols": len(table), "marks": table.marks}) == built.ar
    assert nar.adversarial is not None
    sharpened = {**nar.model["residual"], "gain": nar.adversarial.gain}
    assert NARConfig.parse({**nar.model, "symbols": len(table), "residual": sharpened}) == built.nar
    packed = PackRecipe.parse(read_job("pack", path))
    shipped = AROptions.parse(json.loads((assets() / "model" / "generation.json").read_text()))
    # The codes of silence are the codec's: they are found when a model is loaded that does not know them.
    assert shipped.watch.silent == find_silence_codes(load_codec("builtin", Choice(None), "cpu"))
    without = shipped.watch.model_copy(update={"silent": ()})
    assert packed.generation == shipped.model_copy(update={"watch": without})


def test_the_built_in_codec_is_what_its_recipes_say():
    tokens, decoder = (CodecRecipe.load(SHIPPED / f"{name}.yaml") for name in ("codec", "decoder"))
    built = BuiltinCodecConfig.load(assets() / "codec" / "config.json")
    fine = {name: value for name, value in decoder.codec.model_dump().items() if name.startswith("fine_")}
    assert decoder.start == "builtin"
    assert tokens.codec.model_copy(update=fine) == built


def test_the_recipes_of_a_smaller_model_can_be_read():
    for part in ("ar", "nar"):
        LanguageModelRecipe.load(SHIPPED / f"{part}.yaml")
    PackRecipe.load(SHIPPED / "model.yaml")
    PredictRecipe.load(SHIPPED / "predict.yaml")


@pytest.mark.parametrize("name", ["valle", "vallex", "valler", "valle2"])
def test_small_and_paper_recipes_are_the_same_system(name):
    """They differ in size, in what size brings along, and in nothing that makes the system."""
    sizes = {"transformer", "max_positions", "stage_width", "stage_draw", "symbols"}
    pairs = [read_pair(SHIPPED / f"{name}-{size}.yaml") for size in ("small", "paper")]
    for small, paper in zip(*pairs, strict=True):
        assert small.model_dump(exclude=sizes) == paper.model_dump(exclude=sizes)


def test_the_papers_numbers():
    shared = {"width": 1024, "heads": 16, "depth": 12, "feedforward": 4096, "dropout": 0.1}
    warmups = {"valle": (800_000, 32_000), "vallex": (800_000, 8_000), "valler": (400_000, 32_000)}
    for system, (steps, warmup) in warmups.items():
        for part in ("ar", "nar"):
            recipe = LanguageModelRecipe.parse(read_job(part, SHIPPED / f"{system}-paper.yaml"))
            assert recipe.model["transformer"] == shared
            assert (recipe.loop.steps, recipe.loop.optim.warmup) == (steps, warmup)
            assert recipe.loop.optim.learning_rate == 5e-4
            assert recipe.loop.optim.decay == "linear"


def test_the_four_systems_are_what_the_papers_say():
    found: dict[str, tuple[ARConfig, NARConfig]] = {
        name: read_pair(SHIPPED / f"{name}-paper.yaml") for name in ("valle", "vallex", "valler", "valle2")
    }
    ar, nar = ({name: pair[index] for name, pair in found.items()} for index in (0, 1))
    assert [config.step_frames for config in ar.values()] == [1, 1, 2, 2]
    assert [config.use_bos for config in ar.values()] == [False, True, True, True]
    assert [config.text_attention for config in ar.values()] == [*["bidirectional"] * 3, "causal"]
    assert [config.positions for config in ar.values()] == [*["sinusoidal"] * 3, "learnt"]
    assert [config.languages for config in ar.values()] == [0, 2, 0, 0]
    assert [config.alignment for config in nar.values()] == ["none", "none", "phoneme", "none"]
    assert [config.conditioning for config in nar.values()] == ["adaptive", "separate", "adaptive", "token"]
    assert [config.prompt for config in nar.values()] == ["segment", "sentence", "prefix", "prefix"]
    assert [config.text for config in nar.values()] == ["target", "target", "both", "both"]
    assert all(config.tie_output for pair in found.values() for config in pair)
