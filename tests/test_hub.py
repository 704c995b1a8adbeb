"""Names become files of the user or the package, never of anywhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from openvalle import hub
from openvalle.errors import ModelError, UserError
from openvalle.hub import Kind


@pytest.fixture
def anna(own_home: Path) -> Path:
    path = own_home / "voices" / "anna.safetensors"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def test_name_is_found(anna: Path) -> None:
    assert hub.find(Kind.VOICE, "anna") == anna
    assert "anna" in hub.names(Kind.VOICE)


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
    assert hub.damaged(tmp_path) == []
    (tmp_path / "a.bin").write_bytes(b"weight")
    (tmp_path / "b.bin").unlink()
    assert hub.damaged(tmp_path) == ["a.bin", "b.bin"]
