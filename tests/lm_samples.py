"""Tiny models of every kind, and data for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import yaml
from torch import nn

from openvalle.decode.ar import ARResult, Draw, generate
from openvalle.decode.nar import fill
from openvalle.engines.torch import TorchAR, TorchNAR
from openvalle.model.ar import AR
from openvalle.model.batch import Batch
from openvalle.model.bundle import BundleConfig
from openvalle.model.checkpoint import Bundle
from openvalle.model.config import ARConfig, NARConfig
from openvalle.model.nar import NAR
from openvalle.types import CodecSpec, Utterance, Vocabulary

RECIPES = Path(__file__).parents[1] / "src" / "openvalle" / "recipes"
SYMBOLS, ENTRIES = 12, 20
STACK = {"width": 16, "heads": 2, "depth": 2, "feedforward": 32, "dropout": 0.1}
SMALL = {"transformer": STACK, "symbols": SYMBOLS, "codebook_size": ENTRIES}
LLAMA = {**STACK, "activation": "gated-silu", "norm": "rms"}
LEARNT = {"positions": "learnt", "max_positions": 200}


def of_recipe(name: str, part: str, **changes: object) -> dict[str, object]:
    """Return what a recipe says of a network, but for its size."""
    values = yaml.safe_load((RECIPES / f"{name}-paper.yaml").read_text(encoding="utf-8"))[part]["model"]
    return {key: value for key, value in values.items() if key not in ("transformer", "symbols")} | changes


SHORT = {"prompt_min": 3, "prompt_max": 8}
AR_KINDS = {
    "valle": of_recipe("valle", "ar"),
    "vallex": of_recipe("vallex", "ar"),
    "valler": of_recipe("valler", "ar"),
    "valle2": of_recipe("valle2", "ar", max_positions=200),
    "builtin": {"alignment": "phoneme", "merge": 2, "text_prenet": "conv"},
    "aligned groups": {"alignment": "phoneme", "merge": 2, "group": 2, "tie_output": False},
    "learnt languages": {"languages": 3, "language_on": "audio-and-text", "text_prenet": "conv", **LEARNT},
    "groups of 4": {"group": 4, "use_bos": False, "languages": 2},
    "rotary": {"transformer": LLAMA, "positions": "rotary", "text_attention": "causal", "text_bos": True},
    "prenets": {
        "transformer": {**STACK, "activation": "relu"},
        "text_prenet": "stack",
        "audio_prenet": "linear",
        "text_bos": True,
        "scale_positions": True,
        "use_bos": False,
        "tie_output": False,
    },
    "prompt apart": {
        "transformer": {**STACK, "final_norm": False},
        "positions": "running",
        "text_attention": "causal",
        "prompt_codebooks": 8,
        "tie_output": False,
        "head_bias": True,
    },
    "words' languages": {"text_eos": False, "languages": 3, "language_on": "text"},
    "causal alignment": {"text_attention": "causal", "alignment": "phoneme", "phoneme_lead": 0, "use_bos": False},
}
NAR_KINDS = {
    "valle": of_recipe("valle", "nar", **SHORT),
    "vallex": of_recipe("vallex", "nar"),
    "valler": of_recipe("valler", "nar", **SHORT),
    "valle2": of_recipe("valle2", "nar", max_positions=200, **SHORT),
    "builtin": {
        "alignment": "phoneme",
        "merge": 2,
        "text_prenet": "conv",
        "stage_width": 4,
        "frame_prenet": "conv",
        "residual": {"code_weight": 0.0, "passes": 1},
        "latent": 6,
        "codebook1_noise": 0.3,
        **SHORT,
    },
    "rests in passes": {
        "residual": {"code_weight": 0.2},
        "stage_draw": "sample",
        "latent": 12,
        **SHORT,
    },
    "aligned sentence": {"alignment": "phoneme", "text": "target", "prompt": "sentence", "tie_output": False},
    "rotary": {"transformer": LLAMA, "positions": "rotary", "tie_output": False, **SHORT},
    "prenets": {
        "transformer": {**STACK, "activation": "relu"},
        "text_prenet": "stack",
        "frame_prenet": "linear",
        "text_bos": True,
        "text_eos": True,
        "scale_positions": True,
        "prompt": "segment",
        "text": "target",
        "restart_positions": False,
        **SHORT,
    },
    "prompt apart": {
        "transformer": {**STACK, "final_norm": False, "norm": "adanorm"},
        "conditioning": "separate",
        "positions": "running",
        "prompt": "sentence",
        "text": "target",
        "text_eos": True,
        "prompt_codebooks": 8,
        "tie_output": False,
        "head_bias": True,
    },
    "staged": {"prompt": "staged", "languages": 3, "language_on": "text"},
    "separate languages": {"conditioning": "separate", "prompt": "segment", "text": "target", "languages": 2, **SHORT},
}


def utterance(symbols: int, frames: int, seed: int, codebooks: int = 8) -> Utterance:
    """Return random text and codes with random durations and another recording of the speaker."""
    rng = torch.Generator().manual_seed(seed)
    durations = torch.bincount(torch.randint(symbols, (frames,), generator=rng), minlength=symbols)
    steps = 1 + torch.randint(SYMBOLS - 2, (symbols,), generator=rng)
    return Utterance(
        text=(1 + steps.cumsum(0) % (SYMBOLS - 1)).numpy(),  # no equal neighbours
        codes=torch.randint(ENTRIES, (frames, codebooks), generator=rng).numpy(),
        durations=durations.numpy(),
        language=1 + seed % 2,
        speaker_codes=torch.randint(ENTRIES, (9 + seed, codebooks), generator=rng).numpy(),
    )


def batch_for(config, rows) -> Batch:
    """Return the batch that a model of this config trains on."""
    return Batch.of(rows, merge=config.merge, group=getattr(config, "group", 1))


def shaken(network: nn.Module, std: float = 0.3) -> nn.Module:
    """Return the network for speaking, with every weight random: nothing at zero or at the identity."""
    rng = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=std, generator=rng)
    return network.eval()


def ar_of(kind: str) -> AR:
    """Return a tiny AR model of `AR_KINDS`."""
    return shaken(AR(ARConfig.parse({**SMALL, **AR_KINDS[kind]})))


def as_quantiser(model: NAR) -> NAR:
    """Return a model whose fixed code vectors shrink from codebook to codebook, as those of a codec do."""
    if model.config.latent is not None:
        sizes = 0.3 ** torch.arange(len(model.codes))
        model.codes.data *= sizes[:, None, None]
    return model


def nar_of(kind: str) -> NAR:
    """Return a tiny NAR model of `NAR_KINDS`."""
    return shaken(NAR(NARConfig.parse({**SMALL, **NAR_KINDS[kind]})))


def ar_engine(kind: str) -> TorchAR:
    """Return the same, ready to decode."""
    return TorchAR(ar_of(kind))


def nar_engine(kind: str) -> TorchNAR:
    """Return the same, ready to decode."""
    return TorchNAR(nar_of(kind))


def decode(ar, prompts, options, seeds, alignments=None) -> list[ARResult]:
    """Return what each row says: one for each seed, as many of each prompt, side by side, as there are for it."""
    fan, presets = len(seeds) // len(prompts), alignments or [None] * len(prompts)
    return generate(ar, [Draw(prompts[at // fan], options, seed, presets[at // fan]) for at, seed in enumerate(seeds)])


def speak(ar, nar, prompts, options, seeds) -> list[np.ndarray]:
    """Return the codes (T, Q) of each prompt's target, spoken as often as there are generators for it."""
    fan = len(seeds) // len(prompts)
    results = decode(ar, [prompt.ar(ar.config) for prompt in prompts], options, seeds)
    rows = [
        prompts[index // fan].nar(ar.config, options.accent, result.codes, result.alignment)
        for index, result in enumerate(results)
    ]
    return fill(nar, rows)


def bundle_of(kind: str) -> Bundle:
    """Return a model with random weights that could lie in a folder."""
    ar, nar = ar_of(kind), nar_of(kind)
    table = Vocabulary(tuple(f"s{index}" for index in range(SYMBOLS)))
    codec = CodecSpec(name="builtin", digest="c0dec")
    config = BundleConfig(
        name="tiny", licence="Apache-2.0", codec=codec, symbols_digest=table.digest, ar=ar.config, nar=nar.config
    )
    return Bundle(config, ar, nar, table, {"ar": {"symbol_frames": 20}})
