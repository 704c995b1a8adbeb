"""Continuing: the recording stays as it is, the join does not click, the text is all spoken."""

from __future__ import annotations

import numpy as np
import pytest

from openvalle.audio import RATE, Audio
from openvalle.errors import ConfigError, ModelError
from openvalle.synth.edit import continue_clip
from openvalle.synth.plan import PromptMode
from openvalle.synth.recording import FADE_SECONDS
from openvalle.synth.synthesizer import Synthesizer
from openvalle.synth.voice import Voice

TEXT = "saw, see, saw, see"


def step_at(samples: np.ndarray, at: int) -> float:
    """The jump between the samples before and after a border."""
    return abs(float(samples[at]) - float(samples[at - 1]))


def slew_near(samples: np.ndarray, at: int) -> float:
    """The largest step within 10 ms of a border, but not at it."""
    steps = np.abs(np.diff(samples))
    return float(np.concatenate([steps[at - 240 : at - 1], steps[at : at + 240]]).max()) + 1e-3


def test_the_recording_goes_on(synthesizer: Synthesizer, spoken: Audio) -> None:
    result = continue_clip(synthesizer, spoken, "and then the rest. The end.", TEXT, seed=1)
    assert [word.text for word in result.speech.words] == ["and", "then", "the", "rest", "The", "end"]
    assert result.text == f"{TEXT} and then the rest. The end."
    np.testing.assert_array_equal(result.clip.frames[: result.start, 0], spoken.samples[: result.start])
    assert result.start > 0.9 * len(spoken.samples) - round(FADE_SECONDS * RATE)
    samples = result.clip.frames[:, 0]
    border = result.start + round(FADE_SECONDS * RATE)
    for at in (result.start, border):
        assert step_at(samples, at) <= 2 * slew_near(samples, at)
    again = continue_clip(synthesizer, spoken, "and then the rest. The end.", TEXT, seed=1)
    np.testing.assert_array_equal(again.clip.frames, result.clip.frames)


def test_continual_speech_begins_without_a_pause(synthesizer: Synthesizer, tiny_voice: Voice) -> None:
    modes = {mode: synthesizer.say("Hello.", tiny_voice, mode=mode) for mode in PromptMode}
    assert modes[PromptMode.ZERO_SHOT].symbols[0] == "SIL"
    assert modes[PromptMode.CONTINUAL].symbols[0] == "HH"
    one, two = modes[PromptMode.ZERO_SHOT], modes[PromptMode.CROSS_LINGUAL]
    np.testing.assert_array_equal(one.audio.samples, two.audio.samples)


def test_a_voice_of_another_language_needs_the_cross_lingual_mode(synthesizer: Synthesizer, tiny_voice: Voice) -> None:
    from dataclasses import replace

    foreign = replace(tiny_voice, language="de")
    with pytest.raises(ModelError, match="speaks 'de', the text is 'en'; choose the prompt mode cross-lingual"):
        synthesizer.say("Hello.", foreign)
    assert synthesizer.say("Hello.", foreign, mode="cross-lingual").seconds > 0
    with pytest.raises(ConfigError, match="there is no prompt mode 'x'; use one of: zero-shot"):
        synthesizer.say("Hello.", tiny_voice, mode="x")
