"""Where commands write: through links, into devices and pipes, under free names; what a signal leaves: nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from openvalle.media import read
from openvalle.synth.synthesizer import Synthesizer

posix = pytest.mark.skipif(sys.platform == "win32", reason="links, pipes and signals of POSIX")
SAID = "saw, see, saw, see"


@pytest.fixture
def say(openvalle, tiny_model: Path, voice_path: Path):
    """Runner of `openvalle say TEXT` with the tiny model and voice."""
    return lambda text, *more: openvalle("say", text, *more, "-q", "--model", tiny_model, "--voice", voice_path)


@pytest.fixture
def start(tmp_path: Path):
    """Starts the command in a process of its own, in the folder of `openvalle`; none outlives the test."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*arguments: object, **named) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "openvalle", *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": tmp_path / "here"} | named
        started.append(subprocess.Popen(command, **pipes))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


@posix
def test_each_output_goes_through_links_and_into_pipes(
    openvalle, say, tiny_model: Path, voice_path: Path, clip_path: Path
) -> None:
    assert say("Saw.", "-o", "plain.wav", "--timestamps", "plain.json").code == 0
    Path("link.wav").symlink_to("target.wav")
    Path("link.json").symlink_to("target.json")
    assert say("Saw.", "-o", "link.wav", "--timestamps", "link.json").out.split() == ["link.wav", "link.json"]
    for ending in ("wav", "json"):
        assert Path(f"link.{ending}").is_symlink()
        assert Path(f"target.{ending}").read_bytes() == Path(f"plain.{ending}").read_bytes()
    model = ("--model", tiny_model)
    commands: dict[str, tuple[object, ...]] = {
        "say": ("say", "Saw.", "-v", voice_path, *model, "--format", "wav", "-o"),
        "dialogue": ("dialogue", "[S1] Saw.", "-v", f"S1={voice_path}", *model, "-o"),
        "edit": ("edit", clip_path, "-t", SAID, "--delete", "see saw", *model, "-o"),
        "continue": ("continue", clip_path, "See.", "-t", SAID, *model, "-o"),
        "watermark": ("watermark", "embed", clip_path),
        "export": ("voice", "export", "me", "--replace", "-o"),
        "plot": ("model", "describe", tiny_model, "--plot"),
    }
    assert openvalle("voice", "import", voice_path, "--name", "me", *model).code == 0
    for name, command in commands.items():
        ending = {"export": "safetensors", "plot": "png"}.get(name, "wav")
        assert openvalle(*command, f"{name}.{ending}").code == 0, name
        pipe = f"{name}-pipe.{ending}"
        os.mkfifo(pipe)
        heard: list[bytes] = []
        reader = threading.Thread(target=lambda pipe=pipe, heard=heard: heard.append(Path(pipe).read_bytes()))
        reader.start()
        run = openvalle(*command, pipe)
        reader.join(10)
        assert run.code == 0, run.err
        assert Path(pipe).is_fifo(), name
        whole = Path(f"{name}.{ending}").read_bytes()
        # safetensors write their header's keys in any order
        assert heard == [whole] if name != "export" else len(heard[0]) == len(whole), name


def test_what_cannot_stand_beside_a_device_is_refused_before_the_model_is_loaded(openvalle, say) -> None:
    if not Path(os.devnull).is_char_device():
        pytest.skip("no device to try")
    for more in (["--plot"], ["--play"]):
        run = say("Saw.", "-o", os.devnull, "--format", "wav", *more)
        assert (run.code, run.err.count("\n")) == (2, 1)
        assert "need a sound file" in run.err
    run = openvalle("dialogue", "[S1] Saw.", "-o", os.devnull, "--per-speaker")
    assert run.code == 2


@posix
def test_names_that_the_system_refuses_are_one_line(openvalle, say, voice_path: Path) -> None:
    long = "x" * 300
    Path("loop.wav").symlink_to("loop.wav")
    for run in (
        say("Saw.", "-o", f"{long}.wav"),
        say("Saw.", "-o", "loop.wav"),
        openvalle("say", "Saw.", "-v", long),
        openvalle("say", "Saw.", "-m", long),
        openvalle("voice", "export", "default", "-o", f"{long}.safetensors"),
        openvalle("detect", long),
        openvalle("say", "Saw.", "-o", "~nobody-here/x.wav"),
    ):
        assert (run.code, run.err.count("\n")) == (2, 1), run.err
    assert everything(Path()) == ["loop.wav"]


@posix
def test_paths_that_are_no_utf8(start, tiny_model: Path, voice_path: Path, tmp_path: Path, openvalle) -> None:
    odd = os.fsdecode(b"\xff")
    Path(odd).mkdir()
    common = ("-q", "--model", tiny_model)
    out = Path(odd, f"{odd}.wav")
    process = start("say", "Saw.", "-v", voice_path, "-o", out, "--timestamps", Path(odd, "x.srt"), *common)
    printed, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, b"")
    assert printed.split() == [os.fsencode(out), os.fsencode(Path(odd, "x.srt"))]
    assert read(out).seconds > 0
    assert "too short to find a watermark" in openvalle("detect", out).err


def test_two_at_once_get_names_of_their_own(start, openvalle, tiny_model: Path, voice_path: Path) -> None:
    common = ("-q", "--model", tiny_model)
    both = [start("say", text, "-v", voice_path, *common) for text in ("Saw.", "See, saw, see.")]
    names = {process.communicate(timeout=60)[0].decode().strip() for process in both}
    assert names == {"speech.wav", "speech-2.wav"}
    assert sorted(os.listdir()) == ["speech-2.wav", "speech.wav"]
    lengths = {read(name).seconds for name in names}
    for text in ("Saw.", "See, saw, see."):
        openvalle("say", text, "-v", voice_path, *common, "-o", "whole.wav")
        lengths.discard(read("whole.wav").seconds)
    assert not lengths, "both are whole"


def test_what_was_put_there_meanwhile_is_not_lost(
    openvalle, say, tiny_model: Path, voice_path: Path, clip_path: Path, monkeypatch
) -> None:
    real = Synthesizer.load

    def load(*arguments, **named):  # as long as it takes, somebody else works in the same folder
        for name in ("speech.wav", "clip-edited.wav", "clip-continued.wav", "speech-2.flac"):
            (Path(name) if name.startswith("speech") else clip_path.with_name(name)).write_text("somebody's")
        return real(*arguments, **named)

    monkeypatch.setattr(Synthesizer, "load", load)
    model = ("--model", tiny_model)
    assert say("Saw.").out == "speech-2.wav\n"
    run = openvalle("dialogue", "[S1] Saw.", "-v", f"S1={voice_path}", "--per-speaker", *model)
    assert run.out.split() == ["speech-3.wav", "speech-3-S1.wav"]
    run = openvalle("edit", clip_path, "-t", SAID, "--delete", "see saw", *model)
    assert run.out.strip() == str(clip_path.with_name("clip-edited-2.wav"))
    run = openvalle("continue", clip_path, "See.", "-t", SAID, *model)
    assert run.out.strip() == str(clip_path.with_name("clip-continued-2.wav"))
    for path in (Path("speech.wav"), clip_path.with_name("clip-edited.wav"), clip_path.with_name("clip-continued.wav")):
        assert path.read_text() == "somebody's"


@pytest.mark.parametrize("command", ["add", "import", "invent", "blend"])
def test_a_voice_made_meanwhile_is_not_lost(
    openvalle, tiny_model: Path, voice_path: Path, clip_path: Path, own_home: Path, monkeypatch, command: str
) -> None:
    path = own_home / "voices" / "anna.safetensors"

    def meanwhile(*arguments: object, **named: object):
        path.write_text("another")
        return real(*arguments, **named)

    module = "openvalle.synth.enrol" if command == "blend" else "openvalle.synth.synthesizer"
    name = "blend" if command == "blend" else "Synthesizer.load"
    real = __import__(module, fromlist=["x"]).blend if command == "blend" else Synthesizer.load
    monkeypatch.setattr(f"{module}.{name}", meanwhile)
    model = ("--model", tiny_model)
    arguments = {
        "add": ("anna", clip_path, "--transcript", SAID, *model),
        "import": (voice_path, "--name", "anna", *model),
        "invent": ("anna", "--text", "Saw.", *model),
        "blend": ("anna", voice_path, voice_path),
    }[command]
    run = openvalle("voice", command, *arguments)
    assert (run.code, run.err.splitlines()[-1]) == (
        2,
        "error: there is a voice called 'anna' already; add --replace, or take another name",
    )
    assert path.read_text() == "another"
    assert openvalle("voice", command, *arguments, "--replace").code == 0
    assert path.read_bytes() != b"another"
    assert os.listdir(path.parent) == ["anna.safetensors"]


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_speaking_leaves_nothing(start, openvalle, tiny_model, voice_path, tmp_path, name: str) -> None:
    number = getattr(signal, name)
    long = " ".join(["Saw, see."] * 2000)
    process = start("say", long, "-v", voice_path, "--model", tiny_model, "-o", tmp_path / "here" / "new" / "s.wav")
    until(lambda: any(tmp_path.joinpath("here").rglob(".openvalle-*")))
    time.sleep(0.2)
    process.send_signal(number)
    printed, said = process.communicate(timeout=60)
    assert (process.returncode, printed) == (128 + number, b"")
    assert said == b"stopped; nothing half-written was left behind\n"
    assert everything(tmp_path / "here") == []


@posix
def test_a_signal_at_any_moment_of_the_start_is_one_line(start, openvalle, tiny_model, voice_path, tmp_path) -> None:
    """Python itself can be stopped only by dying while it starts; from our first line on there is no traceback."""
    arguments = ("say", "Saw, see. " * 500, "-v", voice_path, "--model", tiny_model, "-o", "s.wav")
    beginning = start(*arguments)
    begun = time.monotonic()
    until(lambda: any(tmp_path.joinpath("here").glob(".openvalle-*")))
    whole = time.monotonic() - begun  # until it speaks
    beginning.kill()
    seen = set()
    for number, share in ((signal.SIGINT, 0.1), (signal.SIGTERM, 0.3), (signal.SIGINT, 0.5), (signal.SIGINT, 0.8)):
        process = start(*arguments)
        time.sleep(share * whole)
        process.send_signal(number)
        printed, said = process.communicate(timeout=60)
        assert printed == b""
        if process.returncode < 0 or b"stopped" not in said:
            assert share == 0.1, (share, said)
            continue
        seen.add(share)
        assert (process.returncode, said) == (128 + number, b"stopped; nothing half-written was left behind\n")
    assert {0.3, 0.5, 0.8} <= seen
    openvalle("say", "Saw.", "-v", voice_path, "--model", tiny_model, "-o", "s.wav")
    assert everything(tmp_path / "here") == ["s.wav"], "what the killed one left is gone, too"


@posix
def test_without_a_home_the_built_in_voices_speak(openvalle, say, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(number: int) -> None:
        raise KeyError(number)

    for name in ("HOME", "OPENVALLE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)  # a user of a container whom nobody wrote down
    assert say("Saw.").out == "speech.wav\n"
    assert "default" in openvalle("voice", "list").out
    assert "none: this user has no home folder" in openvalle("doctor").out
    run = openvalle("voice", "invent", "x")
    assert (run.code, run.err.count("\n")) == (2, 1)
    assert "set OPENVALLE_HOME" in run.err


def test_a_home_that_cannot_be_used_is_said_before_the_work(openvalle, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Synthesizer, "load", lambda *arguments, **named: pytest.fail("nothing is to be loaded"))
    Path("file").touch()
    monkeypatch.setenv("OPENVALLE_HOME", "file")
    for command in (("voice", "list"), ("voice", "invent", "x")):
        run = openvalle(*command)
        assert (run.code, run.err.count("\n")) == (2, 1)
        assert "OPENVALLE_HOME=file is no folder" in run.err
    monkeypatch.setenv("OPENVALLE_HOME", "file/below")
    assert "set OPENVALLE_HOME" in openvalle("voice", "invent", "x").err
    monkeypatch.setenv("OPENVALLE_HOME", str(tmp_path / "locked" / "data"))
    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the superuser may write anywhere
    run = openvalle("voice", "invent", "x")
    assert run.code == 2
    assert run.err.startswith(f"error: {tmp_path / 'locked'} cannot be written; set OPENVALLE_HOME")
    assert not (tmp_path / "locked" / "data").exists()


def test_detect_goes_on_after_a_bad_file(openvalle, clip_path: Path) -> None:
    Path("noise.wav").write_bytes(b"no sound")
    for command in (("detect",), ("watermark", "detect")):
        run = openvalle(*command, clip_path, "gone.wav", "noise.wav", clip_path, "--json")
        assert run.code == 2
        assert [json.loads(line)["path"] for line in run.out.splitlines()] == [str(clip_path)] * 2
        lines = run.err.splitlines()
        assert [name in line for name, line in zip(("gone.wav", "noise.wav", "2 of 4"), lines, strict=True)] == [
            True
        ] * 3
