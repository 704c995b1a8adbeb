"""Settings of the built-in codec and the identity of tokens: what all that compute a codec share. NumPy alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from openvalle.audio import hertz_to_mel, mel_filters
from openvalle.config import Config

LOOKAHEAD = 3  # frames of the future that the decoder sees: 40 ms
MEL_MEAN, MEL_SCALE = -3.0, 2.3  # brings log-mel of levelled speech to about zero mean, unit spread


MIDDLE = 150.0  # hertz: the pitch that an output of zero stands for
LOWEST, HIGHEST = 50.0, 600.0  # hertz, what a pulse train is made of
TOP = 11_000.0  # hertz: the highest harmonic


class BuiltinCodecConfig(Config):
    """Sizes of the built-in codec."""

    name: str = Field("builtin", description="name shown to people; tokens are identified by the digest")
    rate: int = Field(24_000, gt=0, le=384_000, description="hertz")
    hop: int = Field(320, gt=0, le=16_384, description="samples per frame")
    n_fft: int = Field(
        1280, gt=0, le=16_384, description="samples per analysis and synthesis window; a multiple of the hop"
    )
    mel_bins: int = Field(100, gt=0, le=1024, description="log-mel bins the encoder sees")
    mel_floor: float = Field(2e-3, gt=0, description="magnitude that counts as silence; hides the rounding of 16 bits")
    codebooks: int = Field(8, ge=1, le=32)
    entries: int = Field(1024, ge=2, le=65536)
    latent: int = Field(64, gt=0, le=16_384, description="dimensions of a codebook entry")
    encoder_width: int = Field(256, gt=0, le=16_384)
    encoder_depth: int = Field(5, ge=0, le=256)
    trunk_width: int = Field(
        256, gt=0, le=16_384, description="first part of the decoder, which also predicts the log-mel"
    )
    trunk_depth: int = Field(4, ge=0, le=256)
    decoder_width: int = Field(384, gt=0, le=16_384, description="second part of the decoder, before the inverse STFT")
    decoder_depth: int = Field(6, ge=0, le=256)
    expansion: int = Field(3, gt=0, le=64, description="feed-forward width over block width")
    kernel: int = Field(7, gt=0, le=255, description="frames of every depthwise convolution; odd")
    fine_depth: int = Field(
        0, ge=0, le=256, description="blocks behind a harmonic source at a finer rate; 0: the inverse STFT ends it all"
    )
    fine_width: int = Field(256, gt=0, le=16_384)
    fine_parts: int = Field(4, gt=0, le=64, description="steps of the fine blocks to a frame")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.n_fft % self.hop:
            raise ValueError("n_fft must be a multiple of hop")
        if self.kernel % 2 == 0:
            raise ValueError("kernel must be odd")
        if self.fine_depth and self.hop % self.fine_parts:
            raise ValueError("hop must be a multiple of fine_parts")
        return self


def unit_mel_filters(rate: int, n_fft: int, bins: int) -> np.ndarray:
    """Return (n_fft // 2 + 1, bins) float32 triangular filters, HTK mel scale from 0 to rate / 2, each of sum 1."""
    filters = mel_filters(rate, n_fft, bins)
    # A narrow low band may fall between two bins of the transform; give it its nearest one rather than silence.
    for band in np.flatnonzero(filters.sum(1) == 0):
        mel = float(hertz_to_mel(rate / 2)) * (band + 1) / (bins + 1)
        filters[band, round(700 * (10 ** (mel / 2595) - 1) / rate * n_fft)] = 1
    return (filters / filters.sum(1, keepdims=True)).T.astype(np.float32)


def digest_arrays(weights: Mapping[str, np.ndarray], settings: str = "") -> str:
    """Return the identity of tokens: a hash of what makes them, in half precision (16 hex digits)."""
    hasher = hashlib.sha256(settings.encode())
    for name, value in sorted(weights.items()):
        # The two names that weight normalisation goes by, in versions of torch and transformers.
        plain = name.replace("parametrizations.weight.original0", "weight_g")
        hasher.update(plain.replace("parametrizations.weight.original1", "weight_v").encode())
        hasher.update(np.ascontiguousarray(value, np.float16).tobytes())
    return hasher.hexdigest()[:16]
