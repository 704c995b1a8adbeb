"""Trainings of several processes: four learn what one learns, and one that dies takes nothing with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from openvalle.train.state import latest_checkpoint

pytestmark = pytest.mark.slow

SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from openvalle.train.curves import Validation
from openvalle.train.loop import LoopConfig, Losses, fit

out, accumulate, dies_at = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

class Rows:
    def __init__(self, x): self.x = x
    def to(self, device): return Rows(self.x.to(device))

class Task:
    def __init__(self):
        torch.manual_seed(0)
        layers = torch.nn.Linear(4, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 4)
        self.networks = {"net": torch.nn.Sequential(*layers)}
    def batch(self, index, rank, world):
        died = out / "died"
        if index == dies_at and rank == 1 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Rows(torch.randn(8, 4, generator=torch.Generator().manual_seed(index * world + rank)))
    def losses(self, batch, at, rng):
        loss = (self.networks["net"](batch.x) - batch.x / 2).pow(2).mean()
        return Losses({"net": loss}, {"loss": loss.item()})
    def validate(self, averages):
        return Validation({})

fit(Task(), LoopConfig(steps=12, precision="float32", accumulate=accumulate, save_minutes=1e-9), out)
"""


def train(folder: Path, processes: int, accumulate: int = 1, dies_at: int = -1) -> dict[str, torch.Tensor]:
    """Train with so many processes; return the weights in the end."""
    folder.mkdir()
    (folder / "train.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [*launch, "--max_restarts=2", str(folder / "train.py"), str(folder), str(accumulate), str(dies_at)]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, env=env)
    assert result.returncode == 0, result.stderr
    checkpoint = latest_checkpoint(folder / "checkpoints")
    assert checkpoint is not None
    return load_file(checkpoint / "net.safetensors")


def test_one_two_and_four_processes_learn_the_same_from_the_same_batches(tmp_path: Path) -> None:
    one, two, four = (train(tmp_path / str(n), n, 4 // n) for n in (1, 2, 4))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(four[name], weight, rtol=1e-4, atol=1e-5)


def test_a_process_that_is_killed_costs_nothing_but_time(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", 2)
    killed = train(tmp_path / "killed", 2, dies_at=7)
    assert (tmp_path / "killed" / "died").exists()
    for name, weight in whole.items():
        assert torch.equal(killed[name], weight), name
