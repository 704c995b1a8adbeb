"""A small SpeechTokenizer of random weights in the published layout; its own code was recorded with the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from checkpoint_layouts import draw

CONFIG: dict[str, Any] = {
    "n_filters": 4,
    "strides": [8, 5, 4, 2],
    "dimension": 12,
    "semantic_dimension": 6,
    "bidirectional": True,
    "dilation_base": 2,
    "residual_kernel_size": 3,
    "n_residual_layers": 1,
    "lstm_layers": 2,
    "activation": "ELU",
    "codebook_size": 32,
    "n_q": 8,
    "sample_rate": 16000,
    "learning_rate": 1e-4,
}
DIMENSION, ENTRIES, WIDTH = 12, 32, 4


def speechtokenizer_shapes() -> dict[str, tuple[int, ...]]:
    """Return names and shapes of its weights."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, out: int, into: int, kernel: int, kind: str = "conv") -> None:
        first, second = (into, out) if kind == "convtr" else (out, into)
        shapes[f"{name}.{kind}.{kind}.bias"] = (out,)
        shapes[f"{name}.{kind}.{kind}.weight_g"] = (first, 1, 1)
        shapes[f"{name}.{kind}.{kind}.weight_v"] = (first, second, kernel)

    def residual(name: str, width: int) -> None:
        conv(f"{name}.block.1", width // 2, width, 3)
        conv(f"{name}.block.3", width, width // 2, 1)
        conv(f"{name}.shortcut", width, width, 1)

    def lstm(name: str, width: int, directions: tuple[str, ...]) -> None:
        for layer in range(2):
            for end in directions:
                into = width * (len(directions) if layer else 1)
                shapes[f"{name}.lstm.weight_ih_l{layer}{end}"] = (4 * width, into)
                shapes[f"{name}.lstm.weight_hh_l{layer}{end}"] = (4 * width, width)
                for kind in ("ih", "hh"):
                    shapes[f"{name}.lstm.bias_{kind}_l{layer}{end}"] = (4 * width,)

    width = WIDTH
    conv("encoder.model.0", width, 1, 7)
    for number, stride in enumerate((2, 4, 5, 8)):
        residual(f"encoder.model.{1 + 3 * number}", width)
        conv(f"encoder.model.{3 + 3 * number}", 2 * width, width, 2 * stride)
        width *= 2
    lstm("encoder.model.13", width, ("", "_reverse"))
    conv("encoder.model.15", DIMENSION, 2 * width, 7)
    conv("decoder.model.0", width, DIMENSION, 7)
    lstm("decoder.model.1", width, ("",))
    for number, stride in enumerate((8, 5, 4, 2)):
        conv(f"decoder.model.{3 + 3 * number}", width // 2, width, 2 * stride, "convtr")
        width //= 2
        residual(f"decoder.model.{4 + 3 * number}", width)
    conv("decoder.model.15", 1, width, 7)
    for level in range(8):
        own = f"quantizer.vq.layers.{level}._codebook"
        shapes |= {f"{own}.inited": (1,), f"{own}.cluster_size": (ENTRIES,)}
        shapes |= {f"{own}.embed": (ENTRIES, DIMENSION), f"{own}.embed_avg": (ENTRIES, DIMENSION)}
    return shapes | {"transform.weight": (6, DIMENSION), "transform.bias": (6,)}


def speechtokenizer_weights() -> dict[str, torch.Tensor]:
    """Return such weights."""
    weights = {name: draw(f"speechtokenizer.{name}", shape) for name, shape in speechtokenizer_shapes().items()}
    for name, value in weights.items():
        if name.endswith("weight_g"):
            weights[name] = 1.0 + value.abs()
        elif ".embed" in name:
            weights[name] = value * 0.6 ** int(name.split(".")[3])
        elif name.endswith("inited"):
            weights[name] = torch.ones(1)
    return weights


def save_speechtokenizer(folder: Path) -> Path:
    """Write such a codec as it is published."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    torch.save(speechtokenizer_weights(), folder / "SpeechTokenizer.pt")
    return folder
