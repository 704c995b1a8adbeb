"""The columns of prepared tokens on disk, which all processes of a machine share.

`index.jsonl` is how rows come in and go out. `write_index` makes two Arrow files of it: `index.arrow`, the numbers
split by split with the orders that drawing a batch needs, which is mapped and lies in memory once, however many ranks
and workers read it; and `texts.arrow`, the ids and texts, read when asked for.
Both name the `index.jsonl` that they were made from, and count for nothing beside another one. Without them, or
without pyarrow, the same columns are made of the JSON lines in memory.
"""

from __future__ import annotations

import hashlib
import json
import logging
from array import array
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.config import BadLine, json_lines
from openvalle.data.index import NAMES, NUMBERS, Index, Names, Row, Texts, join_indices, replace_texts
from openvalle.errors import ModelError, import_extra
from openvalle.files import atomic_path

log = logging.getLogger(__name__)

ROWS, INDEX, TEXTS = "index.jsonl", "index.arrow", "texts.arrow"
FORMAT = 1
ORDERS = ("row", "by_length", "by_speaker")
BATCH = 1 << 10  # texts that are written, and read again, together


class _MappedTexts(Sequence[tuple[str, str]]):
    """Ids and texts in `texts.arrow`, which stays on the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None

    def _open(self) -> Any:
        if self._file is None:
            import pyarrow

            self._file = pyarrow.ipc.open_file(pyarrow.OSFile(str(self._path)))  # mapped, it would all be read ahead
        return self._file

    def __len__(self) -> int:
        file = self._open()
        return sum(file.get_batch(number).num_rows for number in range(file.num_record_batches))

    def __getitem__(self, row: Any) -> Any:
        batch = self._open().get_batch(int(row) // BATCH)
        return tuple(batch.column(name)[int(row) % BATCH].as_py() for name in ("id", "text"))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}


class _MappedStrings(Sequence[str]):
    """Values of a column of names as Arrow holds them."""

    def __init__(self, values: Any) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, place: Any) -> Any:
        return str(self._values[int(place)])


def read_index(folder: Path, splits: Sequence[str] | None = None) -> Index:
    """Return the rows of some splits of a folder, all with None; there may be none.

    `ModelError` names the file and line that cannot be read.
    """
    mapped = _map_index(folder, splits)
    if mapped is not None:
        return mapped
    path = folder / ROWS
    rows = (row for row in _json_rows(path) if splits is None or row.get("split") in splits)
    try:
        return Index.of(list(rows))
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise ModelError(f"a line of {path} is damaged ({error})", "run `openvalle prepare` again") from None


def _json_rows(path: Path) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, row in json_lines(file):
                if not isinstance(row, dict):
                    raise BadLine(number, "no object")
                yield row
    except BadLine as error:
        raise ModelError(f"{path} is damaged at line {error.number}", "run `openvalle prepare` again") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot read {path} ({error})", "run `openvalle prepare` again") from None


def write_index(folder: Path) -> None:
    """Make the Arrow files of a folder's `index.jsonl`, unless they are there; nothing without pyarrow."""
    if find_spec("pyarrow") is None:
        log.info("each process will read all of %s: with `pip install 'openvalle[train]'` they share it", folder / ROWS)
        return
    if _map_index(folder, None) is not None:
        return
    path = folder / ROWS
    stamp = _stamp(path) | {"digest": _digest(path)}
    numbers: dict[str, array[int]] = {name: array("i") for name in NUMBERS}
    names: dict[str, tuple[array[int], dict[str, int]]] = {name: (array("i"), {}) for name in NAMES}
    seconds = array("d")

    def read() -> Iterator[tuple[str, str]]:
        for row in _json_rows(path):
            for name, values in numbers.items():
                values.append(row[name])
            for name, (codes, places) in names.items():
                codes.append(places.setdefault(str(row[name]), len(places)))
            seconds.append(row["seconds"])
            yield str(row["id"]), str(row["text"])

    try:
        texts = _in_batches(read())
        with atomic_path(folder / TEXTS) as part:
            write_texts(part, texts, stamp)
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise ModelError(f"a line of {path} is damaged ({error})", "run `openvalle prepare` again") from None
    index = Index(
        {name: np.frombuffer(values, np.int32) for name, values in numbers.items()},
        np.frombuffer(seconds, np.float64),
        {name: Names.of_codes(np.frombuffer(codes, np.int32), list(places)) for name, (codes, places) in names.items()},
        Texts(()),
    )
    with atomic_path(folder / INDEX) as part:
        write_columns(part, index, stamp)


def _in_batches(rows: Iterator[tuple[str, str]]) -> Iterator[tuple[list[str], list[str]]]:
    batch: tuple[list[str], list[str]] = ([], [])
    for name, text in rows:
        batch[0].append(name)
        batch[1].append(text)
        if len(batch[0]) == BATCH:
            yield batch
            batch = ([], [])
    yield batch


def write_texts(path: Path, batches: Iterable[tuple[Any, Any]], stamp: Row) -> None:
    """Write `texts.arrow` from batches of ids and texts in the order of the rows, all but the last of `BATCH`."""
    import pyarrow

    fields = [pyarrow.field("id", pyarrow.large_string()), pyarrow.field("text", pyarrow.large_string())]
    schema = pyarrow.schema(fields, {"openvalle": json.dumps({"format": FORMAT, **stamp})})
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_file(file, schema) as writer:
        for batch in batches:
            columns = [pyarrow.array(each, pyarrow.large_string()) for each in batch]
            writer.write_batch(pyarrow.record_batch(columns, schema=schema))


def write_columns(path: Path, index: Index, stamp: Row) -> None:
    """Write `index.arrow`: split after split, each with the orders of its own rows, as one batch that is mapped."""
    import pyarrow

    codes, values = index.names["split"].codes, index.names["split"].values
    row = np.argsort(codes, kind="stable").astype(np.int32)  # where each was in index.jsonl
    borders = np.searchsorted(codes[row], np.arange(len(values) + 1)).tolist()
    columns: dict[str, Any] = {"row": row, "seconds": index.seconds[row]}
    columns |= {name: number[row] for name, number in index.numbers.items()}
    names = {name: column.codes[row] for name, column in index.names.items()}
    for name, keys in (("by_length", columns["frames"]), ("by_speaker", names["speaker"])):
        parts = [np.argsort(keys[a:b], kind="stable").astype(np.int32) for a, b in pairwise(borders)]
        columns[name] = np.concatenate([*parts, np.empty(0, np.int32)])
    arrays = {name: pyarrow.array(column) for name, column in columns.items()}
    for name, column in names.items():
        held = pyarrow.array(list(index.names[name].values), pyarrow.large_string())
        arrays[name] = pyarrow.DictionaryArray.from_arrays(pyarrow.array(column), held)
    about = {"format": FORMAT, "splits": list(values), "borders": borders, **stamp}
    batch = pyarrow.record_batch(arrays)
    schema = batch.schema.with_metadata({"openvalle": json.dumps(about)})
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_file(file, schema) as writer:
        writer.write_batch(batch.replace_schema_metadata(schema.metadata))


def _map_index(folder: Path, splits: Sequence[str] | None) -> Index | None:
    """Return the rows as the Arrow files hold them; None if those are not there or were made from other rows."""
    if not (folder / INDEX).is_file() or not (folder / TEXTS).is_file():
        return None
    if (folder / ROWS).is_file() and find_spec("pyarrow") is None:
        return None
    pyarrow = import_extra("pyarrow", "pyarrow", "train")
    try:
        files = [pyarrow.ipc.open_file(pyarrow.memory_map(str(folder / name))) for name in (INDEX, TEXTS)]
        about, texts = (json.loads(file.schema.metadata[b"openvalle"]) for file in files)
        same = all(about.get(key) == texts.get(key) for key in ("format", "size", "digest"))
        if not same or about["format"] != FORMAT or not _was_made_from(about, folder / ROWS):
            return None
        return _view(files[0].get_batch(0), about, Texts(_MappedTexts(folder / TEXTS)), splits)
    except (pyarrow.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        if (folder / ROWS).is_file():
            return None
        raise ModelError(f"cannot read {folder / INDEX} ({error})", "run `openvalle prepare` again") from None


def _view(batch: Any, about: Row, texts: Texts, splits: Sequence[str] | None) -> Index:
    """Return the rows of some splits; of one split without copying anything."""
    borders = about["borders"]
    ranges = [
        slice(borders[number], borders[number + 1])
        for number, name in enumerate(about["splits"])
        if splits is None or name in splits
    ]
    columns = {name: _numbers(batch.column(name)) for name in (*NUMBERS, *ORDERS, "seconds")}
    names = {name: batch.column(name) for name in NAMES}
    parts = [
        Index(
            {name: columns[name][part] for name in NUMBERS},
            columns["seconds"][part],
            {
                name: Names(_numbers(column.indices)[part], _MappedStrings(column.dictionary))
                for name, column in names.items()
            },
            texts.take(columns["row"][part]),
            {name: columns[name][part] for name in ("by_length", "by_speaker")},
        )
        for part in ranges
    ]
    if len(parts) == 1:
        return parts[0]
    joined = join_indices(parts)
    rows = np.concatenate([np.empty(0, np.int32), *(columns["row"][part] for part in ranges)])
    order = np.argsort(rows, kind="stable")
    joined = replace_texts(joined, texts.take(rows))
    return joined.take(order)


def _numbers(column: Any) -> np.ndarray:
    return column.to_numpy(zero_copy_only=True)


def _stamp(path: Path) -> Row:
    status = path.stat()
    return {"size": status.st_size, "modified": status.st_mtime_ns}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _was_made_from(about: Row, path: Path) -> bool:
    """Return whether the Arrow files were made from these rows; without the rows they stand for themselves."""
    if not path.is_file():
        return True
    now = _stamp(path)
    if about.get("size") != now["size"]:
        return False
    return about.get("modified") == now["modified"] or about.get("digest") == _digest(path)
