"""The built-in codec: log-mel -> ConvNeXt encoder -> residual VQ -> causal ConvNeXt decoder -> inverse STFT.

24 kHz mono, 75 frames/s, 8 codebooks of 1024: EnCodec's geometry. The encoder looks at both sides; the decoder is
causal but for a fixed look-ahead of `LOOKAHEAD` frames, so streaming it is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from openvalle.codec.base import digest_weights, fill_network
from openvalle.codec.layers import Backbone, FineEnd, FineState, InverseSTFT, LogMel
from openvalle.codec.quantizer import ResidualQuantizer
from openvalle.codec.settings import LOOKAHEAD, MEL_MEAN, MEL_SCALE, BuiltinCodecConfig
from openvalle.errors import ModelError
from openvalle.files import atomic_path
from openvalle.types import CodecSpec


class SoundEncoder(nn.Module):
    """(B, samples) -> latents (B, T, latent)."""

    def __init__(self, config: BuiltinCodecConfig) -> None:
        super().__init__()
        width = config.encoder_width
        self.mel = LogMel(config.rate, config.n_fft, config.hop, config.mel_bins, config.mel_floor)
        self.enter = nn.Conv1d(config.mel_bins, width, config.kernel, padding=config.kernel // 2)
        self.body = Backbone(width, width * config.expansion, config.encoder_depth, config.kernel, causal=False)
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, config.latent)

    def forward(self, mel: Tensor) -> Tensor:
        """Encode a log-mel (B, T, bins)."""
        scaled = (mel - MEL_MEAN) / MEL_SCALE
        return self.leave(self.norm(self.body(self.enter(scaled.transpose(1, 2)).transpose(1, 2))))


@dataclass
class DecoderState:
    """What the decoder carries from block to block: the left context of all that looks back."""

    trunk: list[Tensor]
    body: list[Tensor]
    fine: FineState | None
    tail: Tensor | None = None  # (B, n_fft - hop) samples to which windows to come are added


class SoundDecoder(nn.Module):
    """Latents (B, T, latent) -> samples (B, T * hop)."""

    def __init__(self, config: BuiltinCodecConfig) -> None:
        super().__init__()
        self.latent = config.latent
        trunk, width = config.trunk_width, config.decoder_width
        self.enter = nn.Conv1d(config.latent, trunk, 2 * LOOKAHEAD + 1)
        self.trunk = Backbone(trunk, trunk * config.expansion, config.trunk_depth, config.kernel, causal=True)
        self.mel = nn.Sequential(nn.LayerNorm(trunk), nn.Linear(trunk, config.mel_bins))
        self.widen = nn.Linear(trunk, width)
        self.body = Backbone(width, width * config.expansion, config.decoder_depth, config.kernel, causal=True)
        self.norm = nn.LayerNorm(width)
        self.fine: FineEnd | None = None
        if config.fine_depth:
            self.fine = FineEnd(
                trunk, width, config.rate, config.hop, config.fine_parts, config.fine_width, config.fine_depth,
                config.expansion, config.kernel,
            )  # fmt: skip
        else:
            self.head = InverseSTFT(width, config.n_fft, config.hop)

    def predict_mel(self, latents: Tensor) -> Tensor:
        """Return the log-mel (B, T, bins) that the trunk reads from the latents; the first training stage's target."""
        return self.mel(self.run_trunk(self.pad(latents))) * MEL_SCALE + MEL_MEAN

    def forward(self, latents: Tensor) -> Tensor:
        return self.synthesize(latents)[0]

    def synthesize(
        self, latents: Tensor, given: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Return samples (B, T * hop), and pitch and voicing (B, T) where there is a harmonic source (see `FineEnd`,
        also for `given`)."""
        state = self.empty_state(len(latents))
        samples, pitch = self.advance(self.pad(latents), state, given)
        assert state.tail is not None
        count = samples.shape[1]
        return torch.cat([samples, state.tail], dim=1)[:, self.delay :][:, :count], pitch

    def advance(
        self,
        padded: Tensor,
        state: DecoderState,
        given: tuple[Tensor, Tensor] | None = None,
        spare: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Return the samples (B, T * hop) that T frames finish, and their pitch; `padded` holds (B, T + 2 * LOOKAHEAD)
        latents. Updates `state`. `spare` (): how many of the frames, at the end, only fill a block up."""
        hidden = self.run_trunk(padded, state.trunk, spare)
        x = self.norm(self.body(self.widen(hidden), state.body, spare))
        if self.fine is None:
            frames, pitch = self.head(x), None
        else:
            assert state.fine is not None
            frames, pitch = self.fine(hidden, x, state.fine, given, spare)
        in_windows = None if spare is None else spare * (frames.shape[1] // hidden.shape[1])
        samples, state.tail = self.inverse_stft.overlap_add(frames, state.tail, in_windows)
        return samples, pitch

    def run_trunk(self, padded: Tensor, contexts: list[Tensor] | None = None, spare: Tensor | None = None) -> Tensor:
        """Return what the trunk makes (B, T, trunk) of latents with `LOOKAHEAD` more on both sides."""
        return self.trunk(self.enter(padded.transpose(1, 2)).transpose(1, 2), contexts, spare)

    def pad(self, latents: Tensor) -> Tensor:
        """Return latents with silence before and after."""
        return F.pad(latents, (0, 0, LOOKAHEAD, LOOKAHEAD))

    def empty_state(self, rows: int) -> DecoderState:
        """Return the state of a stream that has seen nothing."""
        fine = None if self.fine is None else self.fine.empty_state(rows)
        return DecoderState(self.trunk.empty_contexts(rows), self.body.empty_contexts(rows), fine)

    @property
    def inverse_stft(self) -> InverseSTFT:
        """The last layer."""
        return self.head if self.fine is None else self.fine.head

    @property
    def delay(self) -> int:
        """Samples that the first synthesis window reaches before the first frame."""
        return (self.inverse_stft.n_fft - self.inverse_stft.hop) // 2


class StreamDecoder(Protocol):
    """What makes samples of latents block by block: the decoder, or what computes the same in another way."""

    @property
    def latent(self) -> int:
        """Numbers of a frame's latent."""

    @property
    def delay(self) -> int:
        """As `SoundDecoder.delay`."""

    def empty_state(self, rows: int) -> Any:
        """Return the state of a stream that has seen nothing; its `tail` is as `DecoderState.tail`."""

    def advance(self, padded: Tensor, state: Any) -> tuple[Tensor, Any]:
        """As `SoundDecoder.advance`."""


class BuiltinStream:
    """Streaming decoder: every convolution's left context and the overlap-add tail are carried along."""

    def __init__(self, codec: BuiltinCodec, decoder: StreamDecoder | None = None) -> None:
        """`decoder`: in place of the codec's own."""
        self.codec = codec
        self._decoder: StreamDecoder = codec.decoder if decoder is None else decoder
        self._latents: Tensor | None = None  # (B, <= 2 * LOOKAHEAD, latent) inputs that the next frame needs

    @torch.inference_mode()
    def push(self, codes: Tensor) -> Tensor:
        """Take codes (B, t, Q); return the finished samples (B, n)."""
        decoder = self._decoder
        latents = self.codec.quantizer.decode(codes)
        if self._latents is None:
            rows = len(codes)
            self._latents = latents.new_zeros(rows, LOOKAHEAD, decoder.latent)
            self._state = decoder.empty_state(rows)
            self._skip = decoder.delay
        self._latents = torch.cat([self._latents, latents], dim=1)
        return self._advance()

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """Return the last samples (B, n)."""
        if self._latents is None:
            return torch.zeros(1, 0)
        self._latents = F.pad(self._latents, (0, 0, 0, LOOKAHEAD))
        last = self._advance()
        tail = self._state.tail if self._state.tail is not None else last
        # The whole decode keeps T * hop samples from `delay` on: the tail gives the `delay` that are still owed.
        return torch.cat([last, tail], dim=1)[:, self._skip : last.shape[1] + self._decoder.delay]

    def _advance(self) -> Tensor:
        assert self._latents is not None
        ready = self._latents.shape[1] - 2 * LOOKAHEAD
        if ready <= 0:
            return self._latents.new_zeros(len(self._latents), 0)
        samples, _ = self._decoder.advance(self._latents, self._state)
        self._latents = self._latents[:, ready:]
        skip = min(self._skip, samples.shape[1])
        self._skip -= skip
        return samples[:, skip:]


class BuiltinCodec(nn.Module):
    """The codec that ships in the package. See the module's docstring; protocol: `codec.base.Codec`."""

    def __init__(self, config: BuiltinCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = SoundEncoder(config)
        self.quantizer = ResidualQuantizer(config.latent, config.codebooks, config.entries)
        self.decoder = SoundDecoder(config)

    @property
    def spec(self) -> CodecSpec:
        c = self.config
        return CodecSpec(
            name=c.name, rate=c.rate, hop=c.hop, codebooks=c.codebooks, entries=c.entries, digest=self.digest()
        )

    @property
    def codebooks(self) -> Tensor:
        """The entries' vectors, (Q, V, latent)."""
        return self.quantizer.codebooks

    def digest(self) -> str:
        """Return the identity of the tokens: a hash of what makes them, encoder and codebooks (16 hex digits)."""
        weights = {**self.encoder.state_dict(), "codebooks": self.quantizer.codebooks}
        return digest_weights(weights, repr(self.config.mel_floor))

    @torch.inference_mode()
    def encode(self, samples: Tensor, merge: int = 1) -> Tensor:
        """Return codes (B, ceil(samples / hop), Q) of samples (B, N)."""
        return self.quantizer.encode(self.encoder(self.encoder.mel(samples)), merge)

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """Return samples (B, T * hop) of codes (B, T, q); q < Q decodes with the first q codebooks."""
        return self.decoder(self.quantizer.decode(codes))

    def stream(self) -> BuiltinStream:
        """Return a streaming decoder whose joined output equals `decode`."""
        return BuiltinStream(self)

    def save(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors (half precision), each atomically."""
        folder = Path(folder)
        weights = {
            name: value.half().contiguous()
            for name, value in self.state_dict().items()
            if name not in ("quantizer.sums", "quantizer.counts")
        }
        with atomic_path(folder / "model.safetensors") as part:
            save_file(weights, part, metadata={"digest": self.digest()})
        self.config.save(folder / "config.json")

    @classmethod
    def load(cls, folder: str | Path) -> BuiltinCodec:
        """Read a saved codec; `ModelError` if a file is missing, truncated or does not fit."""
        folder = Path(folder)
        if not (folder / "config.json").is_file() or not (folder / "model.safetensors").is_file():
            raise ModelError(f"no codec in {folder}", "it needs config.json and model.safetensors")
        config = BuiltinCodecConfig.load(folder / "config.json")
        try:
            weights = load_file(folder / "model.safetensors")
        except (SafetensorError, OSError) as error:
            what = str(error).strip().splitlines()[0][:120]
            raise ModelError(f"{folder / 'model.safetensors'} is damaged ({what})", "install it again") from None
        learning = {"quantizer.sums", "quantizer.counts"}
        return fill_network(lambda: cls(config), weights, folder / "model.safetensors", learning)
