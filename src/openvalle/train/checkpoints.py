"""All that resuming needs, on disk: weights, averages and the optimisers' moments as safetensors, the step as JSON.

A checkpoint is a folder that appears under its final name only when it is complete, so a run killed at any moment
finds the last whole one. Random draws need no state here: each is a function of (seed, number of the batch).

Where the state is sharded, each process writes the rows that it holds (`ar.2-of-4.safetensors`), and reads those that
it needs from whatever files they lie in: a run goes on with another number of processes, or in one. All of them must
see the same folder.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from openvalle.config import read_mapping
from openvalle.errors import ConfigError, ModelError, UserError
from openvalle.files import atomic_folder
from openvalle.train.distributed import Processes
from openvalle.train.sharing import is_split, local
from openvalle.train.state import TrainState

_NAME = re.compile(r"step-(\d{9})")


def save_checkpoint(state: TrainState, folder: Path, keep: int, processes: Processes, *, sharded: bool = False) -> None:
    """Write `folder/step-…` whole or not at all, and remove all but the last `keep`; `UserError` if that cannot be.

    The first process writes; where the state is `sharded`, all do, and all have to call this.
    """
    try:
        _save(state, folder, keep, processes, sharded=sharded)
    except (OSError, SafetensorError) as error:
        why = str(error).splitlines()[0][:120]
        hint = "make room; the checkpoints before are kept, and the same command goes on from the last"
        raise UserError(f"cannot write the checkpoint of step {state.step} to {folder} ({why})", hint) from None


def _save(state: TrainState, folder: Path, keep: int, processes: Processes, *, sharded: bool) -> None:
    final = folder / f"step-{state.step:09d}"
    parts = folder / f".{final.name}"  # until all processes have written theirs
    if sharded:
        if processes.is_first:
            for old in folder.glob(".step-*"):
                shutil.rmtree(old)
            parts.mkdir(parents=True)
        processes.wait()
        for name, tensors in _tensors(state):
            save_file(tensors(), parts / _file(name, processes.rank, processes.world))
        processes.wait()
    if not processes.is_first:
        return
    with atomic_folder(final, replace=True) as part:
        for name, tensors in _tensors(state):
            if sharded:
                for rank in range(processes.world):
                    file = _file(name, rank, processes.world)
                    (parts / file).rename(part / file)
            else:
                save_file(tensors(), part / f"{name}.safetensors")
        values = {"format": 2, "step": state.step, "seconds": state.seconds, "worse": state.worse}
        values |= {"best": state.best} if math.isfinite(state.best) else {}
        values |= {"batches": state.batches, "shards": processes.world if sharded else 1}
        (part / "state.json").write_text(json.dumps(values) + "\n")
    shutil.rmtree(parts, ignore_errors=True)
    for old in _checkpoints(folder)[:-keep]:
        shutil.rmtree(old)


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint in the folder."""
    found = _checkpoints(folder)
    return found[-1] if found else None


def load_checkpoint(state: TrainState, path: Path) -> None:
    """Fill `state` from a checkpoint, this process's part of it; `ModelError` if it is damaged or of another shape,
    `ConfigError` if an update was of more or fewer batches than now."""
    try:
        values = read_mapping(path / "state.json")
        shards = int(values.get("shards", 1))
        for networks, kind in ((state.networks, ""), (state.averages, ".average")):
            for name, network in networks.items():
                with Rows(path, f"{name}{kind}", shards) as rows:
                    _fill(network, rows)
        for name, optimizer in state.optimizers.items():
            with Rows(path, f"{name}.optimizer", shards) as rows:
                _restore_moments(optimizer, rows)
        state.step, state.seconds = int(values["step"]), float(values.get("seconds", 0.0))
        state.best, state.worse = float(values.get("best", math.inf)), int(values.get("worse", 0))
        batches = int(values.get("batches", state.batches))
    except (SafetensorError, OSError, RuntimeError, KeyError, ValueError, TypeError, ConfigError) as error:
        raise ModelError(
            f"cannot resume from {path} ({str(error).splitlines()[0][:120]})",
            "delete that folder to go back to the checkpoint before it, or use another output folder",
        ) from None
    if batches != state.batches:
        raise ConfigError(
            f"an update in {path.parent.parent} is of {batches} batches, and here of {state.batches}",
            "processes x loop.accumulate has to be what it was; change loop.accumulate with the number of processes",
        )


class Rows:
    """The tensors of a checkpoint, wherever their rows lie: in one file, or some in each of several."""

    def __init__(self, folder: Path, name: str, shards: int) -> None:
        if shards == 1:
            self._paths = [folder / f"{name}.safetensors"]
        else:
            self._paths = [folder / _file(name, rank, shards) for rank in range(shards)]
        self._stack = ExitStack()
        self._files: list[Any] = []

    def __enter__(self) -> Rows:
        self._files = [self._stack.enter_context(safe_open(path, framework="pt")) for path in self._paths]
        self._names = [set(file.keys()) for file in self._files]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def names(self) -> list[str]:
        """Return what tensors there are."""
        return sorted(set().union(*self._names))

    def read(self, name: str, start: int = 0, count: int | None = None) -> Tensor:
        """Return a tensor's rows from `start` on, `count` of them or all; one without dimensions as it is."""
        found, at = [], 0
        holders = [file for file, names in zip(self._files, self._names, strict=True) if name in names]
        if not holders:
            raise KeyError(f"no {name}")
        for file in holders:
            piece = file.get_slice(name)
            if not piece.get_shape():
                return file.get_tensor(name)
            length = piece.get_shape()[0]
            first = max(start, at)
            last = at + length if count is None else min(start + count, at + length)
            if first < last:
                found.append(piece[first - at : last - at])
            elif length == 0 or not found:
                found.append(file.get_tensor(name)[:0])
            at += length
        return torch.cat(found)

    def length(self, name: str) -> int:
        """Return how many rows of a tensor there are in all."""
        pieces = [file.get_slice(name) for file, names in zip(self._files, self._names, strict=True) if name in names]
        return sum(piece.get_shape()[0] if piece.get_shape() else 1 for piece in pieces)


def _fill(network: nn.Module, rows: Rows) -> None:
    """Give a network its weights, of each the rows that this process holds."""
    own = network.state_dict()
    if set(own) != set(rows.names()):
        raise ValueError(f"it has other weights: {', '.join(sorted(set(own) ^ set(rows.names()))[:3])}")
    with torch.no_grad():
        for name, value in own.items():
            _copy(value, rows, name)


def _copy(value: Tensor, rows: Rows, name: str) -> None:
    """Fill a tensor, or the rows of it that this process holds."""
    wanted = 1 if value.ndim == 0 else value.shape[0]
    if rows.length(name) != wanted and value.ndim:
        raise ValueError(f"{name} has {rows.length(name)} rows and should have {wanted}")
    held = local(value)
    read = rows.read(name, _first_row(value), len(held)) if is_split(value) else rows.read(name)
    if read.shape != held.shape:
        raise ValueError(f"{name} is {tuple(read.shape)} and should be {tuple(held.shape)}")
    held.copy_(read)


def _first_row(value: Tensor) -> int:
    """Return where this process's rows begin: each has as many, but for the last ones."""
    mesh = value.device_mesh  # type: ignore[attr-defined]
    each = -(-value.shape[0] // mesh.size())
    return min(int(mesh.get_local_rank()) * each, value.shape[0])


def _tensors(state: TrainState) -> Iterator[tuple[str, Callable[[], dict[str, Tensor]]]]:
    """Yield the name of each file, and what gives its tensors when it is written."""
    for networks, kind in ((state.networks, ""), (state.averages, ".average")):
        for name, network in networks.items():
            yield f"{name}{kind}", partial(_weights, network)
    for name, optimizer in state.optimizers.items():
        yield f"{name}.optimizer", partial(_moments, optimizer)


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return _detached(network.state_dict())


def _file(name: str, rank: int, world: int) -> str:
    return f"{name}.{rank + 1}-of-{world}.safetensors"


def _checkpoints(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def _detached(values: dict[str, Tensor]) -> dict[str, Tensor]:
    # Cloned, because safetensors refuses tensors that share memory (tied embeddings).
    return {name: local(value.detach()).cpu().contiguous().clone() for name, value in values.items()}


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return `number of the parameter.kind` of each moment."""
    return _detached(
        {
            f"{index}.{key}": torch.as_tensor(value)
            for index, values in optimizer.state_dict()["state"].items()
            for key, value in values.items()
        }
    )


def _restore_moments(optimizer: torch.optim.Optimizer, rows: Rows) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    whole = optimizer.state_dict()
    whole["state"] = {}
    for name in rows.names():
        index, key = name.split(".", 1)
        parameter = parameters[int(index)]
        if key == "step":
            value = rows.read(name)
        else:
            value = torch.zeros_like(parameter)  # split as the parameter is
            _copy(value, rows, name)
        whole["state"].setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(whole)
