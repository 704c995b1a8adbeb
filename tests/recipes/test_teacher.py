"""The teacher's recipe: the same speakers every time, held-out voices apart, what is misheard left out, goes on."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from openvalle.audio import Audio
from openvalle.errors import UserError
from openvalle.prepare.formats import read_clips
from openvalle.speech_models.recognizers import Transcript
from openvalle.text.language import Word, phonemize

FOLDER = Path(__file__).parents[2] / "recipes" / "teacher"
NAMES = ("af_heart", "af_bella", "am_adam", "bf_alice", "zf_xiaoni", "zf_xiaoyi", "jm_kumo", "af_nicole", "if_sara")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    """A function that imports a module of the recipe."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def made_voices() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal((510, 256)).astype(np.float32) for name in NAMES}


class Buzz:
    """Stands in for the teacher: a tone for each phone."""

    rate = 24_000

    def __init__(self) -> None:
        self.voices, self.said = made_voices(), 0

    def speak(self, words: Sequence[Word], language: str, style: np.ndarray, speed: float) -> np.ndarray | None:
        self.said += 1
        times = np.arange(round(0.08 / speed * self.rate)) / self.rate
        phones = [phone for word in words for phone in word.phones]
        return np.concatenate([np.sin(2 * np.pi * (150 + 3 * sum(map(ord, phone)) % 900) * times) for phone in phones])


class Hearer:
    """Hears every sentence right but those with "storm"; keeps the order of what it is asked."""

    name = "hearer"

    def __init__(self, texts: list[str]) -> None:
        self.texts = iter(texts)

    def transcribe(self, audio: Audio) -> Transcript:
        text = next(self.texts)
        return Transcript("something else" if "storm" in text else text.lower())


def test_speakers_are_the_same_again_and_held_out_voices_are_apart(load):
    speakers = load("speakers")
    voices = made_voices()
    found = [speakers.draw_speaker(voices, 3, number) for number in range(120)]
    again = [speakers.draw_speaker(voices, 3, number) for number in range(120)]
    assert [one.name for one in found] == [one.name for one in again]
    held = {one.name for one in found if one.split == "dev"}
    assert held == {"af_bella", "zf_xiaoyi"}
    for one in found:
        assert one.style.shape == (510, 256)
        assert one.split == "dev" or not set(one.sources) & set(speakers.HELD_OUT)
        assert not set(one.sources) & {"af_nicole", "if_sara"}, "one whispers, the other speaks none of the three"
        assert one.languages == (("en",) if one.name.startswith("beyond") else ("en", "zh", "ja"))
    half = next(one for one in found if one.name.startswith("half"))
    timbre, prosody = half.sources
    assert np.array_equal(half.style[:, :128], voices[timbre][:, :128])
    assert np.array_equal(half.style[:, 128:], voices[prosody][:, 128:])


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    path = tmp_path / "sentences.tsv"
    lines = ["We saw the storm.", "They walked home.", "The old bridge is closed.", "It rained all day."]
    path.write_text("".join(f"en\t{line}\n" for line in lines))
    return path


def test_what_is_misheard_is_left_out_and_a_second_call_goes_on(load, sentences, tmp_path):
    teacher = load("teacher")
    buzz, texts, out = Buzz(), teacher.Sentences.read(sentences), tmp_path / "out"
    out.mkdir()
    teacher.speak(buzz, teacher.draw_turns(buzz.voices, texts, 0, 0, 1), out / "spoken-0.jsonl", 6.0)
    first, said = (out / "spoken-0.jsonl").read_text(), buzz.said
    (out / "spoken-0.jsonl").write_text(first + '{"audio": "cut o')  # as if it had been killed while it wrote
    teacher.speak(buzz, teacher.draw_turns(buzz.voices, texts, 0, 0, 1), out / "spoken-0.jsonl", 6.0)
    assert (out / "spoken-0.jsonl").read_text() == first and buzz.said == said, "nothing is said twice"
    rows = teacher.read_spoken(out)
    assert all(20 * np.log10(np.abs(teacher.read(out / row["audio"]).samples).max()) < 0 for row in rows)
    teacher.check(out, Hearer([row["text"] for row in rows]))
    teacher.check(out, Hearer([]))  # everything was heard
    figures = teacher.write_list(out, "the test's own")
    clips = list(read_clips(out))
    assert figures["kept"] == len(clips) > 0
    stormy = sum("storm" in row["text"] for row in rows)
    assert stormy and sum(figures["left out"].values()) >= stormy
    assert all("storm" not in clip.text and clip.audio.is_file() for clip in clips)
    assert {clip.language for clip in clips} == {"en"}
    row = json.loads((out / "manifest.jsonl").read_text().splitlines()[0])
    assert row["phones"].split() == [phone for word in phonemize(row["text"]) for phone in word.phones]
    card = (out / "README.md").read_text()
    assert "Kokoro-82M v1.0" in card and "Apache-2.0" in card and '"hours"' in card and "the test's own" in card


def test_an_empty_list_of_sentences_is_said(load, tmp_path):
    (tmp_path / "none.tsv").write_text("no tabs here\n")
    with pytest.raises(UserError, match="holds no sentences"):
        load("teacher").Sentences.read(tmp_path / "none.tsv")


def test_phones_are_spelt_as_the_teacher_reads_them(load):
    spell = load("kokoro_model").spell
    assert spell(phonemize("She read the letter."), "en").startswith("ʃi ɹ")
    pytest.importorskip("pypinyin")
    pytest.importorskip("wetext")
    assert spell(phonemize("我们在山上。", "zh"), "zh") == "wo↓mən ʦai↘ ʂa→nʂa↘ŋ."
    pytest.importorskip("pyopenjtalk")
    assert spell(phonemize("手紙を見て、切手を買った。", "ja"), "ja") == "teɡamʲio mʲite, kʲiʔteo kaʔta."


def test_its_own_sentences_are_of_three_languages(load):
    texts = load("teacher").Sentences.read(FOLDER / "sentences.tsv").texts
    assert {language: len(own) for language, own in texts.items()} == {"en": 30, "zh": 30, "ja": 30}


def test_held_out_voices_say_each_sentence_once_in_turn(load, sentences, tmp_path):
    teacher, buzz = load("teacher"), Buzz()
    texts, out = teacher.Sentences.read(sentences).last(3), tmp_path / "out"
    out.mkdir()
    turns = list(teacher.list_turns(buzz.voices, texts, ["af_bella", "zf_xiaoyi"]))
    teacher.speak(buzz, iter(turns), out / "spoken-0.jsonl", float("inf"))
    rows = teacher.read_spoken(out)
    assert [(row["speaker"], row["text"]) for row in rows] == [
        ("af_bella", "They walked home."),
        ("af_bella", "It rained all day."),
        ("zf_xiaoyi", "The old bridge is closed."),
    ]
    assert {row["split"] for row in rows} == {"dev"} and {row["speed"] for row in rows} == {1.0}
    native = teacher.list_turns(buzz.voices, texts, ["af_bella", "bf_emma", "zf_xiaoyi"], True)
    with pytest.raises(UserError, match="no voice that is held out"):  # this teacher lacks bf_emma
        list(native)
    native = teacher.list_turns(buzz.voices, texts, ["zf_xiaoyi", "af_bella"], True)
    assert [[line.language for line in turn] for turn in native] == [[], ["en"] * 3]
    with pytest.raises(UserError, match="no voice of zf_xiaoyi is of en"):
        list(teacher.list_turns(buzz.voices, texts, ["zf_xiaoyi"], True))
    with pytest.raises(UserError, match=r"no voice that is held out.*af_bella, zf_xiaoyi"):
        list(teacher.list_turns(buzz.voices, texts, ["af_heart"]))
