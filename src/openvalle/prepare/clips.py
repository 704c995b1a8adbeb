"""An utterance as a corpus has it, and the reading of lists of them."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openvalle.config import BadLine, json_lines
from openvalle.errors import UserError
from openvalle.pipes import check_regular, read_text

UNKNOWN_SPEAKER = "unknown"


@dataclass(frozen=True)
class CorpusClip:
    """One utterance of a corpus as it was found: nothing is checked yet."""

    id: str
    audio: Path
    text: str
    speaker: str = UNKNOWN_SPEAKER
    language: str = "en"
    split: str | None = None
    start: float = 0.0  # seconds into the file
    seconds: float | None = None  # None: to the end of the file
    channels: tuple[int, ...] | None = None  # None: all, mixed
    inside: tuple[int, int] | None = None  # offset and bytes of the sound in an archive at `audio`; None: the file


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text; `UserError` if it is not UTF-8."""
    try:
        return read_text(path, most=None).splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text", "convert it to UTF-8") from None


def json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of JSON lines, which may be gzipped; `UserError` names a line that is none."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(check_regular(path), "rt", encoding="utf-8") as file:
        try:
            for number, row in json_lines(file):
                if not isinstance(row, dict):
                    raise BadLine(number, "no object")
                yield row
        except BadLine as error:
            raise UserError(f"{path} line {error.number} is not a JSON object", f"mend it ({error.reason})") from None
