"""The network that hears phones, in torch: what `openvalle.train.aligner` trains and `openvalle.speech_models.ctc`
computes without torch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from openvalle.speech_models.ctc import LEAST_PRIOR, CTCConfig


class CTCBlock(nn.Module):
    """A depthwise convolution over `reach` frames on each side, then two linear layers, added to what came in."""

    def __init__(self, width: int, reach: int) -> None:
        super().__init__()
        self.mix = nn.Conv1d(width, width, 2 * reach + 1, padding=reach, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, states: Tensor, there: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D); `there` (B, T, 1): 1 where a row has frames."""
        mixed = self.mix((states * there).transpose(1, 2)).transpose(1, 2)
        return states + self.down(functional.gelu(self.up(self.norm(mixed))))


class CTCNetwork(nn.Module):
    """Log mel energies -> the log-probability of each class."""

    prior: Tensor

    def __init__(self, config: CTCConfig) -> None:
        super().__init__()
        self.config = config
        classes = len(config.symbols) + 1
        self.enter = nn.Conv1d(config.bands, config.width, 5, stride=config.stride, padding=2)
        self.blocks = nn.ModuleList(CTCBlock(config.width, int(index < config.reach)) for index in range(config.depth))
        self.norm, self.head = nn.LayerNorm(config.width), nn.Linear(config.width, classes)
        self.register_buffer("prior", torch.full((classes,), 1.0 / classes))  # share of frames of each class

    def count_frames(self, spectra: Tensor) -> Tensor:
        """Return the frames of clips of so many spectra."""
        return (spectra - 1) // self.config.stride + 1

    def forward(self, features: Tensor, spectra: Tensor) -> Tensor:
        """Return log-probabilities (B, T, classes) of (B, F, bands), of which each row has `spectra` (B,)."""
        states = self.enter(features.transpose(1, 2)).transpose(1, 2)
        places = torch.arange(states.shape[1], device=states.device)
        there = (places < self.count_frames(spectra)[:, None])[..., None].to(states.dtype)  # (B, T, 1)
        for block in self.blocks:
            states = block(states, there)
        return functional.log_softmax(self.head(self.norm(states)).float(), -1)

    def weigh(self, log_probabilities: Tensor) -> Tensor:
        """Return the scores that paths are weighed by: log-probabilities less the classes' priors."""
        return log_probabilities - self.config.prior * self.prior.clamp_min(LEAST_PRIOR).log()
