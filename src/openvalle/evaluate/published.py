"""Published figures: each table with its protocol and its source. Only those of the protocol that was run are shown."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, model_validator

from openvalle.config import Config, read_mapping

FILE = Path(__file__).with_name("published.yaml")


class PublishedRow(Config):
    """One system's figures; further keys are figures by the table's columns."""

    model_config = ConfigDict(frozen=True, extra="allow")

    system: str
    role: Literal["", "original", "codec"] = ""

    @property
    def figures(self) -> dict[str, float]:
        """The figures by column."""
        return {name: float(value) for name, value in (self.model_extra or {}).items()}


class PublishedTable(Config):
    """One table of one paper, or a part of it."""

    id: str
    protocol: str
    source: str
    hand: Literal["first", "second"]
    columns: dict[str, str]
    samples: str
    best_of: int = 1  # samples of each item of which one was selected
    rows: tuple[PublishedRow, ...]

    @model_validator(mode="after")
    def _only_named_columns(self) -> PublishedTable:
        for row in self.rows:
            unknown = sorted(set(row.figures) - set(self.columns))
            if unknown:
                raise ValueError(f"{self.id}: {row.system} has figures without a column: {unknown}")
        return self

    def caption(self) -> str:
        """Return source and circumstances on one line."""
        hand = "" if self.hand == "first" else "; from transcriptions by others"
        return f"{self.source}; {self.samples}{hand}"


class _File(Config):
    tables: tuple[PublishedTable, ...]


@cache
def published() -> tuple[PublishedTable, ...]:
    """Return every table."""
    values: dict[str, Any] = read_mapping(FILE)
    return _File.parse(values, FILE.name).tables


def published_for(protocol: str) -> list[PublishedTable]:
    """Return the tables measured by that protocol."""
    return [table for table in published() if table.protocol == protocol]
