"""The symbol table is frozen, refuses strangers and notices alteration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from older_tables import arpabet
from openvalle.errors import ModelError, TextError
from openvalle.types import PAD, SIL, Vocabulary


def test_the_default_table_never_changes() -> None:
    table = arpabet()
    assert table.symbols[:3] == (PAD, SIL, "AA0")
    assert len(table) == 71
    assert table.digest == "d8683d93ac5788f0"  # codes, voices and models in the field carry it


def test_ids_are_places_in_the_table() -> None:
    table = arpabet()
    assert table.encode(table.symbols) == list(range(71))


def test_an_unknown_symbol_is_named() -> None:
    with pytest.raises(TextError, match="'XX'"):
        arpabet().encode(["AH0", "XX"])


def test_a_saved_table_is_the_same_table(tmp_path: Path) -> None:
    arpabet().vocabulary.save(tmp_path / "symbols.json")
    assert Vocabulary.load(tmp_path / "symbols.json") == arpabet().vocabulary


def test_an_altered_missing_or_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "symbols.json"
    arpabet().vocabulary.save(path)
    values = json.loads(path.read_text())
    values["symbols"][5] = "QQ"
    path.write_text(json.dumps(values))
    with pytest.raises(ModelError, match="altered"):
        Vocabulary.load(path)
    for text in ("{}", "[1]", "not JSON", '{"symbols": 3, "digest": ""}'):
        path.write_text(text)
        with pytest.raises(ModelError, match="not a symbol table"):
            Vocabulary.load(path)
    with pytest.raises(ModelError, match="cannot read"):
        Vocabulary.load(tmp_path / "absent.json")


def test_a_table_with_a_repeated_symbol_is_refused() -> None:
    with pytest.raises(ModelError, match="twice"):
        Vocabulary(("a", "b", "a"))
