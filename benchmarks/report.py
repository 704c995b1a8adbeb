"""Figures with their uncertainty, as a table on the terminal and as files."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from openvalle.files import write_text

WIDTH = 1000  # characters, more than any table has: a cut figure is worse than a broken frame


@dataclass
class Report:
    """Collects tables and values of one benchmark run."""

    name: str
    settings: dict[str, Any]
    values: dict[str, Any] = field(default_factory=dict)
    tables: list[tuple[str, list[str], list[list[str]]]] = field(default_factory=list)

    def table(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        """Add a table and show it."""
        self.tables.append((title, columns, rows))
        shown = Table(title=title, title_justify="left")
        for index, column in enumerate(columns):
            shown.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
        for row in rows:
            shown.add_row(*row)
        Console(width=WIDTH).print(shown)

    def targets(self, checks: Sequence[tuple[str, float, str, bool]]) -> None:
        """Add the table of (what, measured, wanted, met)."""
        rows = [[what, f"{value:.3f}", wanted, "met" if met else "MISSED"] for what, value, wanted, met in checks]
        self.table("Targets", ["target", "measured", "wanted", ""], rows)
        self.values["targets"] = [
            {"target": what, "measured": value, "wanted": wanted, "met": bool(met)}
            for what, value, wanted, met in checks
        ]

    def write(self, folder: Path) -> list[Path]:
        """Write JSON and Markdown; return their paths."""
        machine = {"python": platform.python_version(), "machine": platform.machine()}
        data = {"benchmark": self.name, "settings": self.settings, "machine": machine, **self.values}
        paths = [folder / f"{self.name}.json", folder / f"{self.name}.md"]
        write_text(paths[0], json.dumps(data, indent=2) + "\n")
        write_text(paths[1], self._markdown())
        return paths

    def _markdown(self) -> str:
        lines = [", ".join(f"{key}: {value}" for key, value in self.settings.items())]
        for title, columns, rows in self.tables:
            lines += ["", f"**{title}**", "", _row(columns), _row(["---", *["---:"] * (len(columns) - 1)])]
            lines += [_row(row) for row in rows]
        return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
