"""What people do with a model of several languages, in Chinese and in Japanese: every command that speaks."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from openvalle.apps.dialogue import speak_dialogue
from openvalle.audio import Audio
from openvalle.media import read, write
from openvalle.synth.synthesizer import Synthesizer

pytestmark = pytest.mark.usefixtures("esperanto")


@dataclass(frozen=True)
class Spoken:
    """A language: what a clip says in it, and texts of it."""

    code: str
    clip: str
    old: str  # a word of it
    part: str  # of a word of it
    new: str
    edited: str
    more: str
    text: str
    words: str  # the same without its punctuation
    chapters: str


CASES = (
    Spoken(
        "zh",
        "今天天气很好，我们去看海。",
        "我们",
        "气",
        "他们",
        "今天天气很好他们去看海",
        "天气很好。",
        "今天天气很好，我们去看海。",
        "今天天气很好我们去看海",
        "第一章 海\n\n今天天气很好。\n\n第二章\n\n我们去看海。",
    ),
    Spoken(
        "ja",
        "今日は天気がいい。海を見る。",
        "見る",
        "気",
        "描く",
        "今日は天気がいい海を描く",
        "雨だ。",
        "今日は天気がいい。海を見る。",
        "今日は天気がいい海を見る",
        "第一章 海\n\n今日は天気がいい。\n\n第二章\n\n海を見る。",
    ),
)


@pytest.fixture(params=CASES, ids=lambda case: case.code)
def case(request: pytest.FixtureRequest) -> Spoken:
    for package in ("pypinyin", "jieba", "wetext") if request.param.code == "zh" else ("pyopenjtalk",):
        pytest.importorskip(package)
    return request.param


@pytest.fixture
def model(speakers_of_many: dict[str, Path]) -> tuple[object, ...]:
    return ("-m", speakers_of_many["aligned"])


@pytest.fixture
def clip(tmp_path: Path, case: Spoken, say_builtin: Callable[[str, str], Audio]) -> Path:
    return write(tmp_path / "clip.wav", say_builtin(case.clip, case.code))


@pytest.fixture
def done(openvalle) -> Callable[..., dict]:
    """Run a command that has to succeed, and return what it says."""

    def run(*arguments: object) -> dict:
        found = openvalle(*arguments, "--json")
        assert found.code == 0, found.err
        return json.loads(found.out)

    return run


def test_words_of_a_recording_are_changed(done, model, case: Spoken, clip: Path) -> None:
    given = ("edit", clip, "-t", case.clip, "--language", case.code, *model)
    facts = done(*given, "--replace", case.old, case.new, "-o", "new.wav")
    assert facts["text"] == case.edited
    before, after = read(clip), read("new.wav")
    start = round(facts["spans"][0]["start"] * before.rate)
    assert start > 24_000 and np.array_equal(after.samples[: start - 24], before.samples[: start - 24])


def test_what_is_no_whole_word_is_refused(openvalle, model, case: Spoken, clip: Path) -> None:
    run = openvalle("edit", clip, "-t", case.clip, "--language", case.code, *model, "--delete", case.part)
    assert run.code == 2 and "is not in the transcript" in run.err and len(run.err.splitlines()) == 1


def test_a_recording_goes_on(done, model, case: Spoken, clip: Path) -> None:
    facts = done("continue", clip, case.more, "-t", case.clip, "--language", case.code, *model, "-o", "on.wav")
    assert facts["text"] == case.clip + case.more and facts["start"] > 1
    before, after = read(clip), read("on.wav")
    kept = round(facts["start"] * before.rate) - 24
    assert np.array_equal(after.samples[:kept], before.samples[:kept]) and after.seconds > facts["start"] + 0.2


def test_it_is_streamed_while_it_arrives(openvalle, model, case: Spoken, voice_path: Path, monkeypatch) -> None:
    """Nobody says which language it is: what arrives shows it."""

    class Pipe:
        buffer = io.BufferedReader(io.BytesIO(case.text.encode()))

        def isatty(self) -> bool:
            return False

    heard = io.BytesIO()

    class Out(io.StringIO):
        buffer = heard

    monkeypatch.setattr(sys, "stdin", Pipe())
    monkeypatch.setattr(sys, "stdout", Out())
    run = openvalle("stream", "-", "-v", voice_path, "--format", "pcm", "--whole-lines", *model)
    assert run.code == 0, run.err
    many = Synthesizer.load(model[1])
    chosen = many.options.model_copy(update={"attempts": 1})
    blocks = many.stream(iter([case.text]), voice_path, None, 0, chosen, windows=None, language=case.code)
    assert heard.getvalue() == b"".join(block.audio.pcm() for block in blocks)


def test_a_dialogue_is_spoken(many, tiny_voice, case: Spoken) -> None:
    voices = {"S1": tiny_voice, "S2": tiny_voice}
    pieces = list(speak_dialogue(many, f"[S1] {case.text} [S2] {case.more}", voices))
    assert [piece.speaker for piece in pieces][-1] == "S2" and {piece.language for piece in pieces} == {case.code}


def test_a_book_has_its_chapters(done, model, case: Spoken, voice_path: Path) -> None:
    Path("book.txt").write_text(case.chapters, encoding="utf-8")
    facts = done("book", "book.txt", "-o", "book", "-v", voice_path, *model, "-q")
    titles = [chapter["title"] for chapter in facts["chapters"]]
    assert titles == ["第一章 海", "第二章"]
    assert not facts.get("doubts"), "its own signs are not foreign"


def test_subtitles_and_words_come_with_their_times(done, model, case: Spoken, voice_path: Path) -> None:
    facts = done("say", case.text, "-v", voice_path, *model, "-o", "a.wav", "--timestamps", "a.srt", "-q")
    times = [word["start"] for word in facts["words"]]
    assert times == sorted(times) and facts["words"][-1]["end"] <= facts["seconds"]
    assert "".join(word["word"] for word in facts["words"]) == case.words
    shown = [line for line in Path("a.srt").read_text(encoding="utf-8").splitlines() if line and not line[0].isdigit()]
    assert "".join(shown) == case.text
