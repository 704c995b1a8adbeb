"""Another project's own code on weights in its layout: run by `converted.py` with an interpreter that it may use.

    python converted_theirs.py SOURCE FOLDER WEIGHTS INPUTS OUTPUTS

FOLDER is a copy of the repository. What of its imports inference does not need (data, metrics) is left out.
"""

from __future__ import annotations

import importlib
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
    "plachtaa": ("", ("data", "models"), "models.vallex"),
}


def stand_in(name: str, **values: object) -> None:
    module = types.ModuleType(name)
    vars(module).update(values)
    sys.modules[name] = module


def load(source: str, folder: Path) -> Any:
    """Return the class of the network."""
    place, skipped, name = PLACES[source]
    sys.path.insert(0, str(folder / place))
    nothing = type("Nothing", (), {"__init__": lambda self, *_, **__: None})
    for package in skipped:
        stand_in(package, __path__=[str(folder / place / package.replace(".", "/"))])
    stand_in("icefall")
    stand_in("icefall.utils", make_pad_mask=lambda lens: torch.arange(int(lens.max()))[None] >= lens[:, None])
    stand_in("tokenizer", TextTokenCollater=nothing)
    stand_in("torchmetrics")
    stand_in("torchmetrics.classification", MulticlassAccuracy=type("Metric", (torch.nn.Module,), {"__init__": skip}))
    for data in ("valle.data", "data"):
        stand_in(f"{data}.input_strategies", PromptedFeatures=nothing)
    for visual in ("valle.models", "models"):
        stand_in(f"{visual}.visualizer", visualize=None)
    return importlib.import_module(name).VALLE


def skip(self: torch.nn.Module, *_: object, **__: object) -> None:
    torch.nn.Module.__init__(self)


def main(source: str, folder: str, weights: str, inputs: str, outputs: str) -> None:
    """Decode greedily; write the codes and the seconds of CPU time."""
    torch.set_num_threads(1)
    given = np.load(inputs)
    options: dict[str, Any] = {"norm_first": True, "add_prenet": False, "prefix_mode": 1, "share_embedding": True}
    options |= {"nar_scale_factor": 1.0, "prepend_bos": source == "plachtaa", "num_quantizers": 8}
    network = load(source, Path(folder))(int(given["width"]), int(given["heads"]), int(given["depth"]), **options)
    network.load_state_dict(torch.load(weights, weights_only=True)["model"])
    network.eval()
    ids, prompt = torch.from_numpy(given["ids"])[None], torch.from_numpy(given["prompt"])[None]
    lens = torch.tensor([ids.shape[1]])
    enrolled: Any = int(given["enrolled"]) if source == "plachtaa" else torch.tensor([int(given["enrolled"])])
    more = {"prompt_language": "en", "text_language": "en"} if source == "plachtaa" else {}
    temperature = 1e-6 if source == "icefall" else 1.0  # it keeps two classes at least, whatever top_k is
    with torch.no_grad():
        started = time.process_time()
        codes = network.inference(ids, lens, prompt, enroll_x_lens=enrolled, top_k=1, temperature=temperature, **more)
        seconds = time.process_time() - started
    np.savez(outputs, codes=codes[0].numpy(), seconds=seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
