"""What every codec is: how sound becomes tokens and sound again.

Audio is (B, samples) float32 at `spec.rate`; codes are (B, T, Q) int64, time first, `codes[..., 0]` is codebook 1.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from torch import Tensor, nn

from openvalle.types import CodecSpec


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
        """Return codes (B, ceil(samples / hop), Q); `merge` repeats codebook 1 over blocks of that many frames
        (VALL-E R 3.1)."""

    def decode(self, codes: Tensor) -> Tensor:
        """Return samples (B, T * hop) for codes (B, T, Q)."""

    def stream(self) -> DecoderStream:
        """Return a fresh streaming decoder."""


def misfit(network: nn.Module, weights: Mapping[str, Tensor], optional: Collection[str] = ()) -> str:
    """Return the first weight by which a file's are not those of the network; "" if they are.

    The network may be on the device `meta`: it takes no room there, whatever size its settings claim.
    """
    expected = network.state_dict()
    for name, value in expected.items():
        if name in weights and weights[name].shape != value.shape:
            return f"{name} is {tuple(weights[name].shape)}, not {tuple(value.shape)}"
        if name not in weights and name not in optional:
            return f"no {name}"
    return next((f"it has {name}" for name in weights if name not in expected), "")
