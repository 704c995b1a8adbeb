"""The engine of a laptop: networks and the built-in codec on onnxruntime and NumPy. Torch is not needed.

Graphs are written when a model is loaded (`onnx_ar`, `onnx_nar`, `onnx_codec`), from the same weights that the
reference reads, so every model folder can be spoken as it is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from openvalle.codec.settings import BuiltinCodecConfig
from openvalle.engines.layers import Precision, Weights
from openvalle.engines.onnx_ar import OnnxAR
from openvalle.engines.onnx_codec import OnnxCodec
from openvalle.engines.onnx_nar import OnnxNAR
from openvalle.errors import ModelError
from openvalle.model.bundle import Description, rename_weight


def load_ar(model: Description, precision: Precision, threads: int = 1) -> OnnxAR:
    """Return the AR model of a folder; `ModelError` if its weights are damaged or do not fit."""
    return OnnxAR(model.config.ar, read_weights(model.weights("ar")), precision, threads)


def load_nar(model: Description, precision: Precision, threads: int = 1) -> OnnxNAR:
    """Return the NAR model of a folder; `ModelError` if its weights are damaged or do not fit."""
    return OnnxNAR(model.config.nar, read_weights(model.weights("nar")), precision, threads)


def load_codec(folder: Path, precision: Precision, threads: int = 1) -> OnnxCodec:
    """Return a codec of the built-in kind; `ModelError` if a file is missing, damaged or does not fit."""
    path = folder / "model.safetensors"
    if not (folder / "config.json").is_file() or not path.is_file():
        raise ModelError(f"no codec in {folder}", "it needs config.json and model.safetensors")
    config = BuiltinCodecConfig.load(folder / "config.json")
    return OnnxCodec(config, Weights(_read(path), path), precision, threads)


def read_weights(path: Path) -> Weights:
    """Return the weights in a file by their names of today."""
    return Weights({rename_weight(name): value for name, value in _read(path).items()}, path)


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        what = str(error).strip().splitlines()[0][:120]
        raise ModelError(f"{path} is damaged ({what})", "copy, train or install it again") from None
