"""Small EnCodec and Vocos models of random weights, saved as the real ones are published."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from encodec_samples import BANDWIDTHS, SIZES, small_encodec


@pytest.fixture(scope="session")
def encodec_model():
    """transformers' EnCodec of random weights."""
    return small_encodec()


@pytest.fixture(scope="session")
def encodec_folder(encodec_model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder: config.json and model.safetensors, as transformers writes them."""
    folder = tmp_path_factory.mktemp("encodec")
    encodec_model.save_pretrained(folder)
    return folder


def vocos_weights(width: int = 12, hidden: int = 20, layers: int = 2, n_fft: int = 1280) -> dict[str, torch.Tensor]:
    """Return random weights under the names of the published file."""
    rng = torch.Generator().manual_seed(1)

    def normal(*shape: int, scale: float = 0.3, mean: float = 0.0) -> torch.Tensor:
        return mean + scale * torch.randn(*shape, generator=rng)

    books, entry, conditions = 8, SIZES["hidden_size"], len(BANDWIDTHS)
    weights = {
        "feature_extractor.codebook_weights": normal(books * SIZES["codebook_size"], entry, scale=1.0),
        "backbone.embed.weight": normal(width, entry, 7),
        "backbone.embed.bias": normal(width),
        "backbone.norm.scale.weight": normal(conditions, width, mean=1.0),
        "backbone.norm.shift.weight": normal(conditions, width),
        "backbone.final_layer_norm.weight": normal(width, mean=1.0),
        "backbone.final_layer_norm.bias": normal(width),
        "head.out.weight": normal(n_fft + 2, width),
        "head.out.bias": normal(n_fft + 2),
        "head.istft.window": torch.hann_window(n_fft),
    }
    for layer in range(layers):
        name = f"backbone.convnext.{layer}."
        weights |= {
            name + "gamma": normal(width, mean=0.5),
            name + "dwconv.weight": normal(width, 1, 7),
            name + "dwconv.bias": normal(width),
            name + "norm.scale.weight": normal(conditions, width, mean=1.0),
            name + "norm.shift.weight": normal(conditions, width),
            name + "pwconv1.weight": normal(hidden, width),
            name + "pwconv1.bias": normal(hidden),
            name + "pwconv2.weight": normal(width, hidden),
            name + "pwconv2.bias": normal(width),
        }
    return weights


def vocos_config(weights: dict[str, torch.Tensor]) -> dict:
    """Return the published config.yaml for such weights."""
    width = len(weights["backbone.embed.bias"])
    backbone = {
        "input_channels": weights["backbone.embed.weight"].shape[1],
        "dim": width,
        "intermediate_dim": len(weights["backbone.convnext.0.pwconv1.bias"]),
        "num_layers": sum(name.endswith("gamma") for name in weights),
        "adanorm_num_embeddings": len(BANDWIDTHS),
    }
    features = {"encodec_model": "encodec_24khz", "bandwidths": BANDWIDTHS}
    head = {"dim": width, "n_fft": len(weights["head.istft.window"]), "hop_length": 320, "padding": "same"}
    return {
        "feature_extractor": {"class_path": "vocos.feature_extractors.EncodecFeatures", "init_args": features},
        "backbone": {"class_path": "vocos.models.VocosBackbone", "init_args": backbone},
        "head": {"class_path": "vocos.heads.ISTFTHead", "init_args": head},
    }


@pytest.fixture
def vocos_folder(tmp_path: Path) -> Path:
    """A Vocos head as it is published: config.yaml and pytorch_model.bin."""
    folder, weights = tmp_path / "vocos", vocos_weights()
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(vocos_config(weights)))
    torch.save(weights, folder / "pytorch_model.bin")
    return folder
