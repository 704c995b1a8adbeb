"""`openvalle listen`: every option does something."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from functools import partial
from pathlib import Path

import pytest
from listening_clips import folders, submission
from typer.testing import CliRunner, Result

from openvalle.cli.main import app
from openvalle.listening_test.study import Role, Study, load_study
from openvalle.media import read


def listen(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["listen", *map(str, arguments)])


def made(root: Path, *more: object) -> Study:
    clips = folders(root, ("ours", "base", "ref"), 2)
    systems = [part for name in ("ours", "base") for part in ("--system", f"{name}={clips[name]}")]
    result = listen("new", root / "study", *systems, *more)
    assert result.exit_code == 0, result.output
    return load_study(root / "study")


def test_new_export_collect(tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"id": "utt0", "text": "Hello."}\n{"id": "utt1", "text": "There."}\n')
    study = made(tmp_path, "--baseline", "base", "--texts", texts, "--set", "headphones=false", "--set", "title=Mine")
    assert (study.design.title, study.texts["utt1"]) == ("Mine", "There.")
    bundle = tmp_path / "bundle"
    assert listen("export", tmp_path / "study", bundle, "--raters", 3).stdout.strip() == str(bundle)
    script = (bundle / "study.js").read_text()
    told = json.loads(script.removeprefix("window.STUDY = ").rstrip().removesuffix(";"))
    assert len(told["schedules"]) == 3
    assert not (bundle / "study.json").exists()
    files = []
    for number in range(3):
        files.append(tmp_path / f"answers-{number}.json")
        files[-1].write_text(submission(study, number, errors=1.0).model_dump_json())
    result = listen("collect", tmp_path / "study", *files, "-o", tmp_path / "out", "--json", "--seed", 3)
    found = json.loads(result.stdout)
    assert found["raters"]["all"] == 3
    assert "seed 3" in found["interval"]
    assert (tmp_path / "out" / "results.md").is_file()
    strict = listen("collect", tmp_path / "study", *files, "--rule", "min_seconds=100")
    assert strict.stdout.count("Left out:") == 3
    assert "| ours | n/a |" in strict.stdout
    assert "already" in listen("export", tmp_path / "study", bundle).stderr


def test_settings_come_from_a_file_too(tmp_path: Path) -> None:
    (tmp_path / "design.yaml").write_text("kind: mushra\nquestion: Which?\nheadphones: false\n")
    study = made(tmp_path, "-c", tmp_path / "design.yaml", "--reference", tmp_path / "ref", "--rate", 16000,
                 "--format", "wav", "--keep-level")  # fmt: skip
    assert (study.design.kind, study.design.question) == ("mushra", "Which?")
    name = next(name for name, clip in study.clips.items() if clip.role is Role.OPEN)
    audio = read(tmp_path / "study" / "audio" / name, None)
    assert audio.rate == 16000
    assert abs(audio.samples).max() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-s", "ours"), "write --system NAME=FOLDER"),
        (("-s", "a=x", "-s", "a=y"), "is there twice"),
        (("-s", "a=x", "-s", "b=y"), "no baseline"),
        (("-k", "abx", "-s", "a=x"), "kind"),
        (("--set", "colour=red"), "colour"),
        (("--texts", "/nowhere.jsonl"), "cannot read"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    result = listen("new", tmp_path / "s", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_serve_until_stopped(tmp_path: Path) -> None:
    made(tmp_path, "--baseline", "base", "--set", "headphones=false")
    command = [sys.executable, "-m", "openvalle", "listen", "serve", str(tmp_path / "study"), "--port", "0"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a test in the background ignores Ctrl-C
    ) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            with urllib.request.urlopen(url, timeout=20) as reply:
                assert b"<title>Listening test" in reply.read()
            process.send_signal(signal.SIGINT)
            assert "every answer is kept" in process.communicate(timeout=20)[1]
        finally:
            process.kill()  # one that did not stop would be waited for, for ever
    assert process.returncode == 0
    assert "no answers yet" in listen("collect", tmp_path / "study").stderr
