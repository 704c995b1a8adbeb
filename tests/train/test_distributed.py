"""Two processes (as `torchrun` starts them) learn what one learns from both their batches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from openvalle.train.state import latest_checkpoint

SCRIPT = """
import sys
from pathlib import Path
import torch
from openvalle.codec.quantizer import ResidualQuantizer
from openvalle.train.curves import Validation
from openvalle.train.loop import LoopConfig, Losses, fit

class Rows:
    def __init__(self, x): self.x = x
    def to(self, device): return Rows(self.x.to(device))

class Task:
    def __init__(self):
        torch.manual_seed(0)
        self.networks = {"net": torch.nn.Linear(4, 4)}
    def batch(self, index, rank, world):
        return Rows(torch.randn(8, 4, generator=torch.Generator().manual_seed(index * world + rank)))
    def losses(self, batch, at, rng):
        loss = (self.networks["net"](batch.x) - batch.x / 2).pow(2).mean()
        return Losses({"net": loss}, {"loss": loss.item()})
    def validate(self, averages):
        return Validation({})

fit(Task(), LoopConfig(steps=6, precision="float32", accumulate=int(sys.argv[2])), Path(sys.argv[1]))
quantizer = ResidualQuantizer(4, 1, 8).train()
rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
x = torch.randn(1, 40, 4, generator=torch.Generator().manual_seed(rank))
for _ in range(3):
    quantizer(x, 1, 1, torch.Generator().manual_seed(0))
torch.save(quantizer.codebooks, Path(sys.argv[1]) / f"codebooks-{rank}.pt")
"""


def test_two_processes_equal_one_with_both_batches(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    for processes, accumulate in ((2, 1), (1, 2)):
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        command = [*launch, str(script), str(tmp_path / str(processes)), str(accumulate)]
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        for _ in range(3):
            result = subprocess.run(command, capture_output=True, text=True, timeout=240, env=env)
            if "SIGABRT" not in result.stderr:  # gloo itself aborts once in a while when it connects (gloo issue 514)
                break
        assert result.returncode == 0, result.stderr
    two, one = (_weights(tmp_path / folder) for folder in ("2", "1"))
    torch.testing.assert_close(two["weight"], one["weight"])
    # Codebooks follow the points of both ranks, and stay the same on both.
    books = [torch.load(tmp_path / "2" / f"codebooks-{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert torch.equal(*books)
    assert books[0].abs().sum() > 0


def _weights(out: Path) -> dict[str, torch.Tensor]:
    checkpoint = latest_checkpoint(out / "checkpoints")
    assert checkpoint is not None
    return load_file(checkpoint / "net.safetensors")
