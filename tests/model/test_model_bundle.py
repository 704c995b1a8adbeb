"""A model on disk is the same function, and every damage is one clear line."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from lm_samples import batch_for, bundle_of
from openvalle.engines.layers import Precision
from openvalle.engines.onnx import load_ar
from openvalle.errors import ModelError
from openvalle.model.bundle import (
    FILES,
    read_description,
    rename_weight,
    require_same_codec,
    require_same_symbols,
)
from openvalle.model.checkpoint import Bundle, NetworkFile, Part, Storage, load_bundle, load_network, save_bundle
from openvalle.model.rounding import ROUNDED, SCALES
from openvalle.types import TokenSpec, Vocabulary


@pytest.fixture
def bundle() -> Bundle:
    return bundle_of("builtin")


def test_saved_and_loaded_is_the_same_function(bundle, tmp_path, utterances):
    save_bundle(bundle, tmp_path / "model")
    loaded = load_bundle(tmp_path / "model")
    batch = batch_for(bundle.ar.config, utterances)
    assert torch.equal(loaded.ar.loss(batch).total, bundle.ar.loss(batch).total)
    rngs = [torch.Generator().manual_seed(0) for _ in range(2)]
    assert torch.equal(loaded.nar.loss(batch, rngs[0]).total, bundle.nar.loss(batch, rngs[1]).total)
    assert (loaded.config, loaded.vocabulary, loaded.generation) == (
        bundle.config,
        bundle.vocabulary,
        bundle.generation,
    )
    assert not loaded.ar.training


def test_a_model_of_format_1_is_the_same_function(bundle, tmp_path, utterances):
    """Settings and weights had other names: all of them are read, and those of a network alone."""
    save_bundle(bundle, tmp_path / "model")
    values = json.loads((tmp_path / "model" / "config.json").read_text())
    for network in (values["ar"], values["nar"]):
        network["stack"], network["entries"] = network.pop("transformer"), network.pop("codebook_size")
    values["ar"]["begin"] = values["ar"].pop("use_bos")
    values["nar"]["first_noise"] = values["nar"].pop("codebook1_noise")
    residual = values["nar"].pop("residual")
    values["nar"] |= {"choice": "rest", "distance_weight": residual["weight"]}
    values["nar"] |= {name: residual[name] for name in ("passes", "gain", "code_weight")}
    (tmp_path / "model" / "config.json").write_text(json.dumps(values | {"format_version": 1}))
    renamed = {"transformer.": "stack.", ".attention.": ".", "bos": "begin", "residual_head.linear": "expect"}
    for name in ("ar", "nar"):
        path = tmp_path / "model" / f"{name}.safetensors"
        weights = load_file(path)
        for new, old in renamed.items():
            weights = {key.replace(new, old): value for key, value in weights.items()}
        save_file(weights, path)
    loaded = load_bundle(tmp_path / "model")
    assert loaded.config == bundle.config
    assert all(torch.equal(a, b) for a, b in zip(loaded.nar.parameters(), bundle.nar.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(loaded.ar.parameters(), bundle.ar.parameters(), strict=True))
    known = {"codec": TokenSpec(name="c"), "symbols": ("a",), "symbols_digest": "", "languages": ("en",)}
    alone = NetworkFile(part=Part.NAR, config=values["nar"], **known)
    assert torch.equal(load_network(alone, tmp_path / "model").codes, bundle.nar.codes)


def test_a_matrix_of_its_own_keeps_its_name_of_format_1():
    assert [rename_weight(name) for name in ("head", "head.weight")] == ["code_head.weight", "head.weight"]


def test_half_precision_is_half_the_size_and_nearly_the_same(bundle, tmp_path):
    save_bundle(bundle, tmp_path / "whole")
    save_bundle(bundle, tmp_path / "half", Storage.FLOAT16)
    sizes = [(tmp_path / name / "ar.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    weight = load_bundle(tmp_path / "half").ar.codes.weight
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight, bundle.ar.codes.weight, atol=1e-3, rtol=1e-3)


def test_in_8_bits_matrices_are_rounded_and_the_rest_is_in_half_precision(bundle, tmp_path):
    save_bundle(bundle, tmp_path / "rounded", Storage.INT8)
    save_bundle(bundle, tmp_path / "half", Storage.FLOAT16)
    rounded, half = (load_bundle(tmp_path / name) for name in ("rounded", "half"))
    for network, exact, expected in ((rounded.ar, bundle.ar, half.ar), (rounded.nar, bundle.nar, half.nar)):
        found, others, count = network.state_dict(), expected.state_dict(), 0
        for name, value in exact.state_dict().items():
            if not ROUNDED.fullmatch(name):
                assert torch.equal(found[name], others[name])
                continue
            half_a_step = value.abs().amax(1, keepdim=True) / 127 * 0.501
            assert bool(((found[name] - value).abs() <= half_a_step).all())
            count += 1
        assert count == 4 * exact.config.transformer.depth
    stored = load_file(tmp_path / "rounded" / "ar.safetensors")
    assert sum(value.dtype == torch.int8 for value in stored.values()) == 4 * bundle.ar.config.transformer.depth
    save_bundle(rounded, tmp_path / "again", Storage.INT8)  # rounding what is rounded changes nothing
    again = load_file(tmp_path / "again" / "ar.safetensors")
    assert all(torch.equal(value, again[name]) for name, value in stored.items() if value.dtype == torch.int8)


@pytest.mark.parametrize("damage", ["gone", "short", "infinite"])
def test_rows_without_their_scales_are_one_line(bundle, tmp_path, damage):
    save_bundle(bundle, tmp_path / "model", Storage.INT8)
    path = tmp_path / "model" / "ar.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if name.endswith(SCALES))
    scales = weights.pop(name)
    weights |= {"gone": {}, "short": {name: scales[:-1]}, "infinite": {name: scales / 0}}[damage]
    save_file(weights, path)
    expected = "no finite numbers" if damage == "infinite" else "no scale for each row"
    with pytest.raises(ModelError, match=expected):
        load_bundle(tmp_path / "model")
    with pytest.raises(ModelError, match=expected):
        load_ar(read_description(tmp_path / "model"), Precision.INT8)


def test_saving_again_replaces_and_keeps_other_files(bundle, tmp_path):
    save_bundle(bundle, tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("card")
    with torch.no_grad():
        bundle.ar.bos.zero_()
    save_bundle(bundle, tmp_path / "model")
    assert (tmp_path / "model" / "README.md").read_text() == "card"
    assert not load_bundle(tmp_path / "model").ar.bos.any()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_failed_save_leaves_the_old_model(bundle, tmp_path, monkeypatch):
    save_bundle(bundle, tmp_path / "model")

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("openvalle.model.checkpoint.save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_bundle(bundle, tmp_path / "model")
    load_bundle(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(bundle, tmp_path, name):
    save_bundle(bundle, tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    with pytest.raises(ModelError, match=f"has no {name}"):
        load_bundle(tmp_path / "model")


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named(bundle, tmp_path, name):
    save_bundle(bundle, tmp_path / "model")
    path = tmp_path / "model" / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ModelError, match=name) as caught:
        load_bundle(tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_a_missing_folder(tmp_path):
    with pytest.raises(ModelError, match="no model folder"):
        load_bundle(tmp_path / "nothing")


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("file", "changes", "reason"),
    [
        ("config.json", {"format_version": 3}, "update openvalle"),
        ("config.json", {"speed": 3}, "speed"),
        ("config.json", {"symbols_digest": "other"}, "symbol table"),
        ("symbols.json", {"digest": "other"}, "was altered"),
        ("symbols.json", {"symbols": ["a", "b"]}, "was altered"),
        ("symbols.json", {"symbols": ["a", "b"], "digest": Vocabulary(("a", "b")).digest}, "symbol table"),
    ],
)
def test_files_that_do_not_fit_are_refused(bundle, tmp_path, file, changes, reason):
    save_bundle(bundle, tmp_path / "model")
    edit(tmp_path / "model" / file, **changes)
    with pytest.raises(ModelError, match=reason):
        load_bundle(tmp_path / "model")


def test_weights_of_another_model_are_refused(bundle, tmp_path):
    save_bundle(bundle, tmp_path / "model")
    (tmp_path / "model" / "nar.safetensors").replace(tmp_path / "model" / "ar.safetensors")
    save_bundle(bundle, tmp_path / "other")
    (tmp_path / "other" / "nar.safetensors").replace(tmp_path / "model" / "nar.safetensors")
    with pytest.raises(ModelError, match="another model"):
        load_bundle(tmp_path / "model")


def test_other_codecs_and_symbols_are_refused(bundle):
    require_same_codec(bundle.config, "c0dec", "anna.safetensors")
    require_same_symbols(bundle.config, bundle.vocabulary.digest, "anna.safetensors")
    with pytest.raises(ModelError, match=r"anna.safetensors uses the codec beef"):
        require_same_codec(bundle.config, "beef", "anna.safetensors")
    with pytest.raises(ModelError, match=r"anna.safetensors uses the symbol table beef"):
        require_same_symbols(bundle.config, "beef", "anna.safetensors")


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are POSIX")
def test_every_file_has_the_same_permissions(bundle, tmp_path):
    save_bundle(bundle, tmp_path / "model")
    assert len({path.stat().st_mode for path in (tmp_path / "model").iterdir()}) == 1
