"""The package installs from wheels alone on every Python it names, carries what it needs, and speaks there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
LINUX = [f"manylinux_2_{minor}_x86_64" for minor in range(5, 29)]
PLATFORMS = [*LINUX, "manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64", "linux_x86_64"]
LEXICONS = ("us_gold.json.gz", "us_silver.json.gz", "cmudict.dict.gz", "cmudict_stressed.json.gz", "g2p_en.json.gz")
LARGEST = 100 << 20  # bytes of a file that the Python package index takes
ROOM = 12 << 30  # bytes that an environment with torch for CUDA and its downloads may take
OUTSIDE = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}


def test_the_classifiers_name_the_pythons_that_are_tested() -> None:
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    assert tuple(named) == PYTHONS
    assert PROJECT["requires-python"] == ">=3.11"


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution, built from a copy of the tree."""
    folder = tmp_path_factory.mktemp("built")
    unwanted = shutil.ignore_patterns(".*", "build", "dist", "out", "runs", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, folder / "tree", ignore=unwanted)
    for what in ("build_wheel", "build_sdist"):  # a process each, as installers do
        code = f"import sys, setuptools.build_meta as backend; backend.{what}(sys.argv[1])"
        command = [sys.executable, "-c", code, str(folder)]
        done = subprocess.run(command, cwd=folder / "tree", capture_output=True, text=True, env=OUTSIDE)
        assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.slow
def test_wheel_and_source_carry_data_and_notice_and_fit_the_index(built: Path) -> None:
    path = next(built.glob("*.whl"))
    assert path.stat().st_size < LARGEST
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        about = wheel.read(next(name for name in names if name.endswith("METADATA"))).decode()
    with tarfile.open(next(built.glob("*.tar.gz"))) as source:
        sources = source.getnames()
    for lexicon in LEXICONS:
        assert f"openvalle/assets/lexicon/{lexicon}" in names
        assert any(name.endswith(f"openvalle/assets/lexicon/{lexicon}") for name in sources)
    assert "openvalle/assets/watermark/perth.safetensors" in names
    assert any(name.endswith(".dist-info/licenses/NOTICE") for name in names)
    assert any(name.count("/") == 1 and name.endswith("/NOTICE") for name in sources)
    assert "License-File: NOTICE" in about


@pytest.fixture(scope="session")
def index() -> None:
    """Skip where no package index can be reached."""
    probe = ["install", "--dry-run", "--no-deps", "--ignore-installed", "--quiet", "typing-extensions"]
    done = subprocess.run([sys.executable, "-m", "pip", *probe], capture_output=True, text=True, env=OUTSIDE)
    if done.returncode:
        pytest.skip("no package index can be reached")


def holding(lines: list[str], python: str) -> list[str]:
    """The requirements that hold on Linux and that Python, without their markers.

    pip evaluates markers for the Python it runs on, whatever --python-version says.
    """
    environment = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    kept = []
    for line in lines:
        requirement = Requirement(re.sub(r"\s*#.*", "", line))
        if requirement.marker is None or requirement.marker.evaluate(environment):
            requirement.marker = None
            kept.append(str(requirement))
    return kept


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
def test_all_requirements_are_wheels(python: str, index: None, tmp_path: Path) -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("\n".join(holding(pins, python)))
    platforms = [part for name in PLATFORMS for part in ("--platform", name)]
    where = ["--python-version", python, *platforms, "--target", str(tmp_path / "none")]
    how = ["--dry-run", "--ignore-installed", "--quiet", "--only-binary", ":all:", "--report", "-"]
    command = [sys.executable, "-m", "pip", "install", *how, *where, "-c", str(constraints)]
    done = subprocess.run(
        [*command, *holding(PROJECT["dependencies"], python)], capture_output=True, text=True, env=OUTSIDE
    )
    assert done.returncode == 0, done.stderr[-2000:]
    chosen = {entry["metadata"]["name"].lower(): entry for entry in json.loads(done.stdout)["install"]}
    assert all(entry["download_info"]["url"].endswith(".whl") for entry in chosen.values())
    assert ("pocketsphinx" in chosen) == (python != "3.14")


def interpreter(python: str) -> Path | None:
    """A Python of that version on the PATH or among pyenv's."""
    folders = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{python}.*/bin"))
    for found in (*(folder / "python" for folder in folders), shutil.which(f"python{python}")):
        if found and not subprocess.run([found, "-c", "import venv"], capture_output=True, check=False).returncode:
            return Path(found)
    return None


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS[:3])
def test_the_wheel_speaks_in_a_clean_environment(python: str, built: Path, index: None, tmp_path: Path) -> None:
    """About 1.2 GB with torch for processors alone, 4.7 GB with the one for CUDA; gone when the test is over."""
    base = interpreter(python)
    if base is None:
        pytest.skip(f"there is no Python {python} here")
    if shutil.disk_usage(tmp_path).free < ROOM:
        pytest.skip(f"the disk has no {ROOM >> 30} GB left")
    room = tmp_path / "environment"
    try:
        subprocess.run([base, "-m", "venv", str(room)], check=True, env=OUTSIDE)
        pip = [room / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary", ":all:"]
        wheel = next(built.glob("*.whl"))
        done = subprocess.run(
            [*pip, "-c", ROOT / "constraints.txt", wheel], capture_output=True, text=True, env=OUTSIDE
        )
        assert done.returncode == 0, done.stderr[-2000:]
        command = [room / "bin" / "openvalle", "say", "Hello.", "-o", "hello.wav", "--quiet"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=OUTSIDE)
        assert done.returncode == 0, done.stderr[-2000:]
        samples, rate = soundfile.read(tmp_path / "hello.wav")
        assert 0.2 < len(samples) / rate < 5
        assert np.sqrt(np.mean(samples**2)) > 0.01
        checked = subprocess.run([*pip[:3], "check"], capture_output=True, text=True, env=OUTSIDE)
        assert checked.returncode == 0, checked.stdout
    finally:
        shutil.rmtree(room, ignore_errors=True)
