"""Another project's own code on weights in its layout: run by `converted.py` with an interpreter that it may use.

    python converted_theirs.py SOURCE FOLDER INPUTS OUTPUTS WEIGHTS...

FOLDER is a copy of the repository; without WEIGHTS they are random. What of its imports inference does not need (data,
metrics) is left out.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

PLACES = {  # source -> where its packages lie, those whose own start is skipped, and the module of the network
    "lifeiteng": ("", ("valle", "valle.data", "valle.models"), "valle.models.valle"),
    "icefall": ("egs/wenetspeech4tts/TTS/valle", (), "valle"),
    "amphion": ("", ("models", "models.tts", "models.tts.valle"), "models.tts.valle.valle"),
    "plachtaa": ("", ("data", "models"), "models.vallex"),
    "amphion-v2": ("", ("models", "models.tts", "models.tts.valle_v2"), "models.tts.valle_v2"),
    "enhuiz": ("", ("vall_e", "vall_e.vall_e"), "vall_e.vall_e"),
}


def stand_in(name: str, **values: object) -> None:
    module = types.ModuleType(name)
    vars(module).update(values)
    sys.modules[name] = module


def prepare(source: str, folder: Path) -> str:
    """Make its packages importable; return the name of the network's module, or of the package of both."""
    place, skipped, name = PLACES[source]
    sys.path.insert(0, str(folder / place))
    nothing = type("Nothing", (), {"__init__": lambda self, *_, **__: None})
    for package in skipped:
        stand_in(package, __path__=[str(folder / place / package.replace(".", "/"))])

    def mask(lens: torch.Tensor) -> torch.Tensor:
        return torch.arange(int(lens.max()))[None] >= lens[:, None]

    stand_in("icefall")
    stand_in("icefall.utils", make_pad_mask=mask)
    if source == "amphion":
        stand_in("utils", __path__=[str(folder / "utils")])
        stand_in("utils.util", make_pad_mask=mask)
        stand_in("modules.general.input_strategies", PromptedFeatures=nothing, PromptedPrecomputedFeatures=nothing)
    stand_in("tokenizer", TextTokenCollater=nothing)
    stand_in("torchmetrics")
    stand_in("torchmetrics.classification", MulticlassAccuracy=type("Metric", (torch.nn.Module,), {"__init__": skip}))
    for data in ("valle.data", "data"):
        stand_in(f"{data}.input_strategies", PromptedFeatures=nothing)
    for visual in ("valle.models", "models"):
        stand_in(f"{visual}.visualizer", visualize=None)
    return name


def skip(self: torch.nn.Module, *_: object, **__: object) -> None:
    torch.nn.Module.__init__(self)


def fill(network: torch.nn.Module, weights: str | None = None) -> Any:
    """Return the network with the weights of a file, or with random ones."""
    if weights is not None:
        values = torch.load(weights, weights_only=True)
        network.load_state_dict(values.get("model", values))
    return network.eval()


def speak_lifeiteng(source: str, name: str, given: Any, weights: list[str]) -> tuple[np.ndarray, float]:
    """lifeiteng/vall-e and what came of it: both networks in one."""
    options: dict[str, Any] = {"norm_first": True, "add_prenet": False, "prefix_mode": 1, "share_embedding": True}
    quantizers = int(given["quantizers"]) if "quantizers" in given else 8  # 1: codebook 1 alone
    options |= {"nar_scale_factor": 1.0, "prepend_bos": source == "plachtaa", "num_quantizers": quantizers}
    sizes = int(given["width"]), int(given["heads"]), int(given["depth"])
    kind = importlib.import_module(name).VALLE
    if source == "amphion":
        named = dict(zip(("decoder_dim", "nhead", "num_decoder_layers"), sizes, strict=True))
        network = kind(types.SimpleNamespace(**named, **options, text_token_num=512, audio_token_num=1024))
    else:
        network = kind(*sizes, **options)
    fill(network, *weights)
    ids, prompt = torch.from_numpy(given["ids"])[None], torch.from_numpy(given["prompt"])[None]
    lens = torch.tensor([ids.shape[1]])
    enrolled: Any = int(given["enrolled"]) if source == "plachtaa" else torch.tensor([int(given["enrolled"])])
    more = {"prompt_language": "en", "text_language": "en"} if source == "plachtaa" else {}
    temperature = 1e-6 if source == "icefall" else 1.0  # it keeps two classes at least, whatever top_k is
    started = time.process_time()
    codes = network.inference(ids, lens, prompt, enroll_x_lens=enrolled, top_k=1, temperature=temperature, **more)
    return codes[0].numpy(), time.process_time() - started


def speak_amphion_v2(name: str, given: Any, weights: list[str]) -> tuple[np.ndarray, float]:
    """VALLE_V2 of Amphion: ids of both texts, one after the other; it leaves out the last frame."""
    first = 1024 + 300  # where the marks are
    sizes = {"phone_vocab_size": 300, "target_vocab_size": 1024, "hidden_size": int(given["width"])}
    sizes |= {"intermediate_size": 4 * sizes["hidden_size"], "num_hidden_layers": int(given["depth"])}
    sizes |= {"num_attention_heads": int(given["heads"]), "pad_token_id": first, "bos_target_id": first + 1}
    sizes |= {"eos_target_id": first + 2, "bos_phone_id": first + 3, "eos_phone_id": first + 4}
    ar = fill(importlib.import_module(f"{name}.valle_ar").ValleAR(**sizes), weights[0])
    nar = fill(importlib.import_module(f"{name}.valle_nar").ValleNAR(**sizes), weights[1])
    ids, prompt = torch.from_numpy(given["ids"])[None], torch.from_numpy(given["prompt"]).T[:, None]
    longest = ids.shape[1] + 2 + 1 + prompt.shape[2] + int(given["frames"]) + 1
    started = time.process_time()
    spoken = ar.sample_hf(ids, prompt[0], max_length=longest, top_k=1, top_p=1.0)
    codes = nar.sample_hf(ids, prompt, spoken)
    return codes[:, 0].T.numpy(), time.process_time() - started


def speak_enhuiz(name: str, given: Any, weights: list[str]) -> tuple[np.ndarray, float]:
    """enhuiz/vall-e: the prompt's words are not read; the lowest temperature stands for none."""
    sizes = {"d_model": int(given["width"]), "n_heads": int(given["heads"]), "n_layers": int(given["depth"])}
    ar = fill(importlib.import_module(f"{name}.ar").AR(1024, **sizes), weights[0])
    nar = fill(importlib.import_module(f"{name}.nar").NAR(1024, **sizes), weights[1])
    ids, prompt = [torch.from_numpy(given["ids"])], [torch.from_numpy(given["prompt"])]
    started = time.process_time()
    spoken = ar(ids, prompt, max_steps=int(given["frames"]), sampling_temperature=1e-6)
    codes = nar(ids, prompt, [spoken[0][:, None]], sampling_temperature=1e-6)
    return codes[0].numpy(), time.process_time() - started


def main(source: str, folder: str, inputs: str, outputs: str, *weights: str) -> None:
    """Decode greedily; write the codes and the seconds of CPU time."""
    torch.set_num_threads(1)
    if os.environ.get("DOUBLE"):
        torch.set_default_dtype(torch.float64)
    given, name = np.load(inputs), prepare(source, Path(folder))
    with torch.no_grad():
        if source == "amphion-v2":
            codes, seconds = speak_amphion_v2(name, given, list(weights))
        elif source == "enhuiz":
            codes, seconds = speak_enhuiz(name, given, list(weights))
        else:
            codes, seconds = speak_lifeiteng(source, name, given, list(weights))
    np.savez(outputs, codes=codes, seconds=seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
