"""Speaker embeddings: unit length, blind to level and silence, apart for different voices."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from openvalle.audio import Audio, concatenate, mel_filters, power_mel, silence
from openvalle.errors import AudioError, MissingExtra
from openvalle.speech_models.speaker import ResemblyzerEncoder, WavLMEncoder, similarity


@pytest.fixture(scope="module")
def encoder() -> ResemblyzerEncoder:
    return ResemblyzerEncoder()


def test_embedding_has_unit_length(encoder, clip):
    embedding = encoder.embed(clip)
    assert embedding.shape == (256,)
    assert embedding.dtype == np.float32
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)
    assert similarity(embedding, embedding) == pytest.approx(1, abs=1e-5)


def test_one_voice_is_nearer_than_two(encoder, voice):
    low, again, high = (encoder.embed(voice(hz, seed)) for hz, seed in ((120, 0), (122, 1), (230, 0)))
    assert similarity(low, again) > similarity(low, high) + 0.1


def test_long_silences_do_not_matter(encoder, clip):
    padded = concatenate([silence(2.0), clip, silence(2.0)])
    assert similarity(encoder.embed(clip), encoder.embed(padded)) > 0.97


def test_silence_and_noise_are_refused(encoder):
    with pytest.raises(AudioError, match="silent"):
        encoder.embed(silence(1.0))
    with pytest.raises(AudioError, match="nobody speaks"):
        encoder.embed(Audio(np.full(240, 0.1, np.float32)))


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match="transformers"):
        WavLMEncoder()


def test_mel_filters_have_equal_area_and_the_peak_of_a_tone():
    filters = mel_filters(16_000, 4000, 40, slaney=True)
    areas = filters.sum(axis=1) * 4  # bins are 4 Hz apart
    assert areas == pytest.approx(np.ones(40), rel=0.02)
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
    mel = power_mel(tone, 16_000, window=400, hop=160, bands=40)
    assert mel.shape == (101, 40)
    assert mel[50].argmax() == mel_filters(16_000, 400, 40, slaney=True)[:, 25].argmax()
