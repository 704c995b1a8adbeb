"""Manifests as JSON lines: read, write atomically, filter by split."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from openvalle.errors import ModelError
from openvalle.files import BadLine, json_lines, read_text, write_json_lines

Row = dict[str, Any]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write one JSON object a line, atomically."""
    write_json_lines(path, rows)


def read_rows(path: Path) -> list[Row]:
    """Return the objects of a JSON lines file; `ModelError` names the line that cannot be read."""
    try:
        rows = [row for _, row in json_lines(read_text(path, most=None))]
        if not all(isinstance(row, dict) for row in rows):
            raise BadLine(next(n for n, row in enumerate(rows, 1) if not isinstance(row, dict)), "no object")
        return rows
    except BadLine as error:
        raise ModelError(f"{path} is damaged at line {error.number}", "run `openvalle prepare` again") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot read {path} ({error})", "run `openvalle prepare` again") from None


def of_split(rows: list[Row], split: str | None, source: Path) -> list[Row]:
    """Return the rows of `split` (None: all); `ModelError` lists the splits if there are none."""
    chosen = [row for row in rows if split is None or row["split"] == split]
    if not chosen:
        there = ", ".join(sorted({str(row["split"]) for row in rows})) or "nothing"
        raise ModelError(f"{source} holds no utterance of the split {split!r}", f"it holds {there}")
    return chosen


def neighbours(speakers: Sequence[str], names: Sequence[str]) -> dict[str, int | None]:
    """Return for each row's name the row of its speaker before it; for the first one the next, None if it is alone."""
    last: dict[str, int] = {}
    found: dict[str, int | None] = {}
    for index, (speaker, name) in enumerate(zip(speakers, names, strict=True)):
        before = last.get(speaker)
        found[name] = before
        if before is not None and found[names[before]] is None:
            found[names[before]] = index
        last[speaker] = index
    return found
