"""A blend is some of one prompt and then some of the other, whole symbols of each, and says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from openvalle.errors import ModelError, UserError
from openvalle.synth.enrol import BLEND_SECONDS, blend, decode_voice
from openvalle.synth.synthesizer import Synthesizer
from openvalle.synth.voice import Voice


@pytest.fixture
def other(tiny_voice: Voice) -> Voice:
    codes = np.random.default_rng(1).integers(0, 1024, tiny_voice.codes.shape).astype(np.uint16)
    return replace(tiny_voice, codes=codes, name="other", consent="Other, 2026")


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8])
def test_share_of_each(tiny_voice: Voice, other: Voice, share: float) -> None:
    mixed = blend(tiny_voice, other, share)
    own = [bool((frame == tiny_voice.codes).all(1).any()) for frame in mixed.codes]
    assert own == sorted(own, reverse=True), "first all of the one, then all of the other"
    assert 1 - sum(own) / len(own) == pytest.approx(share, abs=0.15)
    assert mixed.seconds <= BLEND_SECONDS + 1
    assert all(a != b for a, b in zip(mixed.symbols, mixed.symbols[1:], strict=False))
    assert f"{share:.0%} of other" in mixed.source
    assert "Other, 2026" in mixed.consent


def test_consent_needs_both(tiny_voice: Voice, other: Voice) -> None:
    assert blend(tiny_voice, replace(other, consent="")).consent == ""


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, 2.0])
def test_no_blend(tiny_voice: Voice, other: Voice, share: float) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        blend(tiny_voice, other, share)


def test_voices_that_do_not_go_together(tiny_voice: Voice, other: Voice) -> None:
    with pytest.raises(ModelError, match="two codecs"):
        blend(tiny_voice, replace(other, codec_digest="x"))
    with pytest.raises(UserError, match="one language"):
        blend(tiny_voice, replace(other, language="de"))


def test_voice_as_sound(synthesizer: Synthesizer, tiny_voice: Voice) -> None:
    speech = decode_voice(tiny_voice, synthesizer.generator)
    assert speech.seconds == pytest.approx(tiny_voice.seconds)
    assert [phone.text for phone in speech.phones] == list(tiny_voice.symbols)
    assert speech.phones[-1].end == pytest.approx(speech.seconds)
