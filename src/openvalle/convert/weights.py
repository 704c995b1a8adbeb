"""Weights by name, from any file that other projects write, checked before they are read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from openvalle.convert.unpickle import StoredTensor, read_torch
from openvalle.errors import ModelError

SAFETENSORS = ".safetensors"
HOLDERS = (
    "model",
    "state_dict",
    "model_state_dict",
    "module",
    "model_avg",
)  # what a state dict is called in a larger file
PREFIXES = ("module.", "_orig_mod.")  # of data-parallel and of compiled networks
SHOWN = 8  # names in a list of what is missing


class LazyTensor(Protocol):
    """A tensor in a file, not read yet."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def read(self) -> Tensor: ...


@dataclass(frozen=True)
class SafeTensor:
    """A tensor of a safetensors file."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32

    def read(self) -> Tensor:
        with safe_open(self.path, framework="pt") as file:
            return file.get_tensor(self.name)


@dataclass(frozen=True)
class StoredWeights:
    """The weights of a file by name, and what else stands beside them at its top: settings, as plain values."""

    source: str
    tensors: Mapping[str, LazyTensor]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def has(self, start: str) -> bool:
        """Whether the name of some weight begins so."""
        return any(name.startswith(start) for name in self.tensors)

    def shape(self, name: str, sides: int = 2) -> tuple[int, ...]:
        """Return a weight's shape, of so many sides; `ModelError` if it is missing, or has others, or no numbers."""
        if name not in self.tensors:
            raise ModelError(f"{self.source} lacks {name}", "is it of another project? see --detect")
        found = tuple(self.tensors[name].shape)
        if len(found) != sides or 0 in found:
            raise ModelError(f"{self.source} has {name} of shape {found}, not of {sides} sides", "it is not whole")
        return found

    def count(self, pattern: str) -> int:
        """Return how many of `pattern` with a number from 0 on in place of `{}` there should be: up to the highest."""
        start, _, end = map(re.escape, pattern.partition("{}"))
        found = (re.match(rf"{start}(\d{{1,4}}){end}", name) for name in self.tensors)
        return max((int(match[1]) + 1 for match in found if match), default=0)

    def check(self, expected: Mapping[str, tuple[int, ...]], unused: tuple[str, ...] = ()) -> None:
        """Raise `ModelError` unless these weights, and no others but `unused`, are there in these shapes."""
        missing = [name for name in expected if name not in self.tensors]
        extra = [name for name in self.tensors if name not in expected and name not in unused]
        shapes = {name: tuple(self.tensors[name].shape) for name in expected if name in self.tensors}
        wrong = [name for name, shape in shapes.items() if shape != tuple(expected[name])]
        if missing:
            raise ModelError(f"{self.source} lacks {_list(missing)}", "it is not whole, or of another version")
        if extra:
            raise ModelError(
                f"{self.source} has {_list(extra)} too", "it is of a network with parts that are not known"
            )
        if wrong:
            name = wrong[0]
            what = f"{name} of shape {shapes[name]}, where {tuple(expected[name])} belongs"
            raise ModelError(f"{self.source} has {what}", f"{len(wrong)} weights do not fit: check the settings")

    def read(self, name: str) -> Tensor:
        """Return a weight in float32; `ModelError` if not all of it are finite numbers."""
        value = self.tensors[name].read().float()
        if not bool(torch.isfinite(value).all()):
            raise ModelError(f"{self.source}: {name} holds values that are no finite numbers", "copy it again")
        return value


def read_weights(path: Path, *, average: bool = False) -> StoredWeights:
    """Return the weights of a safetensors file or one of `torch.save`; `ModelError` in one line if there are none.

    `average`: those that were averaged in training (`model_avg`), where the file has them.
    """
    if path.suffix == SAFETENSORS:
        return _read_safetensors(path)
    values = read_torch(path)
    if not isinstance(values, dict):
        raise ModelError(f"{path} holds a {type(values).__name__}, not weights by name", "give a state dict")
    if average and "model_avg" not in values:
        raise ModelError(f"{path} holds no averaged weights (model_avg)", "leave --average away")
    holders = ("model_avg",) if average else HOLDERS
    inner = next((values[name] for name in holders if isinstance(values.get(name), dict)), values)
    tensors = {_strip(str(name)): value for name, value in inner.items() if isinstance(value, StoredTensor)}
    if not tensors:
        is_optimiser = {"param_groups", "optimizer", "optimizer_state_dict"} & {str(name) for name in values}
        what = "an optimiser's state and no weights" if is_optimiser else "no weights by name"
        raise ModelError(f"{path} holds {what}", "give the checkpoint of the network")
    settings = {str(name): value for name, value in values.items() if isinstance(value, bool | int | float | str)}
    return StoredWeights(str(path), tensors, settings)


def _read_safetensors(path: Path) -> StoredWeights:
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except FileNotFoundError:
        raise ModelError(f"there is no file {path}", "check the path") from None
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is cut short or damaged ({' '.join(str(error).split())})", "copy it again") from None
    return StoredWeights(str(path), {_strip(name): SafeTensor(path, name, shape) for name, shape in shapes.items()})


def _strip(name: str) -> str:
    """Return a weight's name without what wrappers of a network put before it."""
    while name.startswith(PREFIXES):
        name = name.partition(".")[2]
    return name


def _list(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
