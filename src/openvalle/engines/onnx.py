"""The engine of a laptop: networks and the built-in codec on onnxruntime and NumPy. Torch is not needed.

Graphs are written when a model is loaded (`onnx_ar`, `onnx_nar`, `onnx_codec`), from the same weights that the
reference reads, so every model folder can be spoken as it is.
"""

from __future__ import annotations

from pathlib import Path

from openvalle.codec.settings import BuiltinCodecConfig
from openvalle.config import Config
from openvalle.engines.layers import Precision
from openvalle.engines.onnx_ar import OnnxAR
from openvalle.engines.onnx_codec import OnnxCodec
from openvalle.engines.onnx_nar import OnnxNAR
from openvalle.engines.weights import Weights, WeightsFile
from openvalle.errors import ModelError
from openvalle.graphs import find_graph
from openvalle.model.adapter import Adapter
from openvalle.model.bundle import EXPORTED, Description, rename_weight


class Exported(Config):
    """`onnx.json` in a folder of ONNX files (`openvalle.engines.export`)."""

    precision: Precision


def read_exported(folder: Path) -> Precision | None:
    """Return the precision of the ONNX files in a model's folder; None: there are none."""
    path = folder / EXPORTED
    return Exported.load(path).precision if path.is_file() else None


def _kept_graph(folder: Path, name: str) -> Path | None:
    path = find_graph(folder, name)
    return path if path.is_file() else None


def load_ar(model: Description, precision: Precision, threads: int = 1, adapter: Adapter | None = None) -> OnnxAR:
    """Return the AR model of a folder, with what is added to it; `ModelError` if its weights are damaged or do
    not fit."""
    weights = read_network(model, "ar", adapter)
    return OnnxAR(model.config.ar, weights, precision, threads, _kept_graph(model.folder, "ar"))


def load_nar(model: Description, precision: Precision, threads: int = 1, adapter: Adapter | None = None) -> OnnxNAR:
    """Return the NAR model of a folder, with what is added to it; `ModelError` if its weights are damaged or do
    not fit."""
    weights = read_network(model, "nar", adapter)
    return OnnxNAR(model.config.nar, weights, precision, threads, _kept_graph(model.folder, "nar"))


def read_network(model: Description, part: str, adapter: Adapter | None = None) -> Weights:
    """Return the weights of a network of a folder, with what is added to them; `ModelError` if they are damaged."""
    weights = read_weights(model.weights(part))
    if adapter is None:
        return weights
    return Weights(adapter.merge(part, weights.values, model.config.name), weights.source)


def load_codec(folder: Path, precision: Precision, threads: int = 1) -> OnnxCodec:
    """Return a codec of the built-in kind; `ModelError` if a file is missing, damaged or does not fit."""
    config, weights = read_codec(folder)
    is_exported = _kept_graph(folder, "trunk") is not None
    return OnnxCodec(config, weights, precision, threads, folder if is_exported else None)


def read_codec(folder: Path) -> tuple[BuiltinCodecConfig, Weights]:
    """Return what a codec of the built-in kind says of itself, and its weights."""
    path = folder / "model.safetensors"
    if not (folder / "config.json").is_file() or not path.is_file():
        raise ModelError(f"no codec in {folder}", "it needs config.json and model.safetensors")
    return BuiltinCodecConfig.load(folder / "config.json"), Weights(WeightsFile(path), path)


def read_weights(path: Path) -> Weights:
    """Return the weights in a file by their names of today."""
    return Weights(WeightsFile(path, rename_weight), path)
