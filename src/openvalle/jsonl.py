"""JSON lines: read value by value, strictly, and written."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from openvalle.files import Place, atomic_path, final_path

DEEPEST = 40  # groups inside each other, in JSON


class BadLine(ValueError):
    """A line that is not JSON."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"line {number} is not JSON ({reason})")
        self.number, self.reason = number, reason


def json_lines(text: str | Iterable[str]) -> Iterator[tuple[int, Any]]:
    """Yield the number and the value of every line that is not blank; `BadLine` names one that cannot be read.

    `text`: as a whole, or an open file. Values are finite and not nested without end, as `config.parse_data` has them.

    Lines end in a line feed alone: text may hold the other characters that `str.splitlines` cuts at.
    """
    for number, line in enumerate(text.split("\n") if isinstance(text, str) else text, 1):
        if line.strip():
            try:
                value = _JSON.decode(line)
                is_deep = line.count("[") + line.count("{") > DEEPEST and _depth(value) > DEEPEST
            except RecursionError:
                is_deep = True
            except ValueError as error:
                raise BadLine(number, getattr(error, "msg", str(error))) from None
            if is_deep:
                raise BadLine(number, f"nested more than {DEEPEST} deep")
            yield number, value


def _depth(value: Any) -> int:
    """Return how many groups are inside each other."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max((1 + _depth(each) for each in inner), default=0)


def _whole(figures: str) -> int:
    if len(figures) > 19 or abs(int(figures)) >= 1 << 63:
        raise ValueError(f"{figures[:20]}... is too large a number")
    return int(figures)


def _finite(figures: str) -> float:
    if not math.isfinite(value := float(figures)):
        raise ValueError(f"{figures[:20]} is not a finite number")
    return value


_JSON = json.JSONDecoder(parse_int=_whole, parse_float=_finite, parse_constant=_finite)


def json_line(value: Any) -> str:
    """Return a value as a line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def write_json_lines(place: Place, values: Iterable[Any]) -> Path:
    """Write one value a line, atomically; return the path."""
    with atomic_path(place) as part, part.open("w", encoding="utf-8") as file:
        for value in values:
            file.write(json_line(value))
    return final_path(place)


def append_line(path: Path, value: Any) -> None:
    """Add a line at the end of a file; it is on the disk when this returns."""
    with path.open("ab") as file:
        file.write(json_line(value).encode())
        file.flush()
        os.fsync(file.fileno())
