"""The symbol table of English models that are older than the inventory."""

from __future__ import annotations

from openvalle.text.symbols import SymbolTable
from openvalle.types import PAD, PHONES, SIL, Vocabulary


def arpabet() -> SymbolTable:
    """`<pad>`, SIL, then the 69 phones with stress, sorted."""
    return SymbolTable(Vocabulary((PAD, SIL, *sorted(PHONES))))
