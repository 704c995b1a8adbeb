"""Discriminators: networks that learn to tell what was made from what was recorded, and what is learnt from them.

Of sound, for the codec's decoder:

- Complex STFTs (EnCodec, arXiv:2210.13438, section 3.4), with frequency strides from the first layer on.
- Periods (HiFi-GAN, arXiv:2010.05646, section 2.3): they hear whether what comes a pitch period later is alike. Their
  layers are half as wide as there: they are the dearest part of a training step.

Of the residuals that the NAR model expects, which are averages. An expectation that minimises the squared distance is
the mean of all that may follow: it varies too little from frame to frame, and voices lose what sets them apart. The
discriminator sees stretches of residuals beside the codebooks that were given; the model is pulled to what it takes
for recorded. (The model's states must not be shown: an expected residual is a linear function of them, and told by
that alone.) Ours, after the discriminators of GAN vocoders and post-filters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from openvalle.config import Config
from openvalle.model.batch import Movable
from openvalle.model.nar import NAR, NARExamples

WINDOWS = (2048, 1024, 512)  # samples of each STFT
Verdict = tuple[Tensor, list[Tensor]]  # a map of scores (B, 1, ...) and the feature maps before it


class StftDiscriminator(nn.Module):
    """(B, samples) -> scores (B, 1, T', F') and the feature maps before them."""

    def __init__(self, n_fft: int, channels: int) -> None:
        super().__init__()
        self.window: Tensor
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        shapes = [(2, channels, 1), (channels, channels, 1), (channels, channels, 2), (channels, channels, 4)]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(i, o, (3, 9), stride=(1, 2), dilation=(dilation, 1), padding=(dilation, 4)))
            for i, o, dilation in shapes
        )
        self.score = weight_norm(nn.Conv2d(channels, 1, (3, 3), padding=(1, 1)))

    def forward(self, samples: Tensor) -> Verdict:
        spectrum = torch.stft(
            samples, self.n_fft, self.n_fft // 4, window=self.window, return_complex=True, normalized=True
        )
        pair = torch.view_as_real(spectrum)
        # Power 0.3 keeps the phase and brings quiet harmonics within the layers' reach.
        pair = pair * (pair.pow(2).sum(-1, keepdim=True) + 1e-6).pow(-0.35)
        x = pair.permute(0, 3, 2, 1).contiguous(memory_format=torch.channels_last)  # (B, 2, T, F)
        return _judge(self.layers, self.score, x)


class PeriodDiscriminator(nn.Module):
    """(B, samples) -> scores (B, 1, T', period) and the feature maps before them."""

    def __init__(self, period: int, channels: int) -> None:
        """`channels`: of the first layer; the later ones have up to 16 times as many."""
        super().__init__()
        self.period = period
        widths = [1, channels, 4 * channels, 8 * channels, 16 * channels, 16 * channels]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(i, o, (5, 1), stride=(3 if index < 4 else 1, 1), padding=(2, 0)))
            for index, (i, o) in enumerate(pairwise(widths))
        )
        self.score = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, samples: Tensor) -> Verdict:
        rows = F.pad(samples, (0, -samples.shape[1] % self.period)).reshape(len(samples), 1, -1, self.period)
        return _judge(self.layers, self.score, rows.contiguous(memory_format=torch.channels_last))


def _judge(layers: nn.ModuleList, score: nn.Module, x: Tensor) -> Verdict:
    features = []
    for layer in layers:
        x = F.leaky_relu(layer(x), 0.2)
        features.append(x)
    return score(x), features


class Discriminator(nn.Module):
    """Several resolutions and periods judged side by side."""

    def __init__(self, channels: int, periods: Sequence[int], period_channels: int) -> None:
        super().__init__()
        self.judges = nn.ModuleList(
            [StftDiscriminator(n_fft, channels) for n_fft in WINDOWS]
            + [PeriodDiscriminator(period, period_channels) for period in periods]
        )

    def forward(self, samples: Tensor) -> list[Verdict]:
        return [judge(samples) for judge in self.judges]


def discriminator_loss(real: Sequence[Verdict], fake: Sequence[Verdict]) -> Tensor:
    """Hinge loss: real above 1, fake below -1."""
    losses = [
        F.relu(1 - r.float()).mean() + F.relu(1 + f.float()).mean() for (r, _), (f, _) in zip(real, fake, strict=True)
    ]
    return torch.stack(losses).mean()


def generator_losses(real: Sequence[Verdict], fake: Sequence[Verdict]) -> tuple[Tensor, Tensor]:
    """Return the adversarial loss and the feature matching loss relative to the real features' size."""
    adversarial = torch.stack([-f.float().mean() for f, _ in fake]).mean()
    matches = [
        F.l1_loss(f, r).float() / r.abs().mean().float().clamp(min=1e-3)
        for (_, reals), (_, fakes) in zip(real, fake, strict=True)
        for r, f in zip(reals, fakes, strict=True)
    ]
    return adversarial, torch.stack(matches).mean()


class AdversarialConfig(Config):
    """How a NAR model that predicts residuals in one pass is sharpened."""

    begin: float = Field(0.55, ge=0, lt=1, description="part of the training before the discriminator learns")
    ramp: float = Field(
        0.05, gt=0, le=1, description="part of the training in which it learns alone, and then its pull grows"
    )
    weight: float = Field(
        0.3, gt=0, description="size of its pull on the expected residuals over that of the distance to the right ones"
    )
    matching: float = Field(1.0, ge=0, description="weight of matching the discriminator's features beside its verdict")
    gain: float = Field(1.3, gt=0, description="the model's gain from then on: what is sharper is less dull")
    frames: int = Field(64, ge=8, le=1024, description="frames of a stretch (64 = 0.85 s)")
    stretches: int = Field(192, ge=1, le=4096, description="stretches of a batch that are judged")
    channels: int = Field(192, ge=1, le=1024, description="width of the discriminator")


class ResidualDiscriminator(nn.Module):
    """Stretches of residuals and of what was given (B, T, L) -> scores (B, 1, T) and features."""

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        shapes = [(2 * size, 1), (channels, 1), (channels, 2), (channels, 4)]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv1d(inputs, channels, 5, padding=2 * dilation, dilation=dilation))
            for inputs, dilation in shapes
        )
        self.score = weight_norm(nn.Conv1d(channels, 1, 3, padding=1))

    def forward(self, residuals: Tensor, given: Tensor) -> tuple[Tensor, list[Tensor]]:
        return _judge(self.layers, self.score, torch.cat([residuals, given], dim=-1).transpose(1, 2))


@dataclass(frozen=True)
class ResidualLosses:
    """`pull` is added to the model's loss, `judge` is the discriminator's own."""

    pull: Tensor
    judge: Tensor
    metrics: dict[str, Tensor]


def draw_stretches(config: AdversarialConfig, batch: NARExamples, rng: torch.Generator) -> Tensor | None:
    """Return places (stretches, frames) of stretches among the scored frames of a batch; None if none is as long."""
    counts = batch.inputs.frames.scored.sum(1)  # (B,) frames of each row, which lie side by side
    room = (counts - config.frames + 1).clamp(min=0)
    if not int(room.sum()):
        return None
    rows = torch.multinomial(room.double(), config.stretches, replacement=True, generator=rng)
    starts = (torch.rand(config.stretches, generator=rng) * room[rows]).long() + (counts.cumsum(0) - counts)[rows]
    return starts[:, None] + torch.arange(config.frames)


def judge_residuals(
    config: AdversarialConfig,
    network: NAR,
    discriminator: ResidualDiscriminator,
    hidden: Tensor,
    batch: NARExamples,
    places: Tensor,
    done: float,
) -> ResidualLosses:
    """Return how well expected residuals pass for recorded ones, for states (P, D) of all scored frames of a batch.

    The pull on an expected residual has a given size relative to that of the squared distance, whatever the scale of
    the discriminator's gradient. `done`: how much of the training is over.
    """
    head, stage = network.residual_head, batch.each[0]
    assert head is not None, "without a residual head nothing is expected"
    size = head.size(stage, network.codes)
    codes = batch.inputs.frames.codes.flatten(0, 1).index_select(0, batch.at[0])
    residuals, given = network.residual(batch.right[0], codes, stage), network.sum_before(codes, stage)
    known = given[places] / size
    expected = head(hidden, stage, network.codes)[places] / size
    right = (residuals[places] / size).to(expected.dtype)
    fake = expected.detach().requires_grad_()
    discriminator.requires_grad_(False)
    with torch.no_grad():
        wanted = discriminator(right, known)
    adversarial, matching = generator_losses([wanted], [discriminator(fake, known)])
    (pull,) = torch.autograd.grad(adversarial + config.matching * matching, fake)
    discriminator.requires_grad_(True)
    toward = 2 * (fake.detach() - right)  # of the squared distance, in the same units
    grown = min(1.0, max(0.0, (done - config.begin) / config.ramp - 1))
    factor = config.weight * grown * toward.norm() / pull.float().norm().clamp(min=1e-12)
    # As the distance counts them: every frame once, over the size of all right residuals.
    scale = size.square() / residuals.square().sum().clamp(min=1e-9) * (len(residuals) / places.numel())
    real, false = discriminator(right, known), discriminator(fake.detach(), known)
    judge = discriminator_loss([real], [false])
    metrics = {
        "adversarial": adversarial.detach(),
        "matching": matching.detach(),
        "discriminator": judge.detach(),
        "told_apart": 0.5 * ((real[0] > 0).float().mean() + (false[0] < 0).float().mean()),
    }
    return ResidualLosses((factor * scale * pull.detach() * expected).sum(), judge, metrics)


@dataclass(frozen=True)
class StretchedExamples(Movable):
    """Examples of the NAR model with the stretches that are judged."""

    examples: NARExamples
    places: Tensor | None
