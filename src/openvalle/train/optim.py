"""Optimisation settings: AdamW, warm-up and decay as a function of the step, clipping, moving average of weights.

What matrices are multiplied in while training: float32, or bf16 where the machine is fast at it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum

import torch
from pydantic import Field
from torch import Tensor, nn

from openvalle.config import Config


class Precision(StrEnum):
    """Weights, sums and losses are float32 in each case."""

    AUTO = "auto"  # bf16 where the machine has instructions for it, float32 elsewhere
    FLOAT32 = "float32"
    BF16 = "bf16"


def is_bf16(precision: Precision, device: torch.device) -> bool:
    """Return whether training on `device` multiplies in bf16.

    A processor without instructions for it imitates them: a step of a small NAR model took 25 s so, and 2 s in
    float32.
    """
    if precision is not Precision.AUTO:
        return precision is Precision.BF16
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):  # an older torch does not tell
        return False
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def multiplying(precision: Precision, device: torch.device) -> torch.autocast:
    """Return the context in which a forward pass multiplies in `precision` on `device`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=is_bf16(precision, device))


def prepare_device(device: torch.device) -> None:
    """Set what training on a CUDA device needs: TF32 where products stay in float32, and attention without cuDNN,
    which makes a plan for every shape that it meets, and every batch has another."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cuda.enable_cudnn_sdp(False)


class Decay(StrEnum):
    """How the learning rate falls after the warm-up."""

    CONSTANT = "constant"  # it does not
    LINEAR = "linear"  # to the floor at the end (VALL-E)
    COSINE = "cosine"  # to the floor at the end, slowly at both ends


class OptimConfig(Config):
    """AdamW and its schedule."""

    learning_rate: float = Field(5e-4, gt=0, description="peak")
    warmup: int = Field(500, ge=0, description="steps of linear rise")
    decay: Decay = Decay.COSINE
    floor: float = Field(0.05, ge=0, le=1, description="last learning rate over peak")
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = Field(0.01, ge=0, description="on matrices only")
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the weights' moving average; 0 switches it off")


def make_optimizer(network: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """Return AdamW with weight decay on matrices only (not on norms, biases and scales)."""
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for _, p in named if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=config.learning_rate, betas=config.betas, fused=True
    )


def learning_rate(config: OptimConfig, step: int, done: float) -> float:
    """Return the rate of the update that follows `step` completed ones, a part `done` from [0, 1] of the training."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    if config.decay is Decay.CONSTANT:
        return config.learning_rate
    # The decay begins where the warm-up ended, if that is known: `done` of `step` steps.
    begun = config.warmup * done / step if step else 0.0
    decayed = min(1.0, (done - begun) / max(1e-9, 1 - begun))
    left = 1 - decayed if config.decay is Decay.LINEAR else 0.5 + 0.5 * math.cos(math.pi * decayed)
    return config.learning_rate * (config.floor + (1 - config.floor) * left)


def update_weights(optimizer: torch.optim.Optimizer, norm: Tensor) -> None:
    """Do an update, unless the gradient's `norm` is not finite. The device decides, and nobody waits for it."""
    optimizer.found_inf = (~torch.isfinite(norm)).float()  # type: ignore[attr-defined]  # torch's own name
    optimizer.step()


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move `average` towards `network`; young averages follow faster, so that they do not keep the random start."""
    decay = min(decay, (1 + step) / (10 + step))
    pairs = list(zip(average.parameters(), network.parameters(), strict=True))
    old: list[Tensor] = [held for held, _ in pairs]
    new: list[Tensor] = [now.to(held.dtype) for held, now in pairs]
    torch._foreach_lerp_(old, new, 1 - decay)
    for held, now in zip(average.buffers(), network.buffers(), strict=True):
        held.copy_(now)


def clip_gradients(parameters: Iterable[Tensor], limit: float) -> Tensor:
    """Scale gradients to a norm of at most `limit`; return the norm before, () (it may be infinite or NaN)."""
    return nn.utils.clip_grad_norm_(parameters, limit)
