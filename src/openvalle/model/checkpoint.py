"""A model on disk: one folder with configurations, weights, symbols and default options; and a network alone.

config.json       format, name, licence, languages, the codec it speaks, `ar` and `nar` configurations
ar.safetensors    nar.safetensors      weights, stored in float16 or float32, used in float32
codec/            the codec that it speaks, where that is not one that everybody has
symbols.json      the frozen symbol table (and the merges of byte pairs) and its digest
generation.json   default decoding options, as plain data

A run of `train ar` or `train nar` leaves one network (`ar.json`, `ar.safetensors`), of which `pack` makes a model.
Names of settings and weights of format 1 are read as those of today.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import Field, field_validator, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from openvalle.config import Config, Syntax, read_data
from openvalle.errors import ConfigError, ModelError, UserError
from openvalle.files import atomic_folder, atomic_path
from openvalle.hub import SUMS, find_damaged
from openvalle.model.ar import AR
from openvalle.model.config import ARConfig, NARConfig, check_pair
from openvalle.model.nar import NAR
from openvalle.types import CodecSpec, TokenSpec, Vocabulary

FORMAT_VERSION = 2
# Of format 1: what a weight's name held -> what it holds now.
OLD_WEIGHTS = (
    (r"^stack\.(blocks\.\d+)\.(qkv|out)\.", r"transformer.\1.attention.\2."),
    (r"^stack\.", "transformer."),
    (r"^begin$", "bos"),
    (r"^head$", "code_head.weight"),
    (r"^expect\.", "residual_head.linear."),
)
OLD_SETTINGS = {
    "stack": "transformer",
    "entries": "codebook_size",
    "begin": "use_bos",
    "first_noise": "codebook1_noise",
}
OWN = "codec"  # folder of the model's own codec, if it has one
FILES = ("config.json", "ar.safetensors", "nar.safetensors", "symbols.json", "generation.json")


class Storage(StrEnum):
    """How weights are stored; they are always used in float32."""

    FLOAT16 = "float16"  # half the size
    FLOAT32 = "float32"  # exact


class BundleConfig(Config):
    """`config.json`."""

    format_version: int = FORMAT_VERSION
    name: str
    licence: str
    languages: tuple[str, ...] = Field(("en",), description="language n of the model, counted from 1, is the n-th")
    codec: CodecSpec
    symbols_digest: str
    ar: ARConfig
    nar: NARConfig

    @model_validator(mode="before")
    @classmethod
    def _convert(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("format_version") != 1:
            return values
        networks = {
            name: convert_settings(values[name]) for name in ("ar", "nar") if isinstance(values.get(name), dict)
        }
        return values | networks | {"format_version": FORMAT_VERSION}

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_pair(self.ar, self.nar)
        return self


def convert_settings(network: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a network of format 1 by their names of today; those of today as they are."""
    if "stack" not in network:
        return network
    values = {OLD_SETTINGS.get(name, name): value for name, value in network.items()}
    is_expected = values.pop("choice", "likeliest") == "rest"
    own = {name: values.pop(name) for name in ("passes", "gain", "code_weight") if name in values}
    if weight := values.pop("distance_weight", 0.0):
        values["residual"] = {"weight": weight, "predicts": is_expected, **own}
    return values


def rename_weight(name: str) -> str:
    """Return the name of today of a weight of format 1."""
    for old, new in OLD_WEIGHTS:
        name = re.sub(old, new, name)
    return name


@dataclass(frozen=True)
class Bundle:
    """A model that is ready to speak."""

    config: BundleConfig
    ar: AR
    nar: NAR
    vocabulary: Vocabulary
    generation: Mapping[str, Any]


def save_bundle(bundle: Bundle, folder: str | Path, storage: Storage = Storage.FLOAT32) -> None:
    """Write the folder; it appears whole or not at all, and replaces one that was there."""
    folder = Path(folder)
    with atomic_folder(folder, replace=True) as part:
        _write(bundle, part, storage)
        for other in folder.iterdir() if folder.is_dir() else ():  # what is not the model's (a card) moves along
            if other.name not in (*FILES, SUMS):  # the digests are of the old weights
                (shutil.copytree if other.is_dir() else shutil.copy2)(other, part / other.name)


def _write(bundle: Bundle, part: Path, storage: Storage) -> None:
    bundle.config.save(part / "config.json")
    _write_weights(bundle.ar, part / "ar.safetensors", storage)
    _write_weights(bundle.nar, part / "nar.safetensors", storage)
    bundle.vocabulary.save(part / "symbols.json")
    text = json.dumps(dict(bundle.generation), indent=2) + "\n"
    (part / "generation.json").write_text(text, encoding="utf-8")


def _write_weights(network: nn.Module, path: Path, storage: Storage) -> None:
    kept = torch.float32 if storage is Storage.FLOAT32 else torch.float16
    weights = {key: value.detach().cpu().to(kept).contiguous() for key, value in network.state_dict().items()}
    with atomic_path(path) as file:  # with the permissions of any other file
        save_file(weights, file, metadata={"format": "pt"})


def load_bundle(folder: str | Path) -> Bundle:
    """Return the model in `folder`, in float32 on the CPU, for speaking (`eval`).

    `ModelError` says in one line which file is missing, damaged or does not fit the others.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(f"there is no model folder {folder}", "give the folder of a bundle, or its name")
    for name in FILES:
        if not (folder / name).is_file():
            raise ModelError(f"{folder} has no {name}", "copy or train the model again")
    config = _read_config(folder / "config.json")
    vocabulary = _read_symbols(folder / "symbols.json", config)
    generation = _read_json(folder / "generation.json")
    paths = folder / "ar.safetensors", folder / "nar.safetensors"
    if bad := find_damaged(folder, tuple(path.name for path in paths)):
        raise ModelError(f"{folder / bad[0]} is not the file that {SUMS} names", "copy or train the model again")
    # what config.json claims is compared with what the files hold before any room is made for it
    with torch.device("meta"):
        for network, path in ((AR(config.ar), paths[0]), (NAR(config.nar), paths[1])):
            _check_shapes(network, path)
    ar, nar = AR(config.ar), NAR(config.nar)
    _load_weights(ar, paths[0])
    _load_weights(nar, paths[1])
    return Bundle(config, ar.eval(), nar.eval(), vocabulary, generation)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = read_data(path, Syntax.JSON)
    except UserError as error:
        raise ModelError(error.what, "copy or train the model again") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path} does not hold a mapping", "copy or train the model again")
    return values


def _read_config(path: Path) -> BundleConfig:
    values = _read_json(path)
    version = values.get("format_version")
    if version not in (1, FORMAT_VERSION):
        raise ModelError(
            f"{path} has format {version}, and this version of openvalle reads up to {FORMAT_VERSION}",
            "update openvalle",
        )
    try:
        return BundleConfig.parse(values, str(path))
    except ConfigError as error:
        raise ModelError(error.what, "copy or train the model again") from None


def _read_symbols(path: Path, config: BundleConfig) -> Vocabulary:
    try:
        vocabulary = Vocabulary.load(path)
    except ModelError as error:
        raise ModelError(error.what, "copy or train the model again") from None
    require_same_symbols(config, vocabulary.digest, str(path))
    for name, network in (("ar", config.ar), ("nar", config.nar)):
        if network.symbols != len(vocabulary):
            raise ModelError(
                f"{path} has {len(vocabulary)} symbols and the {name} model {network.symbols}",
                "copy or train the model again",
            )
    return vocabulary


def _check_shapes(network: nn.Module, path: Path) -> None:
    """Raise `ModelError` unless the file holds the network's weights, by name and shape."""
    try:
        with safe_open(path, framework="pt") as file:
            weights = {rename_weight(key): tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged ({error})", "copy or train the model again") from None
    expected = network.state_dict()
    for key, value in expected.items():
        if key not in weights:
            raise ModelError(f"{path} has no weight {key}", "its config.json is of another model")
        if weights[key] != tuple(value.shape):
            shapes = f"{weights[key]} and config.json says {tuple(value.shape)}"
            raise ModelError(f"{path}: {key} is {shapes}", "its config.json is of another model")
    extra = sorted(set(weights) - set(expected))
    if extra:
        raise ModelError(
            f"{path} has a weight {extra[0]} that the model does not", "its config.json is of another model"
        )


def _load_weights(network: nn.Module, path: Path) -> None:
    """Fill `network` with the file's weights; `ModelError` if one of them is not a finite number."""
    try:
        weights = {rename_weight(name): value for name, value in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged ({error})", "copy or train the model again") from None
    for name, value in weights.items():  # everything would turn to noise, without a word
        if not bool(torch.isfinite(value).all()):
            raise ModelError(f"{path}: {name} holds values that are no finite numbers", "copy or train it again")
    network.load_state_dict({key: weights[key].to(value.dtype) for key, value in network.state_dict().items()})


def require_same_symbols(config: BundleConfig, digest: str, source: str) -> None:
    """Raise `ModelError` unless `source` was made with the model's symbol table."""
    if digest != config.symbols_digest:
        raise ModelError(
            f"{source} uses the symbol table {digest or '(unknown)'} and the model {config.name} uses "
            f"{config.symbols_digest}",
            "use files that were made together, or make them again",
        )


def require_same_codec(config: BundleConfig, digest: str, source: str) -> None:
    """Raise `ModelError` unless the tokens of `source` come from the codec that the model speaks."""
    if digest != config.codec.digest:
        raise ModelError(
            f"{source} uses the codec {digest or '(unknown)'} and the model {config.name} speaks "
            f"{config.codec.name} {config.codec.digest}",
            "use the model's own codec, or tokens made with it",
        )


class Part(StrEnum):
    """Which network is trained."""

    AR = "ar"  # codebook 1
    NAR = "nar"  # codebooks 2 and up


class NetworkFile(Config):
    """`ar.json` or `nar.json`: what `pack` must know of a trained network."""

    part: Part
    config: dict[str, Any]
    codec: TokenSpec
    symbols: tuple[str, ...]
    merges: tuple[str, ...] = ()  # of byte pairs
    symbols_digest: str
    languages: tuple[str, ...]

    @field_validator("config")
    @classmethod
    def _convert(cls, values: dict[str, Any]) -> dict[str, Any]:
        return convert_settings(values)

    @property
    def vocabulary(self) -> Vocabulary:
        """What the ids of its texts stand for."""
        return Vocabulary(self.symbols, self.merges)


def save_network(file: NetworkFile, network: AR | NAR, out: Path) -> None:
    """Write `ar.safetensors` or `nar.safetensors` with a JSON file that says what the network needs."""
    _write_weights(network, out / f"{file.part.value}.safetensors", Storage.FLOAT32)
    file.save(out / f"{file.part.value}.json")


def load_network(file: NetworkFile, folder: Path) -> AR | NAR:
    """Return a trained network with its weights; `ModelError` if they cannot be read."""
    network = (
        AR(ARConfig.parse(file.config, str(folder)))
        if file.part is Part.AR
        else NAR(NARConfig.parse(file.config, str(folder)))
    )
    path = folder / f"{file.part.value}.safetensors"
    _check_shapes(network, path)
    _load_weights(network, path)
    return network
