"""The built-in codec without torch: its networks on onnxruntime, the rest in NumPy (`pulses`).

What the decoder carries from block to block goes in and comes out of its graphs, so a stream is the whole. The encoder
always computes in float32: tokens have an identity. Letters: T frames, Q codebooks, C width.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from openvalle.codec.settings import (
    LOOKAHEAD,
    MEL_MEAN,
    MEL_SCALE,
    BuiltinCodecConfig,
    digest_arrays,
    unit_mel_filters,
)
from openvalle.engines.base import CodecStream
from openvalle.engines.layers import Precision, layer_norm, linear
from openvalle.engines.pulses import PulseTrain, log_spectra, overlap_add, synthesis_window
from openvalle.engines.vectors import sum_codes
from openvalle.engines.weights import Weights
from openvalle.graphs import Graph, find_graph, open_graph
from openvalle.types import CodecSpec

PITCH_DEPTH = 2  # blocks of the network that tells the pitch


class OnnxCodec:
    """A `CodecEngine` of the built-in kind."""

    def __init__(
        self,
        config: BuiltinCodecConfig,
        weights: Weights,
        precision: Precision,
        threads: int = 1,
        graphs: Path | None = None,
    ) -> None:
        """`graphs`: a folder of the graphs as files, whose weights are then not asked for."""
        self.config, self.weights, self.threads, self.graphs = config, weights, threads, graphs
        c = config
        self.codebooks = weights.take("quantizer.codebooks", c.codebooks, c.entries, c.latent)
        prefix = "encoder."
        own = {name.removeprefix(prefix): weights.values[name] for name in weights.values if name.startswith(prefix)}
        digest = digest_arrays({**own, "codebooks": self.codebooks}, repr(c.mel_floor))
        self._spec = CodecSpec(
            name=c.name, rate=c.rate, hop=c.hop, codebooks=c.codebooks, entries=c.entries, digest=digest
        )
        self.trunk = open_graph(self._kept("trunk") or trunk_graph(c, weights, precision), threads)
        self.fine = None
        if c.fine_depth:
            self.fine = open_graph(self._kept("fine") or fine_graph(c, weights, precision), threads)
        self._lock = Lock()

    @property
    def spec(self) -> CodecSpec:
        return self._spec

    @cached_property
    def _encoder(self) -> Any:
        return open_graph(self._kept("encoder") or encoder_graph(self.config, self.weights), self.threads)

    def _kept(self, name: str) -> Path | None:
        return None if self.graphs is None else find_graph(self.graphs, name)

    def encode(self, samples: np.ndarray, merge: int = 1) -> np.ndarray:
        c = self.config
        mel = log_spectra(samples, c.n_fft, c.hop) @ unit_mel_filters(c.rate, c.n_fft, c.mel_bins)
        scaled = (np.log(np.maximum(mel, np.float32(c.mel_floor))) - np.float32(MEL_MEAN)) / np.float32(MEL_SCALE)
        with self._lock:  # it is opened when it is first needed, by one of all threads
            encoder = self._encoder
        left, codes = encoder.run(["latents"], {"mel": scaled[None]})[0][0], []  # (T, latent)
        for book, entries in enumerate(self.codebooks):
            seen = _merge_frames(left, merge) if book == 0 else left
            codes.append((seen @ entries.T - 0.5 * np.square(entries).sum(-1)).argmax(-1))
            left = left - entries[codes[-1]]
        return np.stack(codes, axis=-1)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        stream = self.stream()
        return np.concatenate([stream.push(codes), stream.flush()])

    def stream(self) -> CodecStream:
        return OnnxCodecStream(self)


class OnnxCodecStream:
    """A `CodecStream`: every convolution's left context and the overlapping windows are carried along."""

    def __init__(self, codec: OnnxCodec) -> None:
        self.codec, c = codec, codec.config
        self._latents = np.zeros((LOOKAHEAD, c.latent), np.float32)  # inputs that the next frame needs
        self._contexts = [np.zeros((1, c.kernel - 1, width), np.float32) for width in _widths(c)]
        self._fine = [np.zeros((1, c.kernel - 1, c.fine_width), np.float32) for _ in range(c.fine_depth)]
        self._size, self._hop = window_sizes(c)
        self._tail = np.zeros(self._size - self._hop, np.float32)  # samples to which windows to come are added
        self._delay = self._skip = (self._size - self._hop) // 2  # the first window reaches before the first frame
        self._window = synthesis_window(self._size, self._hop)
        self._source = PulseTrain(c.rate, c.hop, self._size, self._hop) if c.fine_depth else None
        self._is_begun = False

    def push(self, codes: np.ndarray) -> np.ndarray:
        self._is_begun = self._is_begun or len(codes) > 0
        return self._advance(sum_codes(self.codec.codebooks, codes))

    def flush(self) -> np.ndarray:
        if not self._is_begun:
            return np.zeros(0, np.float32)
        last = self._advance(np.zeros((LOOKAHEAD, self.codec.config.latent), np.float32))
        # The whole decode keeps T * hop samples from the delay on: the tail gives those that are still owed.
        return np.concatenate([last, self._tail[self._skip : self._delay]])

    def _advance(self, latents: np.ndarray) -> np.ndarray:
        self._latents = np.concatenate([self._latents, latents])
        ready = len(self._latents) - 2 * LOOKAHEAD
        if ready <= 0:
            return np.zeros(0, np.float32)
        found = _run(self.codec.trunk, {"latents": self._latents[None]}, self._contexts)
        self._latents = self._latents[ready:]
        spectra = _complex(found[0][0]) if self._source is None else self._filter(*found)
        frames = np.fft.irfft(spectra, self._size).astype(np.float32) * self._window
        samples, self._tail = overlap_add(frames, self._tail, self._hop)
        skip = min(self._skip, len(samples))
        self._skip -= skip
        return samples[skip:]

    def _filter(self, pitch: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """Return spectra (T * parts, bins): the source filtered, and a spectrum of its own added."""
        assert self._source is not None
        source = self._source.push(pitch[0, :, 0], pitch[0, :, 1])
        halves = np.stack([source.real, source.imag], axis=-1).astype(np.float32).reshape(1, len(source), -1)
        own, gain = np.split(_run(self.codec.fine, {"spread": spread, "source": halves}, self._fine)[0][0], 2, axis=-1)
        return _complex(own) + source * _complex(gain)


def _run(session: Any, given: dict[str, np.ndarray], contexts: list[np.ndarray]) -> list[np.ndarray]:
    """Run a graph whose last outputs are the contexts of its next run, which take their places; return the others."""
    outputs = session.run(None, given | {f"context_{place}": context for place, context in enumerate(contexts)})
    own = len(outputs) - len(contexts)
    contexts[:] = outputs[own:]
    return outputs[:own]


def _complex(halves: np.ndarray) -> np.ndarray:
    """Return complex numbers (..., n) of real parts and then imaginary ones (..., 2 n)."""
    real, imaginary = np.split(halves, 2, axis=-1)
    return real + 1j * imaginary


def _merge_frames(x: np.ndarray, merge: int) -> np.ndarray:
    """Average (T, D) over every `merge` frames and repeat; the last ones are filled up by the last frame."""
    if merge == 1:
        return x
    filled = np.pad(x, ((0, -len(x) % merge), (0, 0)), mode="edge")
    return np.repeat(filled.reshape(-1, merge, x.shape[1]).mean(1), merge, axis=0)[: len(x)]


def window_sizes(config: BuiltinCodecConfig) -> tuple[int, int]:
    """Return samples of a synthesis window, and from one to the next."""
    if not config.fine_depth:
        return config.n_fft, config.hop
    return 4 * (config.hop // config.fine_parts), config.hop // config.fine_parts


def _widths(config: BuiltinCodecConfig) -> list[int]:
    """Return the widths of the blocks of the trunk graph that look back, in the order of their contexts."""
    c = config
    pitch = PITCH_DEPTH if c.fine_depth else 0
    return [c.trunk_width] * c.trunk_depth + [c.decoder_width] * c.decoder_depth + [c.trunk_width] * pitch


class _Blocks:
    """The layers of a graph; those that look back have a context each, which goes in and comes out."""

    def __init__(self, graph: Graph, config: BuiltinCodecConfig, weights: Weights, precision: Precision) -> None:
        self.graph, self.config, self.weights, self.precision = graph, config, weights, precision
        self._contexts: list[tuple[str, int]] = []  # what comes out, and its width

    def linear(self, x: str, name: str, out: int, inner: int, precision: Precision = Precision.FP32) -> str:
        values = self.weights.take(f"{name}.weight", out, inner), self.weights.take(f"{name}.bias", out)
        return linear(self.graph, x, name, *values, precision)

    def norm(self, x: str, name: str, width: int) -> str:
        scale, shift = (self.weights.take(f"{name}.{kind}", width) for kind in ("weight", "bias"))
        return layer_norm(
            self.graph, x, self.graph.weight(f"{name}.weight", scale), self.graph.weight(f"{name}.bias", shift)
        )

    def convolve(self, x: str, name: str, out: int, inner: int, *, pad: int) -> str:
        """Return the convolution over time of x (1, T, inner) with `pad` silent frames on both sides."""
        graph, kernel = self.graph, self.weights.values[f"{name}.weight"].shape[-1]
        weight = self.weights.take(f"{name}.weight", out, inner, kernel)
        bias = self.weights.take(f"{name}.bias", out)
        given = graph.weight(f"{name}.weight", weight), graph.weight(f"{name}.bias", bias)
        turned = graph.add("Transpose", x, perm=[0, 2, 1])
        return graph.add("Transpose", graph.add("Conv", turned, *given, pads=[pad, pad]), perm=[0, 2, 1])

    def backbone(self, x: str, name: str, width: int, depth: int, *, causal: bool) -> str:
        """Return what a row of ConvNeXt blocks makes of x (1, T, width)."""
        graph, inner = self.graph, width * self.config.expansion
        # What comes before the last part decides on pitch and phase: rounding it is heard sooner than it saves time.
        precision = self.precision if name == "decoder.fine.body" else Precision.FP32
        for index in range(depth):
            own = f"{name}.blocks.{index}"
            mixed = self.norm(self._mix(x, f"{own}.mix.conv", width, causal=causal), f"{own}.norm", width)
            hidden = graph.add("Gelu", self.linear(mixed, f"{own}.up", inner, width, precision), ours=True)
            scale = self.weights.take(f"{own}.scale", width)  # of what the last layer gives: a part of it
            weight = self.weights.take(f"{own}.down.weight", width, inner) * scale[:, None]
            bias = self.weights.take(f"{own}.down.bias", width) * scale
            x = graph.add("Add", x, linear(graph, hidden, f"{own}.down", weight, bias, precision))
        return x

    def _mix(self, x: str, name: str, width: int, *, causal: bool) -> str:
        """Return the depthwise convolution of x (1, T, width): a sum of shifted copies, each times its weights."""
        graph, kernel = self.graph, self.config.kernel
        if causal:
            context = graph.input(f"context_{len(self._contexts)}", [1, kernel - 1, width])
            seen = graph.add("Concat", context, x, axis=1)
            ends = graph.constant([1 - kernel]), graph.constant([2**31 - 1]), graph.constant([1])
            self._contexts.append((graph.add("Slice", seen, *ends), width))
        else:
            seen = graph.add("Pad", x, graph.constant([0, kernel // 2, 0, 0, kernel // 2, 0]))
        weight = self.weights.take(f"{name}.weight", width, 1, kernel)
        turned = graph.add("Transpose", seen, perm=[0, 2, 1])
        given = (
            graph.weight(f"{name}.weight", weight),
            graph.weight(f"{name}.bias", self.weights.take(f"{name}.bias", width)),
        )
        return graph.add("Transpose", graph.add("Conv", turned, *given, group=width), perm=[0, 2, 1])

    def polar(self, x: str) -> str:
        """Return real and imaginary parts (..., 2 n) of log-magnitudes and phases (..., 2 n)."""
        graph = self.graph
        size, phase = graph.add("Split", x, count=2, axis=-1, num_outputs=2)
        size = graph.add("Exp", graph.add("Min", size, graph.constant(6.0, "float32")))
        halves = [graph.add("Mul", size, graph.add(wave, phase)) for wave in ("Cos", "Sin")]
        return graph.add("Concat", *halves, axis=-1)

    def give_contexts(self) -> None:
        """Give out the contexts, as the last outputs."""
        for index, (context, width) in enumerate(self._contexts):
            self.graph.output(context, f"next_{index}", [1, self.config.kernel - 1, width])


def encoder_graph(config: BuiltinCodecConfig, weights: Weights) -> Graph:
    """Return the graph: scaled log-mel (1, T, bins) -> latents (1, T, latent)."""
    c, graph = config, Graph()
    blocks = _Blocks(graph, c, weights, Precision.FP32)
    x = blocks.convolve(
        graph.input("mel", [1, "t", c.mel_bins]), "encoder.enter", c.encoder_width, c.mel_bins, pad=c.kernel // 2
    )
    x = blocks.backbone(x, "encoder.body", c.encoder_width, c.encoder_depth, causal=False)
    x = blocks.linear(blocks.norm(x, "encoder.norm", c.encoder_width), "encoder.leave", c.latent, c.encoder_width)
    graph.output(x, "latents", [1, "t", c.latent])
    return graph


def trunk_graph(config: BuiltinCodecConfig, weights: Weights, precision: Precision) -> Graph:
    """Return the graph: latents with their neighbours (1, T + 2 * LOOKAHEAD, latent) -> pitch and voicing (1, T, 2) and
    what enters the fine end (1, T * parts, fine); without one, spectra (1, T, 2 bins). Contexts go in and come out."""
    c, graph = config, Graph()
    blocks = _Blocks(graph, c, weights, precision)
    x = blocks.convolve(graph.input("latents", [1, "t", c.latent]), "decoder.enter", c.trunk_width, c.latent, pad=0)
    hidden = blocks.backbone(x, "decoder.trunk", c.trunk_width, c.trunk_depth, causal=True)
    x = blocks.linear(hidden, "decoder.widen", c.decoder_width, c.trunk_width)
    x = blocks.backbone(x, "decoder.body", c.decoder_width, c.decoder_depth, causal=True)
    x = blocks.norm(x, "decoder.norm", c.decoder_width)
    if c.fine_depth:
        _give_pitch(blocks, hidden)
        spread = blocks.linear(x, "decoder.fine.spread", c.fine_parts * c.fine_width, c.decoder_width)
        graph.output(
            graph.add("Reshape", spread, graph.constant([1, -1, c.fine_width])), "spread", [1, "p", c.fine_width]
        )
    else:
        bins = c.n_fft // 2 + 1
        x = blocks.linear(x, "decoder.head.project", 2 * bins, c.decoder_width)
        graph.output(blocks.polar(x), "spectra", [1, "f", 2 * bins])
    blocks.give_contexts()
    return graph


def _give_pitch(blocks: _Blocks, hidden: str) -> None:
    """Give out pitch, in octaves, and voicing, a probability, in float32: a period is a thousandth of an octave."""
    graph, width = blocks.graph, blocks.config.trunk_width
    x = blocks.backbone(hidden, "decoder.fine.pitch.body", width, PITCH_DEPTH, causal=True)
    x = blocks.norm(x, "decoder.fine.pitch.norm", width)
    octaves, voicing = graph.add(
        "Split", blocks.linear(x, "decoder.fine.pitch.leave", 2, width), count=2, axis=-1, num_outputs=2
    )
    graph.output(graph.add("Concat", octaves, graph.add("Sigmoid", voicing), axis=-1), "pitch", [1, "f", 2])


def fine_graph(config: BuiltinCodecConfig, weights: Weights, precision: Precision) -> Graph:
    """Return the graph: what enters the fine end (1, P, fine) and the source's spectra (1, P, 2 bins) -> spectra to add
    to it and to filter it by, real and imaginary parts (1, P, 4 bins)."""
    c, graph = config, Graph()
    blocks, bins = _Blocks(graph, c, weights, precision), window_sizes(c)[0] // 2 + 1
    spread = graph.input("spread", [1, "p", c.fine_width])
    source = graph.input("source", [1, "p", 2 * bins])
    x = graph.add("Add", spread, blocks.linear(source, "decoder.fine.excite", c.fine_width, 2 * bins))
    x = blocks.norm(
        blocks.backbone(x, "decoder.fine.body", c.fine_width, c.fine_depth, causal=True),
        "decoder.fine.norm",
        c.fine_width,
    )
    parts = blocks.linear(x, "decoder.fine.head.project", 4 * bins, c.fine_width)
    own, gain = graph.add("Split", parts, count=2, axis=-1, num_outputs=2)
    graph.output(graph.add("Concat", blocks.polar(own), blocks.polar(gain), axis=-1), "spectra", [1, "p", 4 * bins])
    blocks.give_contexts()
    return graph
