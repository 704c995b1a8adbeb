"""What every codec is: how sound becomes tokens and sound again.

Audio is (B, samples) float32 at `spec.rate`; codes are (B, T, Q) int64, time first, `codes[..., 0]` is codebook 1.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Protocol, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from openvalle.codec.settings import digest_arrays
from openvalle.errors import ModelError
from openvalle.types import CodecSpec

Network = TypeVar("Network", bound=nn.Module)


class DecoderStream(Protocol):
    """Decodes codes block by block; all outputs joined equal the whole decode."""

    def push(self, codes: Tensor) -> Tensor:
        """Take codes (B, t, Q) and return the samples (B, n) that are final; n may be 0."""

    def flush(self) -> Tensor:
        """Return the samples still held back, (B, n). The stream is then over."""


class Codec(Protocol):
    """Audio <-> tokens."""

    @property
    def spec(self) -> CodecSpec:
        """Geometry and identity of the tokens."""

    @property
    def codebooks(self) -> Tensor:
        """The entries' vectors, (Q, V, D); a frame's latent is the sum of its entries."""

    def encode(self, samples: Tensor, merge: int = 1) -> Tensor:
        """Return codes (B, ceil(samples / hop), Q); `merge` repeats each code of codebook 1 over that many frames
        (VALL-E R 3.1)."""

    def decode(self, codes: Tensor) -> Tensor:
        """Return samples (B, T * hop) for codes (B, T, Q)."""

    def stream(self) -> DecoderStream:
        """Return a fresh streaming decoder."""


def digest_weights(weights: Mapping[str, Tensor], settings: str = "") -> str:
    """Return the identity of tokens: a hash of what makes them, in half precision (16 hex digits)."""
    arrays = {name: value.detach().to("cpu", torch.float16).numpy() for name, value in weights.items()}
    return digest_arrays(arrays, settings)


def read_published(what: str, folder: Path, files: tuple[str, str]) -> dict[str, Tensor]:
    """Return the weights of `what` in a folder: model.safetensors, else the second of its published `files`, of which
    tensors alone are read. `ModelError` if there are none or they are damaged."""
    tensors = folder / "model.safetensors"
    try:
        if tensors.is_file():
            return load_file(tensors)
        return torch.load(folder / files[1], map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"no {what} in {folder}", f"it needs {' and '.join(files)}") from None
    except (SafetensorError, UnpicklingError, OSError, RuntimeError, EOFError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(f"the {what} in {folder} cannot be read ({reason})", "download it again") from None


def fill_network(
    make: Callable[[], Network], weights: Mapping[str, Tensor], source: Path, optional: Collection[str] = ()
) -> Network:
    """Return the network that `make` makes with the weights of the file `source`, ready to be used.

    `ModelError` unless they are finite numbers and the network's own; those that are `optional` may be missing.
    """
    with torch.device("meta"):  # what the settings claim is compared before any room is made for it
        expected = make().state_dict()
    fault = next((f"it has {name}" for name in weights if name not in expected), "")
    for name, value in expected.items():
        if name in weights and weights[name].shape != value.shape:
            fault = f"{name} is {tuple(weights[name].shape)}, not {tuple(value.shape)}"
        elif name not in weights and name not in optional:
            fault = f"no {name}"
    if fault:
        raise ModelError(f"the weights in {source} do not fit its settings ({fault})", "install or download it again")
    if not all(bool(weight.isfinite().all()) for weight in weights.values()):
        raise ModelError(f"{source} holds values that are no finite numbers", "install or download it again")
    network = make()
    network.load_state_dict({name: weight.float() for name, weight in weights.items()}, strict=False)
    return network.eval().requires_grad_(False)
