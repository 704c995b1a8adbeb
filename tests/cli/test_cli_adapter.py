"""`--adapter`: each command that speaks says, sample for sample, what a model says whose weights hold the additions."""

from __future__ import annotations

import io
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from openvalle.convert.export import read_export
from openvalle.media import read
from openvalle.model.adapter import Adapter
from openvalle.model.checkpoint import load_bundle, save_bundle
from openvalle.model.lora import adapt

Options = tuple[object, ...]


@pytest.fixture(scope="module")
def added(tiny_model: Path, tiny_adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Options]:
    """Options that speak the same two ways: with an adapter, and with a model that holds it in its weights."""
    merged = tmp_path_factory.mktemp("merged") / "tiny"
    save_bundle(adapt(load_bundle(tiny_model), Adapter.load(tiny_adapter)), merged)
    shutil.copytree(tiny_model / "codec", merged / "codec")
    return {
        "adapter": ("--model", tiny_model, "--adapter", tiny_adapter),
        "merged": ("--model", merged),
        "plain": ("--model", tiny_model),
        "voice": ("--voice", tiny_adapter / "voice.safetensors"),
    }


def samples(name: str | Path) -> np.ndarray:
    found = read(name).samples
    assert len(found) > 1000
    return found


def differ(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape != other.shape or not np.array_equal(one, other)


@pytest.mark.parametrize("engine", ["auto", "torch", "onnx-fp32"])
def test_say_adds_it_in_every_engine(openvalle, added, engine: str) -> None:
    words = ("say", "Saw.", "--attempts", 1, "--engine", engine, "-q")
    for name, options in (
        ("adapter", added["adapter"]),  # in the voice that lies in it
        ("merged", added["merged"] + added["voice"]),
        ("plain", added["plain"] + added["voice"]),
    ):
        run = openvalle(*words, *options, "-o", f"{name}.wav")
        assert run.code == 0, run.err
    np.testing.assert_array_equal(samples("adapter.wav"), samples("merged.wav"))
    assert differ(samples("adapter.wav"), samples("plain.wav"))


def stream(openvalle: Callable, monkeypatch: pytest.MonkeyPatch, *options: object) -> bytes:
    with monkeypatch.context() as patch:
        heard = io.TextIOWrapper(io.BytesIO())
        patch.setattr(sys, "stdout", heard)
        assert openvalle("stream", "Saw, see.", "--format", "pcm", *options).code == 0
        return heard.buffer.getvalue()  # type: ignore[attr-defined]


def test_a_stream_speaks_with_it(openvalle, added, monkeypatch: pytest.MonkeyPatch) -> None:
    said = stream(openvalle, monkeypatch, *added["adapter"])
    assert len(said) > 2000
    assert said == stream(openvalle, monkeypatch, *added["merged"], *added["voice"])
    assert said != stream(openvalle, monkeypatch, *added["plain"], *added["voice"])


SPOKEN = ("dialogue", "book", "batch", "edit", "continue")


@pytest.mark.parametrize("command", SPOKEN)
def test_other_commands_speak_with_it(openvalle, added, command: str, clip_path: Path, voice_path: Path) -> None:
    Path("book.txt").write_text("Saw.")
    Path("table.csv").write_text("id,text\n1,Saw.\n")
    recording = (clip_path, "-t", "saw, see, saw, see")

    def speak(way: str, *voice: object) -> np.ndarray:
        words: dict[str, Options] = {
            "dialogue": ("[S1] Saw.", *(("-v", f"S1={voice[1]}") if voice else ()), "-o", f"{way}.wav"),
            "book": ("book.txt", *voice, "--loudness", "off", "--format", "wav", "-o", way),
            "batch": ("table.csv", *voice, "-o", way),
            "edit": (*recording, "--replace", "see saw", "oh", "-o", f"{way}.wav"),
            "continue": (recording[0], "and so on.", *recording[1:], "--only-new", "-o", f"{way}.wav"),
        }
        run = openvalle(command, *words[command], *added[way], "--quiet")
        assert run.code == 0, run.err
        (path,) = Path(way).glob("*.wav") if command in ("book", "batch") else [Path(f"{way}.wav")]
        return samples(path)

    said, merged, plain = speak("adapter"), speak("merged", *added["voice"]), speak("plain", *added["voice"])
    np.testing.assert_array_equal(said, merged)
    assert differ(said, plain)


def test_a_server_speaks_with_it_in_its_voice(openvalle, added, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi")
    client = pytest.importorskip("fastapi.testclient").TestClient
    answers = {}

    def serve(way: str, *voice: object) -> None:
        def ask(app: object, *_: object) -> None:
            with client(app) as asking:
                while asking.get("/ready").status_code != 200:
                    time.sleep(0.05)
                asked = {"model": "openvalle", "input": "Saw.", "response_format": "pcm", "seed": 3, "stream": False}
                answers[way] = asking.post("/v1/audio/speech", json=asked)
                answers["voices"] = asking.get("/v1/audio/voices").json()

        monkeypatch.setattr("openvalle.server.run.serve", ask)
        run = openvalle("serve", "--port", 0, "--folder", "uploads", *added[way], *voice, "--quiet")
        assert run.code == 0, run.err

    serve("merged", *added["voice"])
    serve("plain", *added["voice"])
    serve("adapter")
    assert {answer.status_code for way, answer in answers.items() if way != "voices"} == {200}
    assert answers["adapter"].content == answers["merged"].content != answers["plain"].content
    assert answers["voices"]["voices"][0]["name"] == "anna"


@pytest.mark.parametrize("to", ["onnx", "safetensors"])
def test_exported_files_hold_it(openvalle, added, to: str) -> None:
    plain, (*_, adapter) = added["plain"][1], added["adapter"]
    run = openvalle("export", plain, "--to", to, "--adapter", adapter, "-o", "files")
    assert run.code == 0, run.err
    if to == "onnx":
        for way, options in (("files", ("--model", "files")), ("merged", (*added["merged"], "--engine", "onnx-fp32"))):
            assert openvalle("say", "Saw.", *options, *added["voice"], "-q", "-o", f"{way}.wav").code == 0
        np.testing.assert_array_equal(samples("files.wav"), samples("merged.wav"))
    else:
        found, merged = read_export(Path("files")), load_bundle(Path(str(added["merged"][1])))
        assert found.config.name == merged.config.name and found.config.name.startswith("tiny+anna-")
        for part in ("ar", "nar"):
            values = getattr(merged, part).state_dict()
            for name, value in getattr(found, part).state_dict().items():
                np.testing.assert_allclose(value, values[name], atol=1e-3, rtol=1e-3)  # those were stored in float16
    run = openvalle("export", added["merged"][1], "--to", to, "--adapter", adapter, "-o", "others")
    assert run.code == 2 and "the adapter was made for another model (tiny)" in run.err
    assert not Path("others").exists()


def test_onnx_files_take_none(openvalle, added) -> None:
    assert openvalle("export", added["plain"][1], "--to", "onnx", "-o", "exported").code == 0
    run = openvalle("say", "Saw.", "--model", "exported", *added["adapter"][2:])
    assert run.code == 2
    assert "exported holds ONNX files, which no adapter can be added to; give the model" in run.err
    assert len(run.err.splitlines()) == 1
