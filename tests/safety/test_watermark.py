"""The mark: the same in whatever blocks the sound comes, in its place, and found again after what files go through."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from openvalle.audio import RATE, Audio, concatenate, resample, silence
from openvalle.errors import AudioError, ModelError
from openvalle.hub import assets
from openvalle.safety import watermark
from openvalle.safety.watermark import Detector, Marker, MarkWindows

DELAY = MarkWindows(RATE).delay


@pytest.fixture(scope="module")
def marker() -> Marker:
    return Marker()


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector()


@pytest.fixture(scope="module")
def marked(marker: Marker, intoned: Audio) -> Audio:
    return marker.mark(intoned)


def test_clean_and_marked_are_told_apart(detector: Detector, intoned: Audio, marked: Audio) -> None:
    assert not detector.detect(intoned).is_marked
    assert detector.detect(marked).share == 1


def test_the_mark_is_quiet_and_keeps_every_sample_in_its_place(intoned: Audio, marked: Audio) -> None:
    assert len(marked.samples) == len(intoned.samples)
    change = marked.samples - intoned.samples
    assert np.sum(intoned.samples**2) / np.sum(change**2) > 10**1.4  # 14 dB
    spectrum = np.abs(np.fft.rfft(change))
    above = np.fft.rfftfreq(len(change), 1 / RATE) > 2200
    assert np.sum(spectrum[above] ** 2) < 1e-3 * np.sum(spectrum**2)  # it lies below 2 kHz


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_sound_of_codecs_of_other_rates_is_marked_as_it_is(
    marker: Marker, detector: Detector, intoned: Audio, rate: int
) -> None:
    sound = resample(intoned, rate)
    marked = marker.mark(sound)
    assert (marked.rate, len(marked.samples)) == (rate, len(sound.samples))
    assert not detector.detect(sound).is_marked
    assert detector.detect(marked).share == 1
    change = marked.samples - sound.samples
    assert np.sum(sound.samples**2) / np.sum(change**2) > 10**1.4  # 14 dB
    stream = marker.stream(rate)
    blocks = [stream.push(sound.samples[:5000]), stream.push(sound.samples[5000:]), stream.flush()]
    np.testing.assert_array_equal(np.concatenate(blocks), marked.samples)


@pytest.mark.parametrize("size", [37, 2400, 30_000])
def test_stream_equals_whole_whatever_the_blocks(marker: Marker, intoned: Audio, size: int) -> None:
    sound = Audio(intoned.samples[: 20_000 if size == 37 else None], RATE)
    stream, blocks, pushed = marker.stream(), [], 0
    for start in range(0, len(sound.samples), size):
        block = sound.samples[start : start + size]
        pushed += len(block)
        blocks.append(stream.push(block))
        assert pushed - sum(map(len, blocks)) <= DELAY
    blocks.append(stream.flush())
    np.testing.assert_array_equal(np.concatenate(blocks), marker.mark(sound).samples)


@pytest.mark.parametrize("samples", [0, 1, 500, DELAY + 1])
def test_short_and_empty_sounds_keep_their_length(marker: Marker, intoned: Audio, samples: int) -> None:
    assert len(marker.mark(Audio(intoned.samples[:samples], RATE)).samples) == samples


def test_silence_stays_silent(marker: Marker) -> None:
    assert not marker.mark(silence(1.0)).samples.any()


@pytest.mark.parametrize("hertz", [(100,), (200,), (1900,), (3000,), (270, 345, 691, 1010), (220, 277.2, 329.6, 440)])
@pytest.mark.parametrize("trembles", [False, True])
def test_steady_tones_are_not_taken_for_the_mark(detector: Detector, hertz: tuple[float, ...], trembles: bool) -> None:
    times = np.arange(6 * RATE) / RATE
    depth = trembles * 0.005 * np.sin(2 * np.pi * 5 * times) / 5
    waves = np.sum([np.sin(2 * np.pi * one * times + one * depth) for one in hertz], axis=0)
    loud = Audio((0.2 * waves / np.abs(waves).max()).astype(np.float32), RATE)
    assert not detector.detect(loud).is_marked
    assert not detector.detect(Audio(loud.samples[: RATE // 2], RATE)).is_marked


@pytest.mark.parametrize("below", [20, 10])
def test_the_mark_is_found_under_a_hum(detector: Detector, marked: Audio, below: int) -> None:
    hum = np.sin(2 * np.pi * 120 * np.arange(len(marked.samples)) / RATE)
    level = np.sqrt(2 * np.mean(marked.samples**2)) * 10 ** (-below / 20)
    assert detector.detect(Audio((marked.samples + level * hum).astype(np.float32), RATE)).share == 1


def test_it_survives_trimming_gain_resampling_and_mp3(detector: Detector, marked: Audio) -> None:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, marked.samples, RATE, format="MP3", bitrate_mode="CONSTANT", compression_level=0.6)
    file.seek(0)
    attacked = {
        "a third": Audio(marked.samples[30_001:60_000], RATE),
        "quiet": Audio(marked.samples * np.float32(0.05), RATE),
        "telephone": resample(marked, 8000),
        "48 kHz": resample(marked, 48_000),
        "mp3": Audio(soundfile.read(file, dtype="float32")[0], RATE),
    }
    assert {name: detector.detect(audio).is_marked for name, audio in attacked.items()} == dict.fromkeys(attacked, True)


def test_a_marked_stretch_is_found_in_a_longer_recording(detector: Detector, intoned: Audio, marked: Audio) -> None:
    found = detector.detect(concatenate([intoned] * 3 + [marked] * 2 + [intoned] * 3))
    assert found.is_marked
    assert 0 < found.share < 0.5
    start = 3 * intoned.seconds
    assert all(start - 5 < part.start < start + 2 * intoned.seconds for part in found.parts if part.is_marked)


def test_parts_cover_the_recording(detector: Detector, intoned: Audio) -> None:
    for repeats in (1, 2, 3):
        sound = concatenate([intoned] * repeats)
        parts = detector.detect(sound).parts
        assert (parts[0].start, parts[-1].end) == (0, pytest.approx(sound.seconds))
        assert all(after.start <= before.end for before, after in pairwise(parts))


@pytest.mark.parametrize(("audio", "message"), [(silence(2.0), "silent"), (silence(0.2), "too short")])
def test_nothing_to_look_at_is_a_clear_error(detector: Detector, audio: Audio, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        detector.detect(audio)


def test_a_damaged_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = (assets() / watermark.WEIGHTS).read_bytes()
    monkeypatch.setattr(watermark, "assets", lambda: tmp_path)
    path = tmp_path / watermark.WEIGHTS
    path.parent.mkdir()
    for content in (None, b"", whole[:-1]):
        if content is not None:
            path.write_bytes(content)
        for kind in (Marker, Detector):
            with pytest.raises(ModelError, match=r"perth\.safetensors is damaged"):
                kind()


def test_weights_are_those_that_were_published_rounded_and_say_whose() -> None:
    with safe_open(assets() / watermark.WEIGHTS, "np") as file:
        assert file.metadata()["licence"].startswith("MIT")
        weights = [file.get_tensor(name) for name in file.keys() if name.endswith("weight")]  # noqa: SIM118
    assert {weight.dtype.name for weight in weights} == {"int8"}
    assert all(abs(weight).max() <= (7 if weight.shape[2] > 1 else 127) for weight in weights)
