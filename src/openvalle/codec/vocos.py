"""Vocos (arXiv:2306.00814) as another decoder of EnCodec's codes: codebook vectors -> ConvNeXt -> inverse STFT.

Reads the published layout (`charactr/vocos-encodec-24khz`): `config.yaml` with `pytorch_model.bin`, unpickled as
plain tensors only, or `model.safetensors`. Every convolution looks three frames ahead; streaming waits for them and
is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from openvalle.codec.base import fill_network, read_published
from openvalle.config import Config, read_mapping
from openvalle.errors import ConfigError, ModelError

HUB = "hf://charactr/vocos-encodec-24khz"
FILES = ("config.yaml", "pytorch_model.bin")
KERNEL, SIDE = 7, 3  # frames of every convolution, and how many of them lie ahead
MAX_MAGNITUDE = 100.0
CLASSES = {
    "feature_extractor": "vocos.feature_extractors.EncodecFeatures",
    "backbone": "vocos.models.VocosBackbone",
    "head": "vocos.heads.ISTFTHead",
}


class VocosConfig(Config):
    """What of `config.yaml` the decoder needs, by the names used there."""

    bandwidths: tuple[float, ...] = Field(..., description="kbps; the n-th conditions the norms as number n")
    input_channels: int = Field(..., gt=0, le=65_536, description="size of a codebook entry")
    dim: int = Field(..., gt=0, le=65_536, description="width of the backbone")
    intermediate_dim: int = Field(..., gt=0, le=65_536, description="width inside the ConvNeXt blocks")
    num_layers: int = Field(..., gt=0, le=256, description="ConvNeXt blocks")
    adanorm_num_embeddings: int = Field(..., gt=0, le=1024, description="bandwidths that the norms know")
    n_fft: int = Field(..., gt=0, le=65_536, description="samples of a synthesis window")
    hop_length: int = Field(..., gt=0, le=65_536, description="samples of a frame")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.n_fft % self.hop_length or (self.n_fft - self.hop_length) % 2:
            raise ValueError("n_fft must be an uneven multiple of hop_length, or both must be even")
        if len(self.bandwidths) > self.adanorm_num_embeddings:
            raise ValueError("adanorm_num_embeddings must be the number of bandwidths")
        return self

    @classmethod
    def read(cls, path: Path) -> VocosConfig:
        """Read a published `config.yaml`; `ModelError` if it is of another kind of Vocos."""
        values: dict[str, Any] = {}
        try:
            sections = read_mapping(path)
            for name, wanted in CLASSES.items():
                section = sections.get(name) or {}
                if section.get("class_path") != wanted:
                    raise ModelError(f"{path}: {name} is {section.get('class_path')}, not {wanted}", f"use {HUB}")
                own = section.get("init_args") or {}
                if own.get("dim", values.get("dim")) != values.get("dim", own.get("dim")):
                    raise ModelError(f"{path}: backbone and head do not have one dim", f"use {HUB}")
                values |= own
            if values.pop("padding", "same") != "same":
                raise ModelError(f"{path}: the head must have padding `same`", f"use {HUB}")
            return cls.parse({key: value for key, value in values.items() if key in cls.model_fields}, str(path))
        except ConfigError as error:
            raise ModelError(error.what, f"use {HUB}") from None


class ConditionedNorm(nn.Module):
    """LayerNorm with a scale and a shift per bandwidth, on (B, T, C)."""

    def __init__(self, conditions: int, width: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Embedding(conditions, width), nn.Embedding(conditions, width)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, condition: int) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], eps=1e-6) * self.scale.weight[condition] + self.shift.weight[condition]


class VocosBlock(nn.Module):
    """ConvNeXt block. Takes (B, C, SIDE + t + SIDE), returns (B, C, t)."""

    def __init__(self, config: VocosConfig) -> None:
        super().__init__()
        width = config.dim
        self.dwconv = nn.Conv1d(width, width, KERNEL, groups=width)
        self.norm = ConditionedNorm(config.adanorm_num_embeddings, width)
        self.pwconv1 = nn.Linear(width, config.intermediate_dim)
        self.pwconv2 = nn.Linear(config.intermediate_dim, width)
        self.gamma = nn.Parameter(torch.full((width,), 1 / config.num_layers))

    def forward(self, joined: Tensor, condition: int) -> Tensor:
        x = self.norm(self.dwconv(joined).transpose(1, 2), condition)
        x = self.gamma * self.pwconv2(F.gelu(self.pwconv1(x)))
        return joined[..., SIDE:-SIDE] + x.transpose(1, 2)


class VocosBackbone(nn.Module):
    """Features (B, D, T) -> hidden (B, T, C), block by block of frames."""

    def __init__(self, config: VocosConfig) -> None:
        super().__init__()
        self.embed = nn.Conv1d(config.input_channels, config.dim, KERNEL)
        self.norm = ConditionedNorm(config.adanorm_num_embeddings, config.dim)
        self.convnext = nn.ModuleList(VocosBlock(config) for _ in range(config.num_layers))
        self.final_layer_norm = nn.LayerNorm(config.dim, eps=1e-6)

    def advance(self, x: Tensor, condition: int, contexts: list[Tensor], last: bool) -> Tensor:
        """Return the hidden states that are final; `contexts` of each convolution are updated in place."""
        x = _joined(x, contexts, 0, last)
        if x.shape[-1] < KERNEL:
            x = x.new_zeros(len(x), self.embed.out_channels, 0)
        else:
            x = self.norm(self.embed(x).transpose(1, 2), condition).transpose(1, 2)
        for number, block in enumerate(self.convnext, 1):
            x = _joined(x, contexts, number, last)
            x = block(x, condition) if x.shape[-1] >= KERNEL else x[..., :0]
        return self.final_layer_norm(x.transpose(1, 2))

    def start(self, rows: int) -> list[Tensor]:
        """Return the contexts before the first frame: zeros, as a padded convolution sees them."""
        weight = self.embed.weight
        widths = [self.embed.in_channels] + [self.embed.out_channels] * len(self.convnext)
        return [weight.new_zeros(rows, width, SIDE) for width in widths]


def _joined(x: Tensor, contexts: list[Tensor], index: int, last: bool) -> Tensor:
    """Return x (B, C, t) with what came before it and, at the end, the zeros after it."""
    x = torch.cat([contexts[index], x], dim=-1)
    contexts[index] = x[..., -2 * SIDE :]
    return F.pad(x, (0, SIDE)) if last else x


class VocosHead(nn.Module):
    """Hidden (B, T, C) -> windowed frames (B, T, n_fft) of predicted log-magnitude and phase."""

    def __init__(self, config: VocosConfig) -> None:
        super().__init__()
        self.n_fft, self.hop = config.n_fft, config.hop_length
        self.out = nn.Linear(config.dim, config.n_fft + 2)
        self.window: Tensor
        self.register_buffer("window", torch.hann_window(config.n_fft))

    def forward(self, x: Tensor) -> Tensor:
        log_magnitude, phase = self.out(x).chunk(2, dim=-1)
        magnitude = log_magnitude.exp().clamp(max=MAX_MAGNITUDE)
        spectrum = torch.complex(magnitude * phase.cos(), magnitude * phase.sin())
        return torch.fft.irfft(spectrum, self.n_fft, dim=-1) * self.window

    def overlap_add(self, frames: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """Add frames (B, T, n_fft) at each hop to the tail (B, n_fft - hop) of those before them.

        Returns the finished samples (B, T * hop) and the next tail.
        """
        rows, count, _ = frames.shape
        length = count * self.hop + self.n_fft - self.hop
        added = F.fold(frames.transpose(1, 2), (1, length), (1, self.n_fft), stride=(1, self.hop)).reshape(rows, length)
        added[:, : tail.shape[1]] += tail
        return added[:, : count * self.hop], added[:, count * self.hop :]


@dataclass
class VocosState:
    """What a stream carries along."""

    contexts: list[Tensor]
    tail: Tensor  # (B, n_fft - hop) samples that later frames add to
    envelope: Tensor  # (1, n_fft - hop) the same of the squared windows
    skip: int  # samples before the first frame that are still to be dropped


class Vocos(nn.Module):
    """Codes (B, T, Q) -> samples (B, T * hop)."""

    def __init__(self, config: VocosConfig, codebooks: Tensor) -> None:
        super().__init__()
        self.config = config
        self.codebooks: Tensor
        self.register_buffer("codebooks", codebooks)  # (Q, V, D)
        self.backbone = VocosBackbone(config)
        self.head = VocosHead(config)

    @torch.inference_mode()
    def forward(self, codes: Tensor, bandwidth: float) -> Tensor:
        """Return the samples of whole codes (B, T, q); `bandwidth` in kbps, one of `config.bandwidths`."""
        return self.advance(codes, bandwidth, self.start(len(codes)), last=True)

    def start(self, rows: int) -> VocosState:
        """Return the state of a stream that has seen nothing."""
        overlap = self.head.n_fft - self.head.hop
        zeros = self.head.window.new_zeros
        return VocosState(self.backbone.start(rows), zeros(rows, overlap), zeros(1, overlap), overlap // 2)

    def advance(self, codes: Tensor, bandwidth: float, state: VocosState, last: bool) -> Tensor:
        """Take the next codes (B, t, q) and return the samples (B, n) that are final; `last`: no more will come."""
        levels = torch.arange(codes.shape[-1], device=self.codebooks.device)
        features = self.codebooks[levels, codes.to(levels.device)].sum(-2).transpose(1, 2)  # (B, D, t)
        condition = self.config.bandwidths.index(bandwidth)
        hidden = self.backbone.advance(features, condition, state.contexts, last)
        samples, envelope = hidden.new_zeros(len(hidden), 0), hidden.new_zeros(1, 0)
        if hidden.shape[1]:
            frames = self.head(hidden)
            samples, state.tail = self.head.overlap_add(frames, state.tail)
            windows = self.head.window.square().expand(1, frames.shape[1], -1)
            envelope, state.envelope = self.head.overlap_add(windows, state.envelope)
        if last:  # the second half of the tail lies behind the last frame
            kept = state.tail.shape[1] - state.tail.shape[1] // 2
            samples = torch.cat([samples, state.tail[:, :kept]], dim=1)
            envelope = torch.cat([envelope, state.envelope[:, :kept]], dim=1)
        skip = min(state.skip, samples.shape[1])
        state.skip -= skip
        return samples[:, skip:] / envelope[:, skip:]

    def check(self, width: int, hop: int, levels: int, bandwidth: float) -> None:
        """Raise `ModelError` unless the head decodes this EnCodec's codes, `ConfigError` for another bandwidth."""
        own = (self.config.input_channels, self.config.hop_length)
        if own != (width, hop):
            raise ModelError(f"the Vocos head is for entries and hops of {own}, not {(width, hop)}", f"use {HUB}")
        if bandwidth not in self.config.bandwidths or levels > len(self.codebooks):
            there = ", ".join(f"{one:g}" for one in self.config.bandwidths)
            raise ConfigError(f"the Vocos head has no bandwidth of {bandwidth:g} kbps", f"use one of {there}")

    @classmethod
    def load(cls, folder: str | Path, entries: int = 1024) -> Vocos:
        """Read a folder in the published layout; `ModelError` if a file is missing, damaged or of another kind.

        `entries`: of each of EnCodec's codebooks, which the file holds in one table.
        """
        folder = Path(folder)
        config = VocosConfig.read(folder / "config.yaml")
        published = read_published("Vocos head", folder, FILES)
        weights = {name.replace("head.istft.", "head."): value for name, value in published.items()}
        books = weights.pop("feature_extractor.codebook_weights", None)
        if books is None or books.ndim != 2 or books.shape[1] != config.input_channels or len(books) % entries:
            raise ModelError(f"the Vocos head in {folder} has no codebooks that fit", f"use {HUB}")
        own = {name: w.float() for name, w in weights.items() if not name.startswith("feature_extractor.")}
        own["codebooks"] = books.float().unflatten(0, (-1, entries))
        return fill_network(lambda: cls(config, own["codebooks"]), own, folder)


class VocosStream:
    """Protocol: `codec.base.DecoderStream`. The first samples come after 3 * (layers + 1) frames."""

    def __init__(self, head: Vocos, bandwidth: float) -> None:
        self.head, self.bandwidth = head, bandwidth
        self._state: VocosState | None = None

    @torch.inference_mode()
    def push(self, codes: Tensor) -> Tensor:
        """Take codes (B, t, Q); return the finished samples (B, n)."""
        self._state = self._state or self.head.start(len(codes))
        return self.head.advance(codes, self.bandwidth, self._state, last=False)

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """Return the last samples (B, n)."""
        if self._state is None:
            return torch.zeros(1, 0)
        nothing = torch.zeros((len(self._state.tail), 0, 1), dtype=torch.long)
        return self.head.advance(nothing, self.bandwidth, self._state, last=True)
