"""What is trained in a given time: the sizes of both networks and their batches, by how fast this machine learns.

A network should learn from about eight frames for each of its parameters: so many the built-in model's AR network
learned from (3,222 updates of 48,000 frames, 19 M parameters). No other number was tried. So the machine is timed on
larger and larger networks, until the budget does not last for the next.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from openvalle.codec.load import load_codec
from openvalle.config import Config, override
from openvalle.data.shards import TokenShards
from openvalle.errors import ConfigError
from openvalle.files import write_text
from openvalle.hub import find_recipe
from openvalle.model.checkpoint import Part
from openvalle.train.lm import LanguageModelRecipe, LanguageModelTask
from openvalle.train.loop import LoopConfig, Task, TrainingProgress
from openvalle.train.recipe import read_job
from openvalle.train.state import autocast, make_optimizer, prepare_device, update_weights

log = logging.getLogger(__name__)

SIZES = ((128, 3), (192, 4), (256, 6), (384, 6), (448, 8), (640, 10), (768, 12), (1024, 12))  # width, blocks
HEAD = 64  # width of a head
LEARNED = 8.0  # frames for each parameter
UPDATES = 1500  # that a training should have at least, before batches grow
SHORT = 1000  # updates up to which averages are short and nothing is sharpened
LEAST_FRAMES, MOST_FRAMES = 2000, 48_000  # of a batch
TIMED_UPDATES = 2
MEASURING = 0.12  # share of the budget that is spent on timing, at most
JUDGING, LEAST_JUDGING, MOST_JUDGING = 0.2, 15.0, 180.0  # share of the budget for judging; seconds
LEAST_TRAINING = 0.25  # share of the budget that is trained
STARTING = 12.0  # seconds until two processes train, and from their end to a model
TRAIN = "train"


class Plan(Config):
    """What was decided; kept in the folder of the run, so that it goes on as it began."""

    seconds: float  # of the whole budget
    training: float  # seconds of it in which both networks train, at the same time
    width: int
    depth: int
    frames: int  # of a batch
    speed: float  # frames a second that each network learned from when it was timed
    parameters: int  # of both networks
    held_out: tuple[str, ...]  # splits


@dataclass(frozen=True)
class Budget:
    """The time there is, and how much of it is gone."""

    seconds: float
    began: float

    def gone(self) -> float:
        """Return how many seconds of it are over."""
        return time.monotonic() - self.began

    def count_left(self) -> float:
        """Return how many seconds are left; negative if it is overdrawn."""
        return self.seconds - self.gone()


def choose(data: tuple[Path, ...], budget: Budget, out: Path, overrides: tuple[str, ...]) -> Plan:
    """Time this machine and write the recipe that fits the budget to `out/recipe.yaml`; return the plan."""
    held_out = find_held_out(data)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    training = budget.seconds - STARTING - time_judging(budget.seconds)
    until = budget.gone() + MEASURING * budget.seconds
    chosen, speed, parameters = SIZES[0], 0.0, 0
    with trained_threads(device):
        for size in SIZES:
            path = write_recipe(out, data, held_out, size, LEAST_FRAMES, training, overrides)
            found, count = _time(path, device)
            if speed and found * training < LEARNED * count / len(Part):
                break
            chosen, speed, parameters = size, found, count
            if budget.gone() > until:
                break
    # On a machine so busy that even timing it took the time, the budget is overdrawn rather than nothing learned.
    training = max(LEAST_TRAINING * budget.seconds, training - budget.gone())
    frames = int(min(MOST_FRAMES, max(LEAST_FRAMES, speed * training / UPDATES)))
    plan = Plan(
        seconds=budget.seconds,
        training=round(training, 1),
        width=chosen[0],
        depth=chosen[1],
        frames=frames,
        speed=round(speed, 1),
        parameters=parameters,
        held_out=held_out,
    )
    updates = int(speed * training / frames)
    write_recipe(out, data, held_out, chosen, frames, plan.training, overrides, updates)
    plan.save(out / "plan.json")
    return plan


def time_judging(seconds: float) -> float:
    """Return how much of a budget is kept for judging."""
    return min(MOST_JUDGING, max(LEAST_JUDGING, JUDGING * seconds))


def threads_each() -> int:
    """Return the threads of each of the two trainings."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) else max(1, (os.cpu_count() or 1) // len(Part))


@contextmanager
def trained_threads(device: torch.device) -> Iterator[None]:
    """Compute with as many threads as each of the trainings will have, where a processor trains."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads_each() if device.type == "cpu" else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def find_held_out(data: tuple[Path, ...]) -> tuple[str, ...]:
    """Return the splits that training never meets; `ConfigError` if there are none, or no training split."""
    names: dict[str, None] = {}
    for folder in data:
        shards = TokenShards.open(folder)
        if not shards.is_aligned:
            raise ConfigError(f"{folder} is of byte pairs, which are not aligned", "prepare it with phonemes")
        names |= dict.fromkeys(shards.index.names["split"].values)
    if TRAIN not in names or len(names) < 2:
        raise ConfigError(
            f"the splits of {', '.join(map(str, data))} are {', '.join(names) or 'none'}",
            f"a speedrun needs {TRAIN} and another one, of speakers that are held out",
        )
    return tuple(name for name in names if name != TRAIN)


def write_recipe(
    out: Path,
    data: tuple[Path, ...],
    held_out: tuple[str, ...],
    size: tuple[int, int],
    frames: int,
    seconds: float,
    overrides: tuple[str, ...],
    updates: int = UPDATES,
) -> Path:
    """Write the recipe `speedrun`, changed to a size, a batch and a time, for this data; return its path.

    `updates`: how many there will be, as far as can be told.
    """
    values: dict[str, Any] = yaml.safe_load(find_recipe("speedrun").read_text(encoding="utf-8"))
    codec = TokenShards.open(data[0]).codec
    name = codec.source or codec.name
    width, depth = size
    values |= {"codec": name, "valid_split": list(held_out), "valid_batches": 4}
    values["data"] = str(data[0]) if len(data) == 1 else [{"folder": str(folder)} for folder in data]
    for part in Part:
        section = values[part.value]
        section["model"]["merge"] = codec.merge
        section["model"]["codebook_size"] = codec.entries
        shape = section["model"]["transformer"]
        shape |= {"width": width, "heads": max(1, width // HEAD), "depth": depth, "feedforward": 4 * width}
        loop = section["loop"]
        loop |= {"seconds": round(seconds, 1), "workers": 1 if frames > LEAST_FRAMES else 0, "snapshots": []}
        loop |= {"log_every": 10, "validate_every": max(25, updates // 4), "save_minutes": max(0.5, seconds / 600)}
        loop["optim"] |= {"warmup": min(150, updates // 10 + 1), "ema": 0.998 if updates > SHORT else 0.98}
        section["batches"] |= {"frames": frames}
    if updates <= SHORT:  # too few for a discriminator to learn what is real
        values["nar"]["adversarial"] = None
    latent = load_codec(name).codebooks.shape[-1]
    values["nar"]["model"]["latent"] = int(latent)
    values["pack"] |= {"ar": str(out / "ar"), "nar": str(out / "nar"), "name": out.resolve().name}
    path = out / "recipe.yaml"
    write_text(path, yaml.safe_dump(override(values, overrides), sort_keys=False))
    return path


def _time(recipe: Path, device: torch.device) -> tuple[float, int]:
    """Return the frames a second of the slower network, and the parameters of both."""
    speeds, parameters = [], 0
    for part in Part:
        parsed = LanguageModelRecipe.parse(read_job(part.value, recipe), str(recipe))
        task = LanguageModelTask(part, parsed.model_copy(update={"adversarial": None}))
        speeds.append(measure_speed(task, parsed.loop, device))
        parameters += sum(each.numel() for each in task.network.parameters())
    # Both train on one accelerator at the same time; on a processor each has its half already.
    return min(speeds) / (len(Part) if device.type == "cuda" else 1), parameters


def measure_speed(task: Task, config: LoopConfig, device: torch.device) -> float:
    """Return the frames a second that updates learn from, batches and all; the first update warms up and is not
    counted. The networks are changed by it."""
    prepare_device(device)
    optimizers = {}
    for name, network in task.networks.items():
        network.to(device).train()
        optimizers[name] = make_optimizer(network, config.optim)
    began, frames = 0.0, 0
    for number in range(1 + TIMED_UPDATES):
        if number == 1:
            began = _now(device)
        batch = task.batch(number, 0, 1).to(device)
        with autocast(config.precision, device):
            losses = task.losses(batch, TrainingProgress(number, 0.0), torch.Generator().manual_seed(number))
        total = torch.stack(list(losses.minimise.values())).sum()
        total.backward()
        for name in losses.minimise:
            norm = torch.nn.utils.clip_grad_norm_(task.networks[name].parameters(), config.optim.clip)
            update_weights(optimizers[name], norm)
            optimizers[name].zero_grad(set_to_none=True)
        frames += losses.frames if number else 0
    return frames / max(1e-9, _now(device) - began)


def _now(device: torch.device) -> float:
    """Return the time at which the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()
