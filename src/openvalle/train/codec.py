"""Training the built-in codec in two stages.

`tokens`: log-mel -> codes -> log-mel, a small autoencoder; it fixes the meaning of the codes and costs little.
`sound`: codes -> samples, adversarial, with encoder and codebooks frozen, so tokens made before stay valid.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvalle.codec.builtin import BuiltinCodec, SoundDecoder
from openvalle.codec.load import load_codec
from openvalle.codec.quantizer import ResidualQuantizer
from openvalle.codec.settings import MIDDLE, BuiltinCodecConfig
from openvalle.data.draws import draw_generator
from openvalle.data.shards import TokenShards
from openvalle.errors import ConfigError
from openvalle.train.codec_losses import SpectralLoss, fill_unvoiced, find_pitch, harmonicity, mel_distance
from openvalle.train.codec_recipe import CodecRecipe, CodecTask, CodedCrops, Crops
from openvalle.train.curves import Validation
from openvalle.train.discriminators import Discriminator, discriminator_loss, generator_losses
from openvalle.train.distributed import agree, once
from openvalle.train.loop import Losses, TrainingProgress, fit

log = logging.getLogger(__name__)


class TokensTask(CodecTask):
    """Stage one: log-mel (B, T, bins) -> codes -> log-mel, which decides what the codes mean."""

    def __init__(self, recipe: CodecRecipe, codec: BuiltinCodec) -> None:
        assert recipe.tokens is not None
        self.tokens = recipe.tokens
        super().__init__(recipe, codec, self.tokens.crops, self.tokens.loop.seed)
        self.networks: dict[str, nn.Module] = {"codec": codec}

    def losses(self, batch: Crops, at: TrainingProgress, rng: torch.Generator) -> Losses:
        config, rng = self.tokens, agree(rng)  # all processes move the same codebooks
        quantize, full = config.quantize, self.codec.config.codebooks
        merge = quantize.merge if torch.rand((), generator=rng) < 0.5 else 1
        fewer = torch.rand((), generator=rng) < quantize.dropout
        levels = int(torch.randint(1, full + 1, (), generator=rng)) if fewer else full
        mel = self.codec.encoder.mel(batch.samples)
        quantized = self.codec.quantizer(self.codec.encoder(mel), merge, levels, rng)
        distance = mel_distance(self.codec.decoder.predict_mel(quantized.values), mel)
        loss = distance + config.commitment * quantized.commitment
        found = {"loss": loss, "mel": distance, "commitment": quantized.commitment}
        return Losses({"codec": loss}, {name: value.detach() for name, value in found.items()})

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

    def keep(self, averages: Mapping[str, nn.Module], folder: Path, done: float) -> None:
        codec = averages["codec"]
        assert isinstance(codec, BuiltinCodec)
        codec.save(folder)


class SoundTask(CodecTask):
    """Stage two: codes (B, T, Q) -> samples (B, N); encoder and codebooks stay as they are."""

    def __init__(self, recipe: CodecRecipe, codec: BuiltinCodec) -> None:
        config = recipe.sound
        super().__init__(recipe, codec, config.crops, config.loop.seed)
        codec.encoder.requires_grad_(False)
        codec.decoder.requires_grad_(True)
        codec.decoder.mel.requires_grad_(False)
        if config.start:
            other = load_codec(config.start)
            assert isinstance(other, BuiltinCodec)
            start_decoder(codec, other, self.clips())
        self.discriminator = Discriminator(
            channels=config.channels, periods=config.periods, period_channels=config.period_channels
        )
        self.networks = {"decoder": codec.decoder, "discriminator": self.discriminator}
        self.predicted = TokenShards.open(config.predicted) if config.predicted else None
        if self.predicted is not None:
            self.predicted.require(codec=codec.digest())
        self.coded: CodedCrops | None = None
        self.spectra = SpectralLoss(codec.config.rate, codec.config.mel_floor)

    def batch(self, index: int, rank: int, world: int) -> Crops:
        config = self.recipe.sound
        draws = draw_generator(config.loop.seed + 1, index, 0)  # all ranks do the same
        if self.predicted is None or draws.random() >= config.predicted_share:
            return super().batch(index, rank, world)
        self.coded = self.coded or CodedCrops(self.train, self.predicted, config.crops, config.loop.seed, rank)
        return Crops(*map(torch.from_numpy, self.coded.batch(index)))

    def losses(self, batch: Crops, at: TrainingProgress, rng: torch.Generator) -> Losses:
        config, real = self.recipe.sound, batch.samples
        latents = self._latents(real, rng) if batch.codes is None else self.codec.quantizer.decode(batch.codes)
        fake, pitch = self._decode(latents, real, at.step, rng)
        spectra = self.spectra.to(real.device)(fake, real)
        loss = config.mel * spectra.mel + config.linear * spectra.linear
        metrics = {name: value.detach() for name, value in spectra._asdict().items()}
        if pitch is not None:
            loss, metrics["pitch"] = loss + config.pitch * pitch, pitch.detach()
        if at.step < config.adversarial_from:
            return Losses({"decoder": loss}, metrics)
        count = min(real.shape[1], round(config.judged_seconds * self.codec.config.rate))
        start = int(torch.randint(real.shape[1] - count + 1, (), generator=rng))
        real, fake = real[:, start : start + count], fake[:, start : start + count]
        both = self.discriminator(torch.cat([real, fake.detach()]))
        halves = [(score.chunk(2), [feature.chunk(2) for feature in features]) for score, features in both]
        reals, fakes = ([(s[i], [f[i] for f in fs]) for s, fs in halves] for i in (0, 1))
        verdict = discriminator_loss(reals, fakes)
        self.discriminator.requires_grad_(False)
        wanted = [(score.detach(), [feature.detach() for feature in features]) for score, features in reals]
        adversarial, matching = generator_losses(wanted, self.discriminator(fake))
        self.discriminator.requires_grad_(True)
        loss = loss + config.adversarial * adversarial + config.matching * matching
        judged = {"adversarial": adversarial, "matching": matching, "discriminator": verdict}
        metrics |= {name: value.detach() for name, value in judged.items()}
        return Losses({"decoder": loss, "discriminator": verdict}, metrics)

    def _decode(self, latents: Tensor, real: Tensor, step: int, rng: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Return what the decoder makes of the latents, as long as `real`, and how wrong its pitch is."""
        decoder, config = self.codec.decoder, self.codec.config
        if decoder.fine is None:
            return decoder(latents)[:, : real.shape[1]], None
        # The source's pitch is that at the end of a frame, and a window's middle comes `delay` samples after its step.
        whole = F.pad(real, (0, -real.shape[1] % config.hop))
        hertz, _ = find_pitch(whole, config.rate, config.hop, config.hop + decoder.delay)
        voiced = (hertz > 0).float()
        wanted = (fill_unvoiced(hertz) / MIDDLE).log2()
        sound = self.recipe.sound
        shown = torch.rand((len(real), 1), generator=rng) < (1 if step < sound.pitch_from else sound.pitch_given)
        shown = shown.to(real.device, non_blocking=True)
        given = (torch.where(shown, wanted, torch.nan), torch.where(shown, voiced, torch.nan))
        # The decoder is small beside the discriminators, and float32 costs a GPU little.
        with torch.autocast("cuda", enabled=False):
            fake, found = decoder.synthesize(latents, given)
        assert found is not None
        octaves, voicing = found
        inside = torch.ones_like(voiced)
        inside[:, -2:] = 0  # what follows them is not in the crop
        known = voiced * inside
        error = ((octaves - wanted).abs() * known).sum() / known.sum().clamp(min=1)
        unsure = F.binary_cross_entropy_with_logits(voicing, voiced, weight=inside)
        return fake[:, : real.shape[1]], 5 * error + unsure

    @torch.no_grad()
    def _latents(self, samples: Tensor, rng: torch.Generator) -> Tensor:
        """Return latents (B, T, D) of samples: of all codebooks, of the first few, or with the later ones smoothed."""
        quantize, quantizer = self.recipe.sound.quantize, self.codec.quantizer
        merge = quantize.merge if torch.rand((), generator=rng) < 0.5 else 1
        codes = self._codes(samples, merge)
        fate = torch.rand(len(samples), generator=rng)
        full = self.codec.config.codebooks
        count = torch.randint(1, full + 1, (len(samples),), generator=rng)
        count = torch.where(fate < quantize.dropout, count, full).to(samples.device, non_blocking=True)
        smooth = (fate >= 1 - quantize.smoothed).to(samples.device, non_blocking=True)
        levels = torch.arange(full, device=samples.device)
        entries = quantizer.codebooks[levels, codes]  # (B, T, Q, D)
        latents = (entries * (levels < count[:, None])[:, None, :, None]).sum(-2)
        if quantize.smoothed == 0:
            return latents
        gain = 1 + 0.4 * torch.rand((len(samples), 1, 1), generator=rng).to(samples.device, non_blocking=True)
        with torch.autocast(samples.device.type, enabled=False):  # half-precision distances would pick wrong entries
            smoothed = smooth_residual(quantizer, entries[:, :, 1:].sum(-2), gain)
        return torch.where(smooth[:, None, None], entries[:, :, 0] + smoothed, latents)

    def _codes(self, samples: Tensor, merge: int) -> Tensor:
        with torch.autocast(samples.device.type, enabled=False):  # the codes that inference will see
            return self.codec.to(samples.device).encode(samples, merge)

    @torch.no_grad()
    def validate(self, averages: Mapping[str, nn.Module]) -> Validation:
        decoder = averages["decoder"]
        assert isinstance(decoder, SoundDecoder)
        config = self.codec.config
        samples = self.clips().to(next(decoder.parameters()).device)
        latents = self.codec.quantizer.decode(self._codes(samples, self.recipe.sound.quantize.merge))
        made = decoder(latents)[:, : samples.shape[1]]
        metrics = {
            name: float(value) for name, value in self.spectra.to(samples.device)(made, samples)._asdict().items()
        }
        for name, sound in (("original", samples), ("decoded", made)):
            metrics[f"harmonicity_{name}"] = float(harmonicity(sound, config.rate))
        sounds = {f"original_{i}": (samples[i].cpu().numpy(), config.rate) for i in range(min(2, len(samples)))}
        sounds |= {f"decoded_{i}": (made[i].cpu().numpy(), config.rate) for i in range(min(2, len(made)))}
        return Validation(metrics, sounds)

    def keep(self, averages: Mapping[str, nn.Module], folder: Path, done: float) -> None:
        codec = copy.deepcopy(self.codec)
        codec.decoder.load_state_dict(averages["decoder"].state_dict())
        codec.save(folder)


def smooth_residual(quantizer: ResidualQuantizer, residual: Tensor, gain: Tensor) -> Tensor:
    """Return what all codebooks but the first hold, (B, T, D), smoothed over five frames, times `gain`, and quantised
    again: a model that fills them expects their mean, and its guesses are smoother than speech."""
    weights = residual.new_tensor([1.0, 2.0, 3.0, 2.0, 1.0]) / 9
    padded = F.pad(residual.transpose(1, 2), (2, 2), mode="replicate")
    left = gain * (padded.unfold(2, 5, 1) @ weights).transpose(1, 2)
    total = torch.zeros_like(left)
    for level in range(1, len(quantizer.codebooks)):
        entry = quantizer.codebooks[level][quantizer.nearest(left, level)]
        left, total = left - entry, total + entry
    return total


@torch.no_grad()
def start_decoder(codec: BuiltinCodec, other: BuiltinCodec, samples: Tensor) -> None:
    """Give `codec` the other codec's decoder behind the trunk.

    The outputs of two trunks mean different things. So the layer after the trunk is fitted, by least squares on
    samples (B, N), to give the rest of the decoder what it got from its own trunk.
    """
    theirs, ours = other.decoder, codec.decoder
    if theirs.fine is not None or ours.fine is not None:  # whose pitch is read from the trunk itself
        raise ConfigError("`sound.start` does not go with a harmonic source", "leave it out")
    latents = [(c.decoder, c.quantizer.decode(c.encode(samples))) for c in (codec, other)]
    heard = [decoder.run_trunk(decoder.pad(each)).flatten(0, 1) for decoder, each in latents]
    inputs = torch.cat([heard[0], torch.ones(len(heard[0]), 1)], dim=1)  # (N, trunk + 1)
    fitted = torch.linalg.lstsq(inputs, theirs.widen(heard[1])).solution  # (trunk + 1, width)
    try:
        for name in ("body", "norm", "head"):
            getattr(ours, name).load_state_dict(getattr(theirs, name).state_dict())
    except RuntimeError:
        raise ConfigError("the codec to start from has other sizes", "leave out `sound.start`") from None
    ours.widen.weight.copy_(fitted[:-1].T)
    ours.widen.bias.copy_(fitted[-1])


def train_codec(recipe: CodecRecipe, out: Path) -> Path:
    """Run both stages (each resumes, a finished one is skipped) and return the folder of the saved codec."""
    if recipe.start is not None:
        codec = _load_start(recipe.start, recipe.codec)
    else:
        assert recipe.tokens is not None
        stage = TokensTask(recipe, BuiltinCodec(recipe.codec))
        tokens = fit(stage, recipe.tokens.loop, out / "tokens")
        # Tokens are made with the weights as they are stored (half precision), so the next stage starts from those.
        once(lambda: stage.keep(tokens, out / "tokens" / "codec", 1.0))
        codec = BuiltinCodec.load(out / "tokens" / "codec")
    task = SoundTask(recipe, codec)
    averages = fit(task, recipe.sound.loop, out / "sound")
    once(lambda: task.keep(averages, out / "codec", 1.0))
    log.info("the codec is in %s", out / "codec")
    return out / "codec"


def _load_start(place: str, sizes: BuiltinCodecConfig) -> BuiltinCodec:
    """Return the codec to start from; what of its decoder is of another size, if `sizes` says so, begins anew."""
    before = load_codec(place)
    if not isinstance(before, BuiltinCodec):
        raise ConfigError(f"{place} is no codec of ours, and its decoder cannot be trained", "start from `builtin`")
    changes = {name: getattr(sizes, name) for name in sizes.model_fields_set}
    codec = BuiltinCodec(BuiltinCodecConfig.parse(before.config.model_dump() | changes, "codec"))
    own, weights = codec.state_dict(), before.state_dict()
    known = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    codec.load_state_dict(known, strict=False)
    return codec.eval().requires_grad_(False)
