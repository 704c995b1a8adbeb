"""A small EnCodec of random weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
import yaml

if TYPE_CHECKING:
    from transformers import EncodecModel

SIZES = {"num_filters": 4, "hidden_size": 16, "codebook_size": 32, "num_lstm_layers": 2}
# bandwidths that give 1, 2, 4 and 8 codebooks of 32 entries: 5 bits at 75 frames/s
BANDWIDTHS = [0.375, 0.75, 1.5, 3.0]


def small_encodec() -> EncodecModel:
    """transformers' EnCodec of random weights."""
    from transformers import EncodecConfig, EncodecModel

    torch.manual_seed(0)
    model = EncodecModel(EncodecConfig(**SIZES, target_bandwidths=BANDWIDTHS)).eval().requires_grad_(False)
    residual = model.encoder(0.3 * torch.randn(1, 1, 320 * SIZES["codebook_size"]))  # (1, D, T)
    for layer in model.quantizer.layers:  # entries in the midst of what they stand for
        spread = 0.3 * residual[0].std(-1).mean() * torch.randn(residual[0].T.shape)
        layer.codebook.embed.copy_(residual[0].T + spread)
        residual = residual - layer.decode(layer.encode(residual))
    return model


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


def write_vocos(folder: Path) -> Path:
    """Write a Vocos head as it is published: config.yaml and pytorch_model.bin."""
    weights = vocos_weights()
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(vocos_config(weights)))
    torch.save(weights, folder / "pytorch_model.bin")
    return folder
