"""What was written down is compared with what a second recogniser heard; what speaks against a row is counted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from test_prepare_executor import units_of

from openvalle.audio import RATE, Audio
from openvalle.data.shards import to_int16, write_audio
from openvalle.errors import AudioError
from openvalle.prepare.executor import run_step
from openvalle.prepare.filter import FilterSettings, FilterWork
from openvalle.prepare.perf import PERF
from openvalle.prepare.transcribe import TranscribeSettings, TranscribeWork, batches, transcribe_all
from openvalle.prepare.units import Target
from openvalle.speech_models.recognizers import Transcript

RNG = np.random.default_rng(0)


def hiss(seconds: float, top: float) -> np.ndarray:
    """Return noise up to a frequency in hertz."""
    spectrum = np.fft.rfft(RNG.standard_normal(round(seconds * RATE)))
    spectrum[np.fft.rfftfreq(round(seconds * RATE), 1 / RATE) > top] = 0
    sound = np.fft.irfft(spectrum, round(seconds * RATE))
    return 0.3 * sound / np.abs(sound).max()


def placed(folder: Path, rows: list[dict], sounds: list[np.ndarray]) -> list[dict]:
    """Return the rows with their sound in `folder`."""
    starts = write_audio(folder / "audio.npy", [to_int16(sound) for sound in sounds])
    return [
        {"language": "en", "speaker": "s", "split": "train", "heard": None, "shard": "audio.npy", "start": start}
        | {"samples": len(sound), "seconds": len(sound) / RATE, "id": str(number)}
        | row
        for number, (row, sound, start) in enumerate(zip(rows, sounds, starts, strict=True))
    ]


@dataclass
class Opinion:
    """Finds what is longer than a second good."""

    overall: float = 0.0

    def score(self, audio: Audio) -> Opinion:
        return Opinion(3.0 if audio.seconds > 1 else 1.5)


@dataclass
class Clerk:
    """Hears words by the length of a clip; the second one hears other words in clips of two seconds."""

    name: str

    def transcribe(self, audio: Audio) -> Transcript:
        if audio.seconds > 3:
            raise AudioError("silent")
        words = "as she said" if round(audio.seconds) == 2 and self.name == "second" else "seven days"
        return Transcript(words, confidence=-0.5)


def test_every_reason_is_counted(tmp_path: Path) -> None:
    texts = ["seven days of rain", "a", "seven days of rain " * 9, "seven days", "seven days", "narrow band"]
    sounds = [hiss(2.0, 9000), hiss(2.0, 9000), hiss(2.0, 9000), hiss(2.0, 9000), hiss(0.9, 9000), hiss(2.0, 3000)]
    rows = placed(tmp_path, [{"text": text} for text in texts], sounds)
    rows[3]["heard"] = {"by": "first", "again": "else", "cer": 0.8}
    rows[0]["heard"] = {"by": "first", "again": "seven days of rain", "cer": 0.0}
    settings = FilterSettings(min_mos=2.0, min_bandwidth=6000)
    work = FilterWork(tmp_path, settings, Opinion)
    result = run_step(tmp_path / "step", units_of(tmp_path, rows, 6), lambda: work, {})
    assert list(result.rows()) == rows[:1]
    reasons = json.loads((tmp_path / "step" / PERF).read_text())["reasons"]
    for reason in ("letters a second, fewer", "letters a second, more", "DNSMOS N", "bandwidth N Hz", "differs in N"):
        assert [count for told, count in reasons.items() if reason in told] == [1]
    assert len(reasons) == 5


def test_what_is_not_asked_costs_nothing(tmp_path: Path) -> None:
    (row,) = placed(tmp_path, [{"text": "seven days"}], [hiss(1.0, 9000)])
    (tmp_path / "audio.npy").unlink()
    work = FilterWork(tmp_path, FilterSettings(), lambda: pytest.fail("asked"))
    assert work(Target(tmp_path, "."), [row]) == ([row], [])


def test_two_recognisers_are_compared_and_one_is_believed(tmp_path: Path) -> None:
    rows = placed(tmp_path, [{"text": text} for text in ("", "", "", "said")], [hiss(s, 9000) for s in (1, 2, 4, 1)])
    settings = TranscribeSettings(recognizer="first", second="second")
    kept, rejected = TranscribeWork(tmp_path, settings, Clerk)(Target(tmp_path, "."), rows)
    assert [row["text"] for row in kept] == ["seven days", "seven days", "said"]
    assert [row["heard"] and row["heard"]["cer"] for row in kept][0::2] == [0.0, None]
    assert kept[1]["heard"]["cer"] > 0.3 and kept[1]["heard"]["again"] == "as she said"
    assert rejected == [{"id": "2", "reason": "silent"}]
    kept, rejected = FilterWork(tmp_path, FilterSettings())(Target(tmp_path, "."), kept)
    assert [row["id"] for row in kept] == ["0", "3"] and "second recogniser differs" in rejected[0]["reason"]


def test_clips_are_heard_together_by_their_seconds_and_language() -> None:
    rows = [{"text": "", "seconds": 10.0, "language": language} for language in ("en", "en", "en", "zh", "zh", "en")]
    rows.insert(1, {"text": "said", "seconds": 10.0, "language": "en"})
    assert list(batches(rows, 25)) == [[0, 2], [3], [4, 5], [6]]
    assert list(batches([rows[0] | {"seconds": 99.0}], 25)) == [[0]]


@pytest.mark.slow
def test_whisper_hears_in_a_batch_what_it_hears_alone() -> None:
    """Clips of several lengths, said by the built-in model; where faster-whisper and its weights are installed."""
    pytest.importorskip("faster_whisper", reason="faster-whisper is not installed")
    from openvalle import Synthesizer
    from openvalle.errors import UserError
    from openvalle.speech_models.recognizers import WhisperRecognizer
    from openvalle.speech_models.wer import word_errors

    try:
        whisper = WhisperRecognizer("tiny.en", local_only=True)
    except UserError as error:
        pytest.skip(error.what)
    texts = ["Seven people were late.", "The rain came down all day and nobody went out of the house.", "Good morning."]
    synthesizer = Synthesizer.load()
    clips = [synthesizer.say(text, seed=1).audio for text in texts]
    together = transcribe_all(whisper, clips, "en")
    for clip, found in zip(clips, together, strict=True):
        alone = whisper.transcribe(clip)
        assert isinstance(found, Transcript) and found.confidence is not None and found.confidence < 0
        assert word_errors(alone.text, found.text).rate < 0.35
