"""Laws of many processes: what four learn, two and one learn from the same batches, whole or sharded (FSDP2); a run
that loses a process, or goes on with another number of them, loses nothing."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ranks import Both
from safetensors.torch import load_file

from openvalle.errors import ConfigError, ModelError
from openvalle.train.checkpoints import latest_checkpoint, load_checkpoint
from openvalle.train.state import OptimConfig, TrainState, make_optimizer

pytest.importorskip("tensorboard")

STEPS, DIES = 20, 6
POISONED = {"poisons": 9, "steps": 5}  # the second batch of the third update, which one of several ranks has
LAYOUTS = {  # ranks, batches that each takes for an update, whether the state is sharded
    "1x4": (1, 4, False),
    "2x2": (2, 2, False),
    "4x1": (4, 1, False),
    "2x2 sharded": (2, 2, True),
    "4x1 sharded": (4, 1, True),
}


def work(folder: Path, *jobs: dict) -> None:
    script = Path(__file__).with_name("ranks.py")
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(folder), *map(json.dumps, jobs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=env)
    assert done.returncode == 0, done.stderr[-3000:]


def job(out: str, layout: str, kind: str = "builtin", **more: object) -> dict:
    ranks, accumulate, shard = LAYOUTS[layout]
    return {"out": out, "ranks": ranks, "accumulate": accumulate, "shard": shard, "kind": kind, "steps": STEPS} | more


def losses(out: Path) -> torch.Tensor:
    """Return what validation found after each step, (steps, 2)."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    found = {row["step"]: (row["ar"], row["nar"]) for row in rows if row["group"] == "valid"}  # the last of a step
    return torch.tensor([found[step] for step in sorted(found)], dtype=torch.float64)


def prepare(folder: Path, layouts: list[str], going_on: list[str]) -> Path:
    """Train in all these layouts; let a sharded run of two lose a process, and go on from it in some layouts."""
    jobs = [job(name, name) for name in layouts]
    jobs += [job(f"{name} gradients", name, "rotary", gradients=True) for name in layouts]
    jobs += [job("codebooks", "2x2", codebooks=True), job("killed", "2x2 sharded", dies=(1, DIES))]
    jobs += [job(f"{name} poisoned", name, **POISONED) for name in layouts]
    work(folder, *jobs, *(job(f"{name} on", name, begun="killed") for name in going_on))
    checkpoint = latest_checkpoint(folder / "killed" / "checkpoints")
    assert checkpoint is not None and checkpoint.name == f"step-{DIES:09d}"
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quick ones."""
    return prepare(tmp_path_factory.mktemp("runs"), ["1x4", "2x2", "4x1 sharded"], ["1x4"])


@pytest.fixture(scope="module")
def all_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All layouts, also to go on in."""
    return prepare(tmp_path_factory.mktemp("all"), list(LAYOUTS), list(LAYOUTS))


def check_gradients(runs: Path, layout: str) -> None:
    one, more = (load_file(runs / f"{name} gradients" / "gradients.safetensors") for name in ("1x4", layout))
    assert set(one) == set(more)
    for name, gradient in one.items():
        assert gradient.dtype == torch.float64
        assert (more[name] - gradient).norm() <= 1e-6 * gradient.norm(), name


def check_losses(runs: Path, layout: str) -> None:
    one = losses(runs / "1x4")
    assert len(one) == STEPS
    assert (one[-1] < one[0]).all()
    torch.testing.assert_close(losses(runs / layout), one, rtol=1e-4, atol=0)


def check_poisoned(runs: Path, layout: str) -> None:
    """One rank's loss that is no number costs all of them that update, and nothing else."""
    found, whole = losses(runs / f"{layout} poisoned"), losses(runs / "1x4")
    torch.testing.assert_close(found[:2], whole[:2], rtol=1e-4, atol=0)
    torch.testing.assert_close(found, losses(runs / "1x4 poisoned"), rtol=1e-4, atol=0)
    assert (found[2] - whole[2]).abs().max() > 1e-6, "the poisoned update was made"


def check_going_on(runs: Path, layout: str, whole: str) -> None:
    torch.testing.assert_close(losses(runs / f"{layout} on"), losses(runs / whole), rtol=2e-6, atol=0)


@pytest.mark.parametrize("layout", ["2x2", "4x1 sharded"])
def test_gradients_and_losses_are_those_of_one_process(runs: Path, layout: str) -> None:
    check_gradients(runs, layout)
    check_losses(runs, layout)
    check_poisoned(runs, layout)


def test_a_sharded_run_that_lost_a_process_goes_on_in_one_as_if_nothing_was(runs: Path) -> None:
    check_going_on(runs, "1x4", "1x4")


@pytest.mark.slow
@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_all_layouts_learn_the_same_and_go_on_from_each_other(all_runs: Path, layout: str) -> None:
    check_gradients(all_runs, layout)
    check_losses(all_runs, layout)
    check_poisoned(all_runs, layout)
    check_going_on(all_runs, layout, "2x2 sharded")


def test_each_process_keeps_its_part_of_the_state(runs: Path) -> None:
    checkpoint = latest_checkpoint(runs / "4x1 sharded" / "checkpoints")
    whole = latest_checkpoint(runs / "1x4" / "checkpoints")
    assert checkpoint is not None and whole is not None
    for kind in ("", ".average", ".optimizer"):
        sizes = [(checkpoint / f"ar{kind}.{rank}-of-4.safetensors").stat().st_size for rank in (1, 2, 3, 4)]
        assert max(sizes) < 0.5 * (whole / f"ar{kind}.safetensors").stat().st_size
    assert len(list(checkpoint.iterdir())) == 4 * 6 + 1
    assert [path.name for path in checkpoint.parent.iterdir() if path.name.startswith(".")] == []


def resume(path: Path, accumulate: int = 4) -> None:
    task = Both("builtin", None, 1)
    averages = {name: copy.deepcopy(network) for name, network in task.networks.items()}
    optimizers = {name: make_optimizer(network, OptimConfig()) for name, network in task.networks.items()}
    load_checkpoint(TrainState(task.networks, averages, optimizers, batches=accumulate), path)


def test_a_checkpoint_of_shards_is_whole_or_one_clear_error(runs: Path, tmp_path: Path) -> None:
    checkpoint = latest_checkpoint(runs / "killed" / "checkpoints")
    assert checkpoint is not None
    resume(checkpoint)
    with pytest.raises(ConfigError, match=r"an update in .* is of 4 batches, and here of 2"):
        resume(checkpoint, 2)
    for number, name in enumerate(("nar.1-of-2", "ar.average.2-of-2", "ar.optimizer.2-of-2")):
        broken = shutil.copytree(checkpoint, tmp_path / str(number))
        data = (broken / f"{name}.safetensors").read_bytes()
        (broken / f"{name}.safetensors").write_bytes(data[: len(data) // 2])
        with pytest.raises(ModelError, match="cannot resume"):
            resume(broken)
        (broken / f"{name}.safetensors").unlink()
        with pytest.raises(ModelError, match="cannot resume"):
            resume(broken)


def test_codebooks_follow_the_points_of_all_processes(runs: Path) -> None:
    books = [load_file(runs / "codebooks" / f"codebooks-{rank}.safetensors")["codebooks"] for rank in (0, 1)]
    assert torch.equal(*books)
    assert books[0].abs().sum() > 0
