"""`openvalle book` and `openvalle stream`: a folder with a playlist, and sound on standard output as it is made."""

from __future__ import annotations

import io
import json
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from openvalle.media import read

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
    again = openvalle("book", "tale.txt", "--format", "mp3", *options)
    assert (again.code, again.err.count("\n")) == (2, 1)
    assert "--resume" in again.err
    resumed = openvalle("book", "tale.txt", "--format", "mp3", "--resume", "--json", *options)
    result = json.loads(resumed.out)
    assert [row["title"] for row in result["chapters"]] == ["One", "Two"]
    seconds = sum(read(row["path"]).seconds for row in result["chapters"])
    assert result["seconds"] == pytest.approx(seconds, abs=0.2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("none.txt",), "cannot read"), (("empty.txt",), "the book is empty"), (("a.txt", "--format", "xyz"), "xyz")],
)
def test_book_that_cannot_be_read(openvalle, options, arguments: tuple[str, ...], said: str) -> None:
    Path("empty.txt").write_text("\n\n")
    Path("a.txt").write_text("Hi.")
    run = openvalle("book", *arguments, *options)
    assert (run.code, run.err.count("\n")) == (2, 1), run.err
    assert said in run.err


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


@pytest.mark.parametrize(
    ("arguments", "said"), [(("Hi.", "--format", "mp3"), "use wav or pcm"), (("!?",), "nothing that can be spoken")]
)
def test_stream_refuses(openvalle, options, arguments: tuple[str, ...], said: str) -> None:
    run = openvalle("stream", *arguments, *options)
    assert (run.code, run.out) == (2, "")
    assert said in run.err
