"""Recordings without words: cut where nobody speaks, written down by a recogniser, and prepared like all others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from openvalle.audio import Audio
from openvalle.data.shards import read_rows
from openvalle.errors import UserError
from openvalle.prepare.executor import run_step
from openvalle.prepare.filter import FilterSettings, FilterWork
from openvalle.prepare.formats import Format, detect, read_clips
from openvalle.prepare.run import PrepareOptions, Step, prepare
from openvalle.prepare.segment import SegmentSettings, SegmentWork, find_segments
from openvalle.prepare.sources import CleanSettings, CleanWork, scan
from openvalle.prepare.transcribe import TranscribeSettings, TranscribeWork
from openvalle.prepare.units import Target
from openvalle.speech_models.recognizers import Transcript

HOP = 0.05


class Loudness:
    """Hears speech in whatever is loud."""

    hop = HOP

    def probabilities(self, audio: Audio) -> np.ndarray:
        size = round(HOP * audio.rate)
        whole = audio.samples[: len(audio.samples) // size * size].reshape(-1, size)
        return (np.abs(whole).max(axis=1) > 0.01).astype(np.float32)


@dataclass
class Clerk:
    """Writes down how long a clip is; is unsure of short ones, and hears nothing in the shortest."""

    name: str = "clerk"

    def transcribe(self, audio: Audio) -> Transcript:
        words = "" if audio.seconds < 1.2 else f"about {round(audio.seconds)} seconds"
        return Transcript(words, confidence=-0.2 if audio.seconds > 2 else -3.0)


def load_clerk(name: str) -> Clerk:
    return Clerk()


def pattern(*lengths: float) -> np.ndarray:
    """Return probabilities of speech, then silence, then speech of these seconds."""
    parts = [np.full(round(seconds / HOP), 1.0 - number % 2) for number, seconds in enumerate(lengths)]
    return np.concatenate(parts).astype(np.float32)


def test_segments_are_whole_stretches_of_speech_as_long_as_they_may_be() -> None:
    settings = SegmentSettings(max_seconds=10, min_seconds=1, margin=0.1)
    found = find_segments(pattern(3, 0.5, 4, 1.0, 5, 2.0, 0.4, 3.0, 6), HOP, settings)
    assert found == [(0.0, 7.6), (8.4, 16.0), (18.8, 24.9)]


def test_speech_without_any_pause_is_cut_where_it_is_least_likely() -> None:
    voiced = np.full(600, 0.9, np.float32)  # 30 s
    voiced[150] = voiced[390] = 0.6
    found = find_segments(voiced, HOP, SegmentSettings(max_seconds=12, margin=0))
    assert [end for _, end in found][:1] == [7.5] and 19.5 in [start for start, _ in found]
    assert sum(end - start for start, end in found) == pytest.approx(30)


@pytest.mark.parametrize("seed", range(20))
def test_all_speech_is_in_some_segment_and_none_overlap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    voiced = pattern(*rng.uniform(0.3, 9, 15))
    settings = SegmentSettings(max_seconds=8, min_seconds=0.1)
    found = find_segments(voiced, HOP, settings)
    covered = np.zeros(len(voiced), int)
    for start, end in found:
        assert end - start <= settings.max_seconds + 1e-6
        covered[round(start / HOP) : round(end / HOP)] += 1
    assert covered.max() == 1
    assert covered[voiced > 0.5].mean() > 0.99


def test_silence_has_no_segment() -> None:
    assert find_segments(np.zeros(100, np.float32), HOP, SegmentSettings()) == []


@pytest.fixture
def librilight(tmp_path: Path, write_sound) -> Path:
    """LibriLight's layout: size/speaker/book/chapter.flac with a .json beside, and no words."""
    rng = np.random.default_rng(0)

    def speech(seconds: float) -> np.ndarray:
        return rng.uniform(-0.3, 0.3, round(16_000 * seconds)).astype(np.float32)

    quiet = np.zeros(16_000, np.float32)
    for speaker in ("100", "2002"):
        folder = tmp_path / "small" / speaker / "some_book_0908_librivox_64kb_mp3"
        for chapter in range(2):
            sound = np.concatenate([speech(3), quiet, speech(2.5), quiet, speech(1.5)])
            path = write_sound(folder / f"chapter_{chapter:02d}.flac", sound)
            path.with_suffix(".json").write_text('{"speaker": "%s", "snr": 9.1, "voice_activity": []}' % speaker)  # noqa: UP031
    return tmp_path / "small"


def test_librilight_is_read_as_it_lies_on_disk(librilight: Path) -> None:
    assert detect(librilight)[0] is Format.LIBRILIGHT
    clips = list(read_clips(librilight))
    assert [clip.speaker for clip in clips] == ["100", "100", "2002", "2002"]
    assert clips[0].id == "100/some_book_0908_librivox_64kb_mp3/chapter_00"
    assert not any(clip.text for clip in clips)


def test_untranscribed_recordings_become_rows_with_words(librilight: Path, tmp_path: Path) -> None:
    """Cut, cleaned and written down; what nobody is sure of is left out; the same bytes whatever was done before."""
    texts = []
    for out in (tmp_path / "one", tmp_path / "one", tmp_path / "two"):
        result = scan(librilight, out / "scan", needs_text=False)
        names = {row["id"] for row in result.rows()}
        segment = SegmentWork(SegmentSettings(max_seconds=3.5), Loudness)
        result = run_step(out / "segment", result.units, lambda work=segment: work, {})
        assert result.kept == 12 and {row["recording"] for row in result.rows()} == names
        result = run_step(out / "audio", result.units, lambda: CleanWork(CleanSettings()), {})
        words = TranscribeWork(out / "audio", TranscribeSettings(recognizer="clerk"), load_clerk)
        result = run_step(out / "words", result.units, lambda work=words: work, {})
        sure = FilterWork(out / "audio", FilterSettings(min_confidence=-1))
        result = run_step(out / "filter", result.units, lambda work=sure: work, {})
        assert {row["text"] for row in result.rows()} == {"about 3 seconds"}
        assert result.kept == 8 and result.rejected == 4
        assert all("not sure" in row["reason"] for row in result.list_left_out())
        texts.append((out / "filter" / "index.jsonl").read_bytes())
    assert texts[0] == texts[1] == texts[2]


def test_rows_with_words_are_left_as_they_are(tmp_path: Path) -> None:
    """And nobody is asked for who would hear them."""
    rows = [{"id": "a", "text": "said", "seconds": 300.0, "language": "en"}]
    target = Target(tmp_path, ".")
    assert SegmentWork(SegmentSettings(), lambda: pytest.fail("asked"))(target, rows) == (rows, [])
    words = TranscribeWork(tmp_path, TranscribeSettings(recognizer="none"), lambda name: pytest.fail(name))
    assert words(target, rows) == (rows, [])


def test_recordings_without_words_are_refused_unless_somebody_transcribes(librilight: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no text"):
        prepare(librilight, tmp_path / "out", last=Step.AUDIO)
    assert {row["reason"] for row in read_rows(tmp_path / "out" / "scan" / "rejected.jsonl")} == {"no text"}
    asked = PrepareOptions(transcribe=TranscribeSettings())
    assert [str(step) for step in asked.steps] == [
        "scan",
        "segment",
        "audio",
        "transcribe",
        "align",
        "filter",
        "tokens",
    ]
