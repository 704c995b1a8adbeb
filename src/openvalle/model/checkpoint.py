"""A model on disk with its networks, and a network alone; `openvalle.model.bundle` says what lies in the folder.

A run of `train ar` or `train nar` leaves one network (`ar.json`, `ar.safetensors`), of which `pack` makes a model.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from pydantic import field_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from openvalle.config import Config
from openvalle.errors import ModelError
from openvalle.files import atomic_folder, atomic_path
from openvalle.hub import SUMS
from openvalle.model.ar import AR
from openvalle.model.bundle import EXPORTED, FILES, BundleConfig, convert_settings, read_description, rename_weight
from openvalle.model.config import ARConfig, NARConfig
from openvalle.model.nar import NAR
from openvalle.model.rounding import ROUNDED, SCALES, RoundedWeight, round_rows
from openvalle.types import TokenSpec, Vocabulary


class Storage(StrEnum):
    """How weights are stored; they are always used in float32."""

    INT8 = "int8"  # the large matrices in whole numbers, as the engines' 8 bits round them; the rest in float16
    FLOAT16 = "float16"  # half the size of float32
    FLOAT32 = "float32"  # exact


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
    weights: dict[str, torch.Tensor] = {}
    for key, value in network.state_dict().items():
        if storage is Storage.INT8 and ROUNDED.fullmatch(key):
            rounded = round_rows(value.detach().cpu().float().numpy())
            weights |= {key: torch.from_numpy(rounded.values), key + SCALES: torch.from_numpy(rounded.scales)}
        else:
            weights[key] = value.detach().cpu().to(kept).contiguous()
    with atomic_path(path) as file:  # with the permissions of any other file
        save_file(weights, file, metadata={"format": "pt"})


def load_bundle(folder: str | Path) -> Bundle:
    """Return the model in `folder`, its weights in float32 on the CPU, ready to speak (`eval`).

    `ModelError` says in one line which file is missing, damaged or does not fit the others.
    """
    read = read_description(folder)
    if (read.folder / EXPORTED).is_file():
        raise ModelError(f"{folder} holds ONNX files, not weights", "give the model that they were made from")
    config, paths = read.config, (read.weights("ar"), read.weights("nar"))
    # what config.json claims is compared with what the files hold before any room is made for it
    with torch.device("meta"):
        for network, path in ((AR(config.ar), paths[0]), (NAR(config.nar), paths[1])):
            _check_shapes(network, path)
    ar, nar = AR(config.ar), NAR(config.nar)
    _load_weights(ar, paths[0])
    _load_weights(nar, paths[1])
    return Bundle(config, ar.eval(), nar.eval(), read.vocabulary, read.generation)


def _check_shapes(network: nn.Module, path: Path) -> None:
    """Raise `ModelError` unless the file holds the network's weights, by name and shape."""
    try:
        with safe_open(path, framework="pt") as file:
            pieces = {rename_weight(key): file.get_slice(key) for key in file.keys()}  # noqa: SIM118
            weights = {key: tuple(piece.get_shape()) for key, piece in pieces.items()}
            rounded = [key for key, piece in pieces.items() if piece.get_dtype() == "I8"]
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged ({error})", "copy or train the model again") from None
    for key in rounded:
        if weights.pop(key + SCALES, None) != weights[key][:1]:
            raise ModelError(f"{path} is damaged ({key} has no scale for each row)", "copy or train the model again")
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
    own = {key: value.dtype for key, value in network.state_dict().items()}
    network.load_state_dict({key: _restore(weights, key).to(kind) for key, kind in own.items()})


def _restore(weights: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    """Return a weight as it is computed with: one in 8 bits multiplied out."""
    value, scales = weights[name], weights.get(name + SCALES)
    if scales is None:
        return value
    return torch.from_numpy(RoundedWeight(value.numpy(), scales.numpy()).restore())


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
