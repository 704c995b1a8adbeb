"""A model folder and a codec -> what speaks, its parts checked against each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openvalle.codec.load import ENCODEC, kept_codec
from openvalle.decode.ar import AROptions
from openvalle.engines.base import CodecEngine
from openvalle.engines.choose import AUTO, Choice, choose_engine
from openvalle.engines.load import load_codec, load_networks
from openvalle.errors import ConfigError, ModelError
from openvalle.hub import Kind, find
from openvalle.model.bundle import OWN, BundleConfig, Description, read_description, require_same_codec
from openvalle.synth.generate import SpeechGenerator, find_silence_codes
from openvalle.text.symbols import SymbolTable


def load_generator(
    model: str | Path, codec: str | Path | None, device: str, engine: str = AUTO
) -> tuple[BundleConfig, SpeechGenerator, AROptions]:
    """Return what a model says of itself, its networks with its codec, and its own decoding options.

    `device`, `engine`: see `openvalle.engines.choose`. Raises `ModelError` if a file is missing, damaged or does not
    fit.
    """
    read = read_description(find(Kind.MODEL, model))
    config, choice = read.config, choose_engine(read, engine, device)
    found = load_codec(codec, choice, device) if codec is not None else _load_own_codec(read, choice, device)
    require_same_codec(config, found.spec.digest, f"the codec {found.spec.name}")
    ar, nar = load_networks(read, choice, device)
    generator = SpeechGenerator(ar, nar, found, SymbolTable(read.vocabulary), config.languages)
    options = parse_options(read.generation, str(read.folder))
    if not options.watch.silent:  # the detectors are told what silence looks like in the tokens of this codec
        watch = options.watch.model_copy(update={"silent": find_silence_codes(found)})
        options = options.model_copy(update={"watch": watch})
    return config, generator, options


def _load_own_codec(model: Description, choice: Choice, device: str) -> CodecEngine:
    """Return the codec in a model's folder, else the one that it names; `ModelError` says how to give it another."""
    config = model.config
    try:
        codec = load_codec(kept_codec(config.codec.name, model.folder / OWN), choice, device)
        require_same_codec(config, codec.spec.digest, f"the codec {codec.spec.name}")
    except ModelError as error:
        wanted = config.codec.name.partition("?")[0].partition(":")[0]
        example = f"--codec {wanted}:FOLDER" if wanted == ENCODEC else "--codec FOLDER"
        raise ModelError(
            f"the codec of the model {config.name} is not there: {error.what}",
            f"give the one that it was trained with: {example}; or put that into {model.folder / OWN}",
        ) from None
    return codec


def parse_options(values: Mapping[str, Any], source: str) -> AROptions:
    """Return a model's own decoding options."""
    try:
        return AROptions.parse(dict(values), f"{source}/generation.json")
    except ConfigError as error:
        raise ModelError(error.what, "copy or train the model again") from None
