"""An adapter begins as nothing, trains alone, and is the same function once it is added to the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lm_samples import ar_of, nar_of
from openvalle.errors import ModelError
from openvalle.model.adapter import Adapter, MergedWeights, weights_digest
from openvalle.model.lora import AdapterConfig, adapter_tensors, add_adapter, to_arrays, without_adapter

KINDS = [("ar", ar_of), ("nar", nar_of)]


def block_output(network: torch.nn.Module) -> torch.Tensor:
    """Return what one feed-forward of the network makes of fixed numbers."""
    up = network.transformer.blocks[0].up
    return up(torch.linspace(-1, 1, 3 * up.in_features).view(3, -1))


@pytest.mark.parametrize(("name", "make"), KINDS)
def test_an_adapter_begins_as_nothing_and_is_all_that_trains(name, make) -> None:
    network = make("builtin" if name == "nar" else "valle")
    before, digest = block_output(network), weights_digest(to_arrays(network))
    add_adapter(network, AdapterConfig(rank=3), seed=0)
    assert torch.equal(block_output(network), before)
    trained = [key for key, each in network.named_parameters() if each.requires_grad]
    assert trained and all(key.endswith((".up", ".down")) for key in trained)
    assert weights_digest(to_arrays(without_adapter(network))) == digest


@pytest.mark.parametrize(("name", "make"), KINDS)
def test_added_to_the_weights_it_is_the_same_function(name, make, tmp_path: Path) -> None:
    kind = "builtin" if name == "nar" else "valle"
    network, plain = make(kind), make(kind)
    digest = weights_digest(to_arrays(plain))
    add_adapter(network, AdapterConfig(rank=3, scale=1.5), seed=1)
    for key, each in network.named_parameters():
        if key.endswith(".up"):
            torch.nn.init.normal_(each, std=0.1, generator=torch.Generator().manual_seed(2))
    merged = without_adapter(network)
    torch.testing.assert_close(block_output(merged), block_output(network))
    assert set(merged.state_dict()) == set(plain.state_dict())
    path = Adapter({name: adapter_tensors(network)}, {name: digest}, "tiny").save(tmp_path / "adapter.safetensors")
    loaded = Adapter.load(tmp_path)  # its folder will do
    assert loaded.digests == {name: digest} and loaded.model == "tiny"
    added = loaded.merge(name, to_arrays(plain), "tiny")
    plain.load_state_dict({key: torch.from_numpy(added[key]) for key in added})
    torch.testing.assert_close(block_output(plain), block_output(network), atol=2e-3, rtol=2e-3)
    with pytest.raises(ModelError, match="made for another model"):
        loaded.merge(name, to_arrays(plain), "tiny")  # which it is now
    assert path.stat().st_size < 100_000


def test_what_does_not_fit_is_refused() -> None:
    weights = to_arrays(ar_of("valle"))
    with pytest.raises(ModelError, match=r"another transformer\.blocks\.9\.up"):
        MergedWeights(weights, {f"transformer.blocks.9.up.{each}": np.zeros((2, 2)) for each in ("up", "down")})
    _, width = weights["transformer.blocks.0.up.weight"].shape
    with pytest.raises(ModelError, match=r"another transformer\.blocks\.0\.up"):
        MergedWeights(weights, {"transformer.blocks.0.up.down": np.zeros((2, width))})


def test_files_that_are_none_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no adapter"):
        Adapter.load(tmp_path / "none.safetensors")
    (tmp_path / "broken").write_bytes(b"x" * 40)
    with pytest.raises(ModelError, match="cannot be read"):
        Adapter.load(tmp_path / "broken")
    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(ModelError, match="is no adapter"):
        Adapter.load(tmp_path / "other")
    save_file({"a": torch.zeros(1)}, tmp_path / "newer", {"format": "openvalle-adapter", "version": "9"})
    with pytest.raises(ModelError, match="version 9"):
        Adapter.load(tmp_path / "newer")
