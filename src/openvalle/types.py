"""Plain types that parts share: the vocabulary of a model, the codec of its tokens, phones, durations and alignments.

Letters: S symbols, T frames or steps, Q codebooks.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import Field

from openvalle.config import Config, Syntax, read_data
from openvalle.errors import ConfigError, ModelError
from openvalle.files import write_text

PAD = "<pad>"  # the symbol of id 0, in every vocabulary
SIL = "SIL"  # a pause
ENGLISH = "en"  # the language of texts and recordings where none is named
UNSPACED = ("zh", "ja")  # languages that write no blanks between words and sentences
FRAME_RATE = 75.0  # frames a second of every codec in use, where there is no spec to ask
MERGE = 2  # frames that share an entry of codebook 1, where nothing else is said (VALL-E R 3.1)
VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")  # of ARPAbet
CONSONANTS = (
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N"),
    *("NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH"),
)
STRESSES = ("0", "1", "2")  # the digit that ends a vowel: none, primary, secondary
PHONES = frozenset((*CONSONANTS, *(vowel + stress for vowel in VOWELS for stress in STRESSES)))


@dataclass(frozen=True)
class Vocabulary:
    """What the ids of a text stand for: symbols in the order of their ids.

    `merges`: of byte pairs, "left right" in the order in which they are applied; none of phones. `notation`: how texts
    are written in symbols that are neither (see `openvalle.text.notations`).
    """

    symbols: tuple[str, ...]
    merges: tuple[str, ...] = ()
    notation: str = ""

    def __post_init__(self) -> None:
        if len(set(self.symbols)) != len(self.symbols):
            raise ModelError("the symbol table names a symbol twice", "restore symbols.json from its source")

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def digest(self) -> str:
        """Fingerprint that tokens, models and voices must share: 16 hex digits."""
        lines = [*self.symbols, "", *self.merges] if self.merges else [*self.symbols]
        lines += ["", self.notation] if self.notation else []
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def save(self, path: str | Path) -> None:
        """Write `symbols.json`, atomically."""
        values = {"digest": self.digest, "symbols": list(self.symbols)}
        values |= {"merges": list(self.merges)} if self.merges else {}
        values |= {"notation": self.notation} if self.notation else {}
        write_text(path, json.dumps(values, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Read `symbols.json`; `ModelError` if it is missing, unreadable or altered since it was saved."""
        try:
            values = read_data(path, Syntax.JSON)
            merges = tuple(str(merge) for merge in values.get("merges", ()))
            symbols = tuple(str(symbol) for symbol in values["symbols"])
            vocabulary = cls(symbols, merges, str(values.get("notation", "")))
            digest = values["digest"]
        except ConfigError as error:
            what = f"{path} is not a symbol table ({error.what})" if Path(path).is_file() else error.what
            raise ModelError(what, "give the path of a symbols.json") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ModelError(f"{path} is not a symbol table", "restore it from its source") from None
        if digest != vocabulary.digest:
            raise ModelError(
                f"{path} was altered: its digest is {digest} but its symbols give {vocabulary.digest}",
                "restore it from its source",
            )
        return vocabulary


class CodecSpec(Config):
    """Geometry of a codec's tokens, and which codec made them."""

    name: str = Field(..., description="of a codec that is not in the model's folder: where it is found")
    rate: int = Field(24_000, gt=0, description="samples a second")
    hop: int = Field(320, gt=0, description="samples a frame")
    codebooks: int = Field(8, gt=0)
    entries: int = Field(1024, gt=0, description="vectors of a codebook")
    digest: str = Field("", description="of encoder and codebooks: equal digests mean interchangeable tokens")

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.rate / self.hop


class TokenSpec(CodecSpec):
    """`codec.json` of prepared tokens: the codec, and how it was used."""

    merge: int = Field(1, gt=0, description="frames that share an entry of codebook 1 (VALL-E R 3.1)")
    source: str = Field("", description="where the codec was found; the name, if empty")


@dataclass(frozen=True, eq=False)
class Utterance:
    """One recording as tokens: `text` (S,) symbol ids, `codes` (T, Q), `durations` (S,) frames of each symbol; int64.

    Byte pairs are not aligned: they have no durations, and no part of their sound can be named. `language`: its number
    in a model, 0 = none given; `prompt_language`: that of the first `prompt_symbols` and `prompt_frames`, where another
    utterance of the speaker stands before. `speaker_codes` (P, Q): another recording of the speaker, for NAR prompts
    that come from elsewhere; or the whole recording that this is a piece of, which then begins at its frame
    `speaker_start`.
    """

    text: np.ndarray
    codes: np.ndarray
    durations: np.ndarray | None = None
    language: int = 0
    speaker_codes: np.ndarray | None = None
    speaker_start: int | None = None
    prompt_frames: int | None = None  # of `codes`: the first are another utterance of the speaker; None: all are one
    prompt_symbols: int = 0  # of `text`: those of that utterance
    prompt_language: int = 0
    id: str = ""  # of its row in a corpus
    row: int = -1  # of the shards that it was read from
    language_name: str = ""
    prompt_language_name: str = ""  # empty: there is no prompt, or it has the same


def to_alignment(durations: np.ndarray) -> np.ndarray:
    """Return the symbol index of each frame, (sum(durations),)."""
    return np.repeat(np.arange(len(durations)), durations)


def to_durations(alignment: np.ndarray, symbols: int) -> np.ndarray:
    """Return how often each of `symbols` indices occurs in an alignment, (symbols,): the inverse of `to_alignment`."""
    return np.bincount(alignment, minlength=symbols)


def place_borders(ends: np.ndarray, count: int) -> np.ndarray:
    """Return where each of S symbols ends among `count` steps, (S,) int64: moved as little as needed from the wanted
    `ends` (S,) for every symbol to own a step at least. With fewer steps than symbols the earliest own none."""
    order = np.arange(1, len(ends) + 1)
    ends = np.maximum.accumulate(np.maximum(ends - order, 0)) + order  # each at least one after the one before
    return np.maximum(np.minimum(ends, count - (len(ends) - order)), 0)  # and room for all that follow
