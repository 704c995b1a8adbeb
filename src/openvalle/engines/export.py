"""A model as ONNX files: what `openvalle export --to onnx` writes, and any runtime of ONNX can open.

config.json symbols.json generation.json      as in every model folder
onnx.json                 in which precision the graphs are
ar.onnx nar.onnx          the transformers, with ar.weights and nar.weights beside them
ar.safetensors nar.safetensors                what enters them and is looked up: embeddings, prenets, heads
steps.safetensors         scores that the exported AR model gave, to know it by on another machine
codec/                    a codec of the built-in kind: encoder.onnx, trunk.onnx, fine.onnx, and what has an identity
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from openvalle.codec.load import find_builtin, find_kept_codec
from openvalle.engines.layers import Precision
from openvalle.engines.onnx import Exported, load_ar, read_codec, read_exported, read_network
from openvalle.engines.onnx_ar import OnnxAR, ar_graph
from openvalle.engines.onnx_codec import encoder_graph, fine_graph, trunk_graph
from openvalle.engines.onnx_nar import OnnxNAR, nar_graph
from openvalle.engines.probe import record_steps
from openvalle.engines.weights import Weights
from openvalle.errors import ModelError
from openvalle.files import atomic_folder
from openvalle.graphs import find_graph, save_graph
from openvalle.model.adapter import Adapter
from openvalle.model.bundle import EXPORTED, OWN, Description, read_description

KEPT = "encoder.", "quantizer.codebooks"  # of a codec: its identity, beside the graphs


def export_onnx(folder: Path, out: Path, precision: Precision, adapter: Adapter | None = None) -> Path:
    """Write the model in `folder`, with what is added to its weights, as ONNX files; return the new folder.

    `ModelError` if it is one already, or if the adapter was made for another one.
    """
    model = read_description(folder)
    if read_exported(folder) is not None:
        raise ModelError(f"{folder} holds ONNX files already", "give the model that they were made from")
    with atomic_folder(out, replace=True) as part:
        config = model.config
        if adapter is not None:
            config = config.model_copy(update={"name": adapter.name_model(config.name)})
        config.save(part / "config.json")
        for name in ("symbols.json", "generation.json"):
            shutil.copyfile(folder / name, part / name)
        Exported(precision=precision).save(part / EXPORTED)
        for name in ("ar", "nar"):
            _export_network(model, name, part, precision, adapter)
        codec = find_kept_codec(model.config.codec.name, folder / OWN)
        if (own := find_builtin(codec)) is not None:
            _export_codec(own, part / OWN, precision)
        elif (folder / OWN).is_dir():
            shutil.copytree(folder / OWN, part / OWN)  # what torch computes, as it is
        written = read_description(part)
        record_steps(written, load_ar(written, precision), part)
    return out


def _export_network(model: Description, name: str, part: Path, precision: Precision, adapter: Adapter | None) -> None:
    weights = read_network(model, name, adapter)
    path = find_graph(part, name)
    if name == "ar":
        save_graph(ar_graph(model.config.ar, weights, precision), path)
        apart = Weights(weights.values, weights.source)
        OnnxAR(model.config.ar, apart, precision, graph=path)
    else:
        save_graph(nar_graph(model.config.nar, weights, precision), path)
        apart = Weights(weights.values, weights.source)
        OnnxNAR(model.config.nar, apart, precision, graph=path)
    kept = {key: np.ascontiguousarray(weights.values[key]) for key in sorted(apart.asked)}
    save_file(kept, part / f"{name}.safetensors")


def _export_codec(folder: Path, part: Path, precision: Precision) -> None:
    config, weights = read_codec(folder)
    part.mkdir()
    config.save(part / "config.json")
    graphs = {"encoder": encoder_graph(config, weights), "trunk": trunk_graph(config, weights, precision)}
    if config.fine_depth:
        graphs["fine"] = fine_graph(config, weights, precision)
    for name, graph in graphs.items():
        save_graph(graph, find_graph(part, name))
    kept = {key: np.ascontiguousarray(weights.values[key]) for key in weights.values if key.startswith(KEPT)}
    save_file(kept, part / "model.safetensors")
