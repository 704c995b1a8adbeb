"""The built-in model speaks, streams, learns a voice, finds its mark and serves where torch cannot be imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BEFORE = "import sys; sys.modules['torch'] = None\n"  # every import of it fails, as where it is not installed
AFTER = "\nassert not [name for name in sys.modules if name.partition('.')[0] == 'torch' and sys.modules[name]]\n"
SPEAK = """
from openvalle import Synthesizer
from openvalle.safety.watermark import Detector
tts = Synthesizer.load()
line = "The birch canoe slid on the smooth planks, and then we all went home."
speech = tts.say(line, seed=1)
assert 3 < speech.audio.seconds < 8 and Detector().detect(speech.audio).is_marked
first = next(tts.stream("Hi.", seed=1))
assert len(first.audio.samples)
both = tts.say_batch([line, "Hi."], seed=1)
assert (both[0].codes == speech.codes).all()
voice = tts.voice(speech.audio, line, consent="nobody's: made by the model")
assert len(voice.codes) and tts.say("Hi.", voice, seed=2).audio.seconds > 0.2
"""
COMMANDS = """
from openvalle.cli.main import app
def run(*words):
    try:
        app(list(words), standalone_mode=True)
    except SystemExit as ended:
        assert not ended.code, (words, ended.code)
line = "The birch canoe slid on the smooth planks, and then we all went home."
run("say", line, "--quiet", "-o", "canoe.wav")
run("voice", "add", "me", "canoe.wav", "--prompt-text", line, "--consent", "nobody's")
run("stream", "Hi.", "--voice", "me")
run("detect", "canoe.wav")
run("doctor")
"""
SERVE = """
import time
from pathlib import Path
from fastapi.testclient import TestClient
from openvalle import Synthesizer
from openvalle.server.app import create_app
with TestClient(create_app(Synthesizer.load(), Path("uploads"))) as client:
    while client.get("/ready").status_code != 200:
        time.sleep(0.1)
    asked = {"model": "builtin", "input": "Hello there.", "voice": "default", "response_format": "wav"}
    answer = client.post("/v1/audio/speech", json=asked)
assert answer.status_code == 200, answer.text
assert answer.content[:4] == b"RIFF" and len(answer.content) > 20_000
"""
MEMORY = r"""
import re
from openvalle import Synthesizer
tts = Synthesizer.load(engine="onnx-int8")
tts.say("The birch canoe slid on the smooth planks, and then we all went home. " * 3)
# Its own peak: the rusage of a process begins with the peak of the one that started it.
status = open("/proc/self/status").read()
print(int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024)
"""
REFUSED = """
from openvalle.cli.main import app
app(sys.argv[1:])
"""


def python(code: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BEFORE + code, *words]
    environment = os.environ | {"OPENVALLE_HOME": str(folder / "home")}
    return subprocess.run(command, capture_output=True, cwd=folder, env=environment, text=True, errors="replace")


@pytest.mark.long
@pytest.mark.parametrize("code", [SPEAK, COMMANDS], ids=["python", "commands"])
def test_it_does_all_of_that_without_torch(code: str, tmp_path: Path) -> None:
    done = python(code + AFTER, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="where memory goes is the C library's business")
def test_it_speaks_in_little_memory(tmp_path: Path) -> None:
    """Where this was written 260 to 270 MB, and 320 with a plan of each run's memory (`openvalle.graphs`)."""
    done = python(MEMORY + AFTER, tmp_path)
    assert int(done.stdout) < 300, done.stdout


@pytest.mark.long
def test_it_serves_without_torch(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    done = python(SERVE + AFTER, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    "words",
    [
        ("say", "Hi.", "--engine", "torch"),
        ("say", "Hi.", "--codec", "encodec"),
        ("say", "Hi.", "--device", "cuda"),
        ("train", "ar", "ar", "--out", "run"),
    ],
)
def test_what_needs_torch_says_in_one_line_how_to_bring_it(words: tuple[str, ...], tmp_path: Path) -> None:
    done = python(REFUSED, tmp_path, *words)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1 and "pip install 'openvalle[torch]'" in done.stderr, done.stderr


def test_a_model_of_ones_own_speaks_without_torch_and_without_an_export(
    tiny_model: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    code = (
        "from openvalle import Synthesizer\nSynthesizer.load(sys.argv[1]).invent_voice('Hi there.')\n"
        "assert Synthesizer.load(sys.argv[1], adapter=sys.argv[2]).say('Hi.', seed=1).audio.seconds > 0.1"
    )
    done = python(code + AFTER, tmp_path, str(tiny_model), str(tiny_adapter))
    assert done.returncode == 0, done.stderr[-3000:]


def test_onnx_files_are_spoken_without_torch(tiny_model: Path, tmp_path: Path) -> None:
    code = (
        "from openvalle.cli.main import app\n"
        "for words in (['export', sys.argv[1], '--to', 'onnx', '-o', 'exported'],\n"
        "              ['voice', 'invent', 'x', '--model', 'exported'],\n"
        "              ['say', 'Hi.', '--model', 'exported', '--voice', 'x', '-o', 'hi.wav', '--quiet']):\n"
        "    try: app(words)\n"
        "    except SystemExit as ended: assert not ended.code, words\n"
    )
    done = python(code + AFTER, tmp_path, str(tiny_model))
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "hi.wav").stat().st_size > 1000
