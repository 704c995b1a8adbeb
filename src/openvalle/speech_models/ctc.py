"""A small network of ours that hears phones (CTC), and the forced alignment by it: of any language that it was trained
with, since its classes are sounds of the one inventory.

Log mel energies -> convolutions -> the log-probability of each sound and of the blank, every 20 ms. CTC alone learns
short spikes, anywhere near a sound. Two things tie a sound to its frames here: the network sees less than a tenth of a
second on each side, so that it cannot know of a sound before it begins; and probabilities are divided by a power of how
often each class is heard at all, in training and here ("Less peaky and more accurate CTC forced alignment by label
priors", Huang et al. 2024, arXiv:2406.02560).
`openvalle.train.ctc` is the same network in torch, which `openvalle.train.aligner` trains.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load_file

from openvalle.audio import MODEL_RATE, Audio, levels, power_mel, to_model_samples
from openvalle.config import Config
from openvalle.errors import ConfigError, ModelError, TextError
from openvalle.graphs import Graph, open_graph
from openvalle.speech_models.aligner import Hear, PhoneAlignment, PhoneSpan, mismatch, tile
from openvalle.types import SIL

BLANK = 0  # the class that is no sound; the sounds follow in the order of the config's symbols
HOP, SPECTRUM = 160, 400  # samples at 16 kHz: a spectrum of 25 ms every 10 ms
FLOOR = 1e-6  # of a power, far below what a microphone hears
SPREAD = 2.5  # deviation of log mel energies of speech
POOR = -2.5  # mean of a frame; right words of unseen readers scored -0.4 to -1.1, wrong ones -2.7 or less
PAUSE_DB = 25.0  # below the loudest frame: what is louder is hardly a pause
LOUD_PAUSE = 3.0  # nats that a frame as loud loses where it is taken for one
LEAST_PRIOR = 1e-6  # share of frames of a class that was never heard
CONFIG, WEIGHTS = "config.json", "model.safetensors"
WINDOW = 2048  # states of a lattice that are looked at together: all of them in clips of up to a minute
_NEVER = -np.inf


class CTCConfig(Config):
    """What the network is, and what it hears."""

    symbols: tuple[str, ...] = Field(description="segments of the inventory, in the order of their classes")
    bands: int = Field(80, gt=0, description="mel bands")
    width: int = Field(144, gt=0, description="D, the width of every block")
    depth: int = Field(8, gt=0, description="blocks")
    reach: int = Field(3, ge=0, description="blocks that see a frame on each side; all others see their own alone")
    stride: int = Field(2, gt=0, description="spectra a frame")
    prior: float = Field(0.3, ge=0, le=1, description="power of a class's frequency that its probability is divided by")

    @property
    def frame_seconds(self) -> float:
        """Seconds a frame."""
        return self.stride * HOP / MODEL_RATE


def log_mel(samples: np.ndarray, bands: int) -> np.ndarray:
    """Return what the network hears of (samples,) at 16 kHz: (spectra, bands) float32, each band without its mean."""
    mel = np.log(power_mel(samples, MODEL_RATE, SPECTRUM, HOP, bands) + np.float32(FLOOR))
    return (mel - mel.mean(axis=0)) / np.float32(SPREAD)


class CTCAligner:
    """Forced alignment by a trained network. Calls may come from many threads."""

    poor_score = POOR

    def __init__(self, folder: str | Path) -> None:
        """`folder`: as `openvalle train aligner` writes it; `ModelError` if it holds no such network."""
        self.folder = Path(folder)
        self.config, weights, self.digest = read_network(self.folder)
        self._network = open_network(self.config, weights)
        self._penalty = self.config.prior * np.log(np.maximum(weights["prior"], LEAST_PRIOR))
        self._classes = {symbol: place for place, symbol in enumerate(self.config.symbols, 1)}

    @property
    def symbols(self) -> tuple[str, ...]:
        """The segments of the inventory that it hears."""
        return self.config.symbols

    def scores(self, audio: Audio) -> np.ndarray:
        """Return the score of each class at each frame, (T, classes) float64; `AudioError` if the sound is silent."""
        features = log_mel(to_model_samples(audio), self.config.bands)
        found = self._network.run(["y"], {"x": np.ascontiguousarray(features.T[None])})[0][0]
        return (found - self._penalty).astype(np.float64)

    def align_scored(
        self, audio: Audio, words: Sequence[tuple[str, tuple[str, ...]]], hear: Hear | None = None
    ) -> PhoneAlignment:
        """Return when each symbol of `words` (text, symbols) is spoken, and how surely.

        `hear`: the segments that stand for a symbol, one at least; without it each is one. The spans tile [0,
        audio.seconds], as those of `Aligner.align_scored`, and so do the errors. A score is that of a frame's class
        less the best one's, in nats.
        """
        sounds = [
            (word, place, self._find_class(segment))
            for word, (_, symbols) in enumerate(words)
            for place, symbol in enumerate(symbols)
            for segment in (hear(symbol) if hear else (symbol,))
        ]
        if not sounds:
            raise TextError("there are no words to align", "give the words that are spoken in the recording")
        scores = self.scores(audio)
        scores[_find_loud(audio, len(scores), self.config.frame_seconds), BLANK] -= LOUD_PAUSE
        owners, labels = _lay_out(sounds)
        path = find_path(scores, labels, labels == BLANK) if len(sounds) <= len(scores) else None
        if path is None:
            raise mismatch()
        short = scores[np.arange(len(path)), labels[path]] - scores.max(axis=1)  # (T,) at most 0
        spoken = labels[path] != BLANK
        own = np.array([owner[0] for owner in owners])[path]  # (T,) the word of each frame, -1 for none
        by_word = [float(short[own == word].mean()) if np.any(own == word) else 0.0 for word in range(len(words))]
        spans = self._to_spans(path, owners, words, audio.seconds)
        return PhoneAlignment(tuple(tile(spans, audio.seconds)), float(short[spoken].mean()), tuple(by_word))

    def _find_class(self, segment: str) -> int:
        if segment not in self._classes:
            raise TextError(f"the aligner {self.folder} does not hear {segment!r}", "train it with the language")
        return self._classes[segment]

    def _to_spans(
        self,
        path: np.ndarray,
        owners: Sequence[tuple[int, int]],
        words: Sequence[tuple[str, tuple[str, ...]]],
        seconds: float,
    ) -> list[PhoneSpan]:
        """Return a span for each symbol and each blank on the path; a symbol of several sounds is one."""
        changes = np.flatnonzero(np.diff(path)) + 1
        firsts = np.concatenate([[0], changes])
        borders = np.concatenate([[0.0], (changes - 0.5) * self.config.frame_seconds, [seconds]])
        spans: list[PhoneSpan] = []
        before = None
        for index, first in enumerate(firsts):
            word, place = owner = owners[path[first]]
            start, end = min(borders[index], seconds), min(borders[index + 1], seconds)
            if owner == before and word >= 0:
                spans[-1] = PhoneSpan(spans[-1].symbol, spans[-1].start, end, word)
            else:
                spans.append(PhoneSpan(words[word][1][place] if word >= 0 else SIL, start, end, word))
            before = owner
        return spans


def _find_loud(audio: Audio, count: int, frame_seconds: float) -> np.ndarray:
    """Return which of `count` frames are too loud for a pause between words, (count,) bool."""
    found = levels(audio, frame_seconds)
    found = np.pad(found, (0, max(count - len(found), 0)), mode="edge")[:count]
    return found > found.max() - PAUSE_DB


def _lay_out(sounds: Sequence[tuple[int, int, int]]) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Return the states of the lattice as (word, symbol), (-1, -1) of blanks, and their classes.

    A blank may come first, last and between words: inside a word nobody pauses.
    """
    owners, labels = [(-1, -1)], [BLANK]
    for index, (word, place, label) in enumerate(sounds):
        if index and sounds[index - 1][0] != word:
            owners.append((-1, -1))
            labels.append(BLANK)
        owners.append((word, place))
        labels.append(label)
    return [*owners, (-1, -1)], np.array([*labels, BLANK])


def read_network(folder: Path) -> tuple[CTCConfig, dict[str, np.ndarray], str]:
    """Return a trained network's settings, its weights in float32 and the digest of its files.

    `ModelError` if the folder holds none.
    """
    hint = "give the folder `aligner` of a run of `openvalle train aligner`"
    try:
        config = CTCConfig.load(folder / CONFIG)
        weights = {name: value.astype(np.float32) for name, value in load_file(folder / WEIGHTS).items()}
        shape = len(config.symbols) + 1, config.width
        if weights["head.weight"].shape != shape:
            raise ModelError(f"its head is {weights['head.weight'].shape}, not {shape}")
        files = [(folder / name).read_bytes() for name in (CONFIG, WEIGHTS)]
    except (OSError, ConfigError, SafetensorError, ModelError, KeyError) as error:
        raise ModelError(f"{folder} holds no aligner ({str(error).splitlines()[0][:100]})", hint) from None
    return config, weights, hashlib.sha256(b"".join(files)).hexdigest()[:16]


def open_network(config: CTCConfig, weights: dict[str, np.ndarray]) -> Any:
    """Return a session of the network of `openvalle.train.ctc`, by its weights' names there.

    x (1, bands, spectra) -> y (1, T, classes), log-probabilities.
    """
    graph = Graph()

    def give(name: str) -> str:
        return graph.weight(name, weights[name])

    def norm(name: str, x: str) -> str:
        return str(graph.add("LayerNormalization", x, give(f"{name}.weight"), give(f"{name}.bias"), epsilon=1e-5))

    def linear(name: str, x: str) -> str:
        flat = graph.weight(f"{name}.weight", weights[f"{name}.weight"].T)
        return str(graph.add("Add", graph.add("MatMul", x, flat), give(f"{name}.bias")))

    def turn(x: str) -> str:
        return str(graph.add("Transpose", x, perm=[0, 2, 1]))

    x = graph.input("x", [1, config.bands, "f"])
    enter = give("enter.weight"), give("enter.bias")
    x = turn(graph.add("Conv", x, *enter, pads=[2, 2], strides=[config.stride]))
    for index in range(config.depth):
        at, reach = f"blocks.{index}", int(index < config.reach)
        mix = give(f"{at}.mix.weight"), give(f"{at}.mix.bias")
        mixed = turn(graph.add("Conv", turn(x), *mix, pads=[reach, reach], group=config.width))
        wide = graph.add("Gelu", linear(f"{at}.up", norm(f"{at}.norm", mixed)))
        x = graph.add("Add", x, linear(f"{at}.down", wide))
    graph.output(
        graph.add("LogSoftmax", linear("head", norm("norm", x)), axis=-1), "y", [1, "t", len(config.symbols) + 1]
    )
    return open_graph(graph)


def find_path(scores: np.ndarray, labels: np.ndarray, optional: np.ndarray, window: int = WINDOW) -> np.ndarray | None:
    """Return the state of each frame on the likeliest path through a lattice, (T,) int64; None if none leads through.

    A lattice (Graves et al. 2006) is a row of states, each of one class (a sound, or the blank). A frame stays in its
    state or goes on to the next one; states that are optional, as blanks are, may be passed over.

    `scores` (T, K): log-likelihood of each class at each frame; `labels` (S,): the class of each state, three or more;
    `optional` (S,) bool: may be passed over, never two neighbours. Time and memory grow with the frames alone: of
    lattices with more states than `window` only those near the best one of a frame are looked at.
    """
    frames, states = len(scores), len(labels)
    assert states >= 3 and not np.any(optional[1:] & optional[:-1]), (states, optional)
    width = min(window, states)
    moves, bases = np.zeros((frames, width), np.uint8), np.zeros(frames, np.int64)
    passes = np.where(np.concatenate([[False, False], optional[1:-1]]), 0.0, _NEVER)  # into each state, by two
    best = np.full(width, _NEVER)
    best[: 1 + bool(optional[0])] = scores[0, labels[: 1 + bool(optional[0])]]
    base, places = 0, np.arange(width)
    for frame in range(1, frames):
        ahead = min(int(best.argmax()) - width // 2, states - width - base)
        if ahead > 0:  # what lies far behind is given up
            best = np.concatenate([best[ahead:], np.full(ahead, _NEVER)])
            base += ahead
        bases[frame] = base
        ways = np.full((3, width), _NEVER)
        ways[0] = best
        ways[1, 1:] = best[:-1]
        ways[2, 2:] = best[:-2] + passes[base + 2 : base + width]
        moves[frame] = ways.argmax(0)
        best = ways[moves[frame], places] + scores[frame, labels[base : base + width]]
    ends = [states - 1, states - 2] if optional[-1] else [states - 1]
    ends = [end for end in ends if end >= base and end - base < width and np.isfinite(best[end - base])]
    if not ends:
        return None
    state = max(ends, key=lambda end: float(best[end - base]))
    path = np.empty(frames, np.int64)
    for frame in range(frames - 1, -1, -1):
        path[frame] = state
        state -= int(moves[frame, state - bases[frame]])
    return path
