"""Training the built-in codec in two stages.

`tokens`: log-mel -> codes -> log-mel, a small autoencoder; it fixes the meaning of the codes and costs little.
`sound`: codes -> samples, adversarial, with encoder and codebooks frozen, so tokens made before stay valid.

What the two stages of codec training share: the recipe, crops of training speakers, clips of unseen ones.

The second stage of codec training: codes -> samples, adversarial, with encoder and codebooks frozen.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from openvalle.codec.builtin import BuiltinCodec, BuiltinCodecConfig, Decoder
from openvalle.codec.layers import LogMel
from openvalle.codec.load import load_codec
from openvalle.config import Config
from openvalle.data.batches import AudioCrops, Augmentation, CodedCrops, draw_generator, fixed_crops
from openvalle.data.shards import AudioShards, TokenShards
from openvalle.errors import ConfigError
from openvalle.train.discriminator import Discriminator, discriminator_loss, generator_losses
from openvalle.train.distributed import agreed, once
from openvalle.train.loop import LoopConfig, Losses, Validation, fit


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
        return Crops(torch.from_numpy(self.source.batch(index)))

    def draw(self, config: QuantizeConfig, rng: torch.Generator) -> tuple[int, int]:
        """Return the merging rate and the number of codebooks of this batch."""
        full = self.codec.config.codebooks
        merge = config.merge if torch.rand((), generator=rng) < 0.5 else 1
        fewer = torch.rand((), generator=rng) < config.dropout
        return merge, int(torch.randint(1, full + 1, (), generator=rng)) if fewer else full

    def clips(self) -> Tensor:
        """Return fixed crops (B, N) of unseen speakers."""
        return torch.from_numpy(fixed_crops(self.valid, 4.0, 16))


class SoundTask(CodecTask):
    """Stage two: codes to samples."""

    def __init__(self, recipe: CodecRecipe, codec: BuiltinCodec) -> None:
        super().__init__(recipe, codec, recipe.sound.crops, recipe.sound.loop.seed)
        codec.encoder.requires_grad_(False)
        codec.decoder.requires_grad_(True)
        codec.decoder.mel.requires_grad_(False)
        if recipe.sound.start:
            other = load_codec(recipe.sound.start)
            assert isinstance(other, BuiltinCodec)
            start_decoder(codec, other, self.clips())
        self.discriminator = Discriminator(channels=recipe.sound.channels)
        self.networks = {"decoder": codec.decoder, "discriminator": self.discriminator}
        self.predicted = TokenShards.open(recipe.sound.predicted) if recipe.sound.predicted else None
        if self.predicted is not None:
            self.predicted.require(codec=codec.digest())
        self.coded: CodedCrops | None = None
        self.mels = [
            LogMel(codec.config.rate, n_fft, n_fft // 4, bins, codec.config.mel_floor)
            for n_fft, bins in ((2048, 120), (1024, 80), (512, 40))
        ]

    def batch(self, index: int, rank: int, world: int) -> Crops:
        config = self.recipe.sound
        draws = draw_generator(config.loop.seed + 1, index, 0)  # all ranks do the same
        if self.predicted is None or draws.random() >= config.predicted_share:
            return super().batch(index, rank, world)
        if self.coded is None:
            c = config.crops
            self.coded = CodedCrops(self.train, self.predicted, c.seconds, c.batch, config.loop.seed, rank, world)
        return Crops(*map(torch.from_numpy, self.coded.batch(index)))

    def losses(self, batch: Crops, step: int, rng: torch.Generator) -> Losses:
        config = self.recipe.sound
        if batch.codes is None:
            latents = self._latents(batch.samples, *self.draw(config.quantize, rng))
        else:
            latents = self.codec.quantizer.decode(batch.codes)
        fake = self.codec.decoder(latents)
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


@torch.no_grad()
def start_decoder(codec: BuiltinCodec, other: BuiltinCodec, samples: Tensor) -> None:
    """Give `codec` the other codec's decoder behind the trunk.

    The two trunks speak different languages; the layer between is fitted, by least squares on samples (B, N), so that
    the rest of the decoder hears from the new trunk what it heard from its own.
    """
    theirs, ours = other.decoder, codec.decoder
    if theirs.fine is not None or ours.fine is not None:  # whose pitch is read from the trunk itself
        raise ConfigError("`sound.start` does not go with a harmonic source", "leave it out")
    latents = [(c.decoder, c.quantizer.decode(c.encode(samples))) for c in (codec, other)]
    heard = [decoder.hidden(decoder.pad(each)).flatten(0, 1) for decoder, each in latents]
    inputs = torch.cat([heard[0], torch.ones(len(heard[0]), 1)], dim=1)  # (N, trunk + 1)
    fitted = torch.linalg.lstsq(inputs, theirs.widen(heard[1])).solution  # (trunk + 1, width)
    try:
        for name in ("body", "norm", "head"):
            getattr(ours, name).load_state_dict(getattr(theirs, name).state_dict())
    except RuntimeError:
        raise ConfigError("the codec to start from has other sizes", "leave out `sound.start`") from None
    ours.widen.weight.copy_(fitted[:-1].T)
    ours.widen.bias.copy_(fitted[-1])


log = logging.getLogger(__name__)


class TokensTask(CodecTask):
    """Stage one: the codes' meaning."""

    def __init__(self, recipe: CodecRecipe, codec: BuiltinCodec) -> None:
        assert recipe.tokens is not None
        self.tokens = recipe.tokens
        super().__init__(recipe, codec, self.tokens.crops, self.tokens.loop.seed)
        self.networks: dict[str, nn.Module] = {"codec": codec}

    def losses(self, batch: Crops, step: int, rng: torch.Generator) -> Losses:
        config, rng = self.tokens, agreed(rng)  # all processes move the same codebooks
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
            codes = codec.quantizer.encode(codec.encoder(mel), self.tokens.quantize.merge, levels)
            predicted = codec.decoder.predict_mel(codec.quantizer.decode(codes))
            metrics[f"mel_{levels}_codebooks"] = F.l1_loss(predicted, mel).item()
        used = [codes[..., q].unique().numel() / codec.config.entries for q in range(codes.shape[-1])]
        return Validation({**metrics, "least_used_codebook": min(used)})


def mel_distance(predicted: Tensor, target: Tensor) -> Tensor:
    """L1 of log-mels (B, T, bins) and of their steps in time, which keeps the decoder from blurring onsets."""
    steps = F.l1_loss(predicted.diff(dim=1), target.diff(dim=1))
    return F.l1_loss(predicted, target) + 0.5 * steps


def train_codec(recipe: CodecRecipe, out: Path) -> Path:
    """Run both stages (each resumes, a finished one is skipped) and return the folder of the saved codec."""
    codec = _first_stage(recipe, out) if recipe.start is None else _started(recipe.start)
    decoder = fit(SoundTask(recipe, codec), recipe.sound.loop, out / "sound")["decoder"]
    codec.decoder.load_state_dict(decoder.state_dict())  # the averaged weights
    once(lambda: codec.save(out / "codec"))
    log.info("the codec is in %s", out / "codec")
    return out / "codec"


def _first_stage(recipe: CodecRecipe, out: Path) -> BuiltinCodec:
    """Return the codec after the stage `tokens`, as it is stored."""
    assert recipe.tokens is not None
    codec = BuiltinCodec(recipe.codec)
    tokens = fit(TokensTask(recipe, codec), recipe.tokens.loop, out / "tokens")["codec"]
    assert isinstance(tokens, BuiltinCodec)
    # Tokens are made with the weights as they are stored (half precision), so the next stage starts from those.
    once(lambda: tokens.save(out / "tokens" / "codec"))
    return BuiltinCodec.load(out / "tokens" / "codec")


def _started(place: str) -> BuiltinCodec:
    """Return the codec to start from."""
    codec = load_codec(place)
    if not isinstance(codec, BuiltinCodec):
        raise ConfigError(f"{place} is no codec of ours, and its decoder cannot be trained", "start from `builtin`")
    return codec
