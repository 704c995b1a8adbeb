"""Silero VAD hears speech where there is speech, and none in noise or silence."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from openvalle.audio import Audio, resample
from openvalle.synth.enrol import decode_voice
from openvalle.synth.synthesizer import Synthesizer

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.skipif(find_spec("silero_vad") is None, reason="its weights are in the wheel of silero-vad")


def test_speech_is_told_from_silence_and_noise() -> None:
    from openvalle.speech_models.vad import SileroVAD

    speech = decode_voice((tts := Synthesizer.load()).voice(), tts.generator).audio
    rate, rng = speech.rate, np.random.default_rng(0)
    quiet = np.zeros(2 * rate, np.float32)
    noise = (0.01 * rng.standard_normal(2 * rate)).astype(np.float32)
    whole = Audio(np.concatenate([quiet, speech.samples, noise]), rate)
    detector = SileroVAD()
    found = detector.probabilities(whole)
    assert len(found) == pytest.approx(whole.seconds / detector.hop, abs=1)
    first, last = round(2 / detector.hop), round((2 + speech.seconds) / detector.hop)
    assert (found[first:last] > 0.5).mean() > 0.7
    assert (found[: first - 3] > 0.5).mean() < 0.05
    assert (found[last + 10 :] > 0.5).mean() < 0.1
    again = detector.probabilities(resample(whole, 16_000))  # the rate changes little, and no state is kept
    assert np.abs(again - found[: len(again)]).mean() < 0.05
