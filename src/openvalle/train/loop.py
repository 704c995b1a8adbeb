"""The one training loop. What is trained is a `Task`; everything else (precision, accumulation, clipping, schedule,
averages, validation, curves, checkpoints, resuming) happens here, once, for the codec, the language models and the
grapheme-to-phoneme model.

Batches are numbered over all processes, and they and all random draws are functions of (seed, number), so a run that
was interrupted and resumed is the same run (with a budget of `seconds` but for its schedule, which follows the clock),
and so is one of another number of processes whose updates are of as many batches. The same command works on one CPU,
one GPU, or many through `torchrun`. A step asks the device for nothing: what it measured stays there until a point of
the curves is due.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from openvalle.config import Config, read_mapping
from openvalle.errors import ConfigError, UserError, is_out_of_memory
from openvalle.model.transformer import Transformer
from openvalle.train.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint
from openvalle.train.curves import TrainingLog, Validation
from openvalle.train.distributed import Processes, join, prefetch
from openvalle.train.sharing import Sharing, compile_blocks
from openvalle.train.state import (
    OptimConfig,
    SkippedUpdates,
    TrainingPrecision,
    TrainState,
    autocast,
    learning_rate,
    make_optimizer,
    prepare_device,
    update_average,
    update_weights,
)

log = logging.getLogger(__name__)


class LoopConfig(Config):
    """How long and how to train."""

    steps: int | None = Field(None, gt=0, description="updates in all, at most")
    seconds: float | None = Field(
        None,
        gt=0,
        description="time in all, at most, the parts of an interrupted run together; the schedule follows it",
    )
    seed: int = 0
    precision: TrainingPrecision = Field(
        TrainingPrecision.AUTO, description="of products: float32, bf16, or auto: bf16 where the machine is fast at it"
    )
    accumulate: int = Field(1, ge=1, description="batches per update")
    optim: OptimConfig = OptimConfig()
    log_every: int = Field(20, ge=1, description="steps between points of the curves")
    validate_every: int = Field(1000, ge=1, description="steps between validations on unseen speakers")
    save_minutes: float = Field(3.0, gt=0, description="minutes between checkpoints")
    keep: int = Field(2, ge=1, description="checkpoints kept")
    patience: int | None = Field(
        None,
        ge=1,
        description="training ends after so many validations in a row that found nothing better; the best averaged "
        "networks are kept for good in `best`",
    )
    snapshots: tuple[float, ...] = Field(
        (), description="parts of the training, from (0, 1), at which the averaged networks are kept for good as well"
    )
    recompute: bool = Field(
        False,
        description="compute what transformer blocks hold again in the backward pass instead of keeping it: less "
        "memory for larger batches, a third more work, the same gradients",
    )
    shard: bool = Field(
        False,
        description="of several processes each holds a part of weights, averages and moments (FSDP2), for models that "
        "do not fit otherwise; what is learned is the same",
    )
    compile: bool = Field(
        False, description="compile transformer blocks (torch.compile): minutes at the start, faster steps on GPUs"
    )
    most_skipped: int = Field(
        100, ge=1, description="updates in a row skipped for gradients that are not finite, after which training ends"
    )
    workers: int = Field(
        0, ge=0, le=64, description="processes that make batches ahead; 0: each is made when it is its turn"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.steps is None and self.seconds is None:
            raise ValueError("say how long to train: steps, seconds or both")
        if any(not 0 < part < 1 for part in self.snapshots):
            raise ValueError("snapshots are parts of the training, between 0 and 1")
        return self

    def done(self, step: int, seconds: float) -> float:
        """Return how much of the training, from [0, 1], is over after `step` updates and `seconds`."""
        by_step = 0.0 if self.steps is None else step / self.steps
        by_time = 0.0 if self.seconds is None else seconds / self.seconds
        return min(1.0, max(by_step, by_time))

    def is_hopeless(self, worse: int) -> bool:
        """Return whether so many validations since the best one are too many."""
        return self.patience is not None and worse >= self.patience


@dataclass(frozen=True)
class TrainingProgress:
    """How far the training is."""

    step: int  # completed updates
    done: float  # of the training, from [0, 1)


@dataclass(frozen=True)
class Losses:
    """One batch's outcome: what each network minimises, and numbers for the curves (scalars may stay on the device)."""

    minimise: dict[str, Tensor]
    metrics: Mapping[str, float | Tensor]
    frames: int = 0  # of which something is learnt


class Task(Protocol):
    """Networks, their data and their losses. Each network has its own optimiser."""

    networks: dict[str, nn.Module]

    def batch(self, index: int, rank: int, world: int) -> Any:
        """Return batch `index` of this rank: a pure function of its arguments."""

    def losses(self, batch: Any, at: TrainingProgress, rng: torch.Generator) -> Losses:
        """Return the losses of a batch that was moved to the networks' device."""

    def validate(self, averages: Mapping[str, nn.Module]) -> Validation:
        """Judge the averaged networks on unseen speakers."""

    def keep(self, averages: Mapping[str, nn.Module], folder: Path, done: float) -> None:
        """Write what was trained into a folder, for use, when a part `done` of the training is over."""


BEST = "best"  # folder of a run with patience: what validation found best


def fit(task: Task, config: LoopConfig, out: Path) -> dict[str, nn.Module]:
    """Train as long as `config` says, resuming from `out` if it holds checkpoints; return the averaged networks.

    Snapshots are kept in the folders `out/at-0.50` and the like. `UserError` where a process runs out of memory, or
    gradients stay without an end that is finite.
    """
    processes = join()
    try:
        return _fit(task, config, out, processes)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise UserError(
                f"process {processes.rank + 1} of {processes.world} ran out of memory",
                "the last checkpoint is kept; lower batches.frames with a higher loop.accumulate, or set "
                "loop.recompute=true, or loop.shard=true with several processes",
            ) from None
        raise


def _fit(task: Task, config: LoopConfig, out: Path, processes: Processes) -> dict[str, nn.Module]:
    began = time.monotonic()
    prepare_device(processes.device)
    state, sharing = _start(task, config, processes, out)
    before = state.seconds  # of the parts of this run that ended

    def measure() -> float:
        state.seconds = before + time.monotonic() - began
        return processes.agree(config.done(state.step, state.seconds))

    done, saved = measure(), time.monotonic()
    if done >= 1 or config.is_hopeless(state.worse):
        return sharing.gather(state.averages, everywhere=True)
    rank, world, first = processes.rank, processes.world, state.step * config.accumulate
    skipped = SkippedUpdates(config.most_skipped)
    with (  # the processes that make batches begin before this one has threads
        prefetch(lambda index: task.batch(index, rank, world), first, config.workers, processes.device) as batches,
        TrainingLog(out, config.steps, state.step, str(processes), quiet=not processes.is_first) as curves,
    ):
        if state.step == 0 and config.patience is not None:
            _validate(task, config, state, sharing, curves, out, 0.0)  # what is begun with may already be the best
        while done < 1:
            metrics = _update(config, sharing, state, batches, done)
            skipped.count(metrics)
            earlier, done = done, measure()
            last = done >= 1
            if state.step % config.log_every == 0 or last:
                numbers = {name: float(value) for name, value in metrics.items()}  # this waits for the device
                curves.point(state.step, numbers, sharing.step.frames * world)
                skipped.check(state.step)
            for mark in config.snapshots:
                if earlier < mark <= done:
                    averages = sharing.gather(state.averages)
                    if processes.is_first:
                        task.keep(averages, out / f"at-{mark:.2f}", mark)
            if state.step % config.validate_every == 0 or last:
                _validate(task, config, state, sharing, curves, out, done)
                if processes.agree(float(config.is_hopeless(state.worse))):
                    done, last = 1.0, True
            due = last or time.monotonic() - saved > config.save_minutes * 60
            if processes.agree(float(due)) if sharing.is_sharded else due:
                save_checkpoint(state, out / "checkpoints", config.keep, processes, sharded=sharing.is_sharded)
                saved = time.monotonic()
            curves.advance(state.step, done)
    processes.wait()
    return sharing.gather(state.averages, everywhere=True)


def _validate(
    task: Task, config: LoopConfig, state: TrainState, sharing: Sharing, curves: TrainingLog, out: Path, done: float
) -> None:
    """Judge the averages, and keep them if training is patient and nothing before was as good."""
    averages = sharing.gather(state.averages)
    if not sharing.processes.is_first:
        return
    result = task.validate(averages)
    curves.validation(state.step, result)
    if config.patience is None:
        return
    if result.loss is None:
        raise ConfigError("validation tells no loss here, and patience needs one", "leave loop.patience out")
    if state.is_best(result.loss):
        task.keep(averages, out / BEST, done)


def _start(task: Task, config: LoopConfig, processes: Processes, out: Path) -> tuple[TrainState, Sharing]:
    """Build optimisers and averages, share them, and resume where a run in `out` stopped."""
    _same_run(config, out)
    torch.manual_seed(config.seed)
    for network in task.networks.values():
        network.to(processes.device)
        for module in network.modules():
            if isinstance(module, Transformer):
                module.recomputes = config.recompute
    averages = {name: copy.deepcopy(network).eval().requires_grad_(False) for name, network in task.networks.items()}
    if config.compile:
        compile_blocks(task.networks.values())
    sharing = Sharing(task, averages, processes, shard=config.shard)
    optimizers = {name: make_optimizer(network, config.optim) for name, network in task.networks.items()}
    state = TrainState(task.networks, averages, optimizers, batches=processes.world * config.accumulate)
    checkpoint = latest_checkpoint(out / "checkpoints")
    if checkpoint:
        load_checkpoint(state, checkpoint)
        log.info("resuming %s at step %d", out, state.step)
    return state, sharing


def _same_run(config: LoopConfig, out: Path) -> None:
    """Refuse to resume with settings that would make another run of it. Intervals may change, and so may the length:
    the schedule then follows the new one from here on."""
    path = out / "loop.json"
    free = {
        "steps",
        "seconds",
        "log_every",
        "validate_every",
        "save_minutes",
        "keep",
        "snapshots",
        "workers",
        "patience",
        "recompute",
        "accumulate",  # with the number of processes; a checkpoint says of how many batches an update is
        "shard",
        "compile",
        "most_skipped",
    }
    if path.is_file():
        before, now = read_mapping(path), config.model_dump(mode="json")
        changed = [key for key in now if key not in free and before.get(key) != now[key]]
        if changed:
            raise ConfigError(
                f"{out} was started with other values of {', '.join(changed)}",
                "give another output folder, or the same settings to resume",
            )
    else:
        config.save(path)


def _update(
    config: LoopConfig, sharing: Sharing, state: TrainState, batches: Iterator[Any], done: float
) -> dict[str, float | Tensor]:
    """Do one update of every network; return the numbers of its last batch."""
    processes = sharing.processes
    for network in state.networks.values():
        network.train()
    minimised: set[str] = set()
    for turn in range(config.accumulate):
        number = (state.step * config.accumulate + turn) * processes.world + processes.rank  # over all processes
        # Dropout uses the global generator: seeding it per batch makes it a function of (seed, number) too.
        seed = (config.seed * 1_000_003 + number) * 4096
        torch.manual_seed(seed)
        inputs = next(batches), TrainingProgress(state.step, done), torch.Generator().manual_seed(seed + 2048)
        precision = autocast(config.precision, processes.device)
        minimised |= sharing.backward(
            inputs, config.accumulate, last=turn + 1 == config.accumulate, precision=precision
        )
    metrics: dict[str, float | Tensor] = dict(sharing.step.metrics)
    rate = learning_rate(config.optim, state.step, done)
    for name, optimizer in state.optimizers.items():
        if name not in minimised:  # it is not its turn yet
            continue
        norm = sharing.clip(state.networks[name], config.optim.clip)
        metrics[f"{name}/gradient"] = norm
        for group in optimizer.param_groups:
            group["lr"] = rate
        update_weights(optimizer, norm)
        optimizer.zero_grad(set_to_none=True)
        update_average(state.averages[name], state.networks[name], config.optim.ema, state.step)
    state.step += 1
    metrics["learning_rate"] = rate
    return metrics
