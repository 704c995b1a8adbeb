"""Training the built-in codec in two stages.

`tokens`: log-mel -> codes -> log-mel, a small autoencoder; it fixes the meaning of the codes and costs little.
`sound`: codes -> samples, adversarial, with encoder and codebooks frozen, so tokens made before stay valid.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvalle.codec.builtin import BuiltinCodec
from openvalle.codec.load import load_codec
from openvalle.errors import ConfigError
from openvalle.train.codec_recipe import CodecRecipe, CodecTask, Crops
from openvalle.train.distributed import agreed, once
from openvalle.train.loop import Losses, Validation, fit
from openvalle.train.sound import SoundTask

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
