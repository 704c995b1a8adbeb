"""`openvalle serve`, `say --server`, `doctor --server`, and what docs/serve.md shows."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from openvalle.cli import serve as serve_module
from openvalle.cli.main import app
from openvalle.server.voices import EVERYBODY

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.M | re.S)


@pytest.fixture
def openvalle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runner of `openvalle ARGS` in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app([str(argument) for argument in arguments], prog_name="openvalle")
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


def test_say_writes_what_the_server_speaks(served, openvalle, synthesizer, buzz, clip_path) -> None:
    code, out, err = openvalle("say", "See the saw.", "--server", served.url, "--seed", 3, "-o", "one.wav", "--json")
    assert code == 0, err
    assert json.loads(out)["path"] == "one.wav"
    heard, _ = soundfile.read("one.wav", dtype="float32")
    wanted = synthesizer.say("See the saw.", buzz, seed=3).audio.samples
    assert len(heard) == len(wanted) and np.abs(heard - wanted).max() < 1e-4
    for name in ("two.mp3", "two.flac", "two.opus", "two.pcm"):
        code, out, err = openvalle("say", "Saw.", "--server", f"{served.url}/v1/", "-o", name)
        assert code == 0 and out.strip() == name and Path(name).stat().st_size > 100, err
    clip = ("--voice", clip_path, "--prompt-text", "saw, see, saw, see", "--consent", "nobody's: made of buzz")
    code, out, _ = openvalle("say", "Saw.", "--server", served.url, *clip)
    assert code == 0 and soundfile.info(out.strip()).frames > 1000


def test_what_say_cannot_have_from_a_server_is_one_line(served, openvalle, clip_path, tiny_voice, tmp_path) -> None:
    voice = tiny_voice.save(tmp_path / "me.safetensors")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    for arguments, words in (
        (("--server", nobody), "cannot reach"),
        (("--server", "127.0.0.1:8000"), "no address of a server"),
        (("--server", served.url, "--voice", "nobody"), "answers 404: no voice called 'nobody'"),
        (("--server", served.url, "--voice", voice), "no voice files"),
        (("--server", served.url, "--voice", clip_path), "answers 400: consent"),
        (("--server", served.url, "--attempts", 2), "--attempts has no meaning"),
        (("--server", served.url, "--set", "sampling.top_k=3"), "--set has no meaning"),
        (("--server", served.url, "--plot"), "--plot has no meaning"),
        (("--server", served.url, "-o", "one.ogg"), "does not write 'ogg'"),
        (("--server", f"{served.url}/nothing"), "answers 404"),
    ):
        code, out, err = openvalle("say", "Saw.", *arguments)
        assert code == 2 and not out and words in err and len(err.splitlines()) == 1, (arguments, err)
        assert not list(Path().glob("speech*")) and not list(Path().glob(".openvalle*"))


def test_say_sends_the_key_of_the_environment_and_waits_for_its_turn(start, openvalle, monkeypatch) -> None:
    one = start(keys=("secret",))
    code, _, err = openvalle("say", "Saw.", "--server", one.url)
    assert code == 2 and "answers 401" in err and serve_module.KEYS in err
    monkeypatch.setenv(serve_module.KEYS, "secret, other")
    assert openvalle("say", "Saw.", "--server", one.url)[0] == 0
    one.server.queue.is_ready = False

    def ready() -> None:
        one.server.queue.is_ready = True

    import threading

    threading.Timer(1.0, ready).start()
    assert openvalle("say", "Saw.", "--server", one.url)[0] == 0


def test_doctor_looks_at_a_server(served, start, openvalle) -> None:
    code, out, _ = openvalle("doctor", "--server", served.url, "--json")
    found = json.loads(out)
    assert code == 0 and found["alive"] and found["ready"] and found["models"] == ["openvalle"]
    assert "buzz" in found["voices"] and "first sound after" in found["mp3"] and not found["problems"]
    assert "ready: yes" in openvalle("doctor", "--server", served.url)[1]
    code, out, err = openvalle("doctor", "--server", start(keys=("secret",)).url)
    assert code == 2 and "401" in out and "2 things are wrong" in err
    code, out, err = openvalle("doctor", "--server", "http://127.0.0.1:1")
    assert code == 2 and "cannot reach" in out


def test_what_serve_cannot_use_is_told_before_the_model_is_loaded(served, openvalle, monkeypatch, tiny_model) -> None:
    code, _, err = openvalle("serve", "--port", served.port)
    assert code == 2 and "cannot listen on 127.0.0.1" in err and "--port" in err
    code, _, err = openvalle("serve", "--host", "no.such.host.invalid")
    assert code == 2 and "cannot listen" in err
    code, _, err = openvalle("serve", "--api-key", "a b", "--port", 0)
    assert code == 2 and "API key" in err
    code, _, err = openvalle("serve", "--model", "nothing", "--port", 0)
    assert code == 2 and "nothing" in err
    monkeypatch.setenv(serve_module.KEYS, " one , two,")
    assert serve_module.read_keys(None) == ("one", "two") and serve_module.read_keys(["three"]) == ("three",)


def test_what_the_page_shows_runs(served, tmp_path, monkeypatch, hum, clip_path) -> None:
    """Every block of docs/serve.md, with this server's address, but for what starts one."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip_path, "anna.wav")
    text = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{served.port}")
    text = text.replace("What is said in the clip.", "saw, see, saw, see")
    pythons = bashes = 0
    shell = f'openvalle() {{ "{sys.executable}" -m openvalle "$@"; }}\n'
    for language, code in BLOCK.findall(text):
        if language == "python":
            namespace: dict[str, object] = {}
            exec(compile(code, "docs/serve.md", "exec"), namespace)
            pythons += 1
            assert len(namespace.get("sound", b"1" * 9999)) > 1000  # type: ignore[arg-type]
        elif not re.search("openvalle serve|docker", code) and (shutil.which("curl") or "curl" not in code):
            done = subprocess.run(["bash", "-ec", shell + code], capture_output=True, text=True, env=os.environ)
            assert done.returncode == 0, done.stderr
            assert '"error"' not in done.stdout, done.stdout
            bashes += 1
    assert pythons == 2 and (bashes == 2 or not shutil.which("curl"))
    assert soundfile.info("hello.wav").samplerate == 24_000
    for shown in served.http().get("/v1/audio/voices").json()["voices"]:
        if shown["name"] == "anna":
            served.server.voices.remove(EVERYBODY, shown["id"])
