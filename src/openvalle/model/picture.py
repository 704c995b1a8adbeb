"""A picture of who attends to whom, drawn from the mask that the networks use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from openvalle.errors import ConfigError, MissingExtra
from openvalle.files import atomic_path
from openvalle.model.ar import attention_mask
from openvalle.model.config import ARConfig, NARConfig, NARPrompt, StageConditioning
from openvalle.model.layers import Mask

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SYMBOLS, STEPS, PROMPT, TARGET = 6, 8, 4, 8  # shown; the real ones are many more
INK, SEEN, HIDDEN, EDGE = "#22303c", "#2f6f9f", "#eef2f5", "#ffffff"
FORMATS = (".png", ".pdf", ".svg")


def ar_mask(config: ARConfig) -> tuple[np.ndarray, list[tuple[str, int]]]:
    """Return a small example of the AR model's mask (L, L), [query, key], and its parts with their lengths."""
    text = SYMBOLS + 1
    audio = STEPS + int(config.begin)
    name = "groups" if config.group > 1 else "codes"
    parts = [("text, <EOS>", text), (f"<BOS>, {name}" if config.begin else name, audio)]
    return attention_mask(config, torch.tensor([text])).picture(text + audio)[0].numpy(), parts


def nar_mask(config: NARConfig) -> tuple[np.ndarray, list[tuple[str, int]]]:
    """Return the same for the NAR model."""
    is_token = config.conditioning == StageConditioning.TOKEN
    parts = [("text, <EOS>", SYMBOLS + 1) if is_token else ("text", SYMBOLS)]
    parts += [] if config.prompt == NARPrompt.NONE else [("prompt", PROMPT)]
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
