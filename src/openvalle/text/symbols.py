"""Tables of text symbols: the phone inventory, ARPAbet with stress, or byte pairs; frozen once a model has one.

Byte pairs (VALL-E 2) are pieces of words, learned from a corpus' transcripts, without phonemes or alignment. They are
made of bytes: every text of every language can be read. The extra `bpe` brings the library `tokenizers`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from openvalle.errors import ConfigError, TextError, import_extra
from openvalle.text.language import read_out
from openvalle.text.notations import find_notation
from openvalle.text.phones import FROM_ARPABET, MARKS, SEGMENTS
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

    @property
    def is_spelt(self) -> bool:
        """Whether whole texts are read into symbols that nothing aligns: byte pairs, or a notation of its own."""
        return bool(self.vocabulary.merges or self.vocabulary.notation)

    @property
    def joint(self) -> list[str]:
        """The symbols between the transcript of a recording and the text that follows it."""
        return [] if not self.vocabulary.notation else list(find_notation(self.vocabulary.notation).joint)

    @cached_property
    def _tokenizer(self) -> Any:
        return build_tokenizer(self.vocabulary)

    def pieces(self, text: str, language: str = ENGLISH) -> list[str]:
        """Return a text in byte pairs or in the notation of the table; `TextError` if there is nothing to say."""
        if self.vocabulary.notation:
            return find_notation(self.vocabulary.notation).spell(text, language, frozenset(self.symbols))
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
        if self.is_spelt:
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
        """Return the ids of a symbol, of what an ARPAbet phone stands for, or of a segment with its marks before it and
        blanks between (`tone3 a`); nothing for an unknown one."""
        if symbol in self._ids:
            return (self._ids[symbol],)
        parts = () if self.is_spelt else FROM_ARPABET.get(symbol) or tuple(symbol.split(" ")) * (" " in symbol)
        return tuple(self._ids[part] for part in parts) if all(part in self._ids for part in parts) else ()


def inventory() -> SymbolTable:
    """Return the table that models are trained with: `<pad>`, SIL, and the phone inventory of all languages."""
    return SymbolTable(Vocabulary((PAD, SIL, *MARKS, *SEGMENTS)))


BYTE_PAIRS = 4096  # pieces; VALL-E 2 does not say, MELLE, of the same authors and corpus, has 4k
BYTES = 256
MOST = 65_536  # ids are stored in 16 bits


def train_byte_pairs(texts: Iterable[str], size: int = BYTE_PAIRS) -> Vocabulary:
    """Return the vocabulary of at most `size` pieces that spells these texts shortest; the same texts give the same.

    The texts are transcripts as `language.read_out` gives them. `ConfigError` for a size that cannot be.
    """
    if not BYTES + 1 < size <= MOST:
        raise ConfigError(f"a table cannot have {size} byte pairs", f"give {BYTES + 2} (it holds all bytes) to {MOST}")
    tokenizers = _library()
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = _splitter(tokenizers)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    symbols = sorted(model["vocab"], key=model["vocab"].__getitem__)
    assert symbols[0] == PAD, symbols[0]
    return Vocabulary(tuple(symbols), tuple(" ".join(pair) for pair in model["merges"]))


def build_tokenizer(vocabulary: Vocabulary) -> Any:
    """Return the `tokenizers.Tokenizer` of a vocabulary of byte pairs."""
    assert vocabulary.merges, "a vocabulary of phones has no byte pairs"
    tokenizers = _library()
    ids = {symbol: index for index, symbol in enumerate(vocabulary.symbols)}
    pairs = [tuple(merge.split(" ")) for merge in vocabulary.merges]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=ids, merges=pairs))
    tokenizer.pre_tokenizer = _splitter(tokenizers)
    return tokenizer


def _splitter(tokenizers: Any) -> Any:
    # The space before a word belongs to its first piece, and the first word of a text has one, too.
    return tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)


def _library() -> Any:
    return import_extra("tokenizers", "tokenizers", "bpe")
