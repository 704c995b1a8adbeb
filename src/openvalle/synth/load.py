"""A model folder and a codec -> what speaks, its parts checked against each other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openvalle.decode.ar import AROptions
from openvalle.errors import ConfigError, ModelError
from openvalle.hub import Kind, find
from openvalle.parallel import note_threads
from openvalle.synth.generate import SpeechGenerator, find_silence_codes
from openvalle.text.symbols import SymbolTable

if TYPE_CHECKING:
    from openvalle.codec.base import Codec
    from openvalle.model.checkpoint import BundleConfig

# Of the shapes that oneDNN keeps compiled code for, 1024 by default. Each sentence has its own lengths, so most of them
# are never met again, and what is kept between them breaks the free memory to pieces: an hour of speech grew by 80 MB.
KEPT_SHAPES = "32"


def load_generator(
    model: str | Path, codec: str | Path | None, device: str
) -> tuple[BundleConfig, SpeechGenerator, AROptions]:
    """Return what a model says of itself, its networks with its codec on `device`, and its own decoding options.

    Raises `ModelError` if a file is missing, damaged or does not fit.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KEPT_SHAPES)  # read when the first convolution runs
    from openvalle.codec.load import load_codec
    from openvalle.engines.torch import choose_device, make_engine
    from openvalle.model.checkpoint import load_bundle, require_same_codec

    note_threads()  # torch is loaded now
    place = choose_device(device)
    folder = find(Kind.MODEL, model)
    bundle = load_bundle(folder)
    config = bundle.config
    found = load_codec(codec) if codec is not None else _load_own_codec(folder, config)
    spec = found.spec
    require_same_codec(config, spec.digest, f"the codec {spec.name}")
    table = SymbolTable(bundle.vocabulary)
    engine = make_engine(bundle.ar, bundle.nar, found, place)
    generator = SpeechGenerator(engine.ar, engine.nar, engine.codec, table, config.languages)
    options = parse_options(bundle.generation, str(folder))
    if not options.watch.silent:  # the detectors are told what silence looks like in the tokens of this codec
        watch = options.watch.model_copy(update={"silent": find_silence_codes(engine.codec)})
        options = options.model_copy(update={"watch": watch})
    return config, generator, options


def _load_own_codec(folder: Path, config: BundleConfig) -> Codec:
    """Return the codec in a model's folder, else the one that it names; `ModelError` says how to give it another."""
    from openvalle.codec.load import ENCODEC, kept_codec, load_codec
    from openvalle.model.checkpoint import OWN, require_same_codec

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


def parse_options(values: Mapping[str, Any], source: str) -> AROptions:
    """Return a model's own decoding options."""
    try:
        return AROptions.parse(dict(values), f"{source}/generation.json")
    except ConfigError as error:
        raise ModelError(error.what, "copy or train the model again") from None
