"""The benchmark of languages: two sets spoken, judged by language, accents paired, nothing said twice."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from openvalle.audio import Audio
from openvalle.errors import UserError
from openvalle.evaluate.results import Result
from openvalle.media import write
from openvalle.speech_models import asr

TEXTS = {  # as near to "saw see saw see" as they come
    "zh": ("西搜西搜", "搜西搜西"),
    "ja": ("すいさあすいさあ", "さあすいさあすい"),
    "en": ("see saw see saw", "saw see saw see"),
}
VOICES = ("zf_a", "am_b")


class Whisper(asr.WhisperRecognizer):
    """Stands in for the weights: of four signs it hears three right."""

    knows_languages = True  # type: ignore[assignment]

    def __init__(self) -> None:
        self.name, self.decoding = "whisper of a test", "none"

    def transcribe(self, audio: Audio, language: str = "en") -> asr.Transcript:
        return asr.Transcript({"zh": "西搜西东", "en": "see saw see saw"}[language])

    def detect_language(self, audio: Audio) -> dict[str, float]:
        return {"zh": 0.75, "en": 0.2}


@pytest.fixture
def folders(tmp_path: Path, spoken: Audio) -> Path:
    """A teacher's folder, readers of English, and a list of sentences."""
    rows = []
    for voice in VOICES:
        for language, texts in TEXTS.items():
            for place, text in enumerate(texts):
                name = f"audio/{voice}/{language}-{place}.wav"
                write(tmp_path / "teacher" / name, spoken)
                rows.append({"audio": name, "text": text, "language": language, "speaker": voice, "seconds": 3.8})
    (tmp_path / "teacher" / "spoken-0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "sentences.tsv").write_text("".join(f"{key}\t{text}\n" for key, own in TEXTS.items() for text in own))
    listed = []
    for who in ("anna", "bert", "carl"):
        write(tmp_path / "readers" / f"{who}.wav", spoken)
        about = {"text": "saw see saw see", "speaker": who, "split": "dev"}
        listed.append({"id": who, "audio": f"{who}.wav", "seconds": 3.8, **about})
    (tmp_path / "readers" / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed))
    return tmp_path


def options_of(folders: Path) -> list[str]:
    given = {"teacher": folders / "teacher", "data": folders / "readers", "sentences": folders / "sentences.tsv"}
    given |= {"voices": ",".join(VOICES), "readers": "dev", "out": folders / "out", "workers": 1, "limit": 1}
    given["speaker"] = "resemblyzer"
    return [part for name, value in given.items() for part in (f"--{name}", str(value))]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("webrtcvad") is None, reason="needs openvalle[eval-offline]")
def test_what_is_said_is_judged_by_language_and_accents_in_pairs(
    load, folders, speakers_of_many, esperanto, monkeypatch, capsys
):
    for package in ("pypinyin", "wetext", "pyopenjtalk", "jiwer"):
        pytest.importorskip(package)
    monkeypatch.setattr(asr, "load_recognizer", lambda name, device="cpu": Whisper())
    languages = load("languages")
    call = ["languages.py", "--model", str(speakers_of_many["aligned"]), "--languages", "zh,en", *options_of(folders)]
    monkeypatch.setattr(sys, "argv", call)
    languages.main()
    shown = json.loads((folders / "out" / "languages.json").read_text())
    rows = shown["rows"]
    assert set(rows) == {
        "zh, voices of the teacher: the teacher itself",
        "zh, voices of the teacher: model",
        "en, voices of the teacher: the teacher itself",
        "en, voices of the teacher: model",
        "zh, real readers: model",
        "zh, real readers: model, foreign accent",
    }
    assert rows["zh, real readers: model"]["language_heard"]["value"] == 0.75
    assert rows["en, voices of the teacher: model"]["wer"]["value"] == 0, "it hears just that"
    assert rows["zh, voices of the teacher: model"]["cer"]["value"] == 0.25
    assert not shown["failed"]
    (difference,) = shown["differences"].items()
    assert difference[0] == "zh, real readers: foreign less native" and difference[1]["cer"]["value"] == 0
    clips = sorted((folders / "out" / "audio").rglob("*.wav"))
    assert len(clips) == 4
    written = {clip: clip.stat().st_mtime_ns for clip in clips}
    assert written[clips[0]] and "| zh, real readers: model |" in (folders / "out" / "languages.md").read_text()
    languages.main()  # goes on where it was: everything is there
    assert {clip: clip.stat().st_mtime_ns for clip in clips} == written
    capsys.readouterr()


def test_sentences_of_training_are_left_out_and_a_voice_does_not_hear_its_own_text(load, folders):
    items = load("language_items")
    path = folders / "sentences.tsv"
    assert items.read_texts(path, ["zh", "ja"], 1, {"搜西搜西"}) == {"zh": ["西搜西搜"], "ja": ["さあすいさあすい"]}
    with pytest.raises(UserError, match="no sentences of ja"):
        items.read_texts(path, ["ja"], 1, set(TEXTS["ja"]))
    teacher = items.Teacher.read(folders / "teacher", VOICES)
    for text in TEXTS["zh"]:
        prompts = teacher.find_prompts("zf_a", "zh", text)
        assert [prompt.language for prompt in prompts] == ["zh"] and prompts[0].text != text
    with pytest.raises(UserError, match="no speech of bf_c"):
        items.Teacher.read(folders / "teacher", ("zf_a", "bf_c"))


def test_accents_count_as_different_only_where_the_interval_says_so(load):
    table = load("language_table")

    def row(system: str, errors: float, heard: float) -> object:
        one = Result("", "", 0, "", language="zh")
        results = [
            replace(
                one,
                item=str(n),
                speaker=f"r{n % 8}",
                metrics={"character_errors": errors, "characters": 10.0, "language_heard": heard},
            )
            for n in range(40)
        ]
        return table.Row(table.READERS, "zh", system, results)

    for errors, met in ((2.0, True), (1.0, False)):
        rows = [row(table.MODEL, 1.0, 0.9), row(table.FOREIGN_ACCENT, errors, 0.9 if errors == 1 else 0.6)]
        checks = table._check_differences(table.compare_accents(rows, ["zh"]))
        assert [check[3] for check in checks] == [True, met, met]
