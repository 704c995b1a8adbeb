"""Small checkpoints of random weights in the layouts of other projects: names of weights, shapes, extra entries.

The numbers come from NumPy's legacy generator, which gives the same in every version, so that what their code made of
the same weights could be recorded (`recorded/*.npz`: inputs, outputs, and the revision of the code).
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

RECORDED = Path(__file__).parent / "convert" / "recorded"
WIDTH, HEADS, DEPTH, ENTRIES, BOOKS = 16, 2, 2, 32, 8
SYMBOLS = ["!", ",", ".", "<eps>", "_", "a", "b", "eɪ", "h", "k", "n", "oʊ", "s", "t", "ə", "ɑː", "ɹ"]


def draw(name: str, shape: tuple[int, ...], scale: float = 0.3) -> torch.Tensor:
    """Return the random weight of a name, the same for each call."""
    rng = np.random.RandomState(zlib.crc32(name.encode()) & 0xFFFFFFFF)
    if name.endswith("running_var"):
        return torch.from_numpy(rng.uniform(0.5, 2.0, shape).astype(np.float32))
    if name.endswith("num_batches_tracked"):
        return torch.tensor(100)
    centre = 1.0 if name.endswith("norm.weight") or "norm1.weight" in name or "norm2.weight" in name else 0.0
    return torch.from_numpy(np.asarray(centre + scale * rng.standard_normal(shape), np.float32))


def fill(shapes: dict[str, tuple[int, ...]], **scales: float) -> dict[str, torch.Tensor]:
    return {name: draw(name, shape, scales.get(name, 0.3)) for name, shape in shapes.items()}


def valle_shapes(
    width: int = WIDTH,
    text_rows: int = 24,
    *,
    bos: bool = False,
    prenet: bool = False,
    languages: int = 0,
    nar_scale: float = 1.0,
    entries: int = ENTRIES,
) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of lifeiteng/vall-e, which icefall, Amphion (VALLE) and VALL-E X share."""
    shapes: dict[str, tuple[int, ...]] = {}
    for part, d in (("ar", width), ("nar", int(width * nar_scale))):
        shapes[f"{part}_text_embedding.word_embeddings.weight"] = (text_rows, d)
        if languages:
            shapes[f"{part}_language_embedding.word_embeddings.weight"] = (languages, d)
        if prenet:
            for conv in (1, 5, 9):
                shapes[f"{part}_text_prenet.{conv}.weight"] = (d, d, 5)
                shapes[f"{part}_text_prenet.{conv}.bias"] = (d,)
                for name in ("weight", "bias", "running_mean", "running_var"):
                    shapes[f"{part}_text_prenet.{conv + 1}.{name}"] = (d,)
                shapes[f"{part}_text_prenet.{conv + 1}.num_batches_tracked"] = ()
            shapes |= {f"{part}_text_prenet.14.weight": (d, d), f"{part}_text_prenet.14.bias": (d,)}
            for layer, (into, out) in {0: (d, 256), 3: (256, 256), 6: (256, d)}.items():
                shapes[f"{part}_audio_prenet.{layer}.weight"] = (out, into)
                shapes[f"{part}_audio_prenet.{layer}.bias"] = (out,)
        shapes |= {f"{part}_text_position.alpha": (1,), f"{part}_audio_position.alpha": (1,)}
        norms = []
        for layer in range(DEPTH if part == "ar" else int(DEPTH * nar_scale)):
            own = f"{part}_decoder.layers.{layer}"
            shapes |= {f"{own}.self_attn.in_proj_weight": (3 * d, d), f"{own}.self_attn.in_proj_bias": (3 * d,)}
            shapes |= {f"{own}.self_attn.out_proj.weight": (d, d), f"{own}.self_attn.out_proj.bias": (d,)}
            shapes |= {f"{own}.linear1.weight": (4 * d, d), f"{own}.linear1.bias": (4 * d,)}
            shapes |= {f"{own}.linear2.weight": (d, 4 * d), f"{own}.linear2.bias": (d,)}
            norms += [f"{own}.norm1", f"{own}.norm2"]
        for norm in (*norms, f"{part}_decoder.norm"):
            if part == "nar":
                shapes |= {f"{norm}.project_layer.weight": (2 * d, d), f"{norm}.project_layer.bias": (2 * d,)}
                norm += ".norm"
            shapes |= {f"{norm}.weight": (d,), f"{norm}.bias": (d,)}
    shapes["ar_audio_embedding.word_embeddings.weight"] = (entries + 1 + bos, width)
    shapes["ar_predict_layer.weight"] = (entries + 1, width)
    d = int(width * nar_scale)
    for book in range(BOOKS):
        shapes[f"nar_audio_embeddings.{book}.word_embeddings.weight"] = (entries + (book == 0), d)
    for stage in range(BOOKS - 1):
        shapes[f"nar_predict_layers.{stage}.weight"] = (entries, d)
        shapes[f"nar_stage_embeddings.{stage}.word_embeddings.weight"] = (1, d)
    return shapes


def valle_weights(
    *, tied: bool = True, eos: float = 0.0, alpha: float | None = 1.3, **sizes: Any
) -> dict[str, torch.Tensor]:
    """Return such weights. `tied`: heads share the table of the codebook after theirs; `eos`: how far the score of
    <EOS> is raised; `alpha`: the factor on the AR model's positions."""
    weights = fill(valle_shapes(**sizes))
    for name in [name for name in weights if name.endswith(".alpha")]:
        weights[name] = torch.full((1,), 1.0 if name.startswith("nar") or alpha is None else alpha)
    weights["ar_audio_position.alpha"] *= 0.8
    if tied:
        for stage in range(BOOKS - 2):
            weights[f"nar_predict_layers.{stage}.weight"] = weights[
                f"nar_audio_embeddings.{stage + 2}.word_embeddings.weight"
            ]
    weights["ar_predict_layer.weight"] = weights["ar_predict_layer.weight"].clone()
    weights["ar_predict_layer.weight"][-1] += eos * weights["ar_decoder.norm.bias"]
    return weights


def valle_checkpoint(weights: dict[str, torch.Tensor], **settings: Any) -> dict[str, Any]:
    """Return what icefall's trainer writes: weights, an optimiser's state, and every setting of the training."""
    from pathlib import PosixPath

    values = {"nhead": HEADS, "prefix_mode": 1, "norm_first": True, "add_prenet": False, "scale_factor": 1.0}
    values |= {"decoder_dim": WIDTH, "num_decoder_layers": DEPTH, "share_embedding": True, "prepend_bos": False}
    values |= {"num_quantizers": BOOKS, "model_name": "valle", "train_stage": 0, "text_tokens": "data/unique.k2symbols"}
    return (
        {
            "model": weights,
            "model_avg": {name: value.double() for name, value in weights.items()},
            "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.05, "params": [0]}]},
            "scheduler": {"base_lrs": [0.05], "epoch": 3, "batch": 1200},
            "grad_scaler": {"scale": 65536.0, "_growth_tracker": 2},
            "sampler": {"epoch": 3, "filtered": True, "diagnostics": {"current_epoch": 3}},
            "exp_dir": PosixPath("exp/valle"),
            "manifest_dir": PosixPath("data/tokenized"),
            "env_info": {"torch-version": "1.13.1", "torch-cuda-available": True, "hostname": "node-1"},
            "best_train_loss": float("inf"),
            "batch_idx_train": 1200,
        }
        | values
        | settings
    )


def llama_shapes(
    part: str, width: int = WIDTH, feedforward: int = 40, entries: int = ENTRIES
) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of Amphion's VALLE_V2, of its network `part`."""
    rows, d, shapes = entries + 310, width, dict[str, tuple[int, ...]]()
    shapes["model.model.embed_tokens.weight"] = (rows, d)
    norms = []
    for layer in range(DEPTH):
        own = f"model.model.layers.{layer}"
        for name in "qkvo":
            shapes[f"{own}.self_attn.{name}_proj.weight"] = (d, d)
        if part == "ar":
            shapes[f"{own}.self_attn.rotary_emb.inv_freq"] = (d // HEADS // 2,)
        shapes |= {f"{own}.mlp.gate_proj.weight": (feedforward, d), f"{own}.mlp.up_proj.weight": (feedforward, d)}
        shapes[f"{own}.mlp.down_proj.weight"] = (d, feedforward)
        norms += [f"{own}.input_layernorm", f"{own}.post_attention_layernorm"]
    for norm in (*norms, "model.model.norm"):
        if part == "ar":
            shapes[f"{norm}.weight"] = (d,)
        else:
            shapes |= {f"{norm}.to_weight.weight": (d, d), f"{norm}.to_weight.bias": (d,)}
    if part == "ar":
        shapes["model.lm_head.weight"] = (rows, d)
        return shapes
    shapes["model.model.embed_cond.weight"] = (BOOKS, d)
    shapes |= {f"model.lm_head.{stage}.weight": (rows, d) for stage in range(BOOKS - 1)}
    shapes["phone_embedder.weight"] = (310, d)
    shapes |= {f"prompt_embedder.embeddings.{book}.weight": (entries, d) for book in range(BOOKS)}
    return shapes


def llama_weights(part: str, entries: int = ENTRIES, **sizes: int) -> dict[str, torch.Tensor]:
    """Return such weights. Scores of what is no code, and of <EOS>, are low, as training makes them."""
    shapes = llama_shapes(part, entries=entries, **sizes)
    weights = {name: draw(f"{part}.{name}", shape) for name, shape in shapes.items()}
    for name, value in weights.items():
        if name.endswith("inv_freq"):
            width = 2 * len(value)
            weights[name] = 1.0 / (10_000 ** (torch.arange(0, width, 2).float() / width))
        elif "lm_head" in name:  # no score but those of codes and <EOS>
            value[entries : entries + 302] = value[entries + 303 :] = 0.0
            value[entries + 302] *= 0.1
    return weights


def enhuiz_shapes(part: str, width: int = WIDTH, entries: int = ENTRIES) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of enhuiz/vall-e, of its network `part`."""
    d, stops, levels = width, int(part == "ar"), 1 if part == "ar" else 7
    shapes: dict[str, tuple[int, ...]] = {"sep": (d,), "text_emb.weight": (entries, d)}
    shapes |= {"proms_emb.weight": (8, entries, d), "resps_emb.weight": (levels, entries + stops, d)}
    for layer in range(DEPTH):
        own = f"blocks.{layer}"
        shapes[f"{own}.attn.block.to_qkv.weight"] = (3 * d, d)
        shapes |= {f"{own}.attn.block.to_out.weight": (d, d), f"{own}.attn.block.to_out.bias": (d,)}
        shapes |= {f"{own}.ffn.block.0.weight": (4 * d, d), f"{own}.ffn.block.0.bias": (4 * d,)}
        shapes |= {f"{own}.ffn.block.3.weight": (d, 4 * d), f"{own}.ffn.block.3.bias": (d,)}
        for norm in (f"{own}.attn.norm", f"{own}.ffn.norm"):
            if part == "ar":
                shapes |= {f"{norm}.weight": (d,), f"{norm}.bias": (d,)}
            else:
                shapes[f"{norm}.emb.weight"] = (7, 2 * d)
    return shapes | {"classifier.weight": (entries + stops, d), "classifier.bias": (entries + stops,)}


def enhuiz_weights(part: str, **sizes: int) -> dict[str, torch.Tensor]:
    """Return such weights."""
    return {name: draw(f"enhuiz.{part}.{name}", shape, 0.15) for name, shape in enhuiz_shapes(part, **sizes).items()}
