"""Trainings that `torchrun` starts, whole or sharded: one process that is killed, or has no memory left, takes nothing
with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_ranks import losses

pytestmark = pytest.mark.slow

SCRIPT = """
import os, resource, signal, sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[3])
from openvalle.train.loop import LoopConfig, fit
from ranks import Both

out = Path(sys.argv[1])

class Dying(Both):
    def batch(self, index, rank, world):
        if index == 7 and rank == 1 and out.name != "untouched" and not (out / "died").exists():
            (out / "died").touch()
            if out.name == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))  # less than it has: there is no more
            torch.ones(1 << 28)
        return super().batch(index, rank, world)

loop = LoopConfig.parse({"steps": 12, "precision": "float32", "save_minutes": 1e-9, "validate_every": 1,
    "log_every": 1, "shard": sys.argv[2] == "sharded"})
fit(Dying("builtin", None, 1), loop, out)
"""


def train(folder: Path, name: str, how: str) -> tuple[torch.Tensor, str]:
    """Train with two processes; return the losses of all steps and what was said."""
    out = folder / name
    out.mkdir(parents=True)
    (folder / "train.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=2"]
    command = [*launch, str(folder / "train.py"), str(out), how, str(Path(__file__).parent)]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, env=env)
    assert result.returncode == 0, result.stderr
    return losses(out), result.stderr


@pytest.mark.parametrize("how", ["whole", "sharded"])
def test_a_process_that_is_lost_costs_nothing_but_time(tmp_path: Path, how: str) -> None:
    whole, _ = train(tmp_path, "untouched", how)
    for why in ("killed", "starved"):
        lost, said = train(tmp_path, why, how)
        assert (tmp_path / why / "died").exists()
        assert torch.equal(whole, lost)
        assert ("process 2 of 2 ran out of memory" in said) == (why == "starved")
