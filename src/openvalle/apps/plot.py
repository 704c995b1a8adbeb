"""A picture of speech: waveform with its words, mel spectrogram, and the alignment of its phones."""

from __future__ import annotations

import logging
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from openvalle.audio import Audio, hertz_to_mel, mel_filters
from openvalle.errors import import_extra
from openvalle.files import atomic_path
from openvalle.synth.speech import Speech
from openvalle.text.sentences import even_blanks

if TYPE_CHECKING:
    from matplotlib.axes import Axes


BINS = 80
WINDOW, HOP = 1024, 240  # samples: 43 ms windows every 10 ms at 24 kHz
FLOOR_DB = -80.0
MAX_LABELS = 90  # more phones than this are drawn without their names
WIDTH_PER_SECOND, MIN_WIDTH, MAX_WIDTH, HEIGHT = 2.4, 10.0, 40.0, 6.4  # inches
# Fonts with the signs of Chinese and Japanese, where one is installed; the plots' own has none.
WIDE_FONTS = (
    *(f"{name} CJK {place}" for name in ("Noto Sans", "Source Han Sans") for place in ("SC", "JP")),
    *("WenQuanYi Zen Hei", "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Yu Gothic", "IPAGothic", "SimHei"),
)
INK, WAVE, PATH, PAUSE = "#22303c", "#2f6f9f", "#ffffff", "#9fb4c4"


def plot_speech(speech: Speech, path: str | Path, title: str = "") -> Path:
    """Draw `speech` into a PNG (or what the ending asks for), atomically; return the path."""
    import_extra("matplotlib", "matplotlib", "plot")
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    width = min(max(speech.seconds * WIDTH_PER_SECOND, MIN_WIDTH), MAX_WIDTH)
    text = even_blanks(speech.text)
    with rc_context({"font.family": find_fonts()}), atomic_path(path) as part, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # no font here has it: a box says so
        figure = Figure(figsize=(width, HEIGHT), layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)  # no window, and no state shared with the caller's own figures
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2.4))
        _draw_wave(upper, speech)
        _draw_spectrogram(lower, speech)
        _draw_path(lower, speech)
        shown = title or (text if len(text) <= 100 else text[:99].rstrip() + "…")
        upper.set_title(shown, loc="left", fontsize=12, color=INK, pad=18)
        figure.savefig(part, dpi=120, format=path.suffix.lstrip(".").lower() or "png")
    return path


@cache
def find_fonts() -> list[str]:
    """Return the fonts to write with: where one has no sign of a word, the next is asked."""
    from matplotlib.font_manager import get_font_names

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it tells of weights that a font lacks
    return ["DejaVu Sans", *sorted(set(WIDE_FONTS) & set(get_font_names()), key=WIDE_FONTS.index)]


def mel_spectrogram(audio: Audio) -> np.ndarray:
    """Return the power in decibels below the loudest, (BINS, frames) float32, frames every `HOP` samples."""
    padded = np.pad(audio.samples, WINDOW // 2)
    count = 1 + max(0, len(padded) - WINDOW) // HOP
    starts = np.arange(count)[:, None] * HOP
    padded = np.pad(padded, (0, max(0, int(starts[-1, 0]) + WINDOW - len(padded))))
    frames = padded[starts + np.arange(WINDOW)] * np.hanning(WINDOW).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(frames, axis=1)))  # (frames, WINDOW // 2 + 1)
    mel = mel_filters(audio.rate, WINDOW, BINS) @ power.T
    decibels = 10 * np.log10(np.maximum(mel, 1e-10))
    return np.maximum(decibels - decibels.max(), FLOOR_DB).astype(np.float32)


def _draw_wave(axes: Axes, speech: Speech) -> None:
    samples = speech.audio.samples
    block = max(1, len(samples) // 6000)
    whole = samples[: len(samples) // block * block].reshape(-1, block)
    times = np.arange(len(whole)) * block / speech.audio.rate
    axes.fill_between(times, whole.min(axis=1), whole.max(axis=1), color=WAVE, linewidth=0.4)
    peak = max(0.05, float(np.abs(samples).max(initial=0)))
    axes.set_ylim(-1.1 * peak, 1.1 * peak)
    axes.set_xlim(0, speech.seconds)
    for index, word in enumerate(word for word in speech.words if word.end > word.start):
        axes.axvspan(word.start, word.end, color=WAVE, alpha=0.06 + 0.06 * (index % 2), linewidth=0)
        axes.text((word.start + word.end) / 2, 1.13 * peak, word.text, ha="center", va="bottom", fontsize=9, color=INK)
    axes.set_ylabel("amplitude", color=INK)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_spectrogram(axes: Axes, speech: Speech) -> None:
    mel = mel_spectrogram(speech.audio)
    axes.imshow(
        mel, origin="lower", aspect="auto", cmap="magma", vmin=FLOOR_DB, vmax=0, extent=(0, speech.seconds, 0, BINS)
    )
    shown = [hertz for hertz in (250, 500, 1000, 2000, 4000, 8000) if hertz < speech.audio.rate / 2]
    top = hertz_to_mel(speech.audio.rate / 2)
    axes.set_yticks([float(hertz_to_mel(hertz) / top * BINS) for hertz in shown], [f"{hertz}" for hertz in shown])
    axes.set_ylabel("frequency, Hz (mel scale)", color=INK)
    axes.set_xlabel("seconds", color=INK)


def _draw_path(axes: Axes, speech: Speech) -> None:
    """A staircase from the first phone (bottom) to the last (top), over the spectrogram."""
    from matplotlib.patheffects import withStroke

    phones = [phone for phone in speech.phones if phone.end > phone.start]
    if not phones:
        return
    outline = [withStroke(linewidth=1.6, foreground=INK)]
    levels = np.linspace(0.04 * BINS, 0.96 * BINS, len(phones)) if len(phones) > 1 else np.array([BINS / 2])
    edges = [phones[0].start, *(phone.end for phone in phones)]
    axes.stairs(levels, edges, baseline=None, color=PATH, linewidth=1.6, alpha=0.9)
    if len(phones) > MAX_LABELS * max(1.0, speech.seconds / 8):
        return
    for phone, level in zip(phones, levels, strict=True):
        middle = (phone.start + phone.end) / 2
        name, color = ("·", PAUSE) if phone.text == "SIL" else (phone.text, PATH)
        axes.text(middle, level + 1.2, name, ha="center", va="bottom", fontsize=7.5, color=color, path_effects=outline)
