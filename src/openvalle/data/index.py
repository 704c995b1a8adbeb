"""The rows of prepared tokens as columns, in memory or mapped from files (`openvalle.data.index_files`)."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np

Row = dict[str, Any]

NAMES = ("speaker", "language", "split", "shard")  # few values, met again and again
NUMBERS = {"frames": np.int32, "symbols": np.int32, "frame_start": np.int32, "symbol_start": np.int32}


@dataclass(frozen=True)
class Names:
    """A column of names: `codes` (rows,) are places in `values`, which are sorted."""

    codes: np.ndarray
    values: Sequence[str]

    def __getitem__(self, row: int) -> str:
        return self.values[int(self.codes[row])]

    def __len__(self) -> int:
        return len(self.codes)

    @classmethod
    def of(cls, names: Iterable[str]) -> Names:
        """Return the column of names as they come, one a row."""
        places: dict[str, int] = {}
        codes = np.frombuffer(array("i", (places.setdefault(name, len(places)) for name in names)), np.int32)
        return cls.of_codes(codes, list(places))

    @classmethod
    def of_codes(cls, codes: np.ndarray, values: list[str]) -> Names:
        """Return the column whose names are places (rows,) in `values`, which are not sorted yet."""
        order = sorted(range(len(values)), key=lambda code: values[code])
        place = np.empty(len(values), np.int32)
        place[order] = np.arange(len(values), dtype=np.int32)
        return cls(place[codes] if len(codes) else codes, [values[index] for index in order])

    def take(self, rows: Any) -> Names:
        """Return the column of some rows."""
        return replace(self, codes=self.codes[rows])

    @property
    def used(self) -> list[str]:
        """The values that some row has."""
        met = np.flatnonzero(np.bincount(self.codes, minlength=len(self.values)))
        return [self.values[code] for code in met.tolist()]


class Index(Sequence[Row]):
    """Columns of the rows of one split, of several or of all; `index[n]` is row n with all that its line said.

    `numbers`: frames, symbols, frame_start and symbol_start, (rows,) int32; `seconds` (rows,) float64; `names`:
    speaker, language, split and shard. `by_length` are the rows from the shortest to the longest, those of one length
    in their order; `by_speaker` those of one speaker after the other.
    """

    def __init__(
        self,
        numbers: dict[str, np.ndarray],
        seconds: np.ndarray,
        names: dict[str, Names],
        texts: Texts,
        orders: dict[str, np.ndarray] | None = None,
    ) -> None:
        """`texts`: ids and texts; `orders`: `by_length` and `by_speaker` where they are known."""
        self.numbers, self.seconds, self.names, self.texts = numbers, seconds, names, texts
        self._orders = dict(orders or {})

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Index:
        """Return the columns of rows in memory; `KeyError` names what one of them lacks."""
        numbers = {name: np.array([row[name] for row in rows], kind) for name, kind in NUMBERS.items()}
        names = {name: Names.of(str(row[name]) for row in rows) for name in NAMES}
        seconds = np.array([row["seconds"] for row in rows], np.float64)
        return cls(numbers, seconds, names, Texts([(str(row["id"]), str(row["text"])) for row in rows]))

    def __len__(self) -> int:
        return len(self.seconds)

    @overload
    def __getitem__(self, row: int) -> Row: ...
    @overload
    def __getitem__(self, row: slice) -> list[Row]: ...
    def __getitem__(self, row: int | slice) -> Row | list[Row]:
        if isinstance(row, slice):
            return [self[each] for each in range(len(self))[row]]
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        row %= len(self)
        name, text = self.texts[row]
        found: Row = {key: self.names[key][row] for key in ("speaker", "language", "split")}
        found |= {"text": text, "seconds": float(self.seconds[row]), "shard": self.names["shard"][row]}
        return {"id": name, **found, **{key: int(values[row]) for key, values in self.numbers.items()}}

    def id(self, row: int) -> str:
        """Return the id of a row."""
        return self.texts[row][0]

    @property
    def frames(self) -> np.ndarray:
        """Frames of each row, (rows,) int32."""
        return self.numbers["frames"]

    @property
    def by_length(self) -> np.ndarray:
        """Rows from the shortest to the longest, (rows,) int32; those of one length in their order."""
        return self._order("by_length", self.frames)

    @property
    def by_speaker(self) -> np.ndarray:
        """Rows of the first speaker, then of the second, and so on, (rows,) int32; each speaker's in their order."""
        return self._order("by_speaker", self.names["speaker"].codes)

    def _order(self, name: str, keys: np.ndarray) -> np.ndarray:
        if name not in self._orders:
            self._orders[name] = np.argsort(keys, kind="stable").astype(np.int32)
        return self._orders[name]

    def take(self, rows: np.ndarray) -> Index:
        """Return some rows, in the order that is given."""
        return Index(
            {name: values[rows] for name, values in self.numbers.items()},
            self.seconds[rows],
            {name: column.take(rows) for name, column in self.names.items()},
            self.texts.take(rows),
        )


class Texts:
    """Ids and texts of rows: `texts[n]` is the id and the text of row n. `rows`: places in the list; None: all."""

    def __init__(self, items: Sequence[tuple[str, str]], rows: np.ndarray | None = None) -> None:
        self._items, self._rows = items, rows

    def __getitem__(self, row: int) -> tuple[str, str]:
        return self._items[int(row if self._rows is None else self._rows[row])]

    def take(self, rows: np.ndarray) -> Texts:
        """Return those of some rows."""
        return Texts(self._items, rows if self._rows is None else self._rows[rows])


def join_indices(parts: Sequence[Index], prefixes: Sequence[str] | None = None) -> Index:
    """Return the rows of one after those of the other, in memory. `prefixes` go before the ids and speakers of each."""
    marks = prefixes or [""] * len(parts)
    names = {
        name: _join_names([part.names[name] for part in parts], marks if name == "speaker" else [""] * len(parts))
        for name in NAMES
    }
    numbers = {
        name: np.concatenate([np.empty(0, kind), *(part.numbers[name] for part in parts)])
        for name, kind in NUMBERS.items()
    }
    seconds = np.concatenate([np.empty(0), *(part.seconds for part in parts)])
    return Index(numbers, seconds, names, Texts(_JoinedTexts(parts, marks)))


def replace_texts(index: Index, texts: Texts) -> Index:
    """Return the same columns with other ids and texts."""
    return Index(index.numbers, index.seconds, index.names, texts)


def _join_names(parts: Sequence[Names], prefixes: Sequence[str]) -> Names:
    places: dict[str, int] = {}
    codes = [np.empty(0, np.int32)]
    for part, prefix in zip(parts, prefixes, strict=True):
        known = [places.setdefault(prefix + value, len(places)) for value in part.values]
        codes.append(np.array(known, np.int32)[part.codes] if known else part.codes)
    return Names.of_codes(np.concatenate(codes), list(places))


class _JoinedTexts(Sequence[tuple[str, str]]):
    """Ids, with a prefix each, and texts of several indices."""

    def __init__(self, parts: Sequence[Index], prefixes: Sequence[str]) -> None:
        self._parts, self._prefixes = parts, prefixes
        self._starts = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, row: Any) -> Any:
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        name, text = self._parts[number].texts[int(row - self._starts[number])]
        return self._prefixes[number] + name, text
