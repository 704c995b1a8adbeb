"""What the two stages of codec training share: the recipe, crops of training speakers, clips of unseen ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from openvalle.codec.builtin import BuiltinCodec, BuiltinCodecConfig
from openvalle.config import Config
from openvalle.data.crops import AudioCrops, Augmentation, fixed_crops
from openvalle.data.shards import AudioShards
from openvalle.train.loop import LoopConfig


class CropConfig(Config):
    """Audio crops of one batch."""

    seconds: float = Field(1.0, gt=0)
    batch: int = Field(16, gt=0, description="crops a batch, on each process")
    speaker_power: float = Field(0.5, ge=0, le=1, description="speakers are drawn by hours to this power")
    augmentation: Augmentation = Augmentation(gain_db=6.0, speed=0.1)


class QuantizeConfig(Config):
    """How codes are drawn while training."""

    merge: int = Field(2, ge=1, description="codebook-1 merging rate (VALL-E R 3.1) used in half of the batches")
    dropout: float = Field(0.5, ge=0, le=1, description="share of batches decoded from fewer codebooks")


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
    mel: float = Field(15.0, description="weight of the multi-resolution log-mel distance")
    adversarial: float = Field(1.0, description="weight of the discriminator's verdict")
    matching: float = Field(2.0, description="weight of the distance of the discriminator's features")
    adversarial_from: int = Field(500, ge=0, description="steps with the spectral loss alone")
    judged_seconds: float = Field(
        0.4, gt=0, description="stretch of each crop that the discriminator, the dearest part of a step, sees"
    )
    channels: int = Field(16, description="channels of each discriminator")
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
        "decoder is trained on: the second stage alone",
    )
    tokens: TokensConfig | None = Field(None, description="the first stage, unless there is a `start`")
    sound: SoundConfig

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.start is None) == (self.tokens is None):
            raise ValueError("give either `tokens`, to train the first stage, or `start`, to keep a codec's tokens")
        if self.start is not None and self.codec != BuiltinCodecConfig():
            raise ValueError("with `start` the codec has the sizes of the one it starts from: leave out `codec`")
        return self


@dataclass(frozen=True)
class Crops:
    """Samples (B, N) and, where they are not made from the samples, codes (B, T, Q)."""

    samples: Tensor
    codes: Tensor | None = None

    def to(self, device: torch.device) -> Self:
        return type(self)(self.samples.to(device), None if self.codes is None else self.codes.to(device))


class CodecTask:
    """What both stages share: crops of the training speakers, clips of unseen ones."""

    def __init__(self, recipe: CodecRecipe, codec: BuiltinCodec, crops: CropConfig, seed: int) -> None:
        self.recipe, self.codec, self.crops, self.seed = recipe, codec, crops, seed
        self.train = AudioShards.open(recipe.data, "train")
        self.valid = AudioShards.open(recipe.data, recipe.valid_split)
        self.source: AudioCrops | None = None  # made with the first batch, when the rank is known

    def batch(self, index: int, rank: int, world: int) -> Crops:
        if self.source is None:
            c = self.crops
            self.source = AudioCrops(
                self.train,
                c.seconds,
                c.batch,
                self.seed,
                rank,
                world,
                speaker_power=c.speaker_power,
                augmentation=c.augmentation,
            )
        return Crops(self.source.batch(index))

    def draw(self, config: QuantizeConfig, rng: torch.Generator) -> tuple[int, int]:
        """Return the merging rate and the number of codebooks of this batch."""
        full = self.codec.config.codebooks
        merge = config.merge if torch.rand((), generator=rng) < 0.5 else 1
        fewer = torch.rand((), generator=rng) < config.dropout
        return merge, int(torch.randint(1, full + 1, (), generator=rng)) if fewer else full

    def clips(self) -> Tensor:
        """Return fixed crops (B, N) of unseen speakers."""
        return fixed_crops(self.valid, 4.0, 16)
