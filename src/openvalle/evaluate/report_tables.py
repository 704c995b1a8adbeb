"""The tables of a report: words, voice and quality by system, language and seed, and beside the published figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openvalle.evaluate.by_language import SHOWN, explain_languages, measure_languages
from openvalle.evaluate.metrics import METRICS, Group
from openvalle.evaluate.protocols import PublishedTable
from openvalle.evaluate.report import ACOUSTICS, Report, explain_difference
from openvalle.evaluate.results import (
    ORIGINAL,
    RECONSTRUCTED,
    MetricComparison,
    measure_kept,
    measure_preservation,
    per_seed,
)
from openvalle.statistics import Estimate

SETTINGS = "How it was done"
RECORDINGS = (ORIGINAL, RECONSTRUCTED)


@dataclass(frozen=True)
class Table:
    """A title, columns and cells; the first column names the row."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    caption: str = ""


def tables(report: Report) -> list[Table]:
    """Return every table that the report has something to say in."""
    found = [main_table(report), language_table(report), metric_table(report, Group.PROSODY), acoustics_table(report)]
    found += [metric_table(report, Group.COST), seeds_table(report)]
    found += [published_table(table, report) for table in report.find_published()]
    found.append(settings_table(report))
    return [table for table in found if table and table.rows]


def main_table(report: Report) -> Table:
    """Return words, voice and quality of every system."""
    columns = report.columns()
    rows = []
    for system in report.systems:
        own, found = report.of(system), report.summarise(system)
        failed = sum(row.failed for row in own)
        rows.append([system, str(len(own)), str(failed), *(_cell(found.get(name), name) for name in columns)])
    judges = report.record.get("judges", {})
    caption = ", ".join(f"{what}: {name}" for what, name in judges.items())
    return Table(Group.QUALITY, ["", "rows", "failed", *(METRICS[name].title for name in columns)], rows, caption)


def language_table(report: Report) -> Table | None:
    """Return the figures of each language, if there is another than English."""
    found = measure_languages(report.results)
    names = [name for name in SHOWN if any(name in one.figures for one in found)]
    rows = [
        [one.title, str(one.rows), *(_cell(one.figures.get(name), name) for name in names), one.shown_bleu]
        for one in found
    ]
    columns = ["", "rows", *(METRICS[name].title for name in names), "BLEU"]
    return Table("By language", columns, rows, explain_languages(found)) if rows else None


def metric_table(report: Report, group: Group) -> Table | None:
    """Return the metrics of a group, of every system that has one of them."""
    found = {system: report.summarise(system) for system in report.systems}
    names = [name for name, metric in METRICS.items() if metric.group is group and metric.is_shown]
    there = [name for name in names if any(name in figures for figures in found.values())]
    rows = [
        [system, *(_cell(figures.get(name), name) for name in there)]
        for system, figures in found.items()
        if any(name in figures for name in there)
    ]
    return Table(group, ["", *(METRICS[name].title for name in there)], rows) if there else None


def acoustics_table(report: Report) -> Table | None:
    """Return what became of the prompts' rooms, noise and bandwidth."""
    rows = []
    for item in measure_preservation(report.results):
        if item.system in RECORDINGS and item.condition != "clean":
            continue  # the recording was made elsewhere: it follows no prompt
        shown = METRICS[item.measure]
        put_in = "-" if item.put_in is None else f"{item.put_in:g}"
        values = [f"{value:.{shown.digits}f}" for value in (item.prompts, item.answers)]
        rows.append([item.system, item.condition, shown.title, put_in, *values, str(item.count)])
    kept = [
        f"{system}, {measure}: {slope.text()}"
        for system in report.systems
        for measure in ACOUSTICS
        if system not in RECORDINGS and (slope := measure_kept(report.of(system), measure)) is not None
    ]
    caption = (
        f"Share of a change in the prompt that is found in the answer (1: kept) - {'; '.join(kept)}" if kept else ""
    )
    return Table(Group.ACOUSTICS, ["", "prompts", "measure", "put in", "in prompts", "in answers", "n"], rows, caption)


def seeds_table(report: Report) -> Table | None:
    """Return the figures of each seed and their deviation, if there are several."""
    columns = [name for name in report.columns() if name != "seconds"]
    rows = []
    for system in report.systems:
        seeds = per_seed(report.of(system))
        if len(seeds) < 2:
            continue
        for seed, values in seeds.items():
            rows.append([f"{system}, seed {seed}", *(_show(values.get(name), name) for name in columns)])
        known = {name: [values[name] for values in seeds.values() if name in values] for name in columns}
        spread = {name: float(np.std(values, ddof=1)) for name, values in known.items() if len(values) > 1}
        rows.append([f"{system}, deviation", *(_show(spread.get(name), name) for name in columns)])
    return Table("Seeds", ["", *(METRICS[name].title for name in columns)], rows) if rows else None


def published_table(table: PublishedTable, report: Report) -> Table:
    """Return a published table with what keeps it from being compared with ours."""
    names = list(table.columns)
    rows = [
        [row.system, *(f"{row.figures[name]:g}" if name in row.figures else "-" for name in names)]
        for row in table.rows
    ]
    differs = explain_difference(table, report)
    caption = f"Published: {table.caption()}." + (f" Not comparable figure by figure: {differs}." if differs else "")
    return Table(f"Published for this protocol: {table.id}", ["", *table.columns.values()], rows, caption)


def settings_table(report: Report) -> Table:
    """Return every setting that shaped a figure, one a line."""
    shown = {name: value for name, value in report.record.items() if name not in ("made", "command")}
    rows = [[name, value] for name, value in _flat(shown) if value]
    return Table(SETTINGS, ["setting", "value"], rows)


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Return the leaves of nested settings with the names that lead to them."""
    if isinstance(value, Mapping):
        return [leaf for key, inner in value.items() for leaf in _flat(inner, f"{name}: {key}" if name else str(key))]
    if isinstance(value, list | tuple):
        return [(name, ", ".join(map(str, value)))]
    return [(name, str(value))]


def comparison_table(found: Sequence[MetricComparison], first: str, second: str) -> Table:
    """Return two sets of rows side by side with the paired test."""
    rows = []
    for item in found:
        shown = METRICS[item.metric]
        scale, digits = (100, 1) if shown.percent else (1, shown.digits)
        low, high = item.difference.low * scale, item.difference.high * scale
        verdict = ""
        if shown.better and item.difference.is_clear:
            verdict = "better" if item.difference.value * shown.better > 0 else "worse"
        values = [f"{value * scale:.{digits}f}" for value in (item.first, item.second)]
        change = f"{item.difference.value * scale:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
        rows.append([shown.title, *values, change, f"{item.difference.p:.4f}", str(item.difference.count), verdict])
    caption = "Paired over items: 95 % bootstrap interval of the difference over readers, p by permutation (two-sided)."
    return Table("Comparison", ["", first, second, "difference", "p", "items", ""], rows, caption)


def _show(value: float | None, name: str) -> str:
    if value is None:
        return "-"
    shown = METRICS[name]
    return f"{value * 100:.1f}" if shown.percent else f"{value:.{shown.digits + 1}f}"


def _cell(figure: Estimate | None, metric: str) -> str:
    """Return a figure as it is shown; a dash where it was not measured."""
    shown = METRICS[metric]
    return figure.text(percent=shown.percent, digits=shown.digits) if figure else "-"
