"""The networks of PerthNet (Resemble AI, MIT) with the weights in the wheel `resemble-perth`, without its code.

It lays a pattern on the short-time spectrum below 2 kHz, where speech is and where every codec keeps it. The
published networks hear 32 kHz in windows of 2048 samples, every 320. At 24 kHz, windows of 1536 samples every 240 are
the same 64 ms, 10 ms and 15.6 Hz, so the sound is never resampled; magnitudes are scaled by the windows' ratio.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from openvalle.hub import wheel_file

PACKAGE = "resemble-perth"
WEIGHTS = "perth_net/pretrained/implicit/perth_net_250000.pth.tar"
RATE = 24_000  # hertz
WINDOW, HOP = 1536, 240  # samples
BANDS = 128  # bins of the spectrum that carry the mark: 0 to 2 kHz
WIDTH, KERNEL, DEPTH = 256, 7, 5  # of the networks
CONTEXT = DEPTH * (KERNEL // 2)  # frames on either side of a frame that its mark depends on
SCALE = 2048 / WINDOW  # from our magnitudes to those of the published networks
FLOOR_DB, SPAN_DB = -180.0, 195.0  # magnitudes in dB are mapped from [FLOOR, FLOOR + SPAN] to [0, 1]
SILENT = 0.05  # frames whose mean is under this share of the loudest hold nothing to mark


def hann() -> np.ndarray:
    """Return the periodic Hann window, (WINDOW,) float32."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)


def spectrum(samples: np.ndarray) -> np.ndarray:
    """Return the spectrum of every full window, (frames, WINDOW // 2 + 1) complex64."""
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    return np.fft.rfft(windows * hann(), axis=1).astype(np.complex64)


def scaled(spectra: np.ndarray) -> np.ndarray:
    """Return the magnitudes as the networks read them, same shape, float32: 0 is silence, 1 is loud."""
    decibels = 20 * np.log10(np.maximum(np.abs(spectra) * SCALE, 10 ** (FLOOR_DB / 20)))
    return ((decibels - FLOOR_DB) / SPAN_DB).astype(np.float32)


class Branch(nn.Module):
    """Seven convolutions over time, (B, BANDS, T) -> (B, outputs, T)."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        sizes = [(BANDS, WIDTH, 1), *[(WIDTH, WIDTH, KERNEL)] * DEPTH, (WIDTH, outputs, 1)]
        self.layers = nn.ModuleList(nn.Conv1d(i, o, k, padding=k // 2) for i, o, k in sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the last layer's output, (B, outputs, T)."""
        for layer in self.layers[:-1]:
            x = functional.leaky_relu(layer(x))
        return self.layers[-1](x)

    def step(self, x: Tensor, before: list[Tensor]) -> Tensor:
        """Return the output for the next frames (B, BANDS, t), `CONTEXT` frames late; `before` is kept up to date.

        `before`: the last inputs of each wide layer, zeros at the start (which is how the whole is padded).
        """
        x = functional.leaky_relu(self.layers[0](x))
        for index in range(DEPTH):
            layer: Any = self.layers[index + 1]
            x = torch.cat([before[index], x], dim=2)
            before[index] = x[:, :, -(KERNEL - 1) :]
            x = functional.leaky_relu(functional.conv1d(x, layer.weight, layer.bias))  # without its padding
        return self.layers[-1](x)


def empty_history() -> list[Tensor]:
    """Return what `Branch.step` needs before the first frame."""
    return [torch.zeros(1, WIDTH, KERNEL - 1) for _ in range(DEPTH)]


class Reader(nn.Module):
    """Spectra -> how sure the network is of a mark, at three speeds so that slower or faster playing is found, too."""

    speeds = ("slow", "normal", "fast")
    factors = (1.25, 1.0, 0.75)

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(Branch(2) for _ in self.speeds)

    def forward(self, magnitudes: Tensor) -> Tensor:
        """Return the sureness (B,), about 0 to 1, for scaled magnitudes (B, WINDOW // 2 + 1, T)."""
        loudness = magnitudes.sum(dim=1, keepdim=True)  # (B, 1, T)
        mask = (loudness > SILENT * loudness.amax(dim=2, keepdim=True)).float()
        means = [
            self._mean(*pair, magnitudes[:, :BANDS], mask) for pair in zip(self.branches, self.factors, strict=True)
        ]
        weights, marks = torch.stack(means, dim=2).unbind(dim=1)  # (B, 3) each
        return (functional.softmax(weights, dim=1) * marks).sum(dim=1)

    def _mean(self, branch: nn.Module, factor: float, x: Tensor, mask: Tensor) -> Tensor:
        """Return a branch's weight and mark, (B, 2), over the frames that are not silent."""
        frames = int(x.shape[2] * factor)
        if factor != 1:
            x = functional.interpolate(x, frames, mode="linear", align_corners=True)
            mask = functional.interpolate(mask, frames)
        return (branch(x) * mask).sum(dim=2) / mask.sum(dim=2)


def load_writer() -> Branch:
    """Return the network that makes the mark: scaled magnitudes -> what to add to them."""
    with torch.device("meta"):  # the weights come from the file
        writer = Branch(BANDS)
    return _filled(writer, {"": "encoder.layers"})


def load_reader() -> Reader:
    """Return the network that finds it."""
    prefixes = {f"branches.{index}.": f"decoder.{name}_layers" for index, name in enumerate(Reader.speeds)}
    with torch.device("meta"):
        reader = Reader()
    return _filled(reader, prefixes)


def _filled(module: Any, prefixes: dict[str, str]) -> Any:
    path = wheel_file("perth", WEIGHTS, PACKAGE)
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["model"]
    own = {}
    for ours, theirs in prefixes.items():
        for index in range(DEPTH + 2):
            for kind in ("weight", "bias"):
                own[f"{ours}layers.{index}.{kind}"] = state[f"{theirs}.{index}.conv.{kind}"]
    module.load_state_dict(own, assign=True)
    return module.eval().requires_grad_(False)
