"""How the processes of a run share its networks: each holds them whole and the gradients are averaged while the
backward pass still runs, or each holds a part of the state (FSDP2, `loop.shard`).

FSDP2 hooks into one module, `TaskModule`, whose forward pass is all that a task does with a batch. So a task may call
its networks as often as it likes, and freeze some in between, as adversarial training does. It may also leave
parameters out, other ones in each process, of which DistributedDataParallel would warn at every start.

Sharded, a process keeps a slice of the rows of each weight, of its average and of its moments. A block of a
transformer is put together when it is computed, and taken apart again; what is outside of blocks is one more unit.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn

from openvalle.errors import ConfigError
from openvalle.model.transformer import Block
from openvalle.train.distributed import Processes

BUCKET = 25 << 20  # bytes


class TaskModule(nn.Module):
    """All networks of a task as one module; its forward pass gives what each network minimises."""

    def __init__(self, task: Any) -> None:
        """`task`: an `openvalle.train.loop.Task`."""
        super().__init__()
        self.networks = nn.ModuleDict(task.networks)
        self.task = task
        self.metrics: Mapping[str, float | Tensor] = {}  # of the last batch
        self.frames = 0  # that were learnt from so far, here

    def forward(self, *batch: Any) -> dict[str, Tensor]:
        """Return the losses of a batch by network; `batch`: what `Task.losses` takes."""
        losses = self.task.losses(*batch)
        self.metrics = losses.metrics
        self.frames += losses.frames
        return losses.minimise


class Sharing:
    """The networks of this process as it shares them with the others."""

    def __init__(self, task: Any, averages: dict[str, nn.Module], processes: Processes, *, shard: bool) -> None:
        """Share a task's networks, and split the averages as well where the state is sharded."""
        self.processes = processes
        self.step = TaskModule(task)
        self.is_sharded = shard and processes.world > 1
        if self.is_sharded:
            # as they are when they are whole; on no device, so that they take no room
            self._whole = {name: copy.deepcopy(network).to("meta") for name, network in averages.items()}
            _shard([self.step, *averages.values()], processes)
        self._buckets = {}
        if processes.world > 1 and not self.is_sharded:
            self._buckets = {name: Buckets(network, processes) for name, network in task.networks.items()}

    def backward(self, batch: tuple[Any, ...], accumulate: int, *, last: bool, precision: Any) -> set[str]:
        """Add a batch's gradients, over `accumulate`, to those of an update; return whose. Processes are averaged
        with the `last` one; where the state is sharded with each, so that no process ever holds all gradients."""
        with precision:
            losses = self.step(*batch)
        total = sum(losses.values()) / accumulate
        shared = [self._buckets[name] for name in losses if last and self._buckets]
        for buckets in shared:
            buckets.begin()
        total.backward()
        for buckets in shared:
            buckets.finish()
        if self.is_sharded and last:
            for parameter in self.step.parameters():
                if parameter.ndim == 0 and parameter.grad is not None:  # a single number is not sharded
                    self.processes.mean(parameter.grad)
        return set(losses)

    def clip(self, network: nn.Module, most: float) -> Tensor:
        """Bring the norm of a network's gradients to `most` at most; return what it was."""
        if not self.is_sharded:
            return nn.utils.clip_grad_norm_(network.parameters(), most)
        split: list[Tensor] = []
        single: list[Tensor] = []
        for parameter in network.parameters():
            if parameter.grad is not None:
                (split if is_split(parameter) else single).append(local(parameter.grad))
        squares = sum((part.detach().square().sum() for part in split), torch.zeros((), device=self.processes.device))
        distributed.all_reduce(squares)
        norm = sum((part.detach().square().sum() for part in single), squares).sqrt()
        torch._foreach_mul_([*split, *single], (most / (norm + 1e-6)).clamp(max=1.0))
        return norm

    def gather(self, averages: Mapping[str, nn.Module], *, everywhere: bool = False) -> dict[str, nn.Module]:
        """Return the averages whole, on the first process or `everywhere`; all processes have to ask for them."""
        if not self.is_sharded:
            return dict(averages)
        found = {}
        for name, average in averages.items():
            wanted = everywhere or self.processes.is_first
            whole = copy.deepcopy(self._whole[name])
            if wanted:
                whole = whole.to_empty(device=self.processes.device)
            parameters = list(zip(whole.parameters(), average.parameters(), strict=True))
            for mine, part in [*parameters, *zip(whole.buffers(), average.buffers(), strict=True)]:
                value = whole_tensor(part)  # one at a time
                if wanted:
                    mine.data.copy_(value)
            found[name] = whole
        return found


class Buckets:
    """A network's gradients in buckets, each of which is averaged over the processes as soon as it is complete: that
    overlaps with the rest of the backward pass, which comes to the last layers first. All processes send their buckets
    in one order, and a parameter that a batch left out counts as zero."""

    def __init__(self, network: nn.Module, processes: Processes) -> None:
        self.processes = processes
        self._parts: list[list[nn.Parameter]] = [[]]
        room = BUCKET
        for parameter in reversed([each for each in network.parameters() if each.requires_grad]):
            size = parameter.numel() * parameter.element_size()
            if self._parts[-1] and (size > room or parameter.dtype != self._parts[-1][0].dtype):
                self._parts.append([])
                room = BUCKET
            room -= size
            self._parts[-1].append(parameter)
            parameter.register_post_accumulate_grad_hook(self._count)
        self._where = {parameter: number for number, part in enumerate(self._parts) for parameter in part}
        self._missing: list[int] = []  # parameters of each bucket whose gradient is to come; empty: nothing is sent
        self._sent: list[tuple[Tensor, Any]] = []

    def begin(self) -> None:
        """Send the gradients of the backward pass that comes."""
        self._missing, self._sent = [len(part) for part in self._parts], []

    def finish(self) -> None:
        """Wait until all gradients are the mean over the processes."""
        while len(self._sent) < len(self._parts):
            self._send()
        self._missing = []
        for part, (flat, work) in zip(self._parts, self._sent, strict=True):
            work.wait()
            flat /= self.processes.world
            for parameter, piece in zip(part, flat.split([each.numel() for each in part]), strict=True):
                parameter.grad = piece.view_as(parameter)
        self._sent = []

    def _count(self, parameter: Tensor) -> None:
        if self._missing:
            self._missing[self._where[parameter]] -= 1  # type: ignore[index]
            while len(self._sent) < len(self._parts) and not self._missing[len(self._sent)]:
                self._send()

    def _send(self) -> None:
        part = self._parts[len(self._sent)]
        found = [torch.zeros_like(each) if each.grad is None else each.grad for each in part]
        flat = torch.cat([gradient.reshape(-1) for gradient in found])
        self._sent.append((flat, distributed.all_reduce(flat, async_op=True)))


def compile_blocks(networks: Iterable[nn.Module]) -> None:
    """Let torch compile the blocks of transformers, for batches of any size, when they are first met."""
    for network in networks:
        for block in network.modules():
            if isinstance(block, Block):
                block.compile(dynamic=True)


def _shard(modules: Iterable[nn.Module], processes: Processes) -> None:
    """Split the parameters of modules over the processes, along their first dimension."""
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError:
        raise ConfigError("loop.shard needs torch 2.6 or newer", "update torch, or leave it out") from None
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh(processes.device.type, (processes.world,))
    for module in modules:
        for block in module.modules():
            if isinstance(block, Block):
                fully_shard(block, mesh=mesh)
        fully_shard(module, mesh=mesh, ignored_params={each for each in module.parameters() if each.ndim == 0})


def is_split(tensor: Tensor) -> bool:
    """Return whether this process holds only some rows of a tensor."""
    return hasattr(tensor, "to_local")


def local(tensor: Tensor) -> Tensor:
    """Return the rows of a tensor that this process holds, all of one that is not split; no copy."""
    return tensor.to_local() if is_split(tensor) else tensor  # type: ignore[attr-defined]


def whole_tensor(tensor: Tensor) -> Tensor:
    """Return all rows of a tensor; all processes have to ask for one that is split."""
    return tensor.full_tensor() if is_split(tensor) else tensor  # type: ignore[attr-defined]
