"""An inaudible mark in the sound: laid on while it streams, found again in recordings from anywhere.

The networks are PerthNet's (Resemble AI, MIT), without its code; their weights are in the package, rounded to whole
numbers (tools/pack_watermark.py). They change the short-time spectrum below 2 kHz, where speech is and where every
codec keeps it. The published networks hear 32 kHz in windows of 2048 samples, every 320. At other rates windows of as
many seconds are the same 64 ms, 10 ms and 15.6 Hz (1536 samples every 240 at 24 kHz), so no sound is resampled;
magnitudes are scaled by the windows' ratio.

The mark depends on the samples alone, not on the blocks in which they come: a stream holds, sample for sample, what
marking the whole at once gives. The convolutions are graphs (`openvalle.graphs`) on one thread: they are small.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from openvalle.audio import Audio, is_silent, normalize, resample
from openvalle.errors import AudioError, ModelError
from openvalle.graphs import Graph, open_graph
from openvalle.hub import assets

WEIGHTS = "watermark/perth.safetensors"  # among the assets
RATE = 24_000  # hertz, at which the mark is looked for
BANDS = 128  # bins of the spectrum that carry the mark: 0 to 2 kHz
WIDTH, KERNEL, DEPTH = 256, 7, 5  # of the networks
CONTEXT = DEPTH * (KERNEL // 2)  # frames on either side of a frame that its mark depends on
PUBLISHED = 2048  # samples of their windows
FLOOR_DB, SPAN_DB = -180.0, 195.0  # magnitudes in dB are mapped from [FLOOR, FLOOR + SPAN] to [0, 1]
SILENT = 0.05  # frames whose mean is under this share of the loudest hold nothing to mark
SPEEDS = {"slow": 1.25, "normal": 1.0, "fast": 0.75}  # at which the mark is looked for, as frames per frame
NAME = "perth-implicit"  # of the mark, as written into files
STEP = 10  # frames marked at a time, always the same number: sums of another order would differ in the last bit
LEAD = 3  # frames before the first sample whose windows still reach it
LARGEST_GAIN = 20.0  # dB that a bin may change by; the mark stays far below

PART_SECONDS = 5.0  # a recording is searched in parts that overlap by half, so that a marked stretch in it is found
SHORTEST_SECONDS = 0.5
FOUND = 0.8  # a part that scores as much carries the mark; `make bench-watermark` shows what clean speech scores
STRONG_DB = 30.0  # bins that are at most so far under the loudest of their frame tell whether a sound stands still
STILL_DB = 1.6  # by which they change in 10 ms, in the median: tones and chords under 1.6, speech 1.9 or more

Layers = list[tuple[np.ndarray, np.ndarray]]  # weight (out, in, kernel) and bias (out,) of each convolution
NETWORKS = ("encoder", *SPEEDS)  # one lays the mark on, three hear it


def load_layers(name: str) -> Layers:
    """Return the convolutions of the network called `name` (`NETWORKS`); `ModelError` if the file is damaged."""
    path = assets() / WEIGHTS
    try:
        with safe_open(path, framework="np") as file:
            get = file.get_tensor
            return [
                (
                    get(f"{name}.{layer}.weight") * get(f"{name}.{layer}.scale")[:, None, None],
                    get(f"{name}.{layer}.bias"),
                )
                for layer in range(DEPTH + 2)
            ]
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged ({error})", "install openvalle again") from None


def open_network(layers: Layers, *, streams: bool) -> Any:
    """Return a session of convolutions over time: frames x (1, t, BANDS) -> y (1, t, outputs).

    `streams`: the last inputs of each wide layer, past_n (1, KERNEL - 1, WIDTH), stand before the frames and come out
    as next_n; y is then `CONTEXT` frames late. Else the frames are all there is, and zeros are around them.
    """
    graph = Graph()
    x = graph.input("x", [1, "t", BANDS])
    nexts = []
    for index, (weight, bias) in enumerate(layers):
        out, inner, kernel = weight.shape
        if kernel > 1 and streams:
            x = graph.add("Concat", graph.input(f"past_{index - 1}", [1, kernel - 1, inner]), x, axis=1)
            ends = graph.constant([1 - kernel]), graph.constant([2**31 - 1]), graph.constant([1])
            nexts.append(graph.add("Slice", x, *ends))
        elif kernel > 1:
            x = graph.add("Pad", x, graph.constant([0, kernel // 2, 0, 0, kernel // 2, 0]))
        count = graph.add("Sub", graph.add("Shape", x, start=1, end=2), graph.constant([kernel - 1]))
        places = [graph.constant([place]) for place in range(kernel)]
        seen = [graph.add("Slice", x, at, graph.add("Add", count, at), graph.constant([1])) for at in places]
        x = graph.add("Concat", *seen, axis=2) if kernel > 1 else x
        # one product of every frame with its neighbours
        flat = np.ascontiguousarray(weight.transpose(2, 1, 0)).reshape(kernel * inner, out)
        x = graph.add("MatMul", x, graph.weight(f"weight_{index}", flat))
        x = graph.add("Add", x, graph.weight(f"bias_{index}", bias))
        x = graph.add("LeakyRelu", x, alpha=0.01) if index < len(layers) - 1 else x
    graph.output(x, "y", [1, "t", layers[-1][1].size])
    for index, value in enumerate(nexts):
        graph.output(value, f"next_{index}", [1, KERNEL - 1, WIDTH])
    return open_graph(graph)


def stretch(frames: np.ndarray, factor: float) -> np.ndarray:
    """Return frames (T, ...) as `factor` times as many, between which they are drawn straight."""
    if factor == 1:
        return frames
    at = np.linspace(0, len(frames) - 1, int(len(frames) * factor))
    below = np.minimum(at.astype(int), max(len(frames) - 2, 0))
    weight = (at - below).astype(np.float32)[:, None]
    return frames[below] * (1 - weight) + frames[np.minimum(below + 1, len(frames) - 1)] * weight


def score_mark(branches: list[Any], magnitudes: np.ndarray) -> float:
    """Return how sure the networks are of a mark, about 0 to 1, for scaled magnitudes (T, bins).

    `branches`: one network for each of `SPEEDS`, so that sound played slower or faster is recognised, too.
    """
    loudness = magnitudes.sum(1)
    is_loud = (loudness > SILENT * loudness.max()).astype(np.float32)
    bands, means = magnitudes[:, :BANDS], []
    for network, factor in zip(branches, SPEEDS.values(), strict=True):
        x = stretch(bands, factor)
        mask = is_loud[np.arange(len(x)) * len(is_loud) // len(x)]
        found = network.run(["y"], {"x": np.ascontiguousarray(x[None])})[0][0]  # (T, 2)
        means.append((found * mask[:, None]).sum(0) / mask.sum())
    weights, marks = np.array(means).T
    weights = np.exp(weights - weights.max())
    return float((weights / weights.sum() * marks).sum())


def stands_still(spectra: np.ndarray) -> bool:
    """Return True if what is strong in spectra (T, bins) hardly changes, as in steady tones and in no speech.

    The networks have heard speech alone, and take half of all chords for the mark.
    """
    magnitudes = np.abs(spectra)
    loudness = magnitudes.sum(1)
    is_loud = loudness > SILENT * loudness.max()
    decibels = 20 * np.log10(np.maximum(magnitudes, 10 ** (FLOOR_DB / 20)))
    is_strong = decibels > decibels.max(1, keepdims=True) - STRONG_DB
    changes = np.abs(np.diff(decibels, axis=0))[is_strong[1:] & (is_loud[1:] & is_loud[:-1])[:, None]]
    return len(changes) > 0 and float(np.median(changes)) < STILL_DB


@dataclass(frozen=True)
class MarkWindows:
    """The windows in which sound of `rate` hertz is looked at."""

    rate: int

    @property
    def size(self) -> int:
        """Samples of a window: 64 ms."""
        return 2 * round(0.032 * self.rate)

    @property
    def hop(self) -> int:
        """Samples from one to the next: 10 ms."""
        return round(0.01 * self.rate)

    @property
    def half(self) -> int:
        """Samples of half a window."""
        return self.size // 2

    @property
    def delay(self) -> int:
        """Samples that a stream holds back at most: 0.31 s."""
        return (CONTEXT + LEAD + STEP) * self.hop + self.half

    def hann(self) -> np.ndarray:
        """Return the periodic Hann window, (size,) float32."""
        return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.size) / self.size)).astype(np.float32)

    def spectrum(self, samples: np.ndarray) -> np.ndarray:
        """Return the spectrum of every full window, (frames, size // 2 + 1) complex64."""
        windows = np.lib.stride_tricks.sliding_window_view(samples, self.size)[:: self.hop]
        return np.fft.rfft(windows * self.hann(), axis=1).astype(np.complex64)

    def scale(self, spectra: np.ndarray) -> np.ndarray:
        """Return the magnitudes as the networks read them, same shape, float32: 0 is silence, 1 is loud."""
        decibels = 20 * np.log10(np.maximum(np.abs(spectra) * (PUBLISHED / self.size), 10 ** (FLOOR_DB / 20)))
        return ((decibels - FLOOR_DB) / SPAN_DB).astype(np.float32)


class Marker:
    """Lays the mark on. Holds no state between calls, so threads may share it."""

    name = NAME

    def __init__(self, layers: Layers | None = None) -> None:
        """`layers`: other weights than those of the package; `ModelError` if its file is damaged."""
        self._network = open_network(layers or load_layers("encoder"), streams=True)

    def mark(self, audio: Audio) -> Audio:
        """Return the same sound with the mark in it, every sample where it was."""
        stream = self.stream(audio.rate)
        return Audio(np.concatenate([stream.push(audio.samples), stream.flush()]), audio.rate)

    def stream(self, rate: int = RATE) -> MarkStream:
        """Return a fresh stream for sound of `rate` hertz."""
        return MarkStream(self._network, rate)


class MarkStream:
    """Marks a sound block by block; the blocks returned, joined, are as long as those pushed."""

    def __init__(self, network: Any, rate: int = RATE) -> None:
        """`network`: what makes the mark: scaled magnitudes -> what to add to them."""
        self._network, self._windows = network, MarkWindows(rate)
        size, hop, half = self._windows.size, self._windows.hop, self._windows.half
        self._past = [np.zeros((1, KERNEL - 1, WIDTH), np.float32) for _ in range(DEPTH)]
        self._spectra = np.zeros((CONTEXT, half + 1), np.complex64)  # frames whose mark is not known yet
        self._heard = np.zeros(LEAD * hop + half, np.float32)  # from the first sample of the next window on
        self._overlap = np.zeros(size - hop, np.float32)  # the mark where windows still to come add to it
        self._plain = np.zeros(0, np.float32)  # samples not returned yet
        self._early = (CONTEXT + LEAD) * hop + half  # samples of the mark that lie before the first sample
        squared = self._windows.hann() ** 2
        self._envelope = np.array([squared[start::hop].sum() for start in range(hop)], np.float32)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take samples (n,) float32 and return those that are final; some, `delay` of the windows at most, are held."""
        self._plain = np.concatenate([self._plain, samples])
        return self._advance(samples)

    def flush(self) -> np.ndarray:
        """Return the samples still held back. The stream is then over."""
        out = [np.zeros(0, np.float32)]
        while len(self._plain):
            out.append(self._advance(np.zeros(STEP * self._windows.hop, np.float32)))
        return np.concatenate(out)

    def _advance(self, samples: np.ndarray) -> np.ndarray:
        self._heard = np.concatenate([self._heard, samples])
        size, hop = self._windows.size, self._windows.hop
        needed, out = size + (STEP - 1) * hop, [np.zeros(0, np.float32)]
        while len(self._heard) >= needed:
            mark = self._next(self._windows.spectrum(self._heard[:needed]))
            self._heard = self._heard[STEP * hop :]
            early = min(self._early, len(mark))
            self._early -= early
            mark = mark[early:][: len(self._plain)]
            out.append(self._plain[: len(mark)] + mark)
            self._plain = self._plain[len(mark) :]
        return np.concatenate(out)

    def _next(self, spectra: np.ndarray) -> np.ndarray:
        """Return the next samples of the mark, `STEP` hops, for the next spectra (STEP, bins)."""
        windows, size, hop = self._windows, self._windows.size, self._windows.hop
        given = {"x": np.ascontiguousarray(windows.scale(spectra)[None, :, :BANDS])}
        given |= {f"past_{index}": past for index, past in enumerate(self._past)}
        (change,), *self._past = self._network.run(None, given)  # (STEP, BANDS), CONTEXT frames late
        queue = np.concatenate([self._spectra, spectra])
        now, self._spectra = queue[:STEP], queue[STEP:]
        gains = np.clip(SPAN_DB * change, -LARGEST_GAIN, LARGEST_GAIN)
        marked = np.zeros_like(now)
        marked[:, :BANDS] = now[:, :BANDS] * (10 ** (gains / 20) - 1)
        waves = np.fft.irfft(marked, n=size, axis=1).astype(np.float32) * windows.hann()  # (STEP, size)
        total = np.concatenate([self._overlap, np.zeros(STEP * hop, np.float32)])
        for index, wave in enumerate(waves):
            total[index * hop : index * hop + size] += wave
        self._overlap = total[STEP * hop :]
        return total[: STEP * hop] / np.tile(self._envelope, STEP)


@dataclass(frozen=True)
class ScoredPart:
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

    parts: tuple[ScoredPart, ...]

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
        """Load the networks; `ModelError` if their file is damaged."""
        self._branches = [open_network(load_layers(name), streams=False) for name in SPEEDS]

    def detect(self, audio: Audio) -> Detection:
        """Return what is found in a recording of any rate; `AudioError` if it is silent or under 0.5 s."""
        if audio.seconds < SHORTEST_SECONDS:
            raise AudioError(
                f"{audio.seconds:.2f} s are too short to find a watermark in", "give half a second or more"
            )
        if is_silent(audio):
            raise AudioError("the recording is silent", "give a recording with sound in it")
        audio, parts = normalize(resample(audio, RATE)), []
        for start, end in _split(len(audio.samples)):
            samples = audio.samples[start:end]
            if not is_silent(Audio(samples, RATE)):
                parts.append(ScoredPart(start / RATE, end / RATE, self._score(samples)))
        return Detection(tuple(parts))

    def _score(self, samples: np.ndarray) -> float:
        windows = MarkWindows(RATE)
        spectra = windows.spectrum(np.pad(samples, windows.half, mode="reflect"))
        if stands_still(spectra):
            return 0.0
        return min(max(score_mark(self._branches, windows.scale(spectra)), 0.0), 1.0)


def _split(count: int) -> Iterator[tuple[int, int]]:
    """Yield the first sample of each part and the one after its last."""
    size = round(PART_SECONDS * RATE)
    yield 0, min(size, count)
    for start in range(size // 2, count - size + size // 2, size // 2):
        start = min(start, count - size)
        yield start, start + size
