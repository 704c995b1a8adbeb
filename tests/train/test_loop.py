"""Laws of the training loop: resumed = uninterrupted, accumulation = one batch, bad gradients do no harm."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import Both
from torch import nn

from openvalle.errors import ConfigError, ModelError, UserError
from openvalle.train.checkpoints import latest_checkpoint
from openvalle.train.curves import Validation
from openvalle.train.loop import LoopConfig, Losses, TrainingProgress, fit
from openvalle.train.state import Decay, OptimConfig, learning_rate, make_optimizer


@dataclass(frozen=True)
class Rows:
    x: torch.Tensor

    def to(self, device: torch.device) -> Rows:
        return Rows(self.x.to(device))


class Regression:
    """Two networks with dropout and random draws learn to halve their input."""

    def __init__(self, rows: int = 8, pause: float = 0.0) -> None:
        torch.manual_seed(0)
        self.rows, self.pause = rows, pause
        self.networks: dict[str, nn.Module] = {
            name: nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.1), nn.LayerNorm(8), nn.Linear(8, 4)) for name in "ab"
        }
        self.asked: list[int] = []
        self.kept: dict[str, torch.Tensor] = {}

    def batch(self, index: int, rank: int, world: int) -> Rows:
        self.asked.append(index)
        return Rows(torch.randn(self.rows, 4, generator=torch.Generator().manual_seed(index * world + rank)))

    def losses(self, batch: Rows, at: TrainingProgress, rng: torch.Generator) -> Losses:
        time.sleep(self.pause)
        noise = 0.1 * torch.randn(batch.x.shape, generator=rng)
        losses = {name: (net(batch.x + noise) - batch.x / 2).pow(2).mean() for name, net in self.networks.items()}
        return Losses(losses, {name: loss.item() for name, loss in losses.items()})

    def validate(self, averages: Mapping[str, nn.Module]) -> Validation:
        x = torch.ones(1, 4)
        return Validation({"error": (averages["a"](x) - x / 2).abs().mean().item()})

    def keep(self, averages: Mapping[str, nn.Module], folder: Path, done: float) -> None:
        assert f"at-{done:.2f}" == folder.name
        self.kept[folder.name] = weights(averages)


def config(**values: Any) -> LoopConfig:
    optim = OptimConfig(learning_rate=0.01, warmup=3)
    return LoopConfig(
        **({"steps": 12, "precision": "float32", "optim": optim, "log_every": 2, "validate_every": 5} | values)
    )


def weights(networks: Mapping[str, nn.Module]) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for net in networks.values() for p in net.parameters()])


def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path: Path) -> None:
    whole = Regression()
    average = fit(whole, config(), tmp_path / "whole")

    class Interrupted(Regression):
        def batch(self, index: int, rank: int, world: int) -> Rows:
            if index == 7:
                raise KeyboardInterrupt
            return super().batch(index, rank, world)

    with pytest.raises(KeyboardInterrupt):
        fit(Interrupted(), config(save_minutes=1e-9), tmp_path / "parts")
    resumed = Regression()
    resumed_average = fit(resumed, config(), tmp_path / "parts")
    assert resumed.asked[0] == 7
    assert torch.equal(weights(whole.networks), weights(resumed.networks))
    assert torch.equal(weights(average), weights(resumed_average))


def _train_slowly(out: Path) -> None:
    torch.set_num_threads(1)
    fit(Regression(pause=0.02), config(steps=10_000, save_minutes=1e-9), out)


def test_killed_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_train_slowly, args=(tmp_path,))
    process.start()
    deadline = time.monotonic() + 60
    while latest_checkpoint(tmp_path / "checkpoints") is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    checkpoint = latest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    step = json.loads((checkpoint / "state.json").read_text())["step"]
    resumed = Regression()
    fit(resumed, config(steps=step + 2), tmp_path)
    assert resumed.asked == [step, step + 1]


def test_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    fit(Regression(), config(), tmp_path)
    again = Regression()
    fit(again, config(), tmp_path)
    assert again.asked == []


def test_accumulation_takes_new_batches_and_learns(tmp_path: Path) -> None:
    task = Regression()
    fit(task, config(steps=4, accumulate=3), tmp_path)
    assert task.asked == list(range(12))


def test_training_lowers_the_loss_and_writes_curves(tmp_path: Path) -> None:
    fit(Regression(rows=64), config(steps=150), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    train = [row["a"] for row in rows if row["group"] == "train"]
    assert train[-1] < 0.5 * train[0]
    assert [row["step"] for row in rows if row["group"] == "valid"][:2] == [5, 10]
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_gradient_that_is_not_finite_skips_the_update(tmp_path: Path) -> None:
    class Poisoned(Regression):
        def batch(self, index: int, rank: int, world: int) -> Rows:
            rows = super().batch(index, rank, world)
            return Rows(rows.x * float("nan")) if index == 3 else rows

    task = Poisoned()
    fit(task, config(), tmp_path)
    assert torch.isfinite(weights(task.networks)).all()


class Hopeless(Regression):
    """From batch 3 on no gradient is finite."""

    def batch(self, index: int, rank: int, world: int) -> Rows:
        rows = super().batch(index, rank, world)
        return Rows(rows.x * float("nan")) if index >= 3 else rows


def test_updates_without_end_that_are_skipped_end_the_training(tmp_path: Path, caplog) -> None:
    task = Hopeless()
    with pytest.raises(UserError, match=r"has not been finite for [45] updates in a row"):
        fit(task, config(most_skipped=4, steps=100, save_minutes=1e-9), tmp_path)
    assert "step 4: the gradient of a was not finite; 1 update is skipped" in caplog.text
    assert torch.isfinite(weights(task.networks)).all()
    assert latest_checkpoint(tmp_path / "checkpoints") is not None


def test_too_little_memory_is_one_clear_line(tmp_path: Path) -> None:
    class Huge(Regression):
        def losses(self, batch: Rows, at: TrainingProgress, rng: torch.Generator) -> Losses:
            torch.ones(1 << 52)
            return super().losses(batch, at, rng)

    with pytest.raises(UserError, match=r"process 1 of 1 ran out of memory.*batches\.frames"):
        fit(Huge(), config(), tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch compiles for processors with a C++ compiler")
def test_compiled_blocks_learn_as_well(tmp_path: Path) -> None:
    found = []
    for compiles in (False, True):
        task = Both("builtin", None, 1)
        fit(task, config(compile=compiles, log_every=1, validate_every=1, recompute=compiles), tmp_path / str(compiles))
        rows = [json.loads(line) for line in (tmp_path / str(compiles) / "metrics.jsonl").read_text().splitlines()]
        found.append([row["ar"] + row["nar"] for row in rows if row["group"] == "valid"])
    assert found[1] == pytest.approx(found[0], rel=0.02)  # a compiled dropout draws other numbers


def test_other_settings_do_not_resume(tmp_path: Path) -> None:
    fit(Regression(), config(), tmp_path)
    with pytest.raises(ConfigError, match="seed"):
        fit(Regression(), config(seed=1), tmp_path)
    fit(Regression(), config(log_every=1), tmp_path)


def test_damaged_checkpoint_is_one_clear_error(tmp_path: Path) -> None:
    fit(Regression(), config(), tmp_path)
    checkpoint = latest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    (checkpoint / "a.safetensors").write_bytes(b"short")
    with pytest.raises(ModelError, match="cannot resume"):
        fit(Regression(), config(), tmp_path)


def _fill_the_disk(out: Path) -> None:
    """Train until step 7; from then on no file may grow past 300 bytes, which a checkpoint does."""
    import resource

    class Filling(Regression):
        def batch(self, index: int, rank: int, world: int) -> Rows:
            if index == 7:
                resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
            return super().batch(index, rank, world)

    torch.set_num_threads(1)
    try:
        fit(Filling(), config(steps=20, log_every=100, validate_every=100, save_minutes=1e-9), out)
    except UserError as error:
        os._exit(9 if "cannot write the checkpoint of step 8" in error.what and "make room" in error.hint else 1)


@pytest.mark.long
def test_a_disk_that_fills_up_is_one_line_and_the_checkpoints_before_are_kept(tmp_path: Path) -> None:
    """The system itself refuses the write, in the middle of a file."""
    process = multiprocessing.get_context("spawn").Process(target=_fill_the_disk, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 9
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [f"step-{n:09d}" for n in (6, 7)]
    resumed = Regression()
    fit(resumed, config(steps=9), tmp_path)
    assert resumed.asked == [7, 8]


def test_old_checkpoints_are_removed(tmp_path: Path) -> None:
    fit(Regression(), config(save_minutes=1e-9, keep=3), tmp_path)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 3


def test_weights_of_matrices_decay_and_no_others() -> None:
    network = nn.Sequential(nn.Embedding(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))
    decays = {
        id(parameter): group["weight_decay"]
        for group in make_optimizer(network, OptimConfig(weight_decay=0.5)).param_groups
        for parameter in group["params"]
    }
    assert {name: decays[id(parameter)] for name, parameter in network.named_parameters()} == {
        "0.weight": 0.5, "1.weight": 0.0, "1.bias": 0.0, "2.weight": 0.5, "2.bias": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(("decay", "last"), [(Decay.CONSTANT, 1.0), (Decay.LINEAR, 0.1), (Decay.COSINE, 0.1)])
def test_learning_rate_rises_and_falls(decay: Decay, last: float) -> None:
    optim = OptimConfig(learning_rate=1.0, warmup=10, decay=decay, floor=0.1)
    rates = [learning_rate(optim, step, step / 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == 1.0
    assert rates[100] == pytest.approx(last)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_a_budget_of_seconds_ends_the_training_and_sets_its_schedule(tmp_path: Path) -> None:
    task = Regression(pause=0.02)
    began = time.monotonic()
    optim = OptimConfig(learning_rate=1.0, warmup=2, floor=0.0)
    fit(task, config(steps=None, seconds=1.5, log_every=1, optim=optim), tmp_path)
    assert 1.4 < time.monotonic() - began < 120
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rates = [row["learning_rate"] for row in rows if row["group"] == "train"]
    assert len(rates) == len(task.asked) > 5
    assert rates[0] == 0.5 and max(rates) == 1.0
    assert rates[-1] < 0.2
    again = Regression()
    fit(again, config(steps=None, seconds=1.5, optim=optim), tmp_path)  # the seconds of all parts count
    assert again.asked == []


def test_training_needs_a_length() -> None:
    with pytest.raises(ValueError, match="steps, seconds or both"):
        config(steps=None)


def test_snapshots_keep_the_averages_of_their_moment(tmp_path: Path) -> None:
    task = Regression()
    fit(task, config(snapshots=(0.5,)), tmp_path / "long")
    half = fit(Regression(), config(steps=6, optim=OptimConfig(learning_rate=0.01, warmup=12)), tmp_path / "short")
    assert list(task.kept) == ["at-0.50"]
    long = fit(Regression(), config(), tmp_path / "whole")
    assert not torch.equal(task.kept["at-0.50"], weights(long))
    assert task.kept["at-0.50"].shape == weights(half).shape


def test_batches_made_ahead_by_other_processes_are_the_same(tmp_path: Path) -> None:
    alone = fit(Regression(), config(accumulate=2), tmp_path / "alone")
    ahead = fit(Regression(), config(accumulate=2, workers=2), tmp_path / "ahead")
    assert torch.equal(weights(alone), weights(ahead))


class Souring(Regression):
    """What validation finds gets better for some steps, then worse."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.losses_found = iter(losses)
        self.kept_at: list[str] = []

    def validate(self, averages: Mapping[str, nn.Module]) -> Validation:
        loss = next(self.losses_found)
        return Validation({"error": loss}, loss=loss)

    def keep(self, averages: Mapping[str, nn.Module], folder: Path, done: float) -> None:
        self.kept_at.append(folder.name)
        self.kept["best"] = weights(averages)


def test_patience_ends_training_and_keeps_the_best(tmp_path: Path) -> None:
    task = Souring([5.0, 4.0, 3.0, 3.5, 3.2, 9.9])
    fit(task, config(steps=100, validate_every=2, patience=2), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["group"] == "valid"] == [0, 2, 4, 6, 8]
    assert task.kept_at == ["best"] * 3  # what was begun with, and two better ones
    again = Souring([])
    fit(again, config(steps=100, validate_every=2, patience=2), tmp_path)  # it has ended
    assert not again.asked


def test_patience_counts_on_after_an_interruption(tmp_path: Path) -> None:
    class Stopped(Souring):
        def batch(self, index: int, rank: int, world: int) -> Rows:
            if index == 7:
                raise KeyboardInterrupt
            return super().batch(index, rank, world)

    with pytest.raises(KeyboardInterrupt):
        fit(Stopped([5.0, 4.0, 4.5, 4.6]), config(steps=100, validate_every=2, patience=3, save_minutes=1e-9), tmp_path)
    task = Souring([4.7])
    fit(task, config(steps=100, validate_every=2, patience=3), tmp_path)
    assert task.asked == [7] and not task.kept_at


def test_patience_needs_a_loss(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="patience needs one"):
        fit(Regression(), config(patience=2), tmp_path)
