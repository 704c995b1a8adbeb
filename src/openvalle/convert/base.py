"""What a source is: another project whose models are read here, and what comes of a model of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from torch import Tensor

from openvalle.config import Config
from openvalle.convert.weights import StoredWeights
from openvalle.errors import ModelError
from openvalle.model.bundle import BundleConfig
from openvalle.model.config import ARConfig, NARConfig
from openvalle.pipes import read_text
from openvalle.synth.voice import Voice
from openvalle.types import Vocabulary

State = dict[str, Tensor]


@dataclass(frozen=True)
class Converted:
    """A model as it is here: settings and weights of both networks, the symbols of its texts, and how it decodes."""

    ar: ARConfig
    ar_state: State
    nar: NARConfig
    nar_state: State
    vocabulary: Vocabulary
    languages: tuple[str, ...]
    generation: Mapping[str, Any]
    notes: tuple[str, ...] = ()  # for the card: what is not as it was there


@dataclass(frozen=True)
class Given:
    """What people gave: files of weights, symbol tables and others, and settings that the files do not hold."""

    weights: tuple[StoredWeights, ...]
    symbols: Path | None = None
    files: tuple[Path, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def one(self) -> StoredWeights:
        """Return the only file of weights."""
        if len(self.weights) != 1:
            names = ", ".join(Path(weights.source).name for weights in self.weights[:6])
            more = ", ..." if len(self.weights) > 6 else ""
            there = f"{len(self.weights)} files of weights ({names}{more})" if self.weights else "no file of weights"
            raise ModelError(f"there are {there}, and both networks of this source are in one", "give that one")
        return self.weights[0]

    def two(self, is_nar: Callable[[StoredWeights], bool]) -> tuple[StoredWeights, StoredWeights]:
        """Return the files of the AR and of the NAR network, of which there must be one each."""
        ars, nars = ([one for one in self.weights if is_nar(one) is wanted] for wanted in (False, True))
        if len(ars) != 1 or len(nars) != 1:
            there = f"{len(ars)} AR and {len(nars)} NAR networks"
            raise ModelError(f"there are {there} among the files", "give one file of each: ... AR NAR")
        return ars[0], nars[0]

    def find(self, *patterns: str) -> Path | None:
        """Return the file with the first of these names that there is."""
        return next((path for pattern in patterns for path in self.files if fnmatch(path.name, pattern)), None)

    def parse(self, kind: type[Config]) -> Any:
        """Return the settings as a source has them: those of the file, then those that were given."""
        from_files = {name: value for weights in self.weights for name, value in weights.settings.items()}
        known = {name: from_files[name] for name in kind.model_fields if name in from_files}
        return kind.parse(known | dict(self.settings), "the settings")


@dataclass(frozen=True, eq=False)
class Source:
    """Another project. `revision`: the one that the numbers were compared with."""

    name: str
    repository: str
    revision: str
    licence: str  # of what it publishes
    codec: str  # what its models are decoded with
    recognise: Callable[[StoredWeights], bool]
    convert: Callable[[Given], Converted]
    published: tuple[str, ...] = ()  # on the hub
    read_voice: Callable[[Path, BundleConfig, Vocabulary], Voice] | None = None  # of a file, for a converted model


def read_symbols(path: Path | None, source: str) -> tuple[str, ...]:
    """Return the symbols of a table of lines `symbol id`, <pad>, <bos> and <eos> before the others in order.

    The numbers in the file count for nothing: there the symbols are sorted when a model is loaded.
    """
    if path is None:
        raise ModelError(
            f"{source} does not hold the symbols of its texts", "give the table of its training: --symbols FILE"
        )
    try:
        lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot read the symbols {path}: {error}", "give a text of lines `symbol number`") from None
    if not lines or any(len(line) > 2 for line in lines):
        raise ModelError(f"{path} is no table of symbols", "give a text of lines `symbol number`")
    return ("<pad>", "<bos>", "<eos>", *sorted({line[0] for line in lines}))


def first_match(sources: Sequence[Source], weights: StoredWeights) -> Source | None:
    """Return the source that a file of weights is of."""
    return next((source for source in sources if source.recognise(weights)), None)
