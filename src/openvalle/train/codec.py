"""Training the built-in codec in two stages.

`tokens`: log-mel -> codes -> log-mel, a small autoencoder; it fixes the meaning of the codes and costs little.
`sound`: codes -> samples, adversarial, with encoder and codebooks frozen, so tokens made before stay valid.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from openvalle.codec.builtin import BuiltinCodec, BuiltinCodecConfig, Decoder
from openvalle.codec.layers import LogMel
from openvalle.config import Config
from openvalle.data.crops import AudioCrops, Augmentation, fixed_crops
from openvalle.data.shards import AudioShards
from openvalle.train.discriminator import Discriminator, discriminator_loss, generator_losses
from openvalle.train.loop import LoopConfig, Losses, Validation, fit

log = logging.getLogger(__name__)


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


class CodecRecipe(Config):
    """`openvalle train codec`."""

    data: Path = Field(..., description="folder made by `openvalle prepare`")
    valid_split: str = Field("dev-clean", description="split of unseen speakers that validation uses")
    codec: BuiltinCodecConfig = BuiltinCodecConfig()
    tokens: TokensConfig
    sound: SoundConfig


@dataclass(frozen=True)
class Crops:
    """Samples (B, N)."""

    samples: Tensor

    def to(self, device: torch.device) -> Self:
        return type(self)(self.samples.to(device))


class _CodecTask:
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


class TokensTask(_CodecTask):
    """Stage one: the codes' meaning."""

    def __init__(self, recipe: CodecRecipe, codec: BuiltinCodec) -> None:
        super().__init__(recipe, codec, recipe.tokens.crops, recipe.tokens.loop.seed)
        self.networks: dict[str, nn.Module] = {"codec": codec}

    def losses(self, batch: Crops, step: int, rng: torch.Generator) -> Losses:
        config = self.recipe.tokens
        merge, levels = self.draw(config.quantize, rng)
        mel = self.codec.encoder.mel(batch.samples)
        quantized = self.codec.quantize(mel, merge, levels, rng)
        distance = mel_distance(self.codec.decoder.predict_mel(quantized.values), mel)
        loss = distance + config.commitment * quantized.commitment
        return Losses(
            {"codec": loss}, {"loss": loss.item(), "mel": distance.item(), "commitment": quantized.commitment.item()}
        )

    @torch.no_grad()
    def validate(self, averages: Mapping[str, nn.Module]) -> Validation:
        codec = averages["codec"]
        assert isinstance(codec, BuiltinCodec)
        samples = self.clips().to(codec.quantizer.codebooks.device)
        mel = codec.encoder.mel(samples)
        metrics = {}
        for levels in (1, 2, 4, self.codec.config.codebooks):
            codes = codec.quantizer.encode(codec.encoder(mel), self.recipe.tokens.quantize.merge, levels)
            predicted = codec.decoder.predict_mel(codec.quantizer.decode(codes))
            metrics[f"mel_{levels}_codebooks"] = F.l1_loss(predicted, mel).item()
        used = [codes[..., q].unique().numel() / codec.config.entries for q in range(codes.shape[-1])]
        return Validation({**metrics, "least_used_codebook": min(used)})


class SoundTask(_CodecTask):
    """Stage two: codes to samples."""

    def __init__(self, recipe: CodecRecipe, codec: BuiltinCodec) -> None:
        super().__init__(recipe, codec, recipe.sound.crops, recipe.sound.loop.seed)
        codec.encoder.requires_grad_(False)
        codec.decoder.requires_grad_(True)
        codec.decoder.mel.requires_grad_(False)
        self.discriminator = Discriminator(channels=recipe.sound.channels)
        self.networks = {"decoder": codec.decoder, "discriminator": self.discriminator}
        self.mels = [
            LogMel(codec.config.rate, n_fft, n_fft // 4, bins) for n_fft, bins in ((2048, 120), (1024, 80), (512, 40))
        ]

    def losses(self, batch: Crops, step: int, rng: torch.Generator) -> Losses:
        config = self.recipe.sound
        fake = self.codec.decoder(self._latents(batch.samples, *self.draw(config.quantize, rng)))
        real, fake = batch.samples, fake[:, : batch.samples.shape[1]]  # the decoder fills whole frames
        distance = torch.stack([F.l1_loss(mel(fake), mel(real)) for mel in self.mels]).mean()
        if step < config.adversarial_from:
            return Losses({"decoder": config.mel * distance}, {"mel": distance.item()})
        real, fake = self._judged(real, fake, rng)
        with torch.no_grad():
            wanted = self.discriminator(real)
        self.discriminator.requires_grad_(False)
        adversarial, matching = generator_losses(wanted, self.discriminator(fake))
        self.discriminator.requires_grad_(True)
        loss = config.mel * distance + config.adversarial * adversarial + config.matching * matching
        both = self.discriminator(torch.cat([real, fake.detach()]))
        judged = [(score.chunk(2), [feature.chunk(2) for feature in features]) for score, features in both]
        verdict = discriminator_loss(
            [(s[0], [f[0] for f in fs]) for s, fs in judged], [(s[1], [f[1] for f in fs]) for s, fs in judged]
        )
        return Losses(
            {"decoder": loss, "discriminator": verdict},
            {
                "mel": distance.item(),
                "adversarial": adversarial.item(),
                "matching": matching.item(),
                "discriminator": verdict.item(),
            },
        )

    def _judged(self, real: Tensor, fake: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the same random stretch of both."""
        count = min(real.shape[1], round(self.recipe.sound.judged_seconds * self.codec.config.rate))
        start = int(torch.randint(real.shape[1] - count + 1, (), generator=rng))
        return real[:, start : start + count], fake[:, start : start + count]

    @torch.no_grad()
    def _latents(self, samples: Tensor, merge: int, levels: int) -> Tensor:
        for mel in self.mels:
            mel.to(samples.device)
        self.codec.to(samples.device)
        with torch.autocast(samples.device.type, enabled=False):  # the codes that inference will see
            codes = self.codec.quantizer.encode(self.codec.encoder(self.codec.encoder.mel(samples)), merge, levels)
            return self.codec.quantizer.decode(codes)

    @torch.no_grad()
    def validate(self, averages: Mapping[str, nn.Module]) -> Validation:
        decoder = averages["decoder"]
        assert isinstance(decoder, Decoder)
        samples = self.clips().to(next(decoder.parameters()).device)
        latents = self._latents(samples, self.recipe.sound.quantize.merge, self.codec.config.codebooks)
        made = decoder(latents)[:, : samples.shape[1]]
        distance = torch.stack([F.l1_loss(mel(made), mel(samples)) for mel in self.mels]).mean()
        rate = self.codec.config.rate
        sounds = {f"original_{i}": (samples[i].cpu().numpy(), rate) for i in range(min(2, len(samples)))}
        sounds |= {f"decoded_{i}": (made[i].cpu().numpy(), rate) for i in range(min(2, len(made)))}
        return Validation({"mel": distance.item()}, sounds)


def mel_distance(predicted: Tensor, target: Tensor) -> Tensor:
    """L1 of log-mels (B, T, bins) and of their steps in time, which keeps the decoder from blurring onsets."""
    steps = F.l1_loss(predicted.diff(dim=1), target.diff(dim=1))
    return F.l1_loss(predicted, target) + 0.5 * steps


def train_codec(recipe: CodecRecipe, out: Path) -> Path:
    """Run both stages (each resumes, a finished one is skipped) and return the folder of the saved codec."""
    codec = BuiltinCodec(recipe.codec)
    tokens = fit(TokensTask(recipe, codec), recipe.tokens.loop, out / "tokens")["codec"]
    assert isinstance(tokens, BuiltinCodec)
    # Tokens are made with the weights as they are stored (half precision), so the next stage starts from those.
    tokens.save(out / "tokens" / "codec")
    codec = BuiltinCodec.load(out / "tokens" / "codec")
    decoder = fit(SoundTask(recipe, codec), recipe.sound.loop, out / "sound")["decoder"]
    codec.decoder.load_state_dict(decoder.state_dict())  # the averaged weights
    codec.save(out / "codec")
    log.info("the codec is in %s", out / "codec")
    return out / "codec"
