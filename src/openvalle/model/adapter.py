"""Adapters (LoRA): small low-rank additions to a trained model's matrices, on top of which nothing else changes.

A matrix W (out, in) becomes W + scale * up @ down, with down (rank, in) random and up (out, rank) zero at first, so
that training begins with the model as it is (Hu et al. 2021, section 4.1). For use the product is added to the weights
once: what speaks is as fast as before, in every engine.

`adapter.safetensors` holds both matrices by the name of what they are added to (`ar.transformer.blocks.0.up.down`),
and says which model they belong to: on another one of the same shape they would be noise.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from openvalle.config import Config
from openvalle.errors import ModelError
from openvalle.files import atomic_path
from openvalle.model.checkpoint import Bundle
from openvalle.pipes import check_regular

FORMAT, VERSION = "openvalle-adapter", "1"
ADAPTER_FILE = "adapter.safetensors"
VOICE = "voice"  # a voice file, byte by byte: who speaks where nobody else is asked for
INSIDE = "transformer.blocks."  # the matrices of attention and feed-forward

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
        before, module.__class__ = (
            type(module),
            AdaptedLinear,
        )  # in place, so that the network keeps its structure and names
        assert isinstance(module, AdaptedLinear)
        down = torch.randn(rank, width, generator=rng) * width**-0.5
        module.down = nn.Parameter(down.to(module.weight.device))
        module.up = nn.Parameter(torch.zeros(out, rank, device=module.weight.device))
        module.scale, module.before = config.scale, before


def adapter_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return `name.down` and `name.up` of each matrix; the scale is part of `up`."""
    found = {}
    for name, module in _find_matrices(network):
        if isinstance(module, AdaptedLinear):
            found[f"{name}.down"] = module.down.detach().cpu().clone()
            found[f"{name}.up"] = (module.scale * module.up.detach()).cpu().clone()
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


@torch.no_grad()
def add_to(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Add the products to the network's matrices; `ModelError` if one does not fit."""
    known = dict(_find_matrices(network))
    for name in sorted({key.rpartition(".")[0] for key in tensors}):
        down, up = tensors.get(f"{name}.down"), tensors.get(f"{name}.up")
        if name not in known or down is None or up is None or (len(up), down.shape[1]) != known[name].weight.shape:
            raise ModelError(f"the adapter has another {name} than the model", "give the model that it was made with")
        known[name].weight += (up.float() @ down.float()).to(known[name].weight)


def weights_digest(network: nn.Module) -> str:
    """Return a digest of the weights, as they are stored in float16."""
    found = hashlib.blake2b(digest_size=16)
    for name, value in sorted(network.state_dict().items()):
        found.update(name.encode())
        found.update(value.detach().cpu().half().contiguous().numpy().tobytes())
    return found.hexdigest()


@dataclass(frozen=True, eq=False)
class Adapter:
    """What is added to the matrices of both networks, by network; the digests of the networks that it is added to."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    digests: Mapping[str, str]
    model: str = ""  # the name of the model
    about: Mapping[str, str] = field(default_factory=dict)  # what it was made of, for people
    voice: bytes | None = None  # a voice file

    def save(self, path: Path) -> Path:
        """Write the file, atomically, in float16; return its path."""
        tensors = {
            f"{part}.{name}": each.half() for part, found in self.tensors.items() for name, each in found.items()
        }
        if self.voice is not None:
            tensors[VOICE] = torch.frombuffer(bytearray(self.voice), dtype=torch.uint8)
        metadata = {"format": FORMAT, "version": VERSION, "model": self.model, "about": json.dumps(dict(self.about))}
        metadata |= {f"digest.{part}": digest for part, digest in self.digests.items()}
        with atomic_path(path) as part_file:
            part_file.write_bytes(save(tensors, metadata))
        return path

    @classmethod
    def load(cls, path: str | Path) -> Adapter:
        """Read an adapter, given its file or the folder of `openvalle finetune`; `ModelError` if it is none."""
        path = Path(path)
        path = check_regular(path / ADAPTER_FILE if path.is_dir() else path)
        try:
            with safe_open(path, framework="pt") as file:
                metadata = dict(file.metadata() or {})
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            if not path.is_file():
                raise ModelError(f"there is no adapter at {path}", "make one: openvalle finetune") from None
            why = " ".join(str(error).split())
            raise ModelError(f"the adapter {path} cannot be read ({why})", "make it again") from None
        if metadata.get("format") != FORMAT:
            raise ModelError(f"{path} is no adapter", "give what `openvalle finetune` wrote")
        if metadata.get("version") != VERSION:
            raise ModelError(f"{path} has version {metadata.get('version')}, not {VERSION}", "update openvalle")
        voice = tensors.pop(VOICE, None)
        by_part: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            part, _, name = key.partition(".")
            by_part.setdefault(part, {})[name] = value
        digests = {key.removeprefix("digest."): each for key, each in metadata.items() if key.startswith("digest.")}
        about = json.loads(metadata.get("about", "{}"))
        return cls(by_part, digests, metadata.get("model", ""), about, None if voice is None else bytes(voice.tolist()))

    def apply(self, bundle: Bundle) -> Bundle:
        """Return the model with the additions; `ModelError` if they were made for another one."""
        ar, nar = copy.deepcopy(bundle.ar), copy.deepcopy(bundle.nar)
        networks: dict[str, nn.Module] = {"ar": ar, "nar": nar}
        for part, tensors in self.tensors.items():
            if part not in networks or weights_digest(networks[part]) != self.digests.get(part):
                raise ModelError(
                    f"the adapter was made for another model ({self.model or 'unnamed'}) than {bundle.config.name}",
                    "give that one with --model",
                )
            add_to(networks[part], tensors)
        return replace(bundle, ar=ar, nar=nar)

    def name_model(self, model: str) -> str:
        """Return what the model of that name is called with this adapter."""
        return f"{model}+{self.about.get('name') or 'adapter'}-{self.digest[:8]}"

    @property
    def digest(self) -> str:
        """What tells it from other adapters."""
        found = hashlib.blake2b(digest_size=16)
        for part, tensors in sorted(self.tensors.items()):
            for name, value in sorted(tensors.items()):
                found.update(f"{part}.{name}".encode() + value.detach().cpu().half().contiguous().numpy().tobytes())
        return found.hexdigest()
