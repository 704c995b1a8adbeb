"""Corpora of crude speech: a manifest, and small trees laid out as LibriSpeech and VCTK are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openvalle.audio import Audio, concatenate, silence
from openvalle.media import write


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, spoken: Audio) -> Path:
    """A manifest: three speakers, three recordings each, 7.6 s and 4.8 s, the middle one used for prompts."""
    folder = tmp_path_factory.mktemp("corpus")
    lines = []
    for speaker, gender in (("anna", "F"), ("ben", "M"), ("carl", "M")):
        for number in range(3):
            name = f"{speaker}{number}"
            tail = spoken if number else silence(1.0)
            write(folder / f"{name}.wav", concatenate([spoken, tail]))
            text = "SAW SEE SAW SEE" + " SAW SEE SAW SEE" * bool(number)
            row = {"id": name, "audio": f"{name}.wav", "text": text, "speaker": speaker, "gender": gender}
            lines.append(json.dumps(row | {"split": "dev-clean"}))
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def librispeech(tmp_path_factory: pytest.TempPathFactory, spoken: Audio) -> Path:
    """A tiny tree laid out as LibriSpeech: two speakers with three utterances of 7.6 s each."""
    folder = tmp_path_factory.mktemp("LibriSpeech")
    for speaker in ("61", "121"):
        chapter = folder / "test-clean" / speaker / "7"
        chapter.mkdir(parents=True)
        names = [f"{speaker}-7-{number:04d}" for number in range(3)]
        for name in names:
            write(chapter / f"{name}.flac", concatenate([spoken, spoken]))
        lines = "".join(f"{name} SAW SEE SAW SEE SAW SEE SAW SEE\n" for name in names)
        (chapter / f"{speaker}-7.trans.txt").write_text(lines)
    return folder


@pytest.fixture(scope="session")
def vctk(tmp_path_factory: pytest.TempPathFactory, spoken: Audio) -> Path:
    """A tiny tree laid out as VCTK: two speakers with utterances of 2.0, 2.5 and 3.8 s."""
    folder = tmp_path_factory.mktemp("VCTK")
    for speaker in ("p225", "p226"):
        for kind in ("txt", "wav48_silence_trimmed"):
            (folder / kind / speaker).mkdir(parents=True)
        for number, seconds in enumerate((2.0, 2.5, spoken.seconds), 1):
            name = f"{speaker}_{number:03d}"
            sound = Audio(spoken.samples[: round(seconds * spoken.rate)], spoken.rate)
            write(folder / "wav48_silence_trimmed" / speaker / f"{name}_mic1.flac", sound)
            (folder / "txt" / speaker / f"{name}.txt").write_text("saw see saw see\n")
    return folder
