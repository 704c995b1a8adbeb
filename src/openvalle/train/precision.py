"""What matrices are multiplied in while training: float32, or bf16 where the machine is fast at it."""

from __future__ import annotations

from enum import StrEnum

import torch


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
