"""Cleaned clips are 24 kHz, level and trimmed; unusable ones are rejected with their reason."""

import numpy as np
import pytest

from openvalle.audio import RATE, Audio, levels
from openvalle.data.shards import AudioShards, read_rows
from openvalle.errors import AudioError
from openvalle.prepare.run import Step, prepare
from openvalle.prepare.sources import CleanSettings, CleanWork, clean, read_row
from openvalle.prepare.units import Target


def _row(path, name="a", **more):
    return {
        "id": name, "audio": str(path), "start": 0.0, "seconds": 1.0, "channels": None,
        "text": "t", "speaker": "s", "language": "en", "split": "train",
        "recording": "", "heard": None, "inside": None,
    } | more  # fmt: skip


def _padded(level: float) -> Audio:
    silence = np.zeros(8000, np.float32)
    time = np.arange(16_000) / 16_000
    return Audio(np.concatenate([silence, level * np.sin(2000 * time).astype(np.float32), silence]), 16_000)


@pytest.mark.parametrize("level", [0.01, 0.1, 0.9])
def test_a_clean_clip_is_trimmed_and_level_whatever_it_was(level):
    settings = CleanSettings()
    audio = clean(_padded(level), settings)
    assert audio.rate == RATE
    assert audio.seconds == pytest.approx(1.0 + 2 * settings.margin_seconds, abs=0.03)
    assert np.median(levels(audio)) == pytest.approx(settings.target_db, abs=0.5)


def test_lengths_and_silence_are_rejected():
    settings = CleanSettings(min_seconds=0.5, max_seconds=5)
    for samples, reason in ((0.1, "too short"), (6.0, "too long")):
        with pytest.raises(AudioError, match=reason):
            clean(Audio(np.sin(np.arange(round(samples * RATE)) / 10).astype(np.float32)), settings)
    with pytest.raises(AudioError, match="silent"):
        clean(Audio(np.zeros(RATE, np.float32)), settings)


def test_parts_and_channels_of_a_file_are_read(tmp_path, write_sound):
    stereo = np.stack([np.linspace(-1, 1, 16_000), np.full(16_000, 0.25)], axis=1).astype(np.float32)
    path = write_sound(tmp_path / "a.wav", stereo)
    part = read_row(_row(path, start=0.5, seconds=0.25, channels=[1]))
    assert part.seconds == 0.25 and np.allclose(part.samples, 0.25, atol=1e-3)
    mixed = read_row(_row(path, seconds=0.5))
    assert mixed.seconds == 0.5 and np.allclose(mixed.samples, stereo[:8000].mean(1), atol=1e-3)
    with pytest.raises(AudioError, match="no channel 2"):
        read_row(_row(path, channels=[2]))


def test_bad_files_are_reported_and_the_rest_goes_on(tmp_path, write_sound):
    write_sound(tmp_path / "good.wav")
    write_sound(tmp_path / "silent.wav", np.zeros(16_000, np.float32))
    write_sound(tmp_path / "nan.wav", np.full(16_000, np.nan, np.float32), subtype="FLOAT")
    write_sound(tmp_path / "short.wav", 0.1)
    (tmp_path / "broken.wav").write_bytes(b"RIFF0000WAVE")
    names = ["gone", "broken", "short", "nan", "silent", "good"]
    rows = [_row(tmp_path / f"{name}.wav", name) for name in names]
    kept, rejected = CleanWork(CleanSettings())(Target(tmp_path, "."), rows)
    assert [row["id"] for row in kept] == ["good"]
    assert [row["id"] for row in rejected] == names[:-1]
    assert all(row["reason"] for row in rejected)
    audio = AudioShards(tmp_path, kept)[0]
    assert np.abs(audio.samples - clean(read_row(rows[-1]), CleanSettings()).samples).max() <= 1 / 32768


def test_a_replaced_recording_is_cleaned_again(tmp_path, write_sound):
    path = write_sound(tmp_path / "in" / "a.wav", 1.0)
    path.with_suffix(".txt").write_text("said")

    def prepared() -> dict:
        prepare(tmp_path / "in", tmp_path / "out", last=Step.AUDIO)
        return read_rows(tmp_path / "out" / "audio" / "index.jsonl")[0]

    first = prepared()
    assert prepared() == first
    write_sound(path, 0.8)
    second = prepared()
    assert second["sound"] != first["sound"] and second["samples"] < first["samples"]


def test_a_unit_without_a_usable_clip_leaves_an_empty_shard(tmp_path):
    kept, rejected = CleanWork(CleanSettings())(Target(tmp_path, "."), [_row(tmp_path / "gone.wav")])
    assert kept == [] and len(rejected) == 1
