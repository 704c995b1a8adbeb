"""`openvalle detect`, `openvalle watermark` and `--format`: what `say` writes is marked and tagged, in every format."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from openvalle.audio import Audio
from openvalle.media import FORMATS, read, write


@pytest.fixture
def say(openvalle, tiny_model: Path, voice_path: Path):
    """Runner of `openvalle say` with the tiny model and voice."""
    return lambda *arguments: openvalle("say", *arguments, "--model", tiny_model, "--voice", voice_path)


def test_what_say_writes_is_tagged(say, openvalle) -> None:
    assert say("Hello there. See you.", "-o", "a.flac").code == 0
    finding = json.loads(openvalle("detect", "a.flac", "--json").out)
    assert finding["metadata"]["model"] == "tiny"
    assert finding["metadata"]["watermark"] == "perth-implicit"
    assert finding["verdict"] in ("marked", "tagged")  # random weights make noise, which may drown the mark


@pytest.mark.parametrize("name", [ending[1:] for ending in FORMATS])
def test_format_by_name_equals_format_by_ending(say, name: str) -> None:
    assert say("Hi.", "-o", f"a.{name}").code == say("Hi.", "-o", "b.bin", "--format", name).code == 0
    assert len(Path(f"a.{name}").read_bytes()) == len(Path("b.bin").read_bytes())
    if name != "pcm":
        first, second = (read(path) for path in (f"a.{name}", "b.bin"))
        np.testing.assert_array_equal(first.samples, second.samples)


def test_raw_pcm_is_the_wav_without_its_header(say, monkeypatch: pytest.MonkeyPatch) -> None:
    say("Hi.", "-o", "a.wav")
    say("Hi.", "-o", "a.pcm")
    pcm = np.frombuffer(Path("a.pcm").read_bytes(), "<i2")
    np.testing.assert_array_equal(pcm / np.float32(32768), read("a.wav").samples)

    class Sink(io.StringIO):
        buffer = io.BytesIO()

    monkeypatch.setattr(sys, "stdout", Sink())
    say("Hi.", "-o", "-", "--format", "pcm")
    assert Sink.buffer.getvalue() == Path("a.pcm").read_bytes()


def test_the_default_name_has_the_formats_ending(say) -> None:
    assert [say("Hi.", "--format", "mp3").out.strip() for _ in range(2)] == ["speech.mp3", "speech-2.mp3"]


def test_an_unknown_format_is_refused_before_anything_is_spoken(say) -> None:
    run = say("Hi.", "--format", "aiff")
    assert (run.code, run.out) == (2, "")
    assert run.err == "error: unknown format 'aiff'; use one of: wav, flac, mp3, ogg, opus, pcm\n"
    assert "need a sound file" in say("Hi.", "-o", "-", "--play").err
    assert "raw PCM cannot be played" in say("Hi.", "-o", "a.pcm", "--play").err


def test_watermark_embed_then_detect(openvalle, intoned: Audio) -> None:
    write("clean.wav", intoned)
    assert openvalle("watermark", "embed", "clean.wav", "marked.mp3").out == "marked.mp3\n"
    run = openvalle("watermark", "detect", "clean.wav", "marked.mp3")
    clean, marked = run.out.splitlines()
    assert clean.startswith("clean.wav\tnot found")
    assert marked.startswith("marked.mp3\tfound in 100% of the recording")
    rows = [
        json.loads(line)
        for line in openvalle("watermark", "detect", "--json", "clean.wav", "marked.mp3").out.splitlines()
    ]
    assert [row["marked"] for row in rows] == [False, True]


def test_detect_speaks_plainly(openvalle, spoken: Audio) -> None:
    write("clean.wav", spoken)
    run = openvalle("detect", "clean.wav")
    assert run.code == 0
    assert "does not mean that a person spoke" in run.out


@pytest.mark.parametrize("command", [("detect",), ("watermark", "detect")])
def test_bad_files_are_one_clear_line(openvalle, command: tuple[str, ...]) -> None:
    Path("text.wav").write_text("not sound")
    Path("a.pcm").write_bytes(bytes(48_000))
    write("silent.wav", Audio(np.zeros(48_000, np.float32), 24_000))
    write("short.wav", Audio(np.ones(2400, np.float32), 24_000))
    said = {
        "text.wav": "as audio",
        "a.pcm": "raw PCM",
        "silent.wav": "silent",
        "short.wav": "too short",
        "no.wav": "no audio file",
    }
    for name, message in said.items():
        run = openvalle(*command, name)
        assert (run.code, run.out, run.err.count("\n")) == (2, "", 1)
        assert message in run.err


def test_embed_refuses_folders_and_unknown_formats(openvalle, spoken: Audio) -> None:
    write("clean.wav", spoken)
    Path("out.wav").mkdir()
    assert "is a folder" in openvalle("watermark", "embed", "clean.wav", "out.wav").err
    assert "unknown format" in openvalle("watermark", "embed", "clean.wav", "out.xyz").err
