"""Rows: what was measured of one system's answer to one item. Reports and comparisons read nothing else.

A file of rows is JSON lines, one `Result` each. Metrics are numbers by name; one that could not be measured is absent,
never zero and never NaN, and `notes` says why.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from openvalle.errors import UserError
from openvalle.inputs import read_text
from openvalle.jsonl import BadLine, json_lines, write_json_lines

ORIGINAL, RECONSTRUCTED, SYNTHESISED = "original", "codec-reconstructed", "synthesised"


@dataclass(frozen=True)
class Result:
    """One system, one item, one seed."""

    system: str
    item: str
    seed: int
    text: str  # that should be heard
    condition: str = "clean"
    speaker: str = ""
    status: str = "ok"  # or "failed": the system gave no sound; the words then count as missing
    error: str = ""  # why it failed
    audio: str = ""  # path of the sound, relative to the file of rows; may be empty
    prompt_audio: str = ""
    heard: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def cluster(self) -> str:
        """The item without its condition: what is resampled, since conditions of one prompt are not independent."""
        return self.item.removesuffix(f"-{self.condition}")

    @property
    def failed(self) -> bool:
        """True if the system gave no sound."""
        return self.status != "ok"


def split_finite(values: dict[str, float | None]) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return the metrics that are numbers, and a note for each that is NaN or infinite."""
    kept = {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}
    bad = [name for name, value in values.items() if value is not None and not math.isfinite(value)]
    return kept, tuple(f"{name} is not a number" for name in bad)


def write_results(path: Path, rows: Iterable[Result]) -> Path:
    """Write the rows, atomically; return the path."""
    return write_json_lines(path, (asdict(row) for row in rows))


def read_results(path: Path) -> list[Result]:
    """Read a file of rows; `UserError` names the line that cannot be read."""
    try:
        return [_row(number, values) for number, values in json_lines(read_text(path, most=None))]
    except BadLine as error:
        damage = f"{path} is damaged at line {error.number} ({error.reason})"
        raise UserError(damage, "run the evaluation again") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path} ({error})", "give the folder that `openvalle evaluate` wrote") from None


def _row(number: int, values: Any) -> Result:
    try:
        return Result(**{**values, "notes": tuple(values.get("notes", ()))})
    except (AttributeError, TypeError) as error:
        raise BadLine(number, str(error)) from None
