"""The second stage of codec training: codes -> samples, adversarial, with encoder and codebooks frozen."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvalle.codec.builtin import BuiltinCodec, Decoder
from openvalle.codec.layers import LogMel
from openvalle.codec.load import load_codec
from openvalle.data.crops import CodedCrops
from openvalle.data.sampling import draw_generator
from openvalle.data.shards import TokenShards
from openvalle.errors import ConfigError
from openvalle.train.codec_recipe import CodecRecipe, CodecTask, Crops
from openvalle.train.discriminator import Discriminator, discriminator_loss, generator_losses
from openvalle.train.loop import Losses, Validation


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
        return Crops(*self.coded.batch(index))

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
    heard = [c.decoder._hidden(c.quantizer.decode(c.encode(samples))).flatten(0, 1) for c in (codec, other)]
    inputs = torch.cat([heard[0], torch.ones(len(heard[0]), 1)], dim=1)  # (N, trunk + 1)
    fitted = torch.linalg.lstsq(inputs, theirs.widen(heard[1])).solution  # (trunk + 1, width)
    try:
        for name in ("body", "norm", "head"):
            getattr(ours, name).load_state_dict(getattr(theirs, name).state_dict())
    except RuntimeError:
        raise ConfigError("the codec to start from has other sizes", "leave out `sound.start`") from None
    ours.widen.weight.copy_(fitted[:-1].T)
    ours.widen.bias.copy_(fitted[-1])
