"""A voice file gives back the voice, and one that does not fit is refused before it turns to noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from openvalle.errors import ModelError
from openvalle.synth import voice as voice_module
from openvalle.synth.voice import Voice


@pytest.fixture
def voice() -> Voice:
    codes = np.random.default_rng(0).integers(0, 1024, (12, 8)).astype(np.uint16)
    return Voice(
        codes,
        ("SIL", "HH", "AY1"),
        (4, 2, 6),
        "hi",
        "c0dec",
        "5ymb0l5",
        name="ann",
        consent="Ann, 2026",
        source="a.wav",
    )


def test_saved_and_loaded_is_the_same(voice: Voice, tmp_path: Path) -> None:
    found = Voice.load(voice.save(tmp_path / "deep" / "ann.safetensors"))
    np.testing.assert_array_equal(found.codes, voice.codes)
    assert replace(found, codes=voice.codes).__dict__ == voice.__dict__


@pytest.mark.parametrize("turn", [np.asfortranarray, lambda codes: codes[::-1][::-1], lambda codes: codes.T.copy().T])
def test_however_codes_lie_in_memory_they_come_back(voice: Voice, tmp_path: Path, turn) -> None:
    other = replace(voice, codes=turn(voice.codes))
    found = Voice.load(other.save(tmp_path / "ann.safetensors"))
    np.testing.assert_array_equal(found.codes, voice.codes)


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_cut_file_is_refused(voice: Voice, tmp_path: Path, kept: int) -> None:
    path = voice.save(tmp_path / "ann.safetensors")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match="cannot be read"):
        Voice.load(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no voice file"):
        Voice.load(tmp_path / "none.safetensors")


def test_other_safetensors_file_is_refused(tmp_path: Path) -> None:
    save_file({"x": np.zeros(3)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="is not a voice"):
        Voice.load(tmp_path / "x.safetensors")


def test_newer_version_is_refused(voice: Voice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice_module, "VERSION", 3)
    path = voice.save(tmp_path / "ann.safetensors")
    monkeypatch.undo()
    with pytest.raises(ModelError, match=r"version 3.*update"):
        Voice.load(path)


def test_inconsistent_file_is_refused(voice: Voice, tmp_path: Path) -> None:
    object.__setattr__(voice, "durations", (4, 2, 7))
    with pytest.raises(ModelError, match="13 frames, and 12 frames"):
        Voice.load(voice.save(tmp_path / "ann.safetensors"))


def test_voice_of_another_codec_or_table_is_refused(voice: Voice) -> None:
    known = {"SIL", "HH", "AY1", "B"}
    assert voice.check("c0dec", known) is voice, "another table will do if it has the symbols"
    with pytest.raises(ModelError, match=r"another codec .c0dec. than the model's .new."):
        voice.check("new", known)
    with pytest.raises(ModelError, match=r"does not know .HH AY1."):
        voice.check("c0dec", {"SIL"})


def test_file_of_the_first_version_is_read(voice: Voice, tmp_path: Path) -> None:
    path = voice.save(tmp_path / "new.safetensors")
    with safe_open(path, framework="numpy") as file:
        metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in ("codes", "durations")}
    old = {key: value for key, value in metadata.items() if key not in ("clip_digest", "checks")} | {"version": "1"}
    save_file(tensors, tmp_path / "old.safetensors", metadata=old)
    found = Voice.load(tmp_path / "old.safetensors")
    assert (found.name, found.consent, found.checks, found.clip_digest) == ("ann", "Ann, 2026", "", "")


def test_failed_write_leaves_the_old_file(voice: Voice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = voice.save(tmp_path / "ann.safetensors")
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        replace(voice, text="other").save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
