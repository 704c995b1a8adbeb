"""Same seed, same speech as before: what each door of the shipped model says, against what it said when this was made.

Codes of codebook 1 are compared exactly, samples to a tolerance, since processors round differently. When the weights
or the way of sampling change on purpose, write the file again and say so in CHANGELOG.md:

    python tests/test_golden.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from openvalle import Audio, Synthesizer
from openvalle.apps.dialogue import speak_dialogue
from openvalle.synth.edit import Edit, EditKind, continue_clip, edit
from openvalle.synth.speech import join_speech

FILE = Path(__file__).parent / "golden.npz"
EVERY = 20  # samples: one of so many is kept
TOLERANCE = 0.02  # of the loudness: what rounding may change
NO_CODES = np.zeros(0, np.uint16)
DOORS = ("say", "options", "stream", "windows", "dialogue", "batch", "edit", "continue")


def speak(engine: str = "torch") -> dict[str, tuple[np.ndarray, Audio]]:
    """Return what each door says: codes (T,) of codebook 1, where it tells them, and the sound."""
    tts = Synthesizer.load(engine=engine)
    plain = tts.say("Hello there.", seed=1)
    changed = tts.say("Hi!", "second", seed=2, options=tts.sampling(0.9, 0.8, window=5, speed=1.2))
    dialogue = join_speech(list(speak_dialogue(tts, "[S1] Hi. [S2] No!", seed=3)))
    batch = join_speech(tts.say_batch(["One.", "Two."], seed=[4, 5]))
    edited = edit(tts, plain.audio, [Edit(EditKind.REPLACE, "there", "you")], "Hello there.", seed=6)[0].clip
    continued = continue_clip(tts, plain.audio, "and bye.", "Hello there.", seed=7)
    said: dict[str, tuple[np.ndarray, Audio]] = {}
    for name, speech in {"say": plain, "options": changed, "dialogue": dialogue, "batch": batch}.items():
        said[name] = (speech.codes[:, 0], speech.audio)
    for name, how in {"stream": {"windows": None}, "windows": {}}.items():
        blocks = list(tts.stream("Hello there.", seed=1, live=False, **how))
        codes = np.concatenate([block.speech.codes[:, 0] for block in blocks if block.speech])
        said[name] = (codes, Audio(np.concatenate([block.audio.samples for block in blocks]), tts.rate))
    said["edit"] = (NO_CODES, Audio(edited.frames[:, 0], edited.rate))
    said["continue"] = (continued.speech.codes[:, 0], Audio(continued.clip.frames[:, 0], continued.clip.rate))
    return said


@pytest.fixture(scope="module", params=["torch", "onnx-fp32"])
def said(request: pytest.FixtureRequest) -> dict[str, tuple[np.ndarray, Audio]]:
    return speak(request.param)


@pytest.mark.long
@pytest.mark.parametrize("door", DOORS)
def test_it_says_what_it_said(said: dict[str, tuple[np.ndarray, Audio]], door: str) -> None:
    codes, audio = said[door]
    with np.load(FILE) as kept:
        expected, length, samples = kept[f"{door}.codes"], int(kept[f"{door}.length"]), kept[f"{door}.samples"]
    assert codes.tolist() == expected.tolist(), "codebook 1"
    assert len(audio.samples) == length
    before, now = samples.astype(np.float64) / 32767, audio.samples[::EVERY].astype(np.float64)
    assert np.sqrt(np.mean((now - before) ** 2)) < TOLERANCE * np.sqrt(np.mean(before**2)), "samples"


@pytest.mark.long
def test_every_door_is_kept(said: dict[str, tuple[np.ndarray, Audio]]) -> None:
    assert set(said) == set(DOORS)
    assert FILE.stat().st_size <= 50_000


def write() -> None:
    """Write the file from what is said now."""
    arrays: dict[str, np.ndarray] = {}
    for door, (codes, audio) in speak().items():
        arrays[f"{door}.codes"] = codes.astype(np.uint16)
        arrays[f"{door}.length"] = np.array(len(audio.samples))
        arrays[f"{door}.samples"] = np.round(np.clip(audio.samples[::EVERY], -1, 1) * 32767).astype(np.int16)
    np.savez_compressed(FILE, **arrays)
    sys.stdout.write(f"{FILE}: {FILE.stat().st_size} bytes\n")


if __name__ == "__main__":
    write()
