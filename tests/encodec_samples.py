"""A small EnCodec of random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

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
