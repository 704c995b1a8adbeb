"""A model folder and a codec -> the networks that speak, checked against each other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from openvalle.codec.base import Codec
from openvalle.codec.load import ENCODEC, kept_codec, load_codec
from openvalle.decode.ar import AROptions
from openvalle.errors import ConfigError, ModelError
from openvalle.hub import Kind, find
from openvalle.model.bundle import OWN, BundleConfig, load_bundle, require_same_codec, require_same_symbols
from openvalle.synth.utter import Utterer, silent_entries
from openvalle.text.symbols import SymbolTable
from openvalle.threads import note_threads

# Of the shapes that oneDNN keeps compiled code for, 1024 by default. Each line of a text has its own lengths, so most
# are never met again, and what is kept between them breaks the free memory to pieces: an hour of speech grew by 80 MB.
KEPT_SHAPES = "32"


def load_utterer(
    model: str | Path, codec: str | Path | None, device: torch.device
) -> tuple[BundleConfig, Utterer, AROptions]:
    """Return what a model says of itself, its networks with its codec on `device`, and its own decoding options.

    Raises `ModelError` if a file is missing, damaged or does not fit.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KEPT_SHAPES)  # read when the first convolution runs
    note_threads()
    folder = find(Kind.MODEL, model)
    bundle = load_bundle(folder)
    config = bundle.config
    spoken = load_codec(codec) if codec is not None else _own_codec(folder, config)
    if isinstance(spoken, torch.nn.Module):
        spoken.to(device)
    spec = spoken.spec
    require_same_codec(config, spec.digest, f"the codec {spec.name}")
    table = SymbolTable(bundle.symbols, bundle.merges)
    require_same_symbols(config, table.digest, f"{folder / 'symbols.json'}, as it is now,")
    utterer = Utterer(bundle.ar.to(device), bundle.nar.to(device), spoken, spec, table, config.languages)
    return config, utterer, watchful(options_of(bundle.generation, str(folder)), spoken)


def _own_codec(folder: Path, config: BundleConfig) -> Codec:
    """Return the codec in a model's folder, else the one that it names; `ModelError` says how to give it another."""
    try:
        codec = load_codec(kept_codec(config.codec.name, folder / OWN))
        require_same_codec(config, codec.spec.digest, f"the codec {codec.spec.name}")
    except ModelError as error:
        wanted = config.codec.name.partition("?")[0].partition(":")[0]
        example = f"--codec {wanted}:FOLDER" if wanted == ENCODEC else "--codec FOLDER"
        raise ModelError(
            f"the codec of the model {config.name} is not there: {error.what}",
            f"give the one that it was trained with: {example}; or put that into {folder / OWN}",
        ) from None
    return codec


def chosen_device(device: str) -> torch.device:
    """Return the device called `device`; `auto` takes the fastest there is."""
    has = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if has[name]))
    if not has.get(device.split(":")[0], False):
        there = ", ".join(name for name, is_there in has.items() if is_there)
        raise ModelError(f"there is no device {device!r} here", f"use auto or one of: {there}")
    return torch.device(device)


def options_of(values: Mapping[str, Any], source: str) -> AROptions:
    """Return a bundle's default options."""
    try:
        return AROptions.parse(dict(values), f"{source}/generation.json")
    except ConfigError as error:
        raise ModelError(error.what, "copy or train the model again") from None


def watchful(options: AROptions, codec: Codec) -> AROptions:
    """Return options that know what silence looks like in the tokens of a codec."""
    if options.watch.silent:
        return options
    return options.model_copy(update={"watch": options.watch.model_copy(update={"silent": silent_entries(codec)})})
