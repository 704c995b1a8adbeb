"""The phone inventory: frozen ids, every ARPAbet phone in it and back, marks that last no time."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from older_tables import arpabet
from openvalle.errors import TextError
from openvalle.text.phones import (
    FROM_ARPABET,
    MARKS,
    SEGMENTS,
    VERSION,
)
from openvalle.text.symbols import SymbolTable, inventory
from openvalle.types import CONSONANTS, PAD, SIL, STRESSES, VOWELS, Vocabulary

DIGESTS = {1: "1a142df0bf4d89a3"}  # codes, voices and models carry them: a new version is a new row
PHONES = st.lists(st.sampled_from(sorted(FROM_ARPABET)), min_size=1, max_size=30)


def test_the_ids_of_a_version_never_change() -> None:
    table = inventory()
    assert table.symbols[:5] == (PAD, SIL, "|", "ˈ", "ˌ")
    assert table.digest == DIGESTS[VERSION]
    assert table.marks == tuple(range(2, 2 + len(MARKS)))


def test_symbols_are_written_in_one_way() -> None:
    for symbol in (*MARKS, *SEGMENTS):
        assert unicodedata.normalize("NFC", symbol) == symbol
    assert len({*MARKS, *SEGMENTS}) == len(MARKS) + len(SEGMENTS)
    assert not {*MARKS, *SEGMENTS} & {*FROM_ARPABET, PAD}  # a name says which of the two it is


def test_every_phone_of_arpabet_maps_and_none_like_another() -> None:
    assert set(FROM_ARPABET) == {SIL, *CONSONANTS, *(vowel + stress for vowel in VOWELS for stress in STRESSES)}
    assert len(set(FROM_ARPABET.values())) == len(FROM_ARPABET)
    for symbols in FROM_ARPABET.values():
        assert all(mark in MARKS for mark in symbols[:-1])
        assert symbols[-1] in (SIL, *SEGMENTS)


@given(PHONES, st.data())
def test_a_table_of_the_inventory_reads_arpabet_and_gives_marks_no_time(phones: list[str], data: st.DataObject) -> None:
    table = inventory()
    durations = [data.draw(st.integers(1, 9)) for _ in phones]
    ids, owners, spread = table.encode(phones), table.owners(phones), table.spread(phones, durations)
    assert [table.symbols[index] for index in ids] == [symbol for phone in phones for symbol in FROM_ARPABET[phone]]
    assert len(ids) == len(owners) == len(spread)
    assert [frames > 0 for frames in spread] == [index not in table.marks for index in ids]
    for place, frames in enumerate(durations):
        assert sum(each for each, owner in zip(spread, owners, strict=True) if owner == place) == frames


@given(PHONES)
def test_the_older_table_reads_arpabet_symbol_by_symbol(phones: list[str]) -> None:
    table = arpabet()
    assert [table.symbols[index] for index in table.encode(phones)] == phones
    assert table.owners(phones) == list(range(len(phones))) and table.marks == ()


def test_byte_pairs_are_never_read_as_phones() -> None:
    pieces = SymbolTable(Vocabulary((PAD, "a", "b", "ab", SIL, "ə"), merges=("a b",)))
    assert pieces.marks == ()
    with pytest.raises(TextError, match="AH0"):
        pieces.encode(["AH0"])
