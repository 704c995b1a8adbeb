"""What the two stages of codec training share: the recipe, crops of training speakers, clips of unseen ones.

A batch of crops is a pure function of (seed, step, rank), as in `data.batches`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from openvalle.audio import RATE, Audio, change_gain, change_speed
from openvalle.codec.builtin import BuiltinCodec
from openvalle.codec.settings import BuiltinCodecConfig
from openvalle.config import Config
from openvalle.data.draws import draw_generator, row_weights
from openvalle.data.shards import AudioShards, TokenShards
from openvalle.errors import ModelError
from openvalle.model.batch import Movable
from openvalle.train.loop import LoopConfig


class Augmentation(Config):
    """How a crop is varied before it is used; zeros leave it as it is."""

    gain_db: float = Field(default=0.0, ge=0, le=40, description="level changed by up to this much either way")
    speed: float = Field(default=0.0, ge=0, lt=0.5, description="speed and pitch changed by up to this share")


# What may change while encoder, codebooks and the first part of the decoder stay.
SECOND_PART = frozenset({"decoder_width", "decoder_depth", "fine_depth", "fine_width", "fine_parts"})


class CropConfig(Config):
    """Audio crops of one batch."""

    seconds: float = Field(1.0, gt=0)
    batch: int = Field(16, gt=0, description="crops a batch, on each process")
    speaker_power: float = Field(0.5, ge=0, le=1, description="speakers are drawn by hours to this power")
    augmentation: Augmentation = Augmentation(gain_db=6.0, speed=0.1)


class QuantizeConfig(Config):
    """How codes are drawn while training."""

    merge: int = Field(2, ge=1, description="codebook-1 merging rate (VALL-E R 3.1) used in half of the batches")
    dropout: float = Field(0.5, ge=0, le=1, description="share of batches (of crops, for the sound) of fewer codebooks")
    smoothed: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of crops whose later codebooks are smoothed over time, as a model fills them",
    )


class TokensConfig(Config):
    """First stage."""

    loop: LoopConfig
    crops: CropConfig = CropConfig(seconds=2.0, batch=24)
    quantize: QuantizeConfig = QuantizeConfig()
    commitment: float = Field(0.25, ge=0, description="weight of the encoder's distance to its codes")


class SoundConfig(Config):
    """Second stage."""

    loop: LoopConfig
    crops: CropConfig = CropConfig(seconds=1.0, batch=12)
    quantize: QuantizeConfig = QuantizeConfig(dropout=0.2)
    mel: float = Field(15.0, description="weight of the distance of log-mels")
    linear: float = Field(2.5, description="weight of the distance of linear spectra")
    adversarial: float = Field(2.0, description="weight of the discriminators' verdict")
    matching: float = Field(6.0, description="weight of the distance of the discriminators' features")
    pitch: float = Field(4.0, description="weight of the predicted pitch and voicing, if the decoder has a source")
    pitch_from: int = Field(
        500,
        ge=0,
        description="steps in which the source is given the true pitch: the predicted one is to be learnt first",
    )
    pitch_given: float = Field(
        0.5,
        ge=0,
        le=1,
        description="share of crops whose source is given the true pitch after that, too; harmonics at their place "
        "are not blurred",
    )
    adversarial_from: int = Field(500, ge=0, description="steps with the spectral losses alone")
    judged_seconds: float = Field(
        0.4, gt=0, description="stretch of each crop that the discriminators, the dearest part of a step, see"
    )
    channels: int = Field(24, gt=0, description="channels of each discriminator of STFTs")
    periods: tuple[int, ...] = Field((2, 3, 5, 7, 11), description="samples that the other discriminators fold at")
    period_channels: int = Field(16, gt=0, description="channels of their first layer, a sixteenth of their last one's")
    predicted: Path | None = Field(
        None, description="codes made by `openvalle train predict`, for the decoder to render those well too"
    )
    predicted_share: float = Field(0.5, ge=0, le=1, description="share of batches that decode predicted codes")
    start: str | None = Field(
        None,
        description="codec (name or folder) whose decoder, behind the trunk, the stage starts from",
    )


class CodecRecipe(Config):
    """`openvalle train codec`."""

    data: Path = Field(..., description="folder made by `openvalle prepare`")
    valid_split: str = Field("dev-clean", description="split of unseen speakers that validation uses")
    codec: BuiltinCodecConfig = BuiltinCodecConfig()
    start: str | None = Field(
        None,
        description="codec (name or folder) that keeps its encoder and codebooks, so that tokens stay valid, and whose "
        "decoder is trained on: the second stage alone. `codec` may give the second part of its decoder another size",
    )
    tokens: TokensConfig | None = Field(None, description="the first stage, unless there is a `start`")
    sound: SoundConfig

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.start is None) == (self.tokens is None):
            raise ValueError("give either `tokens`, to train the first stage, or `start`, to keep a codec's tokens")
        others = self.codec.model_fields_set - SECOND_PART
        if self.start is not None and others:
            raise ValueError(f"with `start` the codec keeps what it starts from: leave out {', '.join(sorted(others))}")
        return self


@dataclass(frozen=True)
class Crops(Movable):
    """Samples (B, N) and, where they are not made from the samples, codes (B, T, Q)."""

    samples: Tensor
    codes: Tensor | None = None


class AudioCrops:
    """Random crops of recordings; rows drawn by speaker ∝ hours ** power."""

    def __init__(self, shards: AudioShards, config: CropConfig, seed: int, rank: int) -> None:
        self.shards, self.config, self.seed, self.rank = shards, config, seed, rank
        self.samples = round(config.seconds * RATE)
        # A long row has more crops to give, so rows count by length within their speaker.
        self._weights = row_weights(shards.speakers, shards.lengths, config.speaker_power, by_length=True)

    def batch(self, step: int) -> np.ndarray:
        """Return the crops of a step, (B, N) float32; a row shorter than N lies in zeros."""
        rng = draw_generator(self.seed, step, self.rank)
        rows = rng.choice(len(self.shards), self.config.batch, p=self._weights)
        return np.stack([self._crop(int(row), rng) for row in rows])

    def _crop(self, row: int, rng: np.random.Generator) -> np.ndarray:
        options = self.config.augmentation
        speed = 1 + options.speed * rng.uniform(-1, 1)
        wanted = round(self.samples * speed)
        spare = self.shards.rows[row]["samples"] - wanted
        crop = self.shards.crop(row, int(rng.integers(spare + 1)) if spare > 0 else 0, wanted)
        if options.speed:
            crop = change_speed(Audio(crop, RATE), speed).samples[: self.samples]
        placed = np.zeros(self.samples, np.float32)
        start = int(rng.integers(self.samples - len(crop) + 1))
        placed[start : start + len(crop)] = crop
        return change_gain(placed, options.gain_db * rng.uniform(-1, 1))


class CodedCrops:
    """Random crops of recordings with codes that go with them: (B, N) float32 samples and (B, T, Q) codes."""

    def __init__(self, audio: AudioShards, tokens: TokenShards, config: CropConfig, seed: int, rank: int) -> None:
        self.audio, self.tokens, self.size, self.seed, self.rank = audio, tokens, config.batch, seed, rank
        self.hop = tokens.codec.hop
        self.frames = round(config.seconds * RATE) // self.hop
        sounds = {row["id"]: index for index, row in enumerate(audio.rows)}
        self.rows = [
            (sounds[row["id"]], index)
            for index, row in enumerate(tokens.index)
            if row["id"] in sounds and row["frames"] >= self.frames
        ]
        if not self.rows:
            raise ModelError(f"{tokens.folder} holds no codes of these recordings", "predict codes of this data")

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the crops of a step."""
        rng = draw_generator(self.seed, step, self.rank)
        samples, codes = [], []
        for choice in rng.integers(len(self.rows), size=self.size):
            sound, row = self.rows[choice]
            start = int(rng.integers(int(self.tokens.frames[row]) - self.frames + 1))
            codes.append(self.tokens[row].codes[start : start + self.frames])
            samples.append(self.audio.crop(sound, start * self.hop, self.frames * self.hop))
        return np.stack(samples), np.stack(codes)


def cut_fixed_crops(shards: AudioShards, seconds: float, count: int) -> np.ndarray:
    """Return up to `count` crops for validation, (B, N) float32: the middles of rows spread evenly over the shards."""
    samples = round(seconds * RATE)
    rows = np.linspace(0, len(shards) - 1, min(count, len(shards))).round().astype(int)
    crops = np.zeros((len(rows), samples), np.float32)
    for piece, row in zip(crops, rows, strict=True):
        start = max(0, (shards.rows[row]["samples"] - samples) // 2)
        found = shards.crop(int(row), start, samples)
        piece[: len(found)] = found
    return crops


class CodecTask:
    """What both stages share: crops of the training speakers, clips of unseen ones."""

    def __init__(self, recipe: CodecRecipe, codec: BuiltinCodec, crops: CropConfig, seed: int) -> None:
        self.recipe, self.codec, self.crops, self.seed = recipe, codec, crops, seed
        self.train = AudioShards.open(recipe.data, "train")
        self.valid = AudioShards.open(recipe.data, recipe.valid_split)
        self.source: AudioCrops | None = None  # made with the first batch, when the rank is known

    def batch(self, index: int, rank: int, world: int) -> Crops:
        self.source = self.source or AudioCrops(self.train, self.crops, self.seed, rank)
        return Crops(torch.from_numpy(self.source.batch(index)))

    def clips(self) -> Tensor:
        """Return fixed crops (B, N) of unseen speakers."""
        return torch.from_numpy(cut_fixed_crops(self.valid, 4.0, 16))
