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
from openvalle.data.batches import AudioCrops, Augmentation, fixed_crops
from openvalle.data.shards import AudioShards
from openvalle.model.batch import Movable
from openvalle.train.loop import LoopConfig

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
        return Crops(torch.from_numpy(self.source.batch(index)))

    def clips(self) -> Tensor:
        """Return fixed crops (B, N) of unseen speakers."""
        return torch.from_numpy(fixed_crops(self.valid, 4.0, 16))
