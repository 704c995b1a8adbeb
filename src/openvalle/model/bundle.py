"""What a model on disk says of itself: its settings, symbols and decoding options, without its networks.

config.json       format, name, licence, languages, the codec it speaks, `ar` and `nar` configurations
ar.safetensors    nar.safetensors      weights, stored in 8 bits (`openvalle.model.rounding`), float16 or float32
codec/            the codec that it speaks, where that is not one that everybody has
symbols.json      the frozen symbol table (and the merges of byte pairs) and its digest
generation.json   default decoding options, as plain data
steps.safetensors what the AR model gives to some steps (`openvalle.engines.probe`), or it is not there

Names of settings and weights of format 1 are read as those of today.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from openvalle.config import Config, Syntax, read_data
from openvalle.errors import ConfigError, ModelError, UserError
from openvalle.hub import SUMS, find_damaged
from openvalle.model.config import ARConfig, NARConfig, check_pair
from openvalle.types import CodecSpec, Vocabulary

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
EXPORTED = "onnx.json"  # of a folder whose networks are ONNX files, see `openvalle.engines.export`
FILES = ("config.json", "ar.safetensors", "nar.safetensors", "symbols.json", "generation.json")


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
class Description:
    """A model folder whose networks are not loaded."""

    folder: Path
    config: BundleConfig
    vocabulary: Vocabulary
    generation: Mapping[str, Any]

    def weights(self, part: str) -> Path:
        """Return the file of a network's weights, `ar` or `nar`."""
        return self.folder / f"{part}.safetensors"


def read_description(folder: str | Path) -> Description:
    """Return what the model in `folder` says of itself.

    `ModelError` says in one line which file is missing, damaged or does not fit the others.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(f"there is no model folder {folder}", "give the folder of a bundle, or its name")
    for name in FILES:
        if not (folder / name).is_file():
            raise ModelError(f"{folder} has no {name}", "copy or train the model again")
    config = _read_config(folder / "config.json")
    found = Description(
        folder, config, _read_symbols(folder / "symbols.json", config), _read_json(folder / "generation.json")
    )
    if bad := find_damaged(folder, tuple(found.weights(part).name for part in ("ar", "nar"))):
        raise ModelError(f"{folder / bad[0]} is not the file that {SUMS} names", "copy or train the model again")
    return found


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
