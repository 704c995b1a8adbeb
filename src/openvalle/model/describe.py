"""A model by its numbers: parameters per part, tokens, steps and memory. Nothing is allocated.

A picture of who attends to whom, drawn from the mask that the networks use.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from openvalle.errors import ConfigError, MissingExtra
from openvalle.files import atomic_path
from openvalle.model.ar import AR, attention_mask
from openvalle.model.config import ARConfig, NARConfig
from openvalle.model.kinds import PromptKind, StageConditioning
from openvalle.model.nar import NAR
from openvalle.model.transformer import Mask
from openvalle.types import FRAME_RATE

if TYPE_CHECKING:
    from matplotlib.axes import Axes


PROMPT_SECONDS = 3.0
SYMBOLS_A_SECOND = 12.0  # ARPAbet phones with pauses in read English; byte-pair units are a third of that
FLOAT = 4  # bytes: weights and cache are float32 when speaking
PARTS = (  # what the name of a parameter begins with -> part; the first that fits
    ("text.table", "text embedding"),
    ("text.positions", "positions"),
    ("text.", "text: <EOS> and prenet"),
    ("codes", "code embeddings"),
    ("positions", "positions"),
    ("language", "language embedding"),
    ("bos", "<BOS>, <EOS>"),
    ("end", "<BOS>, <EOS>"),
    ("group_", "group layers"),
    ("stage", "stage embedding"),
    ("transformer.norm", "norms"),
    ("head", "code heads"),
    ("code_head", "code heads"),
    ("prenet", "frame prenet"),
    ("linear", "frame prenet"),
    ("prompts", "prompt embedding"),
    ("project", "code embeddings"),
    ("residual_head", "residual head"),
    ("phoneme_head", "phoneme head"),
)
BLOCKS = "attention and feed-forward"  # of all layers: 12 L (D^2) at the papers' shape


@dataclass(frozen=True)
class NetworkNumbers:
    """Parameters of one network."""

    parts: dict[str, int]
    total: int
    blocks: int  # of which in the transformer's blocks, norms included


@dataclass(frozen=True)
class Numbers:
    """What `describe` tells of a model. Sizes are in bytes."""

    ar: NetworkNumbers
    nar: NetworkNumbers
    seconds: float  # of speech that steps and memory are for
    frame_rate: float
    codes_per_second: float  # of all codebooks together
    ar_codes_per_second: float  # of codebook 1, once merged
    ar_steps: int
    nar_passes: int
    positions: int  # that the AR model has seen at the end: text, a prompt of 3 s and the speech
    weights: int
    cache: int

    @property
    def memory(self) -> int:
        """Weights of both networks and the AR model's cache."""
        return self.weights + self.cache

    def values(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return asdict(self) | {"memory": self.memory}


def describe(ar: ARConfig, nar: NARConfig, seconds: float = 10.0) -> Numbers:
    """Return the numbers of a model for `seconds` of speech after a prompt of 3 s."""
    with torch.device("meta"):
        first, second = _numbers(AR(ar)), _numbers(NAR(nar))
    steps = math.ceil(seconds * FRAME_RATE / ar.step_frames)
    prompt = int(PROMPT_SECONDS * FRAME_RATE / ar.step_frames)
    text = math.ceil((seconds + PROMPT_SECONDS) * SYMBOLS_A_SECOND) + 1  # and <EOS>
    positions = text + int(ar.use_bos) + prompt + steps
    return Numbers(
        ar=first,
        nar=second,
        seconds=seconds,
        frame_rate=FRAME_RATE,
        codes_per_second=FRAME_RATE * nar.codebooks,
        ar_codes_per_second=FRAME_RATE / ar.merge,
        ar_steps=steps,
        nar_passes=nar.stages,
        positions=positions,
        weights=(first.total + second.total) * FLOAT,
        cache=2 * ar.transformer.depth * ar.transformer.width * positions * FLOAT,
    )


def _numbers(network: nn.Module) -> NetworkNumbers:
    parts: dict[str, int] = {}
    blocks = 0
    for name, parameter in network.named_parameters():
        part = _part(name)
        parts[part] = parts.get(part, 0) + parameter.numel()
        blocks += parameter.numel() * name.startswith("transformer.blocks.")
    return NetworkNumbers(parts, sum(parts.values()), blocks)


def _part(name: str) -> str:
    if name.startswith("transformer.blocks."):
        return "norms" if "_norm." in name else BLOCKS
    return next(part for start, part in PARTS if name.startswith(start))


SYMBOLS, STEPS, PROMPT, TARGET = 6, 8, 4, 8  # shown; the real ones are many more
INK, SEEN, HIDDEN, EDGE = "#22303c", "#2f6f9f", "#eef2f5", "#ffffff"
FORMATS = (".png", ".pdf", ".svg")


def ar_mask(config: ARConfig) -> tuple[np.ndarray, list[tuple[str, int]]]:
    """Return a small example of the AR model's mask (L, L), [query, key], and its parts with their lengths."""
    text = SYMBOLS + config.text_edges
    audio = STEPS + int(config.use_bos)
    name = "groups" if config.group > 1 else "codes"
    parts = [(_text_name(config), text), (f"<BOS>, {name}" if config.use_bos else name, audio)]
    return attention_mask(config, torch.tensor([text])).picture(text + audio)[0].numpy(), parts


def _text_name(config: ARConfig | NARConfig) -> str:
    """Return what a text is called in a picture, with what stands around it."""
    has_end = config.text_edges > int(config.text_bos)
    return ", ".join(["<BOS>"] * config.text_bos + ["text"] + ["<EOS>"] * has_end)


def nar_mask(config: NARConfig) -> tuple[np.ndarray, list[tuple[str, int]]]:
    """Return a small example of the NAR model's mask (L, L), [query, key], and its parts with their lengths."""
    is_token = config.conditioning == StageConditioning.TOKEN
    parts = [(_text_name(config), SYMBOLS + config.text_edges)]
    parts += [] if config.prompt == PromptKind.NONE else [("prompt", PROMPT)]
    parts += [("target", TARGET)] + [("<EOS>, stage", 2)] * is_token
    return Mask(causal=False).picture(sum(length for _, length in parts))[0].numpy(), parts


def plot_masks(ar: ARConfig, nar: NARConfig, path: str | Path, title: str = "") -> Path:
    """Draw both masks into a PNG, PDF or SVG, atomically; return the path."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"cannot draw into {path.name}", f"end it in {' '.join(FORMATS)}")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("matplotlib", "plot") from None

    figure = Figure(figsize=(11, 5.2), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _draw(left, *ar_mask(ar), "AR: codebook 1")
    _draw(right, *nar_mask(nar), f"NAR: codebooks 2 to {nar.codebooks}")
    if title:
        figure.suptitle(title, color=INK)
    with atomic_path(path) as part:
        figure.savefig(part, dpi=120, format=path.suffix.lstrip(".").lower())
    return path


def _draw(axes: Axes, seen: np.ndarray, parts: Sequence[tuple[str, int]], title: str) -> None:
    from matplotlib.colors import ListedColormap

    length = len(seen)
    axes.imshow(seen, cmap=ListedColormap([HIDDEN, SEEN]), vmin=0, vmax=1)
    axes.set_xticks(np.arange(length + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(length + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=EDGE, linewidth=0.8)
    axes.tick_params(which="both", length=0)
    edges = np.cumsum([0, *(size for _, size in parts)])
    middles = (edges[:-1] + edges[1:] - 1) / 2
    names = [name for name, _ in parts]
    axes.set_xticks(middles, names)
    axes.set_yticks(middles, names, rotation=90, va="center")
    for edge in edges[1:-1] - 0.5:
        axes.axhline(edge, color=INK, linewidth=1.2)
        axes.axvline(edge, color=INK, linewidth=1.2)
    axes.set_title(title, loc="left", color=INK)
    axes.set_xlabel("is seen", color=INK)
    axes.set_ylabel("sees (dark)", color=INK)
