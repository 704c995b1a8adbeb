"""Weights of networks as the engines without torch read them: by name and shape, each when it is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from openvalle.errors import ModelError
from openvalle.model.rounding import SCALES, RoundedWeight

KINDS = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I8": "<i1"}  # numbers of safetensors -> those of NumPy


class WeightsFile(Mapping[str, np.ndarray]):
    """The weights in a file, each read when it is asked for, so that they are never all in memory. Those in 8 bits are
    given multiplied out, or by `read_rounded` as they are."""

    def __init__(self, path: Path, rename: Callable[[str], str] = str) -> None:
        """`ModelError` if the file is damaged, or holds other numbers than floating point and weights in 8 bits."""
        self.path = path
        try:
            with safe_open(path, framework="np"):  # which looks whether all of it is there
                pass
            with path.open("rb") as file:
                size = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(size))
        except (SafetensorError, OSError) as error:
            raise self._damaged(str(error)) from None
        self._start = 8 + size
        self._places = {rename(name): place for name, place in header.items() if name != "__metadata__"}
        if other := {place["dtype"] for place in self._places.values()} - set(KINDS):
            raise self._damaged(f"it holds numbers of the kind {min(other)}")
        rounded = [name for name, place in self._places.items() if place["dtype"] == "I8"]
        self._scales = {name: self._places.pop(name + SCALES, None) for name in rounded}
        for name, scales in self._scales.items():
            if scales is None or scales["shape"] != self._places[name]["shape"][:1]:
                raise self._damaged(f"{name} has no scale for each row")

    def __getitem__(self, name: str) -> np.ndarray:
        rounded = self.read_rounded(name)
        return self._read(self._places[name]) if rounded is None else rounded.restore()

    def read_rounded(self, name: str) -> RoundedWeight | None:
        """Return a weight that is stored in 8 bits; None: it is not."""
        scales = self._scales.get(name)
        return None if scales is None else RoundedWeight(self._read(self._places[name]), self._read(scales))

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _read(self, place: dict[str, Any]) -> np.ndarray:
        kind, shape, (start, _) = KINDS[place["dtype"]], place["shape"], place["data_offsets"]
        try:
            return np.fromfile(self.path, kind, prod(shape), offset=self._start + start).reshape(shape)
        except (OSError, ValueError) as error:
            raise self._damaged(str(error)) from None

    def _damaged(self, error: str) -> ModelError:
        what = error.strip().splitlines()[0][:120]
        return ModelError(f"{self.path} is damaged ({what})", "copy, train or install it again")


class Weights:
    """The weights of one network by name; every one is asked for by its shape, and all of them have to be."""

    def __init__(self, values: Mapping[str, np.ndarray], source: Path) -> None:
        self.values, self.source = values, source
        self.asked: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def take(self, name: str, *shape: int) -> np.ndarray:
        """Return a weight in float32; `ModelError` unless it is there, of that shape, and holds finite numbers."""
        self._ask(name)
        value = self.values[name]
        self._require_shape(name, value.shape, shape)
        value = value.astype(np.float32, copy=False)
        # a sum of squares is quick, and finite unless a value is not, or they are huge
        flat = value.reshape(-1)
        if not np.isfinite(np.dot(flat, flat)):
            self._require_finite(name, value)
        return value

    def take_matrix(self, name: str, out: int, inner: int) -> np.ndarray | RoundedWeight:
        """Return the weight of a linear layer as `take` does; one that is stored in 8 bits as it is."""
        self._ask(name)
        rounded = self.values.read_rounded(name) if isinstance(self.values, WeightsFile) else None
        if rounded is None:
            return self.take(name, out, inner)
        self._require_shape(name, rounded.shape, (out, inner))
        self._require_finite(name, rounded.scales)
        return rounded

    def require_all_asked(self) -> None:
        """Raise `ModelError` if there are weights that the network does not have."""
        if extra := sorted(set(self.values) - self.asked):
            raise ModelError(
                f"{self.source} has a weight {extra[0]} that the model does not", "its config.json is of another model"
            )

    def _ask(self, name: str) -> None:
        if name not in self.values:
            raise ModelError(f"{self.source} has no weight {name}", "its config.json is of another model")
        self.asked.add(name)

    def _require_shape(self, name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
        if shape != expected:
            shapes = f"{shape} and config.json says {expected}"
            raise ModelError(f"{self.source}: {name} is {shapes}", "its config.json is of another model")

    def _require_finite(self, name: str, values: np.ndarray) -> None:
        if not np.isfinite(values).all():
            raise ModelError(f"{self.source}: {name} holds values that are no finite numbers", "copy or train it again")
