"""Trainings that `torchrun` starts, whole or sharded: one process that is killed takes nothing with it."""

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
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from openvalle.train.loop import LoopConfig, fit
from ranks import Both

out = Path(sys.argv[1])

class Dying(Both):
    def batch(self, index, rank, world):
        if index == 7 and rank == 1 and out.name == "killed" and not (out / "died").exists():
            (out / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(index, rank, world)

loop = LoopConfig.parse({"steps": 12, "precision": "float32", "save_minutes": 1e-9, "validate_every": 1,
    "log_every": 1, "shard": sys.argv[2] == "sharded"})
fit(Dying("builtin", None, 1), loop, out)
"""


def train(folder: Path, name: str, how: str) -> torch.Tensor:
    """Train with two processes; return the losses of all steps."""
    out = folder / name
    out.mkdir(parents=True)
    (folder / "train.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=2"]
    command = [*launch, str(folder / "train.py"), str(out), how, str(Path(__file__).parent)]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, env=env)
    assert result.returncode == 0, result.stderr
    return losses(out)


@pytest.mark.parametrize("how", ["whole", "sharded"])
def test_a_process_that_is_killed_costs_nothing_but_time(tmp_path: Path, how: str) -> None:
    whole, killed = (train(tmp_path, name, how) for name in ("whole", "killed"))
    assert (tmp_path / "killed" / "died").exists()
    assert torch.equal(whole, killed)
