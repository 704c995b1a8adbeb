"""The frozen table of text symbols: ARPAbet phones with stress, a pause and padding; or byte pairs and padding."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from openvalle.errors import ModelError, TextError
from openvalle.files import write_text

PAD = "<pad>"
SIL = "SIL"
VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = (
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N"),
    *("NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH"),
)
STRESSES = ("0", "1", "2")  # none, primary, secondary


class TextUnit(StrEnum):
    """What the models read."""

    PHONEME = "phoneme"  # aligned with the sound
    BPE = "bpe"  # byte pairs of the written text (VALL-E 2)


@dataclass(frozen=True)
class SymbolTable:
    """Symbols in the order of their ids; id 0 is padding. In a table of phones id 1 is the pause.

    `merges`: of a table of byte pairs, "left right" in the order in which they are applied.
    """

    symbols: tuple[str, ...]
    merges: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.symbols)) != len(self.symbols):
            raise ModelError("the symbol table names a symbol twice", "restore symbols.json from its source")

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def digest(self) -> str:
        """Fingerprint that codes, models and voices must share: 16 hex digits."""
        lines = [*self.symbols, "", *self.merges] if self.merges else self.symbols
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    @property
    def unit(self) -> TextUnit:
        """What the symbols are."""
        return TextUnit.BPE if self.merges else TextUnit.PHONEME

    @cached_property
    def byte_pairs(self) -> Any:
        """The `tokenizers.Tokenizer` of a table of byte pairs."""
        from openvalle.text.bpe import tokenizer_of

        return tokenizer_of(self)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: index for index, symbol in enumerate(self.symbols)}

    def encode(self, symbols: Iterable[str]) -> list[int]:
        """Return the id of each symbol; `TextError` names the first unknown one."""
        try:
            return [self._ids[symbol] for symbol in symbols]
        except KeyError as error:
            raise TextError(
                f"unknown text symbol {error.args[0]!r}",
                "use ARPAbet phones with stress, such as AH0, or SIL",
            ) from None

    def decode(self, ids: Sequence[int]) -> list[str]:
        """Return the symbol of each id; `TextError` names the first id outside the table."""
        for index in ids:
            if not 0 <= index < len(self.symbols):
                raise TextError(f"symbol id {index} is outside the table of {len(self.symbols)} symbols")
        return [self.symbols[index] for index in ids]

    def save(self, path: str | Path) -> None:
        """Write the table and its digest as JSON, atomically."""
        values = {"digest": self.digest, "symbols": list(self.symbols)}
        values |= {"merges": list(self.merges)} if self.merges else {}
        write_text(path, json.dumps(values, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> SymbolTable:
        """Read a table; `ModelError` if it is missing, unreadable or altered since it was saved."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            merges = tuple(str(merge) for merge in values.get("merges", ()))
            table = cls(tuple(str(symbol) for symbol in values["symbols"]), merges)
            digest = values["digest"]
        except OSError as error:
            raise ModelError(f"cannot read {path}: {error.strerror}", "give the path of a symbols.json") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ModelError(f"{path} is not a symbol table", "restore it from its source") from None
        if digest != table.digest:
            raise ModelError(
                f"{path} was altered: its digest is {digest} but its symbols give {table.digest}",
                "restore it from its source",
            )
        return table


def arpabet() -> SymbolTable:
    """Return the default table: `<pad>`, SIL, then the 69 stressed phones in alphabetical order."""
    vowels = [vowel + stress for vowel in VOWELS for stress in STRESSES]
    return SymbolTable((PAD, SIL, *sorted([*vowels, *CONSONANTS])))


def is_vowel(phone: str) -> bool:
    """Whether the phone is a vowel (the only phones that end in a stress digit)."""
    return phone[-1] in STRESSES
