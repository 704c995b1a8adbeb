"""The processes of a training run: those that `torchrun` starts, each with a sum they share, and those that make
batches ahead of their turn.

    torchrun --nproc-per-node 4 -m openvalle train ar recipe.yaml

Without `torchrun` there is one process. Processors talk through gloo, CUDA devices (one a process) through NCCL. Batch
`index` is a pure function of `index`, so who makes it and when changes nothing.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Dataset

from openvalle.errors import ConfigError

log = logging.getLogger(__name__)

PATIENCE = timedelta(hours=6)  # the others wait while the first process validates and saves
CONNECTING = timedelta(minutes=2)  # then a process gives up, so that torchrun starts all of them anew
POLL = 0.02  # seconds between looks at who asks for the name of a start
FAREWELL = timedelta(seconds=20)  # for the others to come to their end, before this one leaves
LAUNCHERS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")  # how many each has started


@dataclass(frozen=True)
class Processes:
    """This process among those that train together."""

    rank: int
    world: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is the process that validates, writes and reports."""
        return self.rank == 0

    def mean(self, x: Tensor) -> Tensor:
        """Return the mean of x over the processes; x may be overwritten."""
        if self.world > 1:
            distributed.all_reduce(x)
            x /= self.world
        return x

    def agree(self, number: float) -> float:
        """Return the first process's number on all."""
        if self.world == 1:
            return number
        shared = torch.tensor(number, dtype=torch.float64, device=self.device)
        distributed.broadcast(shared, 0)
        return float(shared)

    def wait(self) -> None:
        """Return when all processes are here."""
        if self.world > 1:
            distributed.barrier()

    def __str__(self) -> str:
        return f"{self.world} process{'' if self.world == 1 else 'es'} on {self.device.type}"


def join() -> Processes:
    """Return this process among those that `torchrun` started, connected with them; alone without `torchrun`."""
    if "RANK" not in os.environ:
        return Processes(0, 1, _device(0, 1))
    world, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_RANK"])
    device = _device(local, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if world > 1 and not distributed.is_initialized():
        store, rank, _ = next(distributed.rendezvous("env://", timeout=PATIENCE))
        store = _store_of_this_start(store, rank, world)
        backend = "nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=CONNECTING)
        distributed.distributed_c10d._set_pg_timeout(PATIENCE)
        atexit.register(_leave, store, rank, world)
    return Processes(int(os.environ["RANK"]), world, device)


def _store_of_this_start(store: distributed.Store, rank: int, world: int) -> distributed.Store:
    """Return the part of the store that belongs to this start of all processes.

    `torchrun` keeps one store over its restarts, and with it the addresses of processes that are dead: who reads before
    the first process has written connects to nobody. Restarts are counted by each machine for itself, so the first
    process draws a name, and tells it whoever asks with a number of its own.
    """
    own = uuid.uuid4().hex
    if rank > 0:
        store.set(f"asks/{rank}", own)
        name = store.get(f"answer/{own}").decode()
        store.add(f"{name}/here", 1)
        return distributed.PrefixStore(name, store)
    answered: set[str] = set()
    while store.add(f"{own}/here", 0) < world - 1:
        for other in range(1, world):
            if store.check([f"asks/{other}"]) and (asks := store.get(f"asks/{other}").decode()) not in answered:
                store.set(f"answer/{asks}", own)  # or to one who is dead, who does not hear it
                answered.add(asks)
        time.sleep(POLL)
    return distributed.PrefixStore(own, store)


def _leave(store: distributed.Store, rank: int, world: int) -> None:
    """Close the connections when every process has done its part: gloo aborts where the other side closes first
    (gloo issue 155). Where a process died, the others leave all the same."""
    try:
        store.set(f"left/{rank}", "")
        store.wait([f"left/{other}" for other in range(world)], FAREWELL)
    except RuntimeError as error:
        log.debug("left alone: %s", error)
    distributed.destroy_process_group()


def once(act: Callable[[], object]) -> None:
    """Let the first process do something, such as writing a file, and all go on when it is done."""
    processes = join()
    if processes.is_first:
        act()
    processes.wait()


def agree(rng: torch.Generator) -> torch.Generator:
    """Return a generator that draws alike in all processes: what changes on all of them must not be drawn apart."""
    processes = join()
    if processes.world == 1:
        return rng
    seed = torch.randint(2**62, (1,), generator=rng).to(processes.device)
    distributed.broadcast(seed, 0)
    return torch.Generator().manual_seed(int(seed))


def _device(local: int, here: int) -> torch.device:
    """Return the device of process `local` of `here` on this machine."""
    if torch.cuda.is_available():
        if here > torch.cuda.device_count():
            raise ConfigError(
                f"{here} processes for {torch.cuda.device_count()} CUDA devices",
                "start one process a device (torchrun --nproc-per-node), or hide them: CUDA_VISIBLE_DEVICES=",
            )
        torch.cuda.set_device(local)
        return torch.device("cuda", local)
    return torch.device("mps" if here == 1 and torch.backends.mps.is_available() else "cpu")


def warn_if_alone() -> None:
    """Say so where several processes seem to be wanted, but this one trains alone."""
    if "RANK" in os.environ:
        return
    started = {name: os.environ[name] for name in (*LAUNCHERS, "WORLD_SIZE") if os.environ.get(name, "1") != "1"}
    if started:
        log.warning(
            "this process trains alone, though %s: several would write one folder; start them with torchrun",
            " ".join(f"{name}={value}" for name, value in started.items()),
        )
    elif (count := torch.cuda.device_count()) > 1:
        log.warning(
            "one of %d CUDA devices trains; all do with: torchrun --nproc-per-node %d -m openvalle", count, count
        )


AHEAD = 4  # batches that each process makes ahead


class _Batches(Dataset[Any]):
    def __init__(self, make: Callable[[int], Any]) -> None:
        self.make = make

    def __getitem__(self, index: int) -> Any:
        return self.make(index)


@contextmanager
def prefetch(make: Callable[[int], Any], first: int, workers: int, device: torch.device) -> Iterator[Iterator[Any]]:
    """Give the batches `first`, `first + 1`, ... that `make` makes, on `device`; by `workers` processes, which end with
    the context, or by this one alone, when each is asked for.

    The processes are forked: they share what `make` holds, and must not touch the device.
    """
    indices = itertools.count(first)
    if not workers:
        yield (make(index).to(device) for index in indices)
        return
    loader = DataLoader(
        _Batches(make),
        batch_size=None,
        sampler=indices,  # type: ignore[arg-type]  # endless, so without a length
        num_workers=workers,
        prefetch_factor=AHEAD,
        pin_memory=device.type == "cuda",
        multiprocessing_context="fork",
    )
    made = iter(loader)  # the processes begin
    yield (batch.to(device) for batch in made)
