"""How fast a machine trains a task: what a budget of seconds is divided by, and what two versions are compared by."""

from __future__ import annotations

import time

import torch

from openvalle.train.loop import LoopConfig, Moment, Task
from openvalle.train.state import make_optimizer, multiplying, prepare_device, update_weights


def measure_speed(task: Task, config: LoopConfig, device: torch.device, updates: int = 2) -> float:
    """Return the frames a second that updates learn from, batches and all; the first update warms up and is not
    counted. The networks are changed by it."""
    prepare_device(device)
    optimizers = {}
    for name, network in task.networks.items():
        network.to(device).train()
        optimizers[name] = make_optimizer(network, config.optim)
    began, frames = 0.0, 0
    for number in range(1 + updates):
        if number == 1:
            began = _now(device)
        batch = task.batch(number, 0, 1).to(device)
        with multiplying(config.precision, device):
            losses = task.losses(batch, Moment(number, 0.0), torch.Generator().manual_seed(number))
        total = torch.stack(list(losses.minimise.values())).sum()
        total.backward()
        for name in losses.minimise:
            norm = torch.nn.utils.clip_grad_norm_(task.networks[name].parameters(), config.optim.clip)
            update_weights(optimizers[name], norm)
            optimizers[name].zero_grad(set_to_none=True)
        frames += losses.frames if number else 0
    return frames / max(1e-9, _now(device) - began)


def _now(device: torch.device) -> float:
    """Return the time at which the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()
