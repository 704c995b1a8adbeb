"""A report as Markdown: tables, warnings, the record."""

from __future__ import annotations

import json
from collections.abc import Sequence

from openvalle.evaluate.report import Report
from openvalle.evaluate.tables import Table, tables


def markdown_of(report: Report) -> str:
    """Return the whole report."""
    protocol = report.protocol
    lines = [f"# {protocol.title}", ""]
    lines += [f"Protocol `{protocol.name}`{f', after {protocol.paper}' if protocol.paper else ''}. {protocol.said}", ""]
    lines += [f"- **{warning}**" for warning in report.warnings()]
    for table in tables(report):
        lines += ["", *markdown_table(table)]
    record = json.dumps(report.record, indent=2, ensure_ascii=False)
    lines += [
        "",
        "Means over items with 95 % bootstrap intervals over readers; WER and CER are of all words together.",
    ]
    lines += ["", "## Record", "", "```json", record, "```"]
    return "\n".join(lines) + "\n"


def markdown_table(table: Table) -> list[str]:
    """Return the lines of one table."""
    lines = [f"**{table.title}**", "", _row(table.columns), _row(["---", *["---:"] * (len(table.columns) - 1)])]
    lines += [_row(row) for row in table.rows]
    return [*lines, "", table.caption] if table.caption else lines


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |"
