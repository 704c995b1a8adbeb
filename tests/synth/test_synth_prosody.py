"""A recording's timing in another voice: every sound as long as it was there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from openvalle.audio import Audio
from openvalle.errors import AudioError, TextError, UserError
from openvalle.synth.recording import plan_recording, speak_like
from openvalle.synth.synthesizer import Synthesizer
from openvalle.synth.voice import Voice

SAID = "saw, see, saw, see"


def test_sounds_are_as_long_as_in_the_recording(synthesizer: Synthesizer, tiny_voice: Voice, spoken: Audio) -> None:
    speech = speak_like(synthesizer, spoken, SAID, tiny_voice, seed=1)
    assert speech.symbols == tiny_voice.symbols, "the voice was made from the same recording"
    assert speech.durations == tiny_voice.durations
    assert [word.text for word in speech.words] == ["saw", "see", "saw", "see"]
    again = speak_like(synthesizer, spoken, SAID, tiny_voice, seed=1)
    np.testing.assert_array_equal(speech.audio.samples, again.audio.samples)
    other = speak_like(synthesizer, spoken, SAID, tiny_voice, seed=2)
    assert other.durations == speech.durations
    assert not np.array_equal(other.codes, speech.codes)


def test_path_goes_through_every_symbol(synthesizer: Synthesizer, tiny_voice: Voice, spoken: Audio) -> None:
    segment = plan_recording(synthesizer, spoken, SAID, tiny_voice, 0)
    assert segment.alignment is not None
    assert sorted(set(segment.alignment)) == list(range(len(segment.sentence.symbols)))
    assert list(segment.alignment) == sorted(segment.alignment)


def test_what_cannot_be_taken_over(synthesizer: Synthesizer, tiny_voice: Voice, spoken: Audio, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="its own speed"):
        speak_like(synthesizer, spoken, SAID, tiny_voice, options=synthesizer.sampling(speed=1.5))
    with pytest.raises(AudioError, match="no audio file"):
        speak_like(synthesizer, tmp_path / "none.wav", SAID, tiny_voice)
    with pytest.raises(TextError):
        speak_like(synthesizer, spoken, "?!", tiny_voice)
