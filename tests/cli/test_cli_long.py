"""`openvalle book` and `openvalle stream`: a folder with a playlist, and sound on standard output as it is made."""

from __future__ import annotations

import io
import json
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from book_samples import make_epub, make_png
from openvalle.media import read, read_tags

BOOK = "# One\n\nHi.\n\n# Two\n\nNo."


class Sink(io.StringIO):
    """Standard output that keeps bytes, too."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = io.BytesIO()


@pytest.fixture
def options(tiny_model: Path, voice_path: Path) -> tuple[object, ...]:
    return ("--model", tiny_model, "--voice", voice_path)


def test_book_prints_chapters_and_playlist(openvalle, options) -> None:
    Path("tale.txt").write_text(BOOK, encoding="utf-8")
    run = openvalle("book", "tale.txt", "--format", "mp3", *options)
    assert (run.code, run.err) == (0, "")
    assert run.out.split() == ["tale/01-one.mp3", "tale/02-two.mp3", "tale/playlist.m3u8"]
    resumed = openvalle("book", "tale.txt", "--format", "mp3", "--json", *options)
    result = json.loads(resumed.out)
    assert [row["title"] for row in result["chapters"]] == ["One", "Two"]
    seconds = sum(read(row["path"]).seconds for row in result["chapters"])
    assert result["seconds"] == pytest.approx(seconds, abs=0.2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none.txt",), "cannot read"),
        (("empty.txt",), "the book is empty"),
        (("a.txt", "--format", "xyz"), "xyz"),
        (("a.txt", "--loudness", "-3"), "give LUFS from -23 to -18"),
        (("a.txt", "--chapters", "2"), "choose from 1 to 1"),
        (("a.txt", "--chapters", "x-y"), "no chapters 'x-y'"),
        (("a.txt", "--cover", "a.txt"), "neither JPEG nor PNG"),
        (("a.txt", "--markup", "xyz"), "xyz"),
        (("a.txt", "-o", "folder.m4b"), "is a folder"),
        (("bomb.epub",), "damaged"),
    ],
)
def test_book_that_cannot_be_read(openvalle, options, arguments: tuple[str, ...], said: str) -> None:
    Path("empty.txt").write_text("\n\n")
    Path("a.txt").write_text("Hi.")
    Path("folder.m4b").mkdir()
    Path("bomb.epub").write_bytes(b"PK\x03\x04" + bytes(100))
    run = openvalle("book", *arguments, *options)
    assert (run.code, run.err.count("\n")) == (2, 1), run.err
    assert said in run.err


def test_list_shows_what_is_read_and_what_is_left_out(openvalle) -> None:
    make_epub(Path("mill.epub"), [("One", "It was late."), ("Two", "No.")])
    run = openvalle("book", "mill.epub", "--list")
    assert run.out.splitlines() == [
        "The Mill, by A. Writer",
        "   -  The Mill (front matter: left out), 4 words, about 1 min",
        "   1  One, 4 words, about 1 min",
        "   2  Two, 2 words, about 1 min",
    ]
    rows = json.loads(openvalle("book", "mill.epub", "--list", "--front-matter", "--chapters", "2-", "--json").out)
    assert [row["number"] for row in rows["chapters"]] == [None, 2, 3]


def test_signs_of_chinese_and_japanese_are_read_at_their_own_pace(openvalle) -> None:
    """As many sounds a minute: a sign of Chinese is a syllable, a word of English some."""
    texts = {"zh": "今天天气很好。" * 200, "ja": "今日はとても天気がいいです。" * 110, "en": "It was late. " * 250}
    for language, text in texts.items():
        Path(f"{language}.txt").write_text(text, encoding="utf-8")
    listed = {language: openvalle("book", f"{language}.txt", "--list").out.splitlines()[-1] for language in texts}
    assert listed["zh"].endswith("1,200 signs, about 5 min")
    assert listed["ja"].endswith("1,430 signs, about 4 min")
    assert listed["en"].endswith("750 words, about 5 min")


def test_an_epub_becomes_an_m4b_and_its_marks_are_found(openvalle, options) -> None:
    pytest.importorskip("av")
    make_epub(Path("mill.epub"), [("One", "Hi."), ("Zwyxl", "No.")], make_png())
    run = openvalle("book", "mill.epub", "-o", "mill.m4b", "--title", "Another", *options)
    assert (run.code, run.out) == (0, "mill.m4b\n")
    assert "mill.unsure.tsv" in run.err
    assert "Zwyxl\t" in Path("mill.unsure.tsv").read_text()
    assert read_tags("mill.m4b")["title"] == "Another"
    assert json.loads(openvalle("detect", "mill.m4b", "--json").out)["metadata"]["model"] == "tiny"
    checked = openvalle("book", "mill.epub", "--check", "-o", "other.m4b", *options)
    assert checked.out == "other.unsure.tsv\n"


def test_a_text_on_standard_input_and_a_second_voice(openvalle, options, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'"Hi," he said.')))
    run = openvalle("book", "-", "--quotes", options[-1], "--loudness", "off", "--json", *options)
    assert run.code == 0, run.err
    assert json.loads(run.out)["path"] == "book/playlist.m3u8"


@pytest.mark.parametrize("kind", ["epub", "pdf"])
def test_say_names_the_command_for_books(openvalle, kind: str) -> None:
    path = Path(f"mill.{kind}")
    make_epub(path, [("One", "Hi.")]) if kind == "epub" else path.write_bytes(b"%PDF-1.4\n")
    run = openvalle("say", "-f", path)
    assert (run.code, run.err.count("\n")) == (2, 1)
    assert f"run: openvalle book mill.{kind}" in run.err


def streamed(openvalle, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> bytes:
    sink = Sink()
    monkeypatch.setattr(sys, "stdout", sink)
    openvalle("stream", *arguments)
    return sink.buffer.getvalue()


def test_stream_is_a_wav_that_players_read_to_its_end(openvalle, options, monkeypatch) -> None:
    openvalle("say", "Hi. I see.", "-o", "a.wav", "--attempts", 1, *options)
    raw = streamed(openvalle, monkeypatch, "Hi. I see.", *options)
    with wave.open("a.wav") as file:
        expected = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(int)
    got = np.frombuffer(raw[44:], "<i2").astype(int)
    assert len(got) == len(expected)
    assert np.abs(got - expected).max() <= 1, "libsndfile rounds another way"
    assert raw[:4] == b"RIFF"
    assert raw[40:44] == b"\xff" * 4
    assert streamed(openvalle, monkeypatch, "Hi. I see.", "--format", "pcm", *options) == raw[44:]


def test_stream_reads_text_while_it_is_written(openvalle, options, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Hi. Ünd you.".encode())))
    assert len(streamed(openvalle, monkeypatch, "--patient", *options)) > 1000


def test_a_stream_of_a_page_says_its_words(openvalle, options, monkeypatch) -> None:
    def of(text: str, *more: str) -> bytes:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        return streamed(openvalle, monkeypatch, "--patient", *more, *options)

    page = "<script>no()</script><p>Hi.</p>"
    assert of(page, "--text-format", "html") == of("Hi.")
    assert openvalle("stream", "-", "--text-format", "rtf", *options).code == 2


@pytest.mark.parametrize(
    ("arguments", "said"), [(("Hi.", "--format", "mp3"), "use wav or pcm"), (("!?",), "nothing that can be spoken")]
)
def test_stream_refuses(openvalle, options, arguments: tuple[str, ...], said: str) -> None:
    run = openvalle("stream", *arguments, *options)
    assert (run.code, run.out) == (2, "")
    assert said in run.err
