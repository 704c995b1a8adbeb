"""All that resuming needs, on disk: weights, moving averages and optimiser moments as safetensors, the step as JSON.

A checkpoint is a folder that appears under its final name only when it is complete, so a run killed at any moment
finds the last whole one. Random draws need no state here: each is a function of (seed, step, rank).
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from openvalle.config import read_mapping
from openvalle.errors import ConfigError, ModelError
from openvalle.files import atomic_folder

_NAME = re.compile(r"step-(\d{9})")


@dataclass
class TrainState:
    """What changes while training."""

    networks: dict[str, nn.Module]
    averages: dict[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]
    step: int = 0  # completed updates
    seconds: float = 0.0  # of training so far


def save_checkpoint(state: TrainState, folder: Path, keep: int = 2) -> Path:
    """Write `folder/step-…` whole or not at all, remove all but the last `keep`; return its path."""
    final = folder / f"step-{state.step:09d}"
    with atomic_folder(final, replace=True) as part:
        for name, network in state.networks.items():
            save_file(_detached(network.state_dict()), part / f"{name}.safetensors")
        for name, network in state.averages.items():
            save_file(_detached(network.state_dict()), part / f"{name}.average.safetensors")
        for name, optimizer in state.optimizers.items():
            save_file(_moments(optimizer), part / f"{name}.optimizer.safetensors")
        (part / "state.json").write_text(json.dumps({"format": 1, "step": state.step, "seconds": state.seconds}) + "\n")
    for old in _checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint in the folder."""
    found = _checkpoints(folder)
    return found[-1] if found else None


def load_checkpoint(state: TrainState, path: Path) -> None:
    """Fill `state` from a checkpoint; `ModelError` if it is damaged or of another shape."""
    try:
        for name, network in state.networks.items():
            network.load_state_dict(load_file(path / f"{name}.safetensors"))
        for name, network in state.averages.items():
            network.load_state_dict(load_file(path / f"{name}.average.safetensors"))
        for name, optimizer in state.optimizers.items():
            _restore_moments(optimizer, load_file(path / f"{name}.optimizer.safetensors"))
        values = read_mapping(path / "state.json")
        state.step, state.seconds = int(values["step"]), float(values.get("seconds", 0.0))
    except (SafetensorError, OSError, RuntimeError, KeyError, ValueError, TypeError, ConfigError) as error:
        raise ModelError(
            f"cannot resume from {path} ({str(error).splitlines()[0][:120]})",
            "delete that folder to go back to the checkpoint before it, or use another output folder",
        ) from None


def _checkpoints(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def _detached(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # Cloned, because safetensors refuses tensors that share memory (tied embeddings).
    return {name: value.detach().cpu().contiguous().clone() for name, value in values.items()}


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{index}.{key}": torch.as_tensor(value).detach().cpu().contiguous().clone()
        for index, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }


def _restore_moments(optimizer: torch.optim.Optimizer, values: Mapping[str, Tensor]) -> None:
    whole = optimizer.state_dict()
    whole["state"] = {}
    for name, value in values.items():
        index, key = name.split(".", 1)
        whole["state"].setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(whole)
