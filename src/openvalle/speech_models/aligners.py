"""Which aligner finds the phones of a recording: pocketsphinx those of English, where its borders are the finer ones, a
network of ours those of every other language, whose sounds it knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Protocol

from openvalle.audio import Audio
from openvalle.errors import ConfigError
from openvalle.hub import assets
from openvalle.speech_models.aligner import Aligner, Hear, PhoneAlignment
from openvalle.speech_models.ctc import CTCAligner
from openvalle.types import ENGLISH

AUTO, POCKETSPHINX, CTC = "auto", "pocketsphinx", "ctc"


class PhoneAligner(Protocol):
    """Anything that finds phones in time. `poor_score`: right words score more; `digest`: which weights it has."""

    poor_score: float
    digest: str

    @property
    def symbols(self) -> tuple[str, ...]:
        """The segments of the inventory that it hears; none: it hears ARPAbet."""
        ...

    def align_scored(
        self, audio: Audio, words: Sequence[tuple[str, tuple[str, ...]]], hear: Hear | None = None
    ) -> PhoneAlignment:
        """Return when each symbol is spoken; `hear`: the sounds that stand for one (see `Aligner`)."""
        ...


def load_aligner(name: str = AUTO, language: str = ENGLISH) -> PhoneAligner:
    """Return the aligner called `name`, for recordings in a language; `ConfigError` if there is none of that name.

    `auto`: the one that suits the language; `pocketsphinx`; `ctc`: the built-in network; `ctc:FOLDER`: one that
    `openvalle train aligner` made, which is kept while its files are as they were.
    """
    if name == AUTO:
        name = POCKETSPHINX if language == ENGLISH else CTC
    kind, colon, folder = name.partition(":")
    if name == POCKETSPHINX:
        return _load_pocketsphinx()
    if kind == CTC and bool(colon) == bool(folder):
        place = Path(folder) if folder else assets() / "aligner"
        states = [(path.name, path.stat()) for path in sorted(place.iterdir())] if place.is_dir() else []
        return _load_network(
            place, tuple((file, state.st_ino, state.st_size, state.st_mtime_ns) for file, state in states)
        )
    hint = "use auto, pocketsphinx, ctc, or ctc:FOLDER of `openvalle train aligner`"
    raise ConfigError(f"there is no aligner {name!r}", hint)


class Aligners(dict[str, PhoneAligner]):
    """The aligner of a name for each language, opened when it is first asked for."""

    def __init__(self, name: str = AUTO) -> None:
        """`name`: as `load_aligner` reads it."""
        super().__init__()
        self.name = name

    def __missing__(self, language: str) -> PhoneAligner:
        """Open it; `ConfigError` if there is none of the name."""
        self[language] = load_aligner(self.name, language)
        return self[language]

    @property
    def digest(self) -> str:
        """Which weights they have, all together."""
        names = (POCKETSPHINX, CTC) if self.name == AUTO else (self.name,)
        return "".join(load_aligner(name).digest for name in names)


@cache
def _load_pocketsphinx() -> Aligner:
    return Aligner()


@lru_cache(maxsize=2)
def _load_network(folder: Path, files: tuple[tuple[str, int, int, int], ...]) -> CTCAligner:
    return CTCAligner(folder)
