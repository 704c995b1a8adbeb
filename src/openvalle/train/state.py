"""What an update of the weights needs: AdamW, its rate as a function of the step, a moving average of the weights, and
what matrices are multiplied in: float32, or bf16 where the machine is fast at it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch
from pydantic import Field
from torch import Tensor, nn

from openvalle.config import Config
from openvalle.errors import UserError
from openvalle.train.sharing import local

log = logging.getLogger(__name__)


class TrainingPrecision(StrEnum):
    """Weights, sums and losses are float32 in each case."""

    AUTO = "auto"  # bf16 where the machine has instructions for it, float32 elsewhere
    FLOAT32 = "float32"
    BF16 = "bf16"


def is_bf16(precision: TrainingPrecision, device: torch.device) -> bool:
    """Return whether training on `device` multiplies in bf16.

    A processor without instructions for it imitates them: a step of a small NAR model took 25 s so, and 2 s in
    float32.
    """
    if precision is not TrainingPrecision.AUTO:
        return precision is TrainingPrecision.BF16
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):  # an older torch does not tell
        return False
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def autocast(precision: TrainingPrecision, device: torch.device) -> torch.autocast:
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
    old: list[Tensor] = [local(held) for held, _ in pairs]
    new: list[Tensor] = [local(now).to(held.dtype) for held, now in pairs]
    torch._foreach_lerp_(old, new, 1 - decay)
    for held, now in zip(average.buffers(), network.buffers(), strict=True):
        held.copy_(now)


@dataclass
class TrainState:
    """What changes while training."""

    networks: dict[str, nn.Module]
    averages: dict[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]
    step: int = 0  # completed updates
    seconds: float = 0.0  # of training so far
    best: float = math.inf  # what validation found, the less the better
    worse: int = 0  # validations since then
    batches: int = 1  # of an update, those of all processes

    def is_best(self, loss: float) -> bool:
        """Take note of what validation found; return whether nothing before was as good."""
        is_better = loss < self.best
        self.best, self.worse = (loss, 0) if is_better else (self.best, self.worse + 1)
        return is_better


class SkippedUpdates:
    """Updates skipped because a gradient is not finite: counted on the device, told at points of the curves."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._found: dict[str, tuple[Tensor, Tensor]] = {}  # by network: in a row until now, since the last point

    def count(self, metrics: Mapping[str, float | Tensor]) -> None:
        """Take note of an update."""
        for key, norm in metrics.items():
            name, _, what = key.rpartition("/")
            if what == "gradient" and isinstance(norm, Tensor):
                bad = (~torch.isfinite(norm.detach())).long()
                in_a_row, since = self._found.get(name, (torch.zeros_like(bad), torch.zeros_like(bad)))
                self._found[name] = ((in_a_row + 1) * bad, since + bad)

    def check(self, step: int) -> None:
        """Report what was skipped; `UserError` if there is no end to it. This waits for the device."""
        for name, (in_a_row, since) in self._found.items():
            if count := int(since):
                log.warning(
                    "step %d: the gradient of %s was not finite; %d update%s skipped",
                    step,
                    name,
                    count,
                    " is" if count == 1 else "s are",
                )
            if int(in_a_row) >= self.most:
                raise UserError(
                    f"the gradient of {name} has not been finite for {int(in_a_row)} updates in a row",
                    "the last checkpoint is kept; lower loop.optim.learning_rate, or set loop.precision=float32",
                )
            self._found[name] = (in_a_row, torch.zeros_like(since))
