"""SpeechTokenizer (arXiv:2308.16692): 16 kHz, 50 frames a second, 8 codebooks of 1024, the first near to what is said.

Reads the published layout (`fnlp/SpeechTokenizer`): `config.json` with `SpeechTokenizer.pt`, unpickled as plain tensors
only, or `model.safetensors`. Encoder and decoder are EnCodec's, not causal: convolutions see as far ahead as back, and
reflect the sound at its ends; the encoder's LSTM runs both ways. Streaming waits for five frames and is exact.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from openvalle.codec.base import DecoderStream, digest_weights, fill_network, read_published
from openvalle.codec.quantizer import encode_residual
from openvalle.config import Config, read_mapping
from openvalle.errors import ConfigError, ModelError
from openvalle.types import CodecSpec

NAME = "speechtokenizer"
HUB, SUBFOLDER = "hf://fnlp/SpeechTokenizer", "speechtokenizer_hubert_avg"
FILES = ("config.json", "SpeechTokenizer.pt")
CODEBOOK = "quantizer.vq.layers.{}._codebook.embed"
FRAME_SIDE, SAMPLE_SIDE = 3, 2  # frames that the first convolution, and all that follow the LSTM, see on each side


class SpeechTokenizerConfig(Config):
    """What of `config.json` the codec needs, by the names used there."""

    n_filters: int = Field(..., gt=0, le=4096, description="channels at the rate of the samples")
    dimension: int = Field(..., gt=0, le=65_536, description="size of a codebook entry")
    strides: tuple[int, ...] = Field(..., min_length=1, max_length=8, description="of the decoder, the slowest first")
    lstm_layers: int = Field(..., ge=1, le=16, description="layers of both LSTMs")
    bidirectional: bool = Field(..., description="whether the encoder's LSTM runs both ways")
    residual_kernel_size: int = Field(..., ge=1, le=31, description="frames of a residual layer's convolution")
    n_residual_layers: Literal[1] = Field(..., description="residual layers after each stride")
    activation: Literal["ELU"] = Field(..., description="between the layers")
    codebook_size: int = Field(..., gt=1, le=65_536, description="entries of each codebook")
    n_q: int = Field(..., gt=0, le=64, description="codebooks")
    sample_rate: int = Field(16_000, gt=0, description="samples a second")

    @classmethod
    def read(cls, path: Path) -> SpeechTokenizerConfig:
        """Read a published `config.json`; `ModelError` if it is of another kind."""
        values = read_mapping(path)
        try:
            return cls.parse({key: values[key] for key in cls.model_fields if key in values}, str(path))
        except ConfigError as error:
            raise ModelError(error.what, f"use {SUBFOLDER} of {HUB}") from None


class Conv(nn.Conv1d):
    """A convolution that sees as far ahead as back, the sound reflected at its ends: (B, C, L) -> (B, C', L / stride),
    rounded up."""

    def forward(self, x: Tensor) -> Tensor:
        stride = self.stride[0]
        around = (self.kernel_size[0] - 1) * self.dilation[0] - (stride - 1)
        right = around // 2
        return super().forward(_reflect(x, around - right, right + -x.shape[-1] % stride))


def _reflect(x: Tensor, left: int, right: int) -> Tensor:
    short = max(0, max(left, right) - x.shape[-1] + 1)  # sound so short is continued with silence first
    padded = F.pad(F.pad(x, (0, short)), (left, right), mode="reflect") if left or right else x
    return padded[..., : padded.shape[-1] - short]


class Upsample(nn.ConvTranspose1d):
    """(B, C, L) -> (B, C', L * stride)."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        stride, length = self.stride[0], x.shape[-1]
        left = stride - stride // 2
        return super().forward(x)[..., left : left + length * stride]


class Residual(nn.Module):
    """x + two convolutions, the inner one narrow; the skip is a convolution, too."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.ELU(), Conv(width, width // 2, kernel), nn.ELU(), Conv(width // 2, width, 1))
        self.shortcut = Conv(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.block(x)


class Recurrent(nn.Module):
    """An LSTM with a skip, on (B, C, T); of both directions the channels are twice as many."""

    def __init__(self, width: int, layers: int, both_ways: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, layers, bidirectional=both_ways)

    def forward(self, x: Tensor) -> Tensor:
        return self.advance(x, None)[0]

    def advance(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return what follows a state (none: the start), and the state after it."""
        inputs = x.permute(2, 0, 1)
        y, state = self.lstm(inputs, state)
        return (y + inputs.repeat(1, 1, 1 + self.lstm.bidirectional)).permute(1, 2, 0), state


def make_encoder(config: SpeechTokenizerConfig) -> nn.Sequential:
    """Return samples (B, 1, N) -> latents (B, D, T)."""
    width = config.n_filters
    layers: list[nn.Module] = [Conv(1, width, 7)]
    for stride in reversed(config.strides):
        layers += [Residual(width, config.residual_kernel_size), nn.ELU()]
        layers.append(Conv(width, 2 * width, 2 * stride, stride=stride))
        width *= 2
    layers.append(Recurrent(width, config.lstm_layers, config.bidirectional))
    return nn.Sequential(*layers, nn.ELU(), Conv(width * (1 + config.bidirectional), config.dimension, 7))


def make_decoder(config: SpeechTokenizerConfig) -> nn.Sequential:
    """Return latents (B, D, T) -> samples (B, 1, T * hop)."""
    width = config.n_filters * 2 ** len(config.strides)
    layers: list[nn.Module] = [Conv(config.dimension, width, 7), Recurrent(width, config.lstm_layers, False)]
    for stride in config.strides:
        layers += [nn.ELU(), Upsample(width, width // 2, 2 * stride, stride=stride)]
        width //= 2
        layers.append(Residual(width, config.residual_kernel_size))
    return nn.Sequential(*layers, nn.ELU(), Conv(width, 1, 7))


class SpeechTokenizerCodec(nn.Module):
    """Protocol: `codec.base.Codec`."""

    def __init__(self, config: SpeechTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = make_encoder(config), make_decoder(config)
        self.codebooks: Tensor
        self.register_buffer("codebooks", torch.zeros(config.n_q, config.codebook_size, config.dimension))
        self.hop = 1
        for stride in config.strides:
            self.hop *= stride

    @property
    def spec(self) -> CodecSpec:
        """Geometry and identity of the tokens."""
        return CodecSpec(
            name=NAME,
            rate=self.config.sample_rate,
            hop=self.hop,
            codebooks=self.config.n_q,
            entries=self.config.codebook_size,
            digest=digest_weights({**self.encoder.state_dict(), "codebooks": self.codebooks}),
        )

    @torch.inference_mode()
    def encode(self, samples: Tensor, merge: int = 1) -> Tensor:
        """Return codes (B, ceil(samples / hop), Q) of samples (B, N); see `codec.quantizer` for `merge`."""
        latents = self.encoder(samples[:, None]).transpose(1, 2)  # (B, T, D)
        return encode_residual(latents, self.codebooks, self._nearest, (merge,))

    def _nearest(self, x: Tensor, level: int) -> Tensor:
        # the published formula: its rounding decides between entries that are equally near
        entries = self.codebooks[level].t()
        flat = x.reshape(-1, x.shape[-1])
        distances = flat.square().sum(1, keepdim=True) - 2 * flat @ entries + entries.square().sum(0, keepdim=True)
        return distances.argmin(-1).view(x.shape[:-1])

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Return samples (B, T * hop) of codes (B, T, q); q < Q decodes with the first q codebooks."""
        if not codes.shape[1]:
            return self.codebooks.new_zeros(len(codes), 0)
        return self.decoder(self.latents(codes))[:, 0]

    def latents(self, codes: Tensor) -> Tensor:
        """Return what the decoder reads, (B, D, T), for codes (B, T, q)."""
        levels = torch.arange(codes.shape[-1], device=self.codebooks.device)
        return self.codebooks[levels, codes.to(self.codebooks.device)].sum(-2).transpose(1, 2)

    def stream(self) -> DecoderStream:
        """Return a streaming decoder whose joined output equals `decode`."""
        return SpeechTokenizerStream(self)

    @classmethod
    def load(cls, folder: str | Path) -> SpeechTokenizerCodec:
        """Read a folder in the published layout; `ModelError` if a file is missing, damaged or of another kind."""
        folder = Path(folder)
        config = SpeechTokenizerConfig.read(folder / FILES[0])
        published = read_published("SpeechTokenizer", folder, FILES)
        return fill_network(lambda: cls(config), _rename(published, config.n_q), folder)


def _rename(weights: dict[str, Tensor], codebooks: int) -> dict[str, Tensor]:
    """Return the weights by the names here: plain layers, weight normalisation computed, codebooks in one table."""
    named: dict[str, Tensor] = {}
    for name, value in weights.items():
        if not name.startswith(("encoder.", "decoder.")):
            continue  # codebooks, their averages of training, and the layer that was compared with another model
        ours = re.sub(r"\.(conv\.conv|convtr\.convtr)\.", ".", name.replace(".model.", ".", 1))
        if ours.endswith(".weight_g"):
            direction = weights.get(name[:-1] + "v", value)
            length = direction.float().norm(dim=tuple(range(1, direction.ndim)), keepdim=True)
            named[ours.removesuffix("_g")] = direction.float() * (value.float() / length)
        elif not ours.endswith(".weight_v"):
            named[ours] = value
    books = [weights[name].float() for level in range(codebooks) if (name := CODEBOOK.format(level)) in weights]
    return named | ({"codebooks": torch.stack(books)} if books else {})


class Window:
    """A function of frames (B, C, T) -> (B, `channels`, T * `scale`) that sees `side` frames back and ahead, block by
    block."""

    def __init__(self, function: Callable[[Tensor], Tensor], side: int, channels: int, scale: int) -> None:
        self.function, self.side, self.channels, self.scale = function, side, channels, scale
        self._held: Tensor | None = None  # from `side` frames before the first that is not finished, or from the start
        self._done = 0  # of them

    def push(self, x: Tensor, last: bool) -> Tensor:
        """Take frames and return the outputs that are final."""
        held = x if self._held is None else torch.cat([self._held, x], dim=-1)
        ready = held.shape[-1] if last else max(self._done, held.shape[-1] - self.side)
        out = x.new_zeros(len(x), self.channels, 0)
        if ready > self._done:
            out = self.function(held)[..., self._done * self.scale : ready * self.scale]
        dropped = max(0, ready - self.side)
        self._held, self._done = held[..., dropped:], ready - dropped
        return out


class SpeechTokenizerStream:
    """Protocol: `codec.base.DecoderStream`."""

    def __init__(self, codec: SpeechTokenizerCodec) -> None:
        self.codec = codec
        decoder: Any = codec.decoder
        self._first = Window(decoder[0], FRAME_SIDE, decoder[0].out_channels, 1)
        self._recurrent: Any = decoder[1]
        self._state: Any = None
        self._rest = Window(decoder[2:], SAMPLE_SIDE, 1, codec.hop)
        self._rows = 0

    @torch.inference_mode()
    def push(self, codes: Tensor) -> Tensor:
        """Take codes (B, t, Q); return the finished samples (B, n)."""
        self._rows = len(codes)
        return self._advance(self.codec.latents(codes), last=False)

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """Return the last samples (B, n)."""
        if not self._rows:
            return torch.zeros(1, 0)
        return self._advance(self.codec.codebooks.new_zeros(self._rows, self.codec.config.dimension, 0), last=True)

    def _advance(self, latents: Tensor, last: bool) -> Tensor:
        hidden = self._first.push(latents, last)
        if hidden.shape[-1]:
            hidden, self._state = self._recurrent.advance(hidden, self._state)
        return self._rest.push(hidden, last)[:, 0]
