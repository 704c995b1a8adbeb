"""EnCodec at 24 kHz (arXiv:2210.13438) by transformers, decoded by its own decoder or by a Vocos head.

1.5, 3, 6, 12 or 24 kbps are 2, 4, 8, 16 or 32 codebooks of 1024 entries at 75 frames/s. transformers keeps codes as
(frames, B, Q, T); they are turned here and seen nowhere else.

Streaming is exact: convolutions carry their last inputs, the LSTM its state. The decoder is causal, so only the start
is late: EnCodec pads the beginning with its own reflection, for which the first convolution must have seen seven
frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvalle.codec.base import DecoderStream, digest_weights
from openvalle.codec.quantizer import encode_residual
from openvalle.codec.vocos import Vocos, VocosStream
from openvalle.errors import ConfigError, ModelError, import_extra
from openvalle.types import CodecSpec

if TYPE_CHECKING:
    from transformers import EncodecModel


HUB = "hf://facebook/encodec_24khz"
FILES = ("config.json", "model.safetensors")
BANDWIDTH = 6.0  # kbps: the eight codebooks of the VALL-E family


class EncodecCodec(nn.Module):
    """EnCodec with the codebooks of one bandwidth. Protocol: `codec.base.Codec`."""

    def __init__(self, model: EncodecModel, bandwidth: float = BANDWIDTH, head: Vocos | None = None) -> None:
        super().__init__()
        config = model.config
        _check(config, bandwidth)
        self.bandwidth, self.rate, self.hop = bandwidth, config.sampling_rate, config.hop_length
        levels = model.quantizer.get_num_quantizers_for_bandwidth(bandwidth)
        layers: Any = model.quantizer.layers[:levels]
        self.quantizer: Any = layers
        self.codebooks: Tensor
        self.register_buffer("codebooks", torch.stack([layer.codebook.embed for layer in layers]))
        self.encoder, self.decoder, self.head = model.encoder, model.decoder, head
        if head is not None:
            head.check(config.hidden_size, self.hop, levels, bandwidth)
        self.spec = CodecSpec(
            name=f"encodec?bandwidth={bandwidth:g}",
            rate=self.rate,
            hop=self.hop,
            codebooks=levels,
            entries=config.codebook_size,
            digest=digest_weights({**model.encoder.state_dict(), "codebooks": self.codebooks}),
        )
        _fold_weight_norm(self)
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def encode(self, samples: Tensor, merge: int = 1) -> Tensor:
        """Return codes (B, ceil(samples / hop), Q) of samples (B, N); see `codec.quantizer` for `merge`."""
        latents = self.encoder(samples[:, None]).transpose(1, 2)  # (B, T, D)
        return encode_residual(latents, self.codebooks, self._nearest, (merge,))

    def _nearest(self, x: Tensor, level: int) -> Tensor:
        # transformers' own search: its rounding decides between entries that are equally near
        return self.quantizer[level].codebook.encode(x)

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Return samples (B, T * hop) of codes (B, T, q); q < Q decodes with the first q codebooks."""
        if self.head is not None:
            return self.head(codes, self.bandwidth)
        return self.decoder(self.latents(codes))[:, 0]

    def latents(self, codes: Tensor) -> Tensor:
        """Return what EnCodec's decoder reads, (B, D, T), for codes (B, T, q)."""
        levels = torch.arange(codes.shape[-1], device=self.codebooks.device)
        return self.codebooks[levels, codes.to(self.codebooks.device)].sum(-2).transpose(1, 2)

    def stream(self) -> DecoderStream:
        """Return a streaming decoder whose joined output equals `decode`."""
        if self.head is not None:
            return VocosStream(self.head, self.bandwidth)
        return EncodecStream(self.decoder, self.latents)

    @classmethod
    def load(cls, folder: str | Path, bandwidth: float = BANDWIDTH, vocos: str | Path | None = None) -> EncodecCodec:
        """Read a folder as transformers writes it, and a Vocos head from another.

        `ModelError` if a file is missing or damaged, `ConfigError` for a bandwidth that the model does not have.
        """
        model = _load_model(Path(folder))
        head = None if vocos is None else Vocos.load(vocos, model.config.codebook_size)
        return cls(model, bandwidth, head)


def need_transformers() -> None:
    """Raise `MissingExtra` if EnCodec's code is not installed."""
    import_extra("transformers", "transformers", "encodec")


def _load_model(folder: Path) -> EncodecModel:
    need_transformers()
    from safetensors import SafetensorError
    from transformers import EncodecModel
    from transformers.utils import logging as their_logging

    has_bar = their_logging.is_progress_bar_enabled()
    their_logging.disable_progress_bar()
    try:
        loaded: Any = EncodecModel.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"cannot read EnCodec in {folder} ({' '.join(str(error).split())[:160]})", f"it needs {' and '.join(FILES)}"
        ) from None
    finally:
        if has_bar:
            their_logging.enable_progress_bar()
    model, report = loaded
    if report["missing_keys"]:
        raise ModelError(f"{folder} has no weight {min(report['missing_keys'])}", "download it again")
    return model.float()


def _check(config: Any, bandwidth: float) -> None:
    """Raise `ModelError` unless it is EnCodec as at 24 kHz, `ConfigError` for an unknown bandwidth."""
    wanted: dict[str, Any] = {"audio_channels": 1, "normalize": False, "chunk_length_s": None, "use_causal_conv": True}
    wanted |= {"norm_type": "weight_norm", "trim_right_ratio": 1.0}
    for name, value in wanted.items():
        if getattr(config, name) != value:
            raise ModelError(f"this EnCodec has {name} {getattr(config, name)!r}, not {value!r}", f"use {HUB}")
    if bandwidth not in config.target_bandwidths:
        there = ", ".join(f"{one:g}" for one in config.target_bandwidths)
        raise ConfigError(f"EnCodec has no bandwidth of {bandwidth:g} kbps", f"use one of {there}")


def _fold_weight_norm(module: nn.Module) -> None:
    """Compute normalised weights once instead of in each pass."""
    from torch.nn.utils import parametrize

    for part in module.modules():
        if parametrize.is_parametrized(part, "weight"):
            parametrize.remove_parametrizations(part, "weight", leave_parametrized=True)


class EncodecStream:
    """Protocol: `codec.base.DecoderStream`. `latents` turns codes (B, t, Q) into the decoder's input (B, D, t)."""

    def __init__(self, decoder: nn.Module, latents: Callable[[Tensor], Tensor]) -> None:
        self.decoder: Any = decoder
        self.latents = latents
        self._first = first_frames(decoder)
        self._waiting: Tensor | None = None  # (B, D, < first) until the start has been decoded
        self._states: dict[nn.Module, Any] = {}

    @torch.inference_mode()
    def push(self, codes: Tensor) -> Tensor:
        """Take codes (B, t, Q); return the finished samples (B, n)."""
        x = self.latents(codes)
        if not self._states:
            x = x if self._waiting is None else torch.cat([self._waiting, x], dim=-1)
            self._waiting = x
            if x.shape[-1] < self._first:
                return x.new_zeros(len(x), 0)
        if not x.shape[-1]:
            return x.new_zeros(len(x), 0)
        for layer in self.decoder.layers:
            x = self._advance(layer, x)
        return x[:, 0]

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """Return the last samples (B, n): none, unless the whole was shorter than the start that is waited for."""
        if self._waiting is None:
            return torch.zeros(1, 0)
        if self._states or not self._waiting.shape[-1]:
            return self._waiting.new_zeros(len(self._waiting), 0)
        return self.decoder(self._waiting)[:, 0]

    def _advance(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Return what one layer makes of its next inputs (B, C, t)."""
        from transformers.models.encodec import modeling_encodec as encodec

        if isinstance(layer, encodec.EncodecConv1d):
            return self._convolve(layer, x)
        if isinstance(layer, encodec.EncodecConvTranspose1d):
            return self._upsample(layer, x)
        if isinstance(layer, encodec.EncodecLSTM):
            y, self._states[layer] = layer.lstm(x.permute(2, 0, 1), self._states.get(layer))
            return y.permute(1, 2, 0) + x
        if isinstance(layer, encodec.EncodecResnetBlock):
            y = x
            for inner in layer.block:
                y = self._advance(inner, y)
            return self._advance(layer.shortcut, x) + y
        return layer(x)

    def _convolve(self, layer: Any, x: Tensor) -> Tensor:
        context = _context(layer.conv)
        if not context:
            return layer.conv(x)
        before = self._states.get(layer)
        x = F.pad(x, (context, 0), mode=layer.pad_mode) if before is None else torch.cat([before, x], dim=-1)
        self._states[layer] = x[..., -context:]
        return layer.conv(x)

    def _upsample(self, layer: Any, x: Tensor) -> Tensor:
        # A kernel of two strides: each output is made of one input and the one before it.
        stride, new = layer.conv.stride[0], x.shape[-1]
        before = self._states.get(layer)
        self._states[layer] = x[..., -1:]
        joined = x if before is None else torch.cat([before, x], dim=-1)
        skipped = (joined.shape[-1] - new) * stride
        return layer.conv(joined)[..., skipped : skipped + new * stride]


def first_frames(decoder: nn.Module) -> int:
    """Return how many frames the start needs, so that each convolution can reflect its first inputs."""
    frames, scale = 1, 1  # scale: samples of a layer's input per frame
    for layer in decoder.modules():
        if isinstance(layer, nn.ConvTranspose1d):
            assert layer.kernel_size[0] == 2 * layer.stride[0], (layer.kernel_size, layer.stride)
            scale *= layer.stride[0]
        elif isinstance(layer, nn.Conv1d):
            assert layer.stride[0] == 1, layer.stride
            frames = max(frames, math.ceil((_context(layer) + 1) / scale))
    return frames


def _context(conv: nn.Conv1d) -> int:
    return (conv.kernel_size[0] - 1) * conv.dilation[0]
