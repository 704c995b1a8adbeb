"""A model for other programs: all weights in one safetensors file, settings and symbols as plain JSON.

`keys.tsv` says of each weight its shape and what it is; docs/convert.md says how they are used. `read_export` reads the
folder back: the same model.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from openvalle.config import Syntax, read_data
from openvalle.errors import ModelError
from openvalle.files import atomic_folder
from openvalle.model.adapter import Adapter
from openvalle.model.ar import AR
from openvalle.model.bundle import BundleConfig
from openvalle.model.checkpoint import Bundle, load_bundle
from openvalle.model.lora import adapt
from openvalle.model.nar import NAR
from openvalle.types import Vocabulary

WEIGHTS, MODEL, KEYS = "weights.safetensors", "model.json", "keys.tsv"
PARTS = ("ar", "nar")
# What weights are, by their names: the first that fits. D: width, S: symbols, V: entries, Q: codebooks.
MEANINGS = (
    (r"text\.table\.weight", "embedding of each symbol (S, D), times sqrt(D) when it is used"),
    (r"text\.bos|text\.end", "vector before or after the text (D,)"),
    (r"(text\.)?positions\.table", "vector of each position (positions, D)"),
    (r"(text\.)?positions\.factor", "factor on sines and cosines of positions"),
    (r"(text\.)?prenet\.conv\..*", "convolution over neighbours, added after GELU and `out`"),
    (r"(text\.)?prenet\.out\..*", "linear layer after it"),
    (r"text\.stack\..*", "three convolutions with ReLU, then a linear layer"),
    (r"(linear|prenet)\.\d\..*", "linear layers with ReLU between them, on vectors of frames"),
    (r"codes(\.weight)?", "embedding of each code: AR (V or V + 1, D), NAR (Q, V, D or L), times sqrt(D)"),
    (r"project\.weight", "from the codec's vectors to the width (D, L)"),
    (r"bos", "vector of <BOS> of the audio (D,)"),
    (r"end", "vector of <EOS> before the stage token (D,)"),
    (r"head\.weight|code_head\.weight", "scores of codes: AR (V + 1, D), the last is <EOS>; NAR (Q - 1, V, D)"),
    (r"head\.bias|code_head\.bias", "added to them"),
    (r"prompts\.table", "embedding of a prompt's codes where it is a part of its own (Q, V, D), times sqrt(D)"),
    (r"group_(in|out)\.weight", "from G codes to one vector, and back"),
    (r"phoneme_head\..*", "scores of the next phoneme (S, D)"),
    (r"residual_head\..*", "what the codec has yet to add (L, D)"),
    (r"language\.table\.weight", "vector of each language; number 0 is none"),
    (r"stage\.weight", "vector of each stage, from codebook 2 on"),
    (r"transformer\.blocks\.\d+\.\w+_norm\.project\..*", "AdaLN: (1 + first half) * norm + second half; RMS: * all"),
    (r"transformer\.norm\.project\..*", "the same, after the last layer"),
    (r"transformer\.(blocks\.\d+\.\w+_)?norm\..*", "LayerNorm or RMS norm; (stages, D) where each stage has its own"),
    (r"transformer\.blocks\.\d+\.attention\.qkv\..*", "queries, keys and values one under the other (3 D, D)"),
    (r"transformer\.blocks\.\d+\.attention\.out\..*", "after attention (D, D)"),
    (r"transformer\.blocks\.\d+\.(up|down)\..*", "feed-forward; gated: first half is the gate"),
)


def explain(name: str) -> str:
    """Return what the weight of a network is."""
    return next(meaning for pattern, meaning in MEANINGS if re.fullmatch(pattern, name))


def export(folder: Path, out: Path, adapter: Adapter | None = None) -> Path:
    """Write the model in `folder`, with what is added to its weights, for other programs; return the new folder."""
    bundle = load_bundle(folder)
    if adapter is not None:
        bundle = adapt(bundle, adapter)
    networks = {"ar": bundle.ar, "nar": bundle.nar}
    weights = {
        f"{part}.{name}": value.detach().contiguous()
        for part, network in networks.items()
        for name, value in network.state_dict().items()
    }
    rows = [f"{name}\t{tuple(value.shape)}\t{explain(name.partition('.')[2])}" for name, value in weights.items()]
    vocabulary = bundle.vocabulary
    values = {
        "config": bundle.config.model_dump(mode="json"),
        "generation": dict(bundle.generation),
        "symbols": list(vocabulary.symbols),
        "merges": list(vocabulary.merges),
        "notation": vocabulary.notation,
    }
    with atomic_folder(out, replace=True) as part:
        save_file(weights, part / WEIGHTS, metadata={"format": "pt"})
        (part / MODEL).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        (part / KEYS).write_text("\n".join(["name\tshape\twhat it is", *rows]) + "\n", encoding="utf-8")
    return out


def read_export(folder: Path) -> Bundle:
    """Return the model of an exported folder; `ModelError` if it is not whole."""
    values = read_data(folder / MODEL, Syntax.JSON)
    config = BundleConfig.parse(values["config"], str(folder / MODEL))
    ar, nar = AR(config.ar), NAR(config.nar)
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file, torch.no_grad():
            for part, network in zip(PARTS, (ar, nar), strict=True):
                for name, value in network.state_dict().items():
                    value.copy_(file.get_tensor(f"{part}.{name}"))
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{folder / WEIGHTS} cannot be read ({error})", "export the model again") from None
    vocabulary = Vocabulary(tuple(values["symbols"]), tuple(values["merges"]), values["notation"])
    return Bundle(config, ar.eval(), nar.eval(), vocabulary, values["generation"])
