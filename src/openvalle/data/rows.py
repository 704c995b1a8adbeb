"""Manifests as JSON lines: read, write atomically, filter by split."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from openvalle.config import atomic_path
from openvalle.errors import ModelError

Row = dict[str, Any]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write one JSON object a line, atomically."""
    with atomic_path(path) as part, part.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_rows(path: Path) -> list[Row]:
    """Return the objects of a JSON lines file; `ModelError` names the line that cannot be read."""
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot read {path} ({error})", "run `openvalle prepare` again") from None
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise ModelError(f"{path} is damaged at line {number}", "run `openvalle prepare` again") from None
    return rows


def of_split(rows: list[Row], split: str | None, source: Path) -> list[Row]:
    """Return the rows of `split` (None: all); `ModelError` lists the splits if there are none."""
    chosen = [row for row in rows if split is None or row["split"] == split]
    if not chosen:
        there = ", ".join(sorted({str(row["split"]) for row in rows})) or "nothing"
        raise ModelError(f"{source} holds no utterance of the split {split!r}", f"it holds {there}")
    return chosen
