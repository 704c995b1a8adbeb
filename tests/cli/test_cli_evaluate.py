"""`openvalle evaluate` and `openvalle report` from the command line."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from openvalle.audio import Audio, concatenate
from openvalle.cli.main import app
from openvalle.media import write

NEEDED = ("jiwer", "resemblyzer", "webrtcvad", "speechmos", "onnxruntime")
needs_judges = pytest.mark.skipif(
    any(find_spec(name) is None for name in NEEDED), reason="needs openvalle[eval-offline]"
)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory, spoken: Audio) -> Path:
    """Two speakers with two recordings of 7.6 s each."""
    folder = tmp_path_factory.mktemp("speech")
    lines = []
    for name in ("anna-1", "anna-2", "ben-1", "ben-2"):
        write(folder / f"{name}.wav", concatenate([spoken, spoken]))
        row = {"id": name, "audio": f"{name}.wav", "text": "saw see " * 4, "speaker": name.split("-")[0]}
        lines.append(json.dumps(row) + "\n")
    (folder / "manifest.jsonl").write_text("".join(lines))
    return folder


def run(*words: object, code: int = 0) -> str:
    """Run openvalle; return what it says."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done.output


def test_the_protocols_are_listed():
    assert "valle2-vctk-3" in run("evaluate", "--protocol", "list")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--protocol", "valle9"], "there is no protocol 'valle9'"),
        (["--seeds", "0,one"], "'0,one' are no seeds"),
        (["--normalizer", "x"], "no text normaliser 'x'"),
        (["--items", "nowhere.jsonl"], "cannot read the list"),
        (["--protocol", "valle"], "valle needs librispeech test-clean"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(speech, tmp_path, tiny_model, options, why):
    said = run("evaluate", tiny_model, "--data", speech, "--limit", 1, "--out", tmp_path / "o", *options, code=2)
    assert why in said
    assert len(said.strip().splitlines()) == 1


def test_a_list_can_be_written_shared_and_used(speech, tmp_path):
    path = run("evaluate", "--data", speech, "--limit", 2, "--list-only", "--out", tmp_path / "a").strip()
    assert len(Path(path).read_text().splitlines()) == 3
    said = run("evaluate", "--data", speech, "--items", path, "--protocol", "preserve", code=2)
    assert "is a list of the protocol quick" in said
    other = run("evaluate", "--data", speech, "--limit", 2, "--list-only", "--list-seed", 1, "--out", tmp_path / "b")
    assert Path(other.strip()).read_text() != Path(path).read_text()


@needs_judges
def test_a_model_is_measured_shown_and_compared(speech, tmp_path, tiny_model):
    common = ["evaluate", tiny_model, "--data", speech, "--quiet", "--limit", 2]
    said = run(*common, "--out", tmp_path / "a", "--seeds", "0")
    assert "| synthesised | 2 | 0 |" in said
    assert "codec-reconstructed" in said
    assert str(tmp_path / "a" / "report.html") in said
    values = json.loads(run("report", tmp_path / "a", "--json"))
    assert values["systems"]["synthesised"]["figures"]["rtf"]["value"] > 0
    assert values["record"]["systems"]["synthesised"]["options"]["sampling"]
    shown = run("report", tmp_path / "a", tmp_path / "a", "--other", "original")
    assert "| WER % |" in shown
    found = json.loads(run("report", tmp_path / "a", tmp_path / "a", "--json"))
    assert all(item["difference"]["value"] == 0 for item in found)
    assert "holds no system 'x'" in run("report", tmp_path / "a", tmp_path / "a", "--system", "x", code=2)
    assert "holds no report" in run("report", tmp_path, code=2)


@needs_judges
def test_an_adapter_is_measured_and_compared_with_the_model_that_it_is_added_to(
    speech, tmp_path, tiny_model, tiny_adapter
):
    common = ("--data", speech, "--quiet", "--limit", 2, "--seeds", "0", "--codec")
    run("evaluate", tiny_model, *common, tiny_model / "codec", "--adapter", tiny_adapter, "--out", tmp_path / "a")
    record = json.loads(run("report", tmp_path / "a", "--json"))["record"]["systems"]["synthesised"]
    assert record["adapter"].startswith(f"{tiny_adapter}, ")
    ours = ("--system", f"ours=model:{tiny_model}")
    file = tiny_adapter / "adapter.safetensors"
    shown = run("compare", *ours, *common, "none", "--adapter", file, "--out", tmp_path / "b")
    assert f"|  | ours | ours+{tiny_adapter.name} | difference | p | items |" in shown
    spoken = [
        {path.name: path.read_bytes() for path in (tmp_path / out / "audio" / name / "0").glob("*.wav")}
        for out, name in (("a", "synthesised"), ("b", "ours"), ("b", f"ours+{tiny_adapter.name}"))
    ]
    assert spoken[0] == spoken[2] != spoken[1] and len(spoken[0]) == 2
    twice = ("--adapter", file, "--adapter", tiny_adapter)
    said = run("compare", *ours, *common, "none", *twice, "--out", tmp_path / "c", code=2)
    assert "two systems would be called" in said
    said = run("evaluate", tiny_model, *common, "none", "--adapter", tmp_path, "--out", tmp_path / "d", code=2)
    assert "there is no adapter at" in said
