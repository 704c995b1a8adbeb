"""Trainings by several processes on this machine: `python ranks.py FOLDER JOB...`, each job a line of JSON.

A job trains a tiny AR and a tiny NAR model by some ranks that are forked here, which is much quicker than as many
starts of Python. Its folder gets what `fit` writes, or `gradients.safetensors` of the first step.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import distributed, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from lm_samples import AR_KINDS, NAR_KINDS, SMALL, STACK, utterance
from openvalle.codec.quantizer import ResidualQuantizer
from openvalle.model.ar import AR, ar_examples
from openvalle.model.batch import Batch
from openvalle.model.config import ARConfig, NARConfig
from openvalle.model.nar import NAR, nar_examples
from openvalle.train.curves import Validation
from openvalle.train.distributed import join
from openvalle.train.loop import LoopConfig, Losses, TrainingProgress, fit
from openvalle.train.sharing import Sharing, whole_tensor
from openvalle.train.state import TrainingPrecision, autocast


class Both:
    """AR and NAR learn a few made-up rows, with dropout. `dies`: a rank and the step at which it is killed; `poisons`:
    the number, over all ranks, of a batch whose loss is no number."""

    def __init__(self, kind: str, dies: Sequence[int] | None, accumulate: int, poisons: int | None = None) -> None:
        torch.manual_seed(0)
        small = {**SMALL, "transformer": {**STACK, "depth": 1}}
        self.ar = AR(ARConfig.parse({**small, **AR_KINDS[kind]}))
        self.nar = NAR(NARConfig.parse({**small, **NAR_KINDS[kind]}))
        self.networks: dict[str, nn.Module] = {"ar": self.ar, "nar": self.nar}
        self.dies, self.accumulate, self.poisons = dies and tuple(dies), accumulate, poisons

    def make(self, number: int, training: bool) -> Any:
        rows = [utterance(5 + number % 3, 18, number * 2 + row) for row in range(2)]
        rng = torch.Generator().manual_seed(number)
        parts = []
        for network, make in ((self.ar, ar_examples), (self.nar, nar_examples)):
            batch = Batch.of(rows, merge=network.config.merge, group=getattr(network.config, "group", 1))
            parts.append(make(network.config, batch, rng, training=training))
        return Rows(*parts, factor=float("nan") if training and number == self.poisons else 1.0)

    def batch(self, index: int, rank: int, world: int) -> Any:
        if self.dies == (rank, index // self.accumulate):
            os.kill(os.getpid(), signal.SIGKILL)
        return self.make(index * world + rank, training=True)

    def losses(self, batch: Any, at: TrainingProgress, rng: torch.Generator) -> Losses:
        ar = self.ar.examples_loss(batch.ar)
        nar = self.nar.states_loss(self.nar.states(batch.nar), batch.nar)
        return Losses({"ar": batch.factor * ar.total, "nar": batch.factor * nar.total}, {"loss": ar.total.detach()})

    @torch.no_grad()
    def validate(self, averages: Mapping[str, nn.Module]) -> Validation:
        batch, (ar, nar) = self.make(1000, training=False), averages.values()
        found = {"ar": ar.examples_loss(batch.ar).total, "nar": nar.states_loss(nar.states(batch.nar), batch.nar).total}
        return Validation({name: float(value) for name, value in found.items()})


class Rows:
    def __init__(self, ar: Any, nar: Any, factor: float) -> None:
        self.ar, self.nar, self.factor = ar, nar, factor

    def to(self, device: torch.device) -> Rows:
        return self


def train(folder: Path, job: dict[str, Any]) -> None:
    """Be one of the ranks of a job."""
    loop = LoopConfig.parse(
        {
            "steps": job["steps"],
            "precision": "float32",
            "accumulate": job["accumulate"],
            "shard": job.get("shard", False),
            "recompute": job.get("recompute", False),
            "optim": {"learning_rate": 3e-3, "warmup": 5, "ema": 0.9},
            "log_every": 1,
            "validate_every": 1,
            "save_minutes": 1e-9 if "dies" in job else 60,
        }
    )
    out = folder / job["out"]
    if job.get("codebooks"):
        move_codebooks(out)
    elif job.get("gradients"):
        write_gradients(out, Both(job["kind"], None, 1), loop)
    else:
        fit(Both(job["kind"], job.get("dies"), loop.accumulate, job.get("poisons")), loop, out)


def write_gradients(out: Path, task: Both, loop: LoopConfig) -> None:
    """Write the gradients of the first update, in float64."""
    processes = join()
    for network in task.networks.values():
        network.double().train()
    sharing = Sharing(task, {}, processes, shard=loop.shard)
    for turn in range(loop.accumulate):
        number = turn * processes.world + processes.rank
        torch.manual_seed(number)
        inputs = task.batch(turn, processes.rank, processes.world), TrainingProgress(0, 0.0), torch.Generator()
        precision = autocast(TrainingPrecision.FLOAT32, processes.device)
        sharing.backward(inputs, loop.accumulate, last=turn + 1 == loop.accumulate, precision=precision)
    found = {}
    for name, parameter in sharing.step.named_parameters():
        if parameter.grad is not None:
            found[name] = whole_tensor(parameter.grad).contiguous()
    if processes.is_first:
        out.mkdir(parents=True, exist_ok=True)
        save_file({name: value.clone() for name, value in found.items()}, out / "gradients.safetensors")


def move_codebooks(out: Path) -> None:
    """Let codebooks follow the points of all ranks, which differ; write each rank's."""
    rank = join().rank
    quantizer = ResidualQuantizer(4, 1, 8).train()
    x = torch.randn(1, 40, 4, generator=torch.Generator().manual_seed(rank))
    for _ in range(3):
        quantizer(x, 1, 1, torch.Generator().manual_seed(0))
    out.mkdir(parents=True, exist_ok=True)
    save_file({"codebooks": quantizer.codebooks}, out / f"codebooks-{rank}.safetensors")


def start(folder: Path, job: dict[str, Any], rank: int, port: int) -> int:
    """Fork a rank; return its number as a process."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        world = str(job["ranks"])
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
        if job["ranks"] > 1:
            os.environ.update(where, RANK=str(rank), LOCAL_RANK=str(rank))
        train(folder, job)
        if distributed.is_initialized():
            distributed.barrier()
        code = 0
    except BaseException:  # noqa: BLE001  a forked process must not go on as its parent
        if "dies" not in job:
            traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


def run(folder: Path, job: dict[str, Any]) -> list[int]:
    """Let all ranks of a job work; return their exit codes, as `subprocess` has them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pids = [start(folder, job, rank, port) for rank in range(job["ranks"])]
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def main() -> None:
    """Do the jobs one after the other."""
    torch.set_num_threads(1)
    from torch.distributed import fsdp  # noqa: F401  once, for all that are forked
    from torch.utils.tensorboard import SummaryWriter  # noqa: F401

    folder = Path(sys.argv[1])
    for line in sys.argv[2:]:
        job = json.loads(line)
        if "begun" in job:
            shutil.copytree(folder / job["begun"], folder / job["out"])
        for _ in range(3):
            codes = run(folder, job)
            if -signal.SIGABRT not in codes:  # gloo itself aborts once in a while when it connects (gloo issue 514)
                break
        if any(codes) and "dies" not in job:
            sys.exit(f"{line}: {codes}")


if __name__ == "__main__":
    main()
