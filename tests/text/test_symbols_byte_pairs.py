"""Byte pairs: learned from texts, reversible, and part of the digest that codes, models and voices share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from older_tables import arpabet
from openvalle.errors import ConfigError, ModelError, TextError
from openvalle.text.language import read_out
from openvalle.text.symbols import SymbolTable, TextUnit, train_byte_pairs
from openvalle.types import PAD, Vocabulary

TEXTS = ["the thing that they think", "then the other thing", "they bathe there"] * 3


@pytest.fixture(scope="module")
def table() -> SymbolTable:
    return SymbolTable(train_byte_pairs(TEXTS, 300))


def test_frequent_pieces_are_learned_and_the_same_texts_give_the_same_table(table: SymbolTable) -> None:
    assert table.symbols[0] == PAD and 257 < len(table) <= 300
    assert "Ġthe" in table.pieces("the")
    assert train_byte_pairs(TEXTS, 300) == table.vocabulary
    assert table.unit is TextUnit.BPE and arpabet().unit is TextUnit.PHONEME


@pytest.mark.parametrize("text", ["the thing", "Quick zebras, really?", "naïve 東京 tea", "it's <pad> here"])
def test_every_text_can_be_read_back(table: SymbolTable, text: str) -> None:
    ids = table.encode(table.pieces(text, "xx"))
    assert 0 not in ids
    decoder = {symbol: byte for byte, symbol in _byte_symbols().items()}
    found = bytes(decoder[sign] for piece in [table.symbols[index] for index in ids] for sign in piece)
    assert found.decode() == f" {text}"


def _byte_symbols() -> dict[int, str]:
    """Return the visible sign of each byte, as byte-level tokenisers write them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(others)}


def test_english_is_read_out_first(table: SymbolTable) -> None:
    assert read_out("It is 3 o'clock.") == "It is three o'clock."
    assert table.pieces("3") == table.pieces("three")
    with pytest.raises(TextError, match="can be spoken"):
        table.pieces(" \n ")


def test_saved_and_loaded_is_the_same_table(table: SymbolTable, tmp_path: Path) -> None:
    path = tmp_path / "symbols.json"
    table.vocabulary.save(path)
    again = SymbolTable(Vocabulary.load(path))
    assert again == table and again.digest == table.digest
    assert again.pieces("the thing") == table.pieces("the thing")


def test_a_changed_merge_is_another_table(table: SymbolTable, tmp_path: Path) -> None:
    assert Vocabulary(table.symbols, table.vocabulary.merges[::-1]).digest != table.digest
    assert Vocabulary(table.symbols).digest != table.digest
    path = tmp_path / "symbols.json"
    table.vocabulary.save(path)
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"merges": values["merges"][::-1]}))
    with pytest.raises(ModelError, match="was altered"):
        Vocabulary.load(path)


@pytest.mark.parametrize("size", [10, 257, 70_000])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(ConfigError, match=f"{size} byte pairs"):
        train_byte_pairs(TEXTS, size)
