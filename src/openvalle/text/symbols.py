"""Tables of text symbols: the phone inventory, ARPAbet with stress, or byte pairs; frozen once a model has one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from openvalle.errors import TextError
from openvalle.text.language import read_out
from openvalle.text.phones import FROM_ARPABET, MARKS, SEGMENTS
from openvalle.text.tokenizer import build_tokenizer
from openvalle.types import ENGLISH, PAD, SIL, Vocabulary


class TextUnit(StrEnum):
    """What the models read."""

    PHONEME = "phoneme"  # aligned with the sound
    BPE = "bpe"  # byte pairs of the written text (VALL-E 2)


@dataclass(frozen=True)
class SymbolTable:
    """A vocabulary read as phones or as byte pairs; id 0 is padding. In a table of phones id 1 is the pause.

    The front end and the aligner of English speak ARPAbet; a table of the inventory takes each of its phones as the
    marks and the segment that it stands for, so what is encoded may be longer than what was given.
    """

    vocabulary: Vocabulary

    def __len__(self) -> int:
        return len(self.vocabulary)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols in the order of their ids."""
        return self.vocabulary.symbols

    @property
    def digest(self) -> str:
        """Fingerprint of the vocabulary."""
        return self.vocabulary.digest

    @property
    def unit(self) -> TextUnit:
        """What the symbols are."""
        return TextUnit.BPE if self.vocabulary.merges else TextUnit.PHONEME

    @cached_property
    def _tokenizer(self) -> Any:
        return build_tokenizer(self.vocabulary)

    def pieces(self, text: str, language: str = ENGLISH) -> list[str]:
        """Return a text in byte pairs of the table; `TextError` if there is nothing to say."""
        words = read_out(text, language)
        if not words:
            raise TextError(f"nothing in the text {text.strip()[:40]!r} can be spoken", "write at least one word")
        return self._tokenizer.encode(words).tokens

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: index for index, symbol in enumerate(self.symbols)}

    @cached_property
    def marks(self) -> tuple[int, ...]:
        """Ids of the symbols that last no time: the marks of the inventory."""
        if self.unit is TextUnit.BPE:
            return ()
        return tuple(self._ids[mark] for mark in MARKS if mark in self._ids)

    @cached_property
    def known(self) -> frozenset[str]:
        """What can be encoded: the symbols themselves and, in a table of the inventory, ARPAbet's phones."""
        return frozenset((*self.symbols, *(phone for phone in FROM_ARPABET if self._spell(phone))))

    def encode(self, symbols: Iterable[str]) -> list[int]:
        """Return the ids of the symbols; `TextError` names the first unknown one."""
        ids: list[int] = []
        for symbol in symbols:
            found = self._spell(symbol)
            if not found:
                raise TextError(
                    f"unknown text symbol {symbol!r}", "use ARPAbet phones with stress, such as AH0, or SIL"
                )
            ids += found
        return ids

    def owners(self, symbols: Sequence[str]) -> list[int]:
        """Return, for each id that `encode` gives for `symbols`, the place of the symbol that it comes from."""
        return [place for place, symbol in enumerate(symbols) for _ in self._spell(symbol)]

    def spread(self, symbols: Sequence[str], durations: Sequence[int]) -> list[int]:
        """Return a duration for each id that `encode` gives for `symbols`: marks last no time."""
        spread: list[int] = []
        for symbol, duration in zip(symbols, durations, strict=True):
            spread += [0] * (len(self._spell(symbol)) - 1) + [duration]
        return spread

    def _spell(self, symbol: str) -> tuple[int, ...]:
        """Return the ids of a symbol, or of what an ARPAbet phone stands for; nothing for an unknown one."""
        if symbol in self._ids:
            return (self._ids[symbol],)
        parts = FROM_ARPABET.get(symbol, ()) if self.unit is TextUnit.PHONEME else ()
        return tuple(self._ids[part] for part in parts) if all(part in self._ids for part in parts) else ()


def inventory() -> SymbolTable:
    """Return the table that models are trained with: `<pad>`, SIL, and the phone inventory of all languages."""
    return SymbolTable(Vocabulary((PAD, SIL, *MARKS, *SEGMENTS)))
