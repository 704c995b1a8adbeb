"""Text as byte pairs (VALL-E 2): pieces of words learned from a corpus' transcripts, without phonemes or alignment.

A table of byte pairs is a `SymbolTable` with merges, so it travels and is checked as the phones' table is. Pieces are
made of bytes: every text of every language can be read. They need the extra `bpe` (the library `tokenizers`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from openvalle.errors import ConfigError, MissingExtra, TextError
from openvalle.text.normalize import normalize
from openvalle.text.symbols import PAD, SymbolTable
from openvalle.types import Vocabulary

SIZE = 4096  # pieces; VALL-E 2 does not say, MELLE, of the same authors and corpus, has 4k
BYTES = 256
MOST = 65_536  # ids are stored in 16 bits
ENGLISH = "en"  # the language that is normalised to words


def train(texts: Iterable[str], size: int = SIZE) -> SymbolTable:
    """Return the table of at most `size` pieces that spells these texts shortest; the same texts give the same table.

    The texts are transcripts as `spoken` gives them. `ConfigError` for a size that cannot be.
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
    return SymbolTable(Vocabulary(tuple(symbols), tuple(" ".join(pair) for pair in model["merges"])))


def spoken(text: str, language: str = ENGLISH) -> str:
    """Return the words of a text, figures and signs read out where the language allows it."""
    return " ".join((normalize(text).text if language == ENGLISH else text).split())


def pieces(text: str, table: SymbolTable, language: str = ENGLISH) -> list[str]:
    """Return a text in pieces of the table; `TextError` if there is nothing to say."""
    words = spoken(text, language)
    if not words:
        raise TextError(f"nothing in the text {text.strip()[:40]!r} can be spoken", "write at least one word")
    return table.byte_pairs.encode(words).tokens


def tokenizer_of(table: SymbolTable) -> Any:
    """Return the `tokenizers.Tokenizer` of a table of byte pairs."""
    assert table.vocabulary.merges, "a table of phones has no byte pairs"
    tokenizers = _library()
    vocabulary = {symbol: index for index, symbol in enumerate(table.symbols)}
    pairs = [tuple(merge.split(" ")) for merge in table.vocabulary.merges]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = _splitter(tokenizers)
    return tokenizer


def _splitter(tokenizers: Any) -> Any:
    # The space before a word belongs to its first piece, and the first word of a text has one, too.
    return tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)


def _library() -> Any:
    try:
        import tokenizers
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError:
        raise MissingExtra("tokenizers", "bpe") from None
    return tokenizers
