"""Windows: pieces of any size give the same codes, one window is the whole, and every setting changes something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from lm_samples import ENTRIES, NAR_KINDS, SMALL, nar_engine
from openvalle.decode.nar import Windows, fill, fill_windows
from openvalle.decode.prompt import NARPrompt
from openvalle.engines.torch import TorchNAR
from openvalle.model.config import NARConfig
from openvalle.model.nar import NAR, NARInputs

SMALL_WINDOWS = Windows(first=4, look_ahead=2)
PREFIX = [kind for kind, values in NAR_KINDS.items() if values.get("prompt", "prefix") == "prefix"]


def row(frames: int, prompt: int) -> NARPrompt:
    rng = np.random.default_rng(frames)
    alignment = np.concatenate([np.arange(prompt) * 2 // max(1, prompt), 2 + np.arange(frames) * 4 // frames])
    return NARPrompt(
        text=rng.integers(1, SMALL["symbols"], size=6),
        codebook1=rng.integers(ENTRIES, size=frames),
        prompt_symbols=2,
        prompt=rng.integers(ENTRIES, size=(prompt, 8)) if prompt else None,
        alignment=alignment,
        language=1,
        prompt_language=2,
    )


def windowed(
    model: TorchNAR, whole: NARPrompt, windows: Windows | None, sizes: Sequence[int], spoken: int = 0
) -> list[np.ndarray]:
    """Return the windows of a row whose frames come in pieces of these sizes."""
    before = 0 if whole.prompt is None else len(whole.prompt)
    empty = replace(whole, codebook1=whole.codebook1[:0], alignment=whole.alignment[:before])
    ends = np.cumsum(sizes)
    assert ends[-1] == len(whole.codebook1)
    pieces = zip(np.split(whole.codebook1, ends[:-1]), np.split(whole.alignment[before:], ends[:-1]), strict=True)
    return list(fill_windows(model, empty, windows, pieces, spoken))


@pytest.mark.parametrize("kind", PREFIX)
@pytest.mark.parametrize("prompt", [7, 0])
def test_pieces_of_any_size_give_the_same_codes(kind: str, prompt: int) -> None:
    model, whole = nar_engine(kind), row(31, prompt)
    parts = windowed(model, whole, SMALL_WINDOWS, [31])
    assert [len(part) for part in parts] == [4, 4, 8, 15]
    for sizes in ([1] * 31, [10, 10, 11], [30, 1]):
        again = windowed(model, whole, SMALL_WINDOWS, sizes)
        assert all(np.array_equal(one, other) for one, other in zip(parts, again, strict=True))
    assert np.array_equal(np.concatenate(parts)[:, 0], whole.codebook1)


@pytest.mark.parametrize("kind", NAR_KINDS)
def test_one_window_is_the_whole(kind: str) -> None:
    model, whole = nar_engine(kind), row(31, 7)
    for windows in (None, Windows(first=31, look_ahead=0), Windows(first=100)):
        (codes,) = windowed(model, whole, windows, [10, 21])
        assert np.array_equal(codes, fill(model, [whole])[0])


def test_first_window_is_as_long_as_what_was_spoken_before() -> None:
    parts = windowed(nar_engine("builtin"), row(31, 7), SMALL_WINDOWS, [31], spoken=10)
    assert [len(part) for part in parts] == [10, 21]


@pytest.mark.parametrize("kind", [kind for kind in NAR_KINDS if kind not in PREFIX])
def test_a_model_whose_positions_restart_fills_in_one_go(kind: str) -> None:
    (codes,) = windowed(nar_engine(kind), row(31, 7), SMALL_WINDOWS, [31])
    assert np.array_equal(codes, fill(nar_engine(kind), [row(31, 7)])[0])


def test_model_without_prompts_fills_in_one_go() -> None:
    model = TorchNAR(NAR(NARConfig.parse({**SMALL, "prompt": "none", "text": "target"})).eval())
    assert len(windowed(model, row(31, 7), SMALL_WINDOWS, [31])) == 1


@pytest.mark.parametrize("kind", PREFIX)
def test_a_frame_has_the_place_in_a_window_that_it_has_in_the_whole(kind: str, monkeypatch) -> None:
    """Prompt and finished frames are one longer prefix, as in training: positions, symbols and languages stay."""
    model, whole = nar_engine(kind), row(31, 7)
    seen: list[NARInputs] = []
    forward = NAR.forward
    monkeypatch.setattr(
        NAR, "forward", lambda self, inputs, stages: (seen.append(inputs), forward(self, inputs, stages))[1]
    )
    fill(model, [whole])
    reference = seen[-1]
    seen.clear()
    windowed(model, whole, SMALL_WINDOWS, [31])
    assert len({int(inputs.frames.prompt_lens) for inputs in seen}) == 4
    for inputs in seen:
        length = int(inputs.frames.lens)
        assert torch.equal(inputs.text, reference.text)
        for given, wanted in (
            (inputs.frames.positions, reference.frames.positions),
            (inputs.frames.alignment, reference.frames.alignment),
            (inputs.languages, reference.languages),
            (inputs.frames.codes[..., 0], reference.frames.codes[..., 0]),
        ):
            assert given is wanted is None or torch.equal(given, wanted[:, :length])


@pytest.mark.parametrize("change", [{"first": 6}, {"look_ahead": 0}])
def test_every_setting_changes_the_codes(change: dict[str, int]) -> None:
    model, whole = nar_engine("valler"), row(31, 7)
    codes = np.concatenate(windowed(model, whole, SMALL_WINDOWS, [31]))
    other = np.concatenate(windowed(model, whole, SMALL_WINDOWS.model_copy(update=change), [31]))
    assert not np.array_equal(codes, other)
