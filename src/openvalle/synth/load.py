"""A model folder and a codec -> what speaks, its parts checked against each other."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openvalle.codec.load import ENCODEC, find_kept_codec
from openvalle.decode.ar import AROptions
from openvalle.decode.failures import find_silence_codes
from openvalle.engines.base import CodecEngine
from openvalle.engines.choose import AUTO, Choice, choose_engine
from openvalle.engines.load import check_device, load_codec, load_networks
from openvalle.errors import ConfigError, ModelError
from openvalle.hub import VOICE_SUFFIX, Kind, find
from openvalle.model.adapter import Adapter
from openvalle.model.bundle import EXPORTED, OWN, BundleConfig, Description, read_description, require_same_codec
from openvalle.synth.generate import SpeechGenerator, release_memory
from openvalle.synth.voice import Voice
from openvalle.text.language import find_language
from openvalle.text.spans import CHINESE, JAPANESE, Languages
from openvalle.text.symbols import SymbolTable
from openvalle.types import ENGLISH


def load_generator(
    model: str | Path, codec: str | Path | None, device: str, engine: str = AUTO, adapter: str | Path | None = None
) -> tuple[BundleConfig, SpeechGenerator, AROptions, Voice | None]:
    """Return what a model says of itself, its networks with its codec, its own decoding options, and the voice of the
    `adapter`, which is added to its weights.

    `device`, `engine`: see `openvalle.engines.choose`. Raises `ModelError` if a file is missing, damaged or does not
    fit.
    """
    read = read_description(find(Kind.MODEL, model))
    added = own = None
    if adapter is not None:
        if (read.folder / EXPORTED).is_file():
            raise ModelError(
                f"{read.folder} holds ONNX files, which no adapter can be added to",
                "give the model that they were made from",
            )
        added, own = read_adapter(adapter)
    config, choice = read.config, choose_engine(read, engine, device)
    check_device(choice, device)  # before the codec is looked for: what is said then is about the codec
    found = load_codec(codec, choice, device) if codec is not None else _load_own_codec(read, choice, device)
    require_same_codec(config, found.spec.digest, f"the codec {found.spec.name}")
    release_memory()  # of the files that were read: memory is at its most while networks are loaded
    ar, nar = load_networks(read, choice, device, added)
    generator = SpeechGenerator(ar, nar, found, SymbolTable(read.vocabulary), config.languages)
    options = parse_options(read.generation, str(read.folder))
    if not options.watch.silent:  # the detectors are told what silence looks like in the tokens of this codec
        watch = options.watch.model_copy(update={"silent": find_silence_codes(found)})
        options = options.model_copy(update={"watch": watch})
    if added is not None:  # another model, for sentences that are kept and for the tags of files
        config = config.model_copy(update={"name": added.name_model(config.name)})
    return config, generator, options, own


def read_adapter(place: str | Path) -> tuple[Adapter, Voice | None]:
    """Return the adapter at `place` and its voice, which is called as the adapter is."""
    adapter = Adapter.load(place)
    if adapter.voice is None:
        return adapter, None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"voice{VOICE_SUFFIX}"
        path.write_bytes(adapter.voice)
        voice = Voice.load(path)
    return adapter, dataclasses.replace(voice, name=adapter.about.get("name") or voice.name)


def _load_own_codec(model: Description, choice: Choice, device: str) -> CodecEngine:
    """Return the codec in a model's folder, else the one that it names; `ModelError` says how to give it another."""
    config = model.config
    try:
        codec = load_codec(find_kept_codec(config.codec.name, model.folder / OWN), choice, device)
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


def find_languages(language: str, voice: Voice | None, spoken: tuple[str, ...], model: str) -> Languages:
    """Return which languages a text may be in for a model that has `spoken` some; `language`: its own, if it is known.

    `ModelError` for one that the model was not trained with.
    """
    chosen = find_language(language).code if language else ""
    if chosen and chosen not in spoken:
        raise ModelError(
            f"the model {model!r} does not speak {chosen!r}",
            f"it speaks {', '.join(spoken)}; give a model that was trained with {chosen!r} (docs/languages.md)",
        )
    usual = voice.language if voice is not None else ENGLISH
    if usual not in spoken or usual in (CHINESE, JAPANESE):  # whose texts show it
        usual = ENGLISH if ENGLISH in spoken else spoken[0]
    return Languages(spoken, chosen, usual)
