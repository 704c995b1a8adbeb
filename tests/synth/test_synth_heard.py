"""A clip that was heard before is not heard again: what is kept, by what, for how long, and what never is."""

from __future__ import annotations

import logging
import os
import stat
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openvalle.audio import Audio
from openvalle.hub import cache_folder
from openvalle.media import write
from openvalle.safety.consent import ConsentPolicy
from openvalle.synth import heard
from openvalle.synth.heard import HeardVoices
from openvalle.synth.voice import Voice

WORDS = "saw, see, saw, see"


@pytest.fixture
def tts(synthesizer):
    """The tiny model, which has heard nothing yet."""
    return replace(synthesizer, heard=HeardVoices())


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is heard from now on."""
    clips: list[object] = []
    enrol = heard.enrol
    monkeypatch.setattr(heard, "enrol", lambda clip, *rest, **how: clips.append(clip) or enrol(clip, *rest, **how))
    return clips


def kept() -> list[Path]:
    return sorted((cache_folder() / heard.FOLDER).glob("*"))


def same(one: Voice, other: Voice) -> bool:
    return np.array_equal(one.codes, other.codes) and (one.symbols, one.durations, one.text) == (
        other.symbols,
        other.durations,
        other.text,
    )


def test_a_clip_is_heard_once_in_a_process_and_on_a_machine(tts, clip_path: Path, counted, caplog) -> None:
    first = tts.voice(clip_path, WORDS, consent="nobody's: buzz")
    moved = clip_path.rename(clip_path.with_name("moved.wav"))
    caplog.clear()
    again = tts.voice(moved, WORDS, consent="", licence="CC0")
    later = replace(tts, heard=HeardVoices()).voice(moved, WORDS, consent="me")  # another process
    assert len(counted) == 1 and len(kept()) == 1
    assert same(again, first) and same(later, first)
    assert (again.name, again.source, again.consent, again.licence) == ("moved", "moved.wav", "", "CC0")
    assert later.consent == "me" and first.clip_digest == later.clip_digest
    if os.name == "posix":
        assert stat.S_IMODE(kept()[0].stat().st_mode) == 0o600
    assert Voice.load(kept()[0]).consent == "" and "nobody" not in kept()[0].read_bytes().decode("latin-1")
    assert tts.say("Hi.", moved, WORDS, seed=1).audio.seconds > 0 and len(counted) == 1


def test_what_it_depends_on_makes_it_another(tts, clip_path: Path, spoken: Audio, counted) -> None:
    tts.voice(clip_path, WORDS)
    tts.voice(clip_path, "see, saw, see, saw")
    tts.voice(clip_path, WORDS, channel="mix")
    louder = write(clip_path.with_name("louder.wav"), Audio(spoken.samples * np.float32(1.2), spoken.rate))
    tts.voice(louder, WORDS)
    assert len(counted) == 4
    tts.voice(clip_path, WORDS)
    assert len(counted) == 4


def test_sound_in_memory_is_kept_in_memory_alone(tts, spoken: Audio, counted) -> None:
    for _ in range(2):
        tts.voice(spoken, WORDS)
    assert len(counted) == 1 and not kept()


def test_a_server_keeps_nothing_of_others_on_the_disk(tts, clip_path: Path, counted) -> None:
    server = replace(tts, heard=HeardVoices(on_disk=False))
    for _ in range(2):
        server.voice(clip_path, WORDS)
    assert len(counted) == 1 and not kept()


def test_what_was_noticed_is_said_again(tts, clip_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setattr("openvalle.synth.enrol.transcribe", lambda *_: WORDS)
    monkeypatch.setattr("openvalle.synth.enrol.clip_warnings", lambda _: ["it is clipped"])
    tts.voice(clip_path)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        voice = tts.voice(clip_path)
    assert "it is clipped" in caplog.text and f"transcribed before: {WORDS!r}" in caplog.text
    assert "it is clipped" in voice.checks


def test_consent_is_asked_for_every_time(tts, clip_path: Path) -> None:
    tts.voice(clip_path, WORDS, consent="me")
    strict = replace(tts, policy=ConsentPolicy.REQUIRE)
    with pytest.raises(Exception, match="consent"):
        strict.voice(clip_path, WORDS)


def test_few_are_kept_and_none_for_long(tts, tiny_voice: Voice, clip_path: Path, monkeypatch, counted) -> None:
    monkeypatch.setattr(heard, "MOST", 2)
    monkeypatch.setattr(heard, "MOST_FILES", 3)
    for number in range(6):
        heard._write(f"{number}", tiny_voice)
        tts.heard._keep(f"{number}", tiny_voice, is_new=False)
    assert len(kept()) == 3 and len(tts.heard._known) == 2
    old = time.time() - (heard.DAYS + 1) * 86_400
    for path in kept():
        os.utime(path, (old, old))
    tts.voice(clip_path, WORDS)
    assert len(kept()) == 1
    kept()[0].write_bytes(b"damaged")
    replace(tts, heard=HeardVoices()).voice(clip_path, WORDS)
    assert len(counted) == 2, "heard again, and kept again"
    Voice.load(kept()[0])


def test_a_large_file_is_no_clip_to_be_kept(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(heard, "LARGEST", 10)
    (tmp_path / "large.wav").write_bytes(bytes(11))
    assert heard.make_key(tmp_path / "large.wav", {}) is None
    assert heard.make_key(tmp_path / "none.wav", {}) is None
