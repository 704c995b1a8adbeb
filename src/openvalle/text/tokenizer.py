"""Text as byte pairs (VALL-E 2): pieces of words learned from a corpus' transcripts, without phonemes or alignment.

Pieces are made of bytes: every text of every language can be read. The extra `bpe` brings the library `tokenizers`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from openvalle.errors import ConfigError, MissingExtra
from openvalle.types import PAD, Vocabulary

SIZE = 4096  # pieces; VALL-E 2 does not say, MELLE, of the same authors and corpus, has 4k
BYTES = 256
MOST = 65_536  # ids are stored in 16 bits


def train(texts: Iterable[str], size: int = SIZE) -> Vocabulary:
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
    try:
        import tokenizers
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError:
        raise MissingExtra("tokenizers", "bpe") from None
    return tokenizers
