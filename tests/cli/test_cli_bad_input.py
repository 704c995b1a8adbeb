"""Every mistake a person can mend is one line and exit code 2, and leaves no half-written file."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from openvalle.audio import Audio
from openvalle.media import write

SAID = "saw, see, saw, see"


@pytest.fixture
def refused(openvalle, tiny_model: Path):
    """Run `openvalle say`, check that it is refused properly, and return the line."""

    def run(*arguments: object, model: Path | str = tiny_model) -> str:
        before = sorted(Path().iterdir())
        done = openvalle("say", *arguments, "--model", model, "-o", "speech.wav")
        assert (done.code, done.out) == (2, ""), done
        assert sorted(Path().iterdir()) == before, "nothing half-written is left"
        lines = done.err.splitlines()
        assert len(lines) == 1, done.err
        assert lines[0].startswith("error: ")
        assert "; " in lines[0], "what is wrong; what to do"
        return lines[0]

    return run


def made(path: Path, samples: np.ndarray, rate: int = 24_000, subtype: str = "PCM_16") -> Path:
    """Write a clip as it is."""
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def test_missing_clip(refused) -> None:
    assert "nothing at" in refused("Hello.", "--voice", "none/clip.wav")


def test_folder_as_clip(refused, tmp_path: Path) -> None:
    assert "no audio file" in refused("Hello.", "--voice", tmp_path)


@pytest.mark.parametrize(("content", "said"), [(b"", "is empty"), (b"this is no sound", "cannot read")])
def test_unreadable_clip(refused, tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "clip.wav").write_bytes(content)
    assert said in refused("Hello.", "--voice", tmp_path / "clip.wav")


def test_clips_that_cannot_be_voices(refused, tmp_path: Path, spoken: Audio) -> None:
    nan = spoken.samples.copy()
    nan[5000] = np.nan
    clips = {
        "no samples": made(tmp_path / "none.wav", np.zeros(0)),
        "silent": made(tmp_path / "silent.wav", np.zeros(96_000)),
        "too little": made(tmp_path / "short.wav", spoken.samples[9600:16800]),
        "600 s": made(tmp_path / "long.wav", np.zeros(600 * 8000), 8000),
        "not numbers": made(tmp_path / "nan.wav", nan, subtype="FLOAT"),
    }
    for reason, path in clips.items():
        assert reason in refused("Hello.", "--voice", path, "--prompt-text", SAID)


def test_odd_clips_are_voices(openvalle, tiny_model: Path, tmp_path: Path, spoken: Audio) -> None:
    six = np.repeat(spoken.samples[:, None], 6, axis=1)
    for path in (made(tmp_path / "8bit.wav", spoken.samples, subtype="PCM_U8"), made(tmp_path / "six.wav", six)):
        run = openvalle("say", "Hi.", "--voice", path, "--prompt-text", SAID, "--model", tiny_model, "-o", "a.wav")
        assert run.code == 0, run.err


@pytest.mark.parametrize("text", ["", "   \n ", "?!…", "🙂🙂"])
def test_text_without_words(refused, voice_path: Path, text: str) -> None:
    assert "spoken" in refused(text, "--voice", voice_path)


def test_no_text(openvalle) -> None:
    run = openvalle("say")
    assert run.code == 2
    assert 'openvalle say "Hello there."' in run.err


def test_text_that_is_not_utf8(refused, voice_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe\x00h")))
    assert "not UTF-8" in refused("-", "--voice", voice_path)


def test_unknown_voice_lists_those_there(refused, tiny_voice, own_home: Path) -> None:
    tiny_voice.save(own_home / "voices" / "anna.safetensors")
    assert "anna" in refused("Hello.", "--voice", "bertha")


def test_unknown_model(refused, voice_path: Path) -> None:
    assert "no model called 'huge'; there are: builtin" in refused("Hello.", "--voice", voice_path, model="huge")


def test_unknown_format(openvalle) -> None:
    run = openvalle("say", "Hello.", "-o", "speech.aac")
    assert run.code == 2
    assert ".wav" in run.err


def test_voice_of_another_codec(refused, tiny_voice, tmp_path: Path) -> None:
    from dataclasses import replace

    path = replace(tiny_voice, codec_digest="0ther").save(tmp_path / "v.safetensors")
    assert "another codec (0ther)" in refused("Hello.", "--voice", path)
    path = replace(tiny_voice, symbols=("QQ", *tiny_voice.symbols[1:])).save(tmp_path / "v.safetensors")
    assert "symbols that the model does not know (QQ)" in refused("Hello.", "--voice", path)


def changed(model: Path, tmp_path: Path) -> Path:
    """A copy of the model to damage."""
    return Path(shutil.copytree(model, tmp_path / "broken"))


@pytest.mark.parametrize("name", ["ar.safetensors", "nar.safetensors", "codec/model.safetensors", "symbols.json"])
@pytest.mark.parametrize("kept", [0, 50, -10])
def test_truncated_file_of_the_model(refused, tiny_model, voice_path, tmp_path: Path, name: str, kept: int) -> None:
    path = changed(tiny_model, tmp_path) / name
    path.write_bytes(path.read_bytes()[:kept])
    assert path.name in refused("Hello.", "--voice", voice_path, model=tmp_path / "broken")


@pytest.mark.parametrize("name", ["ar.safetensors", "config.json", "generation.json"])
def test_missing_file_of_the_model(refused, tiny_model, voice_path, tmp_path: Path, name: str) -> None:
    (changed(tiny_model, tmp_path) / name).unlink()
    assert name in refused("Hello.", "--voice", voice_path, model=tmp_path / "broken")


def test_model_of_another_codec(refused, tiny_model, voice_path, tmp_path: Path) -> None:
    path = changed(tiny_model, tmp_path) / "config.json"
    path.write_text(path.read_text().replace('"digest": "', '"digest": "0'))
    assert "codec" in refused("Hello.", "--voice", voice_path, model=tmp_path / "broken")


def test_truncated_voice(refused, voice_path: Path) -> None:
    voice_path.write_bytes(voice_path.read_bytes()[:-20])
    assert "voice add" in refused("Hello.", "--voice", voice_path)


def test_full_disk(refused, voice_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(soundfile.SoundFile, "write", full)
    assert "the disk is full; free some space" in refused("Hello.", "--voice", voice_path)


def test_full_disk_while_a_voice_is_saved(openvalle, tiny_model, clip_path, own_home, monkeypatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    run = openvalle("voice", "add", "anna", clip_path, "--prompt-text", SAID, "--model", tiny_model)
    assert run.code == 2
    assert "No space left on device" in run.err
    assert not (own_home / "voices").exists(), "nothing is left, not even an empty folder"


def test_folder_that_cannot_be_written(refused, openvalle, tiny_model, voice_path: Path) -> None:
    Path("file").touch()
    run = openvalle("say", "Hello.", "--voice", voice_path, "--model", tiny_model, "-o", "file/speech.wav")
    assert run.code == 2
    assert run.err.startswith("error: cannot write")


@pytest.mark.parametrize("arguments", [["say", "--nonsense"], ["sya"], ["say", "Hi.", "--top-p", "2"]])
def test_usage_errors(openvalle, arguments: list[str]) -> None:
    run = openvalle(*arguments)
    assert run.code == 2
    assert "for help" in run.err


def test_a_fault_of_ours_is_told_apart(openvalle, monkeypatch: pytest.MonkeyPatch) -> None:
    from openvalle.synth.synthesizer import Synthesizer

    monkeypatch.setattr(Synthesizer, "load", lambda *a, **k: 1 / 0)
    run = openvalle("say", "Hello.")
    assert run.code == 1
    assert "ZeroDivisionError" in run.err
    assert "Traceback" not in run.err
    assert "Traceback" in openvalle("--debug", "say", "Hello.").err


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_control_c(tiny_model: Path, voice_path: Path, tmp_path: Path, own_home: Path) -> None:
    folder = tmp_path / "interrupted"
    folder.mkdir()
    command = [sys.executable, "-m", "openvalle", "say", "-", "--model", str(tiny_model), "--voice", str(voice_path)]
    process = subprocess.Popen(
        [*command, "-o", "speech.wav"],
        cwd=folder,
        env=os.environ | {"OPENVALLE_HOME": str(own_home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a test in the background ignores Ctrl-C
    )
    assert process.stdin is not None
    process.stdin.write("This goes on for ever and ever. " * 4000)
    process.stdin.close()
    deadline = time.monotonic() + 60
    while not list(folder.iterdir()) and time.monotonic() < deadline:  # its temporary file: it has begun to speak
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.stdin = None
    try:
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert out == ""
    assert err.splitlines() == ["stopped; nothing half-written was left behind"]
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="pipes differ")
def test_reader_that_goes_away() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "openvalle", "version"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_clip_at_192_khz(openvalle, tiny_model: Path, tmp_path: Path, spoken: Audio) -> None:
    from openvalle.audio import resample

    write(tmp_path / "fast.wav", resample(spoken, 192_000))
    run = openvalle(
        "say", "Hi.", "--voice", tmp_path / "fast.wav", "--prompt-text", SAID, "--model", tiny_model, "-o", "a.wav"
    )
    assert run.code == 0, run.err
