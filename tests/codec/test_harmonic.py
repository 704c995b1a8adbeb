"""The harmonic source: its pitch, its level, and that a block goes on where the one before it ended."""

from __future__ import annotations

import pytest
import torch

from openvalle.codec.layers import HarmonicHead, HarmonicSource
from openvalle.codec.settings import MIDDLE

RATE, HOP = 24_000, 320


def pulses(octaves: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    source = HarmonicSource(RATE, HOP, 320, 4)
    return source._pulses(octaves.double(), gate, source.empty_state(len(octaves), torch.zeros(1)))


@pytest.mark.parametrize("hertz", [80.0, 150.0, 333.0])
def test_a_pulse_train_has_the_pitch_and_the_power_asked_for(hertz: float) -> None:
    sound = pulses(torch.full((1, 75), hertz / MIDDLE).log2(), torch.ones(1, 75))[0, HOP:]
    middle = sound[1:-1]
    peaks = torch.nonzero((middle > sound[:-2]) & (middle >= sound[2:]) & (middle > 0.4 * sound.max()))[:, 0]
    assert len(peaks) == pytest.approx(hertz * len(sound) / RATE, abs=1)
    torch.testing.assert_close(peaks.diff().float(), torch.full((len(peaks) - 1,), RATE / hertz), atol=1, rtol=0)
    assert float(sound.pow(2).mean()) == pytest.approx(1, rel=0.05)


def test_what_is_not_voiced_is_silent_and_each_voiced_stretch_begins_a_pulse() -> None:
    gate = torch.tensor([[0.0, 0, 1, 1, 0, 0, 1, 1]])
    sound = pulses(torch.zeros(1, 8), gate)[0].reshape(8, HOP)
    assert sound[[0, 1, 5]].abs().max() == 0
    torch.testing.assert_close(sound[2], sound[6])


@pytest.mark.parametrize("cut", [1, 7, 20])
def test_spectra_go_on_from_block_to_block(cut: int) -> None:
    rng = torch.Generator().manual_seed(0)
    octaves, gate = torch.rand(2, 30, generator=rng), (torch.rand(2, 30, generator=rng) > 0.3).float()
    source = HarmonicSource(RATE, HOP, 320, 4)
    whole = source(octaves, gate, source.empty_state(2, octaves))
    state = source.empty_state(2, octaves)
    parts = [source(octaves[:, a:b], gate[:, a:b], state) for a, b in ((0, cut), (cut, 30))]
    assert whole.shape == (2, 120, 161)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


def test_a_new_head_lets_a_faint_pulse_train_through() -> None:
    head = HarmonicHead(8, 320, 80)
    head.project.weight.data.zero_()
    source = torch.complex(torch.randn(1, 40, 161), torch.zeros(1, 40, 161))
    own = head.filter(torch.zeros(1, 40, 8), torch.zeros_like(source))
    both = head.filter(torch.zeros(1, 40, 8), source)
    expected = torch.fft.irfft(source, 320) * head.window * torch.exp(torch.tensor(-3.0))
    torch.testing.assert_close(both - own, expected)
