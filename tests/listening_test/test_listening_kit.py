"""`make listening-kit`: the older model comes out of git, and both tests can be taken."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from openvalle.errors import UserError
from openvalle.hub import assets
from openvalle.listening_test.study import REFERENCE, Role, TestKind, load_study
from openvalle.model.bundle import FILES

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("listening_kit")


def git(*words: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *who, *words], check=True, capture_output=True)


def write(version: str, matrix: np.ndarray) -> None:
    for folder, names in (("model", FILES), ("codec", ("config.json", "model.safetensors"))):
        for name in names:
            path = Path("src/openvalle/assets", folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{version} {name}")
    vectors = np.full(4, len(version), np.float16)
    save_file({"vectors": vectors, "matrix": matrix}, "src/openvalle/assets/model/ar.safetensors")


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_older_model_is_the_one_before_the_weights_changed_last(kit, tmp_path, monkeypatch):
    repository = tmp_path / "repository"
    repository.mkdir()
    monkeypatch.chdir(repository)
    with pytest.raises(UserError, match="git holds no such model"):
        kit.older_model("", tmp_path / "none")
    git("init", "-q")
    halves = np.ones((2, 2), np.float16)
    for version, matrix in (("first", halves), ("second", halves), ("second", halves.astype(np.int8))):
        write(version, matrix)
        git("add", ".")
        git("commit", "-qm", version)
    Path("other").write_text("a later commit that leaves the weights alone")
    git("add", ".")
    git("commit", "-qm", "other")
    folder = kit.older_model("", tmp_path / "old")
    assert (folder / "nar.safetensors").read_text() == "first nar.safetensors", "in 8 bits it is the second still"
    assert load_file(folder / "ar.safetensors")["vectors"][0] == len("first")
    assert (folder / "codec" / "model.safetensors").read_text() == "first model.safetensors", "it sounded otherwise"
    assert (kit.older_model("HEAD", tmp_path / "new") / "nar.safetensors").read_text() == "second nar.safetensors"
    assert kit.older_model(str(folder), tmp_path / "unused") == folder


@pytest.mark.slow
def test_a_kit_holds_two_tests_that_can_be_served_and_sent(kit, tmp_path, monkeypatch, capsys):
    out = tmp_path / "kit"
    words = ["listening_kit.py", "--old", str(assets() / "model"), "--items", "4", "--raters", "2", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    kit.main()
    assert f"openvalle listen serve {out / 'cmos'}" in capsys.readouterr().out
    cmos, smos = (load_study(out / kind) for kind in ("cmos", "smos"))
    assert cmos.design.kind is TestKind.CMOS and cmos.design.baseline == "old"
    assert set(cmos.systems) == set(smos.systems) == {"new", "old"}
    assert len(cmos.comparisons) == 4 and all(item.text for item in cmos.items)
    prompts = [clip for clip in smos.clips.values() if clip.role is Role.OPEN]
    assert {clip.system for clip in prompts} == {REFERENCE} and len(prompts) == 4
    assert (out / "smos-pages" / "index.html").is_file()
    assert (out / "clips" / "new").is_dir()
    with pytest.raises(SystemExit, match="is there already"):
        kit.main()
