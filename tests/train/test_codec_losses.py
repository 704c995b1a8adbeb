"""The pitch that the decoder's harmonic source learns to predict."""

from __future__ import annotations

import pytest
import torch

from openvalle.codec.layers import HarmonicSource
from openvalle.codec.settings import MIDDLE
from openvalle.train.codec_losses import fill_unvoiced, find_pitch

RATE, HOP = 24_000, 320


@pytest.mark.parametrize("hertz", [80.0, 150.0, 333.0])
def test_the_pitch_of_the_source_is_found(hertz: float) -> None:
    source = HarmonicSource(RATE, HOP, 320, 4)
    octaves = torch.full((1, 75), hertz / MIDDLE, dtype=torch.float64).log2()
    sound = source._pulses(octaves, torch.ones(1, 75), source.empty_state(1, torch.zeros(1)))[:, HOP:]
    found, likeness = find_pitch(sound, RATE, HOP, 4 * HOP)
    torch.testing.assert_close(found[:, 4:-8], torch.full_like(found[:, 4:-8], hertz), rtol=2e-3, atol=0)
    assert likeness[:, 4:-8].min() > 0.95


def test_pitch_between_voiced_stretches_is_the_last_one() -> None:
    hertz = torch.tensor([[0.0, 100, 0, 200, 0], [0, 0, 0, 0, 0]])
    assert fill_unvoiced(hertz).tolist() == [[100, 100, 100, 200, 200], [1, 1, 1, 1, 1]]


def test_noise_has_no_pitch_and_a_voice_at_an_octave_is_found_at_its_own() -> None:
    noise = 0.1 * torch.randn(1, RATE, generator=torch.Generator().manual_seed(0))
    assert (find_pitch(noise, RATE, HOP, HOP)[0] > 0).float().mean() < 0.05
    time = torch.arange(RATE) / RATE
    voice = 0.1 * sum(torch.cos(2 * torch.pi * 120 * k * time) / k for k in range(1, 30))[None]
    found = find_pitch(voice, RATE, HOP, HOP)[0][:, 4:-8]
    torch.testing.assert_close(found, torch.full_like(found, 120.0), rtol=5e-3, atol=0)
