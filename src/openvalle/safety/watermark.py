"""An inaudible mark in the sound: laid on while it streams, found again in recordings from anywhere.

The mark is a function of the samples alone: it does not matter in which blocks they come, so a stream holds, sample
for sample, what marking the whole at once gives. The networks are PerthNet's (`openvalle.safety.watermark`).

The networks of PerthNet (Resemble AI, MIT) with the weights in the wheel `resemble-perth`, without its code.

It lays a pattern on the short-time spectrum below 2 kHz, where speech is and where every codec keeps it. The
published networks hear 32 kHz in windows of 2048 samples, every 320. At 24 kHz, windows of 1536 samples every 240 are
the same 64 ms, 10 ms and 15.6 Hz, so the sound is never resampled; magnitudes are scaled by the windows' ratio.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from openvalle.audio import Audio, is_silent, normalize, resample
from openvalle.errors import AudioError
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


NAME = "perth-implicit"  # of the mark, as written into files
STEP = 10  # frames marked at a time, always the same number: sums of another order would differ in the last bit
HALF = WINDOW // 2
LEAD = 3  # frames before the first sample whose windows still reach it
DELAY = (CONTEXT + LEAD + STEP) * HOP + HALF  # samples that a stream holds back at most, 0.31 s
LARGEST_GAIN = 20.0  # dB that a bin may change by; the mark stays far below

PART_SECONDS = 5.0  # a recording is searched in parts that overlap by half, so that a marked stretch in it is found
SHORTEST_SECONDS = 0.5
FOUND = 0.8  # a part that scores as much carries the mark; `make bench-watermark` shows what clean speech scores


class Marker:
    """Lays the mark on. Holds no state between calls, so threads may share it."""

    name = NAME

    def __init__(self) -> None:
        """Load the network; `ModelError` if its wheel is not installed."""
        self._writer = load_writer()

    def mark(self, audio: Audio) -> Audio:
        """Return the same sound with the mark in it, every sample where it was."""
        stream = self.stream(audio.rate)
        return Audio(np.concatenate([stream.push(audio.samples), stream.flush()]), audio.rate)

    def stream(self, rate: int = RATE) -> MarkStream:
        """Return a fresh stream for sound of `rate` hertz; there is only 24 kHz."""
        assert rate == RATE, rate
        return MarkStream(self._writer)


class MarkStream:
    """Marks a sound block by block; the blocks returned, joined, are as long as those pushed."""

    def __init__(self, writer: Branch) -> None:
        self._writer = writer
        self._history = empty_history()
        self._spectra = np.zeros((CONTEXT, WINDOW // 2 + 1), np.complex64)  # frames whose mark is not known yet
        self._heard = np.zeros(LEAD * HOP + HALF, np.float32)  # from the first sample of the next window on
        self._overlap = np.zeros(WINDOW - HOP, np.float32)  # the mark where windows still to come add to it
        self._plain = np.zeros(0, np.float32)  # samples not returned yet
        self._early = (CONTEXT + LEAD) * HOP + HALF  # samples of the mark that lie before the first sample
        squared = hann() ** 2
        self._envelope = np.array([squared[start::HOP].sum() for start in range(HOP)], np.float32)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take samples (n,) float32 and return those that are final; the last `DELAY` at most are held back."""
        self._plain = np.concatenate([self._plain, samples])
        return self._advance(samples)

    def flush(self) -> np.ndarray:
        """Return the samples still held back. The stream is then over."""
        out = [np.zeros(0, np.float32)]
        while len(self._plain):
            out.append(self._advance(np.zeros(STEP * HOP, np.float32)))
        return np.concatenate(out)

    def _advance(self, samples: np.ndarray) -> np.ndarray:
        self._heard = np.concatenate([self._heard, samples])
        needed, out = WINDOW + (STEP - 1) * HOP, [np.zeros(0, np.float32)]
        while len(self._heard) >= needed:
            mark = self._next(spectrum(self._heard[:needed]))
            self._heard = self._heard[STEP * HOP :]
            early = min(self._early, len(mark))
            self._early -= early
            mark = mark[early:][: len(self._plain)]
            out.append(self._plain[: len(mark)] + mark)
            self._plain = self._plain[len(mark) :]
        return np.concatenate(out)

    def _next(self, spectra: np.ndarray) -> np.ndarray:
        """Return the next samples of the mark, (STEP * HOP,), for the next spectra (STEP, bins)."""
        levels = torch.from_numpy(np.ascontiguousarray(scaled(spectra)[:, :BANDS].T))[None]
        with torch.inference_mode():
            change = self._writer.step(levels, self._history)[0].numpy().T  # (STEP, BANDS), CONTEXT frames late
        queue = np.concatenate([self._spectra, spectra])
        now, self._spectra = queue[:STEP], queue[STEP:]
        gains = np.clip(SPAN_DB * change, -LARGEST_GAIN, LARGEST_GAIN)
        marked = np.zeros_like(now)
        marked[:, :BANDS] = now[:, :BANDS] * (10 ** (gains / 20) - 1)
        waves = np.fft.irfft(marked, n=WINDOW, axis=1).astype(np.float32) * hann()  # (STEP, WINDOW)
        total = np.concatenate([self._overlap, np.zeros(STEP * HOP, np.float32)])
        for index, wave in enumerate(waves):
            total[index * HOP : index * HOP + WINDOW] += wave
        self._overlap = total[STEP * HOP :]
        return total[: STEP * HOP] / np.tile(self._envelope, STEP)


@dataclass(frozen=True)
class Part:
    """A stretch of a recording, in seconds, and how sure the network is of a mark in it, 0 to 1."""

    start: float
    end: float
    score: float

    @property
    def is_marked(self) -> bool:
        """True if the mark was found."""
        return self.score >= FOUND


@dataclass(frozen=True)
class Detection:
    """What was found in a recording. `parts`: the stretches with sound, which overlap by half."""

    parts: tuple[Part, ...]

    @property
    def share(self) -> float:
        """Share of the parts that carry the mark."""
        return sum(part.is_marked for part in self.parts) / len(self.parts)

    @property
    def score(self) -> float:
        """The score of the surest part, 0 to 1."""
        return max(part.score for part in self.parts)

    @property
    def is_marked(self) -> bool:
        """True if the mark was found anywhere."""
        return self.share > 0

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        parts = [
            {"start": round(part.start, 2), "end": round(part.end, 2), "score": round(part.score, 3)}
            for part in self.parts
        ]
        return {
            "marked": self.is_marked,
            "mark": NAME if self.is_marked else None,
            "share": round(self.share, 3),
            "score": round(self.score, 3),
            "threshold": FOUND,
            "parts": parts,
        }


class Detector:
    """Finds the mark. Holds no state between calls."""

    def __init__(self) -> None:
        """Load the network; `ModelError` if its wheel is not installed."""
        self._reader = load_reader()

    def detect(self, audio: Audio) -> Detection:
        """Return what is found in a recording of any rate; `AudioError` if it is silent or under 0.5 s."""
        if audio.seconds < SHORTEST_SECONDS:
            raise AudioError(
                f"{audio.seconds:.2f} s are too short to find a watermark in", "give half a second or more"
            )
        if is_silent(audio):
            raise AudioError("the recording is silent", "give a recording with sound in it")
        audio = normalize(resample(audio, RATE))
        parts = tuple(self._part(audio, *place) for place in _places(len(audio.samples)) if _sounds(audio, *place))
        return Detection(parts)

    def _part(self, audio: Audio, start: int, end: int) -> Part:
        samples = np.pad(audio.samples[start:end], HALF, mode="reflect")
        levels = torch.from_numpy(np.ascontiguousarray(scaled(spectrum(samples)).T))[None]
        with torch.inference_mode():
            score = float(self._reader(levels)[0])
        return Part(start / audio.rate, end / audio.rate, min(max(score, 0.0), 1.0))


def _places(count: int) -> Iterator[tuple[int, int]]:
    """Yield the first sample of each part and the one after its last."""
    size = round(PART_SECONDS * RATE)
    yield 0, min(size, count)
    for start in range(size // 2, count - size + size // 2, size // 2):
        start = min(start, count - size)
        yield start, start + size


def _sounds(audio: Audio, start: int, end: int) -> bool:
    """Return True if there is something to hear in a part."""
    return not is_silent(Audio(audio.samples[start:end], audio.rate))
