"""Layers that train an adapter (LoRA): each adds a product of two small matrices to its own, and nothing else trains.

A matrix W (out, in) becomes W + scale * up @ down, with down (rank, in) random and up (out, rank) zero at first, so
that training begins with the model as it is (Hu et al. 2021, section 4.1). `openvalle.model.adapter` is what is kept.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from openvalle.config import Config
from openvalle.model.adapter import INSIDE, Adapter
from openvalle.model.checkpoint import Bundle

Network = TypeVar("Network", bound=nn.Module)


class AdapterConfig(Config):
    """How large the additions are."""

    rank: int = Field(16, ge=1, le=512, description="rank of what is added to each matrix of the blocks")
    scale: float = Field(2.0, gt=0, description="factor of the product, as alpha / rank elsewhere")


class AdaptedLinear(nn.Linear):
    """A linear layer of a trained network, whose matrix (out, in) something is added to."""

    down: nn.Parameter  # (rank, in)
    up: nn.Parameter  # (out, rank)
    scale: float
    before: type[nn.Linear]  # what it was, and is again without

    def forward(self, input: Tensor) -> Tensor:
        weight = torch.addmm(self.weight, self.up, self.down, alpha=self.scale)
        return F.linear(input, weight, self.bias)


def add_adapter(network: nn.Module, config: AdapterConfig, seed: int) -> None:
    """Let the network train nothing but additions to the matrices of its blocks."""
    network.requires_grad_(False)
    rng = torch.Generator().manual_seed(seed)
    for _, module in _find_matrices(network):
        out, width = module.weight.shape
        rank = min(config.rank, out, width)
        before = type(module)
        module.__class__ = AdaptedLinear  # in place, so that the network keeps its structure and names
        assert isinstance(module, AdaptedLinear)
        down = torch.randn(rank, width, generator=rng) * width**-0.5
        module.down = nn.Parameter(down.to(module.weight.device))
        module.up = nn.Parameter(torch.zeros(out, rank, device=module.weight.device))
        module.scale, module.before = config.scale, before


def adapter_tensors(network: nn.Module) -> dict[str, np.ndarray]:
    """Return `name.down` and `name.up` of each matrix; the scale is part of `up`."""
    found = {}
    for name, module in _find_matrices(network):
        if isinstance(module, AdaptedLinear):
            found[f"{name}.down"] = module.down.detach().float().cpu().numpy().copy()
            found[f"{name}.up"] = (module.scale * module.up.detach()).float().cpu().numpy()
    return found


@torch.no_grad()
def without_adapter(network: Network) -> Network:
    """Return a copy that holds the products in its matrices."""
    merged = copy.deepcopy(network)
    for _, module in _find_matrices(merged):
        if isinstance(module, AdaptedLinear):
            module.weight.addmm_(module.up, module.down, alpha=module.scale)
            before = module.before
            del module.down, module.up, module.scale, module.before
            module.__class__ = before  # type: ignore[assignment]
    return merged


def _find_matrices(network: nn.Module) -> list[tuple[str, nn.Linear]]:
    named = [(name, module) for name, module in network.named_modules() if name.startswith(INSIDE)]
    return [(name, module) for name, module in named if isinstance(module, nn.Linear) and "norm" not in name]


def to_arrays(network: nn.Module) -> dict[str, np.ndarray]:
    """Return the weights of a network by name, in float32."""
    return {name: value.detach().cpu().float().numpy() for name, value in network.state_dict().items()}


def adapt(bundle: Bundle, adapter: Adapter) -> Bundle:
    """Return the model with what the adapter adds, called so; `ModelError` if it was made for another one."""
    ar, nar = copy.deepcopy(bundle.ar), copy.deepcopy(bundle.nar)
    networks: dict[str, nn.Module] = {"ar": ar, "nar": nar}
    for part, network in networks.items():
        merged = adapter.merge(part, to_arrays(network), bundle.config.name)
        network.load_state_dict({name: torch.from_numpy(merged[name]) for name in merged})
    config = bundle.config.model_copy(update={"name": adapter.name_model(bundle.config.name)})
    return replace(bundle, config=config, ar=ar, nar=nar)
