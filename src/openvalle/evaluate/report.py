"""A report: rows, their summary, the published figures of the protocol, and the full record of how it was made.

In its folder: `rows.jsonl` (every row), `report.json` (everything else, for programs), `report.md`, `report.html` (with
players and plots), `items.jsonl` (the test list) and `audio/`.

The tables of a report, once, for every way of showing them: Markdown, HTML, the terminal.

A report as Markdown: tables, warnings, the record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from openvalle.config import Syntax, read_data
from openvalle.errors import UserError
from openvalle.evaluate.metrics import DOUBTFUL_WER, METRICS
from openvalle.evaluate.protocols import Protocol, Reference, protocols
from openvalle.evaluate.published import PublishedTable, published_for
from openvalle.evaluate.results import ORIGINAL, RECONSTRUCTED, Result, read_results, write_results
from openvalle.evaluate.summary import Compared, Figure, kept_share, measure_preservation, per_seed, summarise
from openvalle.evaluate.test_list import is_partial
from openvalle.files import write_text

PROSODY = (
    "pitch_distance",
    "pitch_range_distance",
    "tilt_distance",
    "energy_distance",
    "contour_distance",
    "duration_distance",
    "words_per_second",
    "seed_contour",
    "seed_duration",
)
SETTINGS = "How it was done"
RECORDINGS = (ORIGINAL, RECONSTRUCTED)
COST = ("rtf", "processor_per_second", "memory_mb", "ended")
UNITS = {"reverberation": ("reverberation time, s", 2), "noise": ("speech over noise, dB", 1)}
UNITS["bandwidth"] = ("bandwidth, Hz", 0)


@dataclass(frozen=True)
class Table:
    """A title, columns and cells; the first column names the row."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    caption: str = ""


def tables(report: Report) -> list[Table]:
    """Return every table that the report has something to say in."""
    found = [main_table(report), metric_table(report, "How it is said", PROSODY), environment_table(report)]
    found += [metric_table(report, "What it takes", COST), seeds_table(report)]
    found += [published_table(table, report) for table in report.published()]
    found.append(settings_table(report))
    return [table for table in found if table and table.rows]


def main_table(report: Report) -> Table:
    """Return words, voice and quality of every system."""
    columns = report.columns()
    rows = []
    for system in report.systems:
        own, found = report.of(system), report.summarise(system)
        failed = sum(row.failed for row in own)
        rows.append([system, str(len(own)), str(failed), *(cell(found.get(name), name) for name in columns)])
    judges = report.record.get("judges", {})
    caption = ", ".join(f"{what}: {name}" for what, name in judges.items())
    return Table(
        "Words, voice, quality", ["", "rows", "failed", *(METRICS[name].title for name in columns)], rows, caption
    )


def metric_table(report: Report, title: str, names: Sequence[str]) -> Table | None:
    """Return some metrics of every system that has one of them."""
    found = {system: report.summarise(system) for system in report.systems}
    there = [name for name in names if any(name in figures for figures in found.values())]
    rows = [
        [system, *(cell(figures.get(name), name) for name in there)]
        for system, figures in found.items()
        if any(name in figures for name in there)
    ]
    return Table(title, ["", *(METRICS[name].title for name in there)], rows) if there else None


def environment_table(report: Report) -> Table | None:
    """Return what became of the prompts' rooms, noise and bandwidth."""
    rows = []
    for item in measure_preservation(report.rows):
        if item.system in RECORDINGS and item.condition != "clean":
            continue  # the recording was made elsewhere: it follows no prompt
        title, digits = UNITS[item.measure]
        put_in = "-" if item.put_in is None else f"{item.put_in:g}"
        values = [f"{value:.{digits}f}" for value in (item.prompts, item.answers)]
        rows.append([item.system, item.condition, title, put_in, *values, str(item.count)])
    kept = []
    for system in report.systems:
        for measure in UNITS:
            slope = kept_share(report.of(system), measure)
            if slope is not None and system not in RECORDINGS:
                kept.append(f"{system}, {measure}: {slope + 0.0:.2f}")
    caption = (
        f"Share of a change in the prompt that is found in the answer (1: kept) - {'; '.join(kept)}" if kept else ""
    )
    return Table(
        "Where it is said", ["", "prompts", "measure", "put in", "in prompts", "in answers", "n"], rows, caption
    )


def seeds_table(report: Report) -> Table | None:
    """Return the figures of each seed and their deviation, if there are several."""
    columns = [name for name in report.columns() if name != "seconds"]
    rows = []
    for system in report.systems:
        seeds = per_seed(report.of(system))
        if len(seeds) < 2:
            continue
        for seed, values in seeds.items():
            rows.append([f"{system}, seed {seed}", *(_plain(values.get(name), name) for name in columns)])
        spread = {name: _spread([values.get(name) for values in seeds.values()]) for name in columns}
        rows.append([f"{system}, deviation", *(_plain(spread[name], name) for name in columns)])
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


def comparison_table(found: Sequence[Compared], first: str, second: str) -> Table:
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


def _plain(value: float | None, name: str) -> str:
    if value is None:
        return "-"
    shown = METRICS[name]
    return f"{value * 100:.1f}" if shown.percent else f"{value:.{shown.digits + 1}f}"


def _spread(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.std(known, ddof=1)) if len(known) > 1 else None


def to_markdown(report: Report) -> str:
    """Return the whole report."""
    protocol = report.protocol
    lines = [f"# {protocol.title}", ""]
    lines += [
        f"Protocol `{protocol.name}`{f', after {protocol.paper}' if protocol.paper else ''}. {protocol.notes}",
        "",
    ]
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


FORMAT = "openvalle-report"
VERSION = 2  # in version 1 the protocol's notes were called `said`
RULES = ("asr", "asr decoding", "speaker", "speaker decoding", "normalizer", "quality", "DNSMOS every, s", "utmos")
ROWS, VALUES, MARKDOWN, HTML = "rows.jsonl", "report.json", "report.md", "report.html"


@dataclass(frozen=True)
class Report:
    """One evaluation."""

    protocol: Protocol
    rows: tuple[Result, ...]
    record: dict[str, Any]  # models and revisions, normaliser, seeds, sampling, commit, machine
    notes: tuple[str, ...] = ()  # what a reader has to know first
    values: dict[str, Any] = field(default_factory=dict)  # figures that others add

    @property
    def systems(self) -> list[str]:
        """Names of the systems, in the order of the rows."""
        return list(dict.fromkeys(row.system for row in self.rows))

    def of(self, system: str) -> list[Result]:
        """Return the rows of one system; `UserError` lists the systems there are."""
        found = [row for row in self.rows if row.system == system]
        if not found:
            raise UserError(f"the report holds no system {system!r}", f"it holds: {', '.join(self.systems)}")
        return found

    def summarise(self, system: str) -> dict[str, Figure]:
        """Return a system's figures with intervals."""
        return summarise(self.of(system))

    def published(self) -> list[PublishedTable]:
        """Return the published tables of this protocol."""
        return published_for(self.protocol.name)

    def columns(self) -> list[str]:
        """Return the metrics of the main table that were measured; the protocol's similarity first."""
        sim = ("sim_o", "sim_r") if self.protocol.similarity is Reference.ORIGINAL else ("sim_r", "sim_o")
        wanted = ("wer", "cer", *sim, "sim_other", "right_above_wrong", "dnsmos", "dnsmos_p808", "utmos", "seconds")
        there = {name for system in self.systems for name in self.summarise(system)}
        return [name for name in wanted if name in there]

    def warnings(self) -> list[str]:
        """Return the notes, failures, and recordings whose transcripts are doubtful."""
        found = list(self.notes)
        for system in self.systems:
            failed = [row for row in self.of(system) if row.failed]
            if failed:
                one = f"{failed[0].item}: {failed[0].error}"
                found.append(
                    f"{system} failed on {len(failed)} of {len(self.of(system))} items (such as {one}); "
                    "their words count as missing, and no other figure includes them"
                )
            for metric, count in _not_numbers(self.of(system)).items():
                found.append(f"{system}: {metric} of {count} answers is not a number and is left out")
        doubtful = [row.item for row in self.rows if row.system == ORIGINAL and _wer(row) >= DOUBTFUL_WER]
        if doubtful:
            found.append(
                f"the transcripts of {len(doubtful)} recordings do not fit what is heard: "
                f"{', '.join(doubtful[:5])}; check them, or the recogniser"
            )
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the rows as plain values."""
        systems = {}
        for name in self.systems:
            own = self.of(name)
            kept = {measure: kept_share(own, measure) for measure in ("reverberation", "noise", "bandwidth")}
            systems[name] = {
                "rows": len(own),
                "failed": sum(row.failed for row in own),
                "figures": {metric: asdict(figure) for metric, figure in self.summarise(name).items()},
                "seeds": {str(seed): values for seed, values in per_seed(own).items()},
                "kept": {measure: value for measure, value in kept.items() if value is not None},
            }
        return {
            "format": FORMAT,
            "version": VERSION,
            "protocol": self.protocol.model_dump(mode="json"),
            "record": self.record,
            "notes": list(self.notes),
            "warnings": self.warnings(),
            "systems": systems,
            "preservation": [asdict(item) for item in measure_preservation(self.rows)],
            "published": [table.model_dump(mode="json") for table in self.published()],
            "values": self.values,
        }

    def save(self, folder: Path) -> list[Path]:
        """Write rows, JSON, Markdown and HTML; return their paths."""
        from openvalle.evaluate.report_html import to_html

        texts = {
            VALUES: json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n",
            MARKDOWN: to_markdown(self),
            HTML: to_html(self),
        }
        paths = [write_results(folder / ROWS, self.rows)]
        for name, text in texts.items():
            write_text(folder / name, text)
            paths.append(folder / name)
        return paths


def load_report(folder: Path) -> Report:
    """Read a report's folder; `UserError` if it holds none."""
    path = folder / VALUES
    try:
        values = read_data(path, Syntax.JSON, finite=False)
        if values.get("format") != FORMAT or values["version"] > VERSION:
            raise ValueError("another format or a newer version")
        if values["version"] == 1:
            values["protocol"]["notes"] = values["protocol"].pop("said")
        protocol = Protocol.parse(values["protocol"], str(path))
        record, notes = values["record"], tuple(values["notes"])
    except (UserError, ValueError, KeyError, AttributeError, TypeError) as error:
        hint = "give a folder that `openvalle evaluate` wrote"
        what = error.what if isinstance(error, UserError) else error
        raise UserError(f"{folder} holds no report ({what})", hint) from None
    return Report(protocol, tuple(read_results(folder / ROWS)), record, notes, values.get("values", {}))


def explain_difference(table: PublishedTable, report: Report) -> str:
    """Return why a published table and the report cannot be compared figure by figure; empty if they can."""
    record = report.record
    judges = record.get("judges", {})
    heading = table.columns.get("wer", "")
    reasons = []
    if heading and not ("HuBERT" in heading and "hubert" in str(judges.get("asr", ""))):
        reasons.append(f"their WER is by {heading.removeprefix('WER %, ')}, ours by {judges.get('asr')}")
    similar = table.columns.get("similarity", "")
    is_large = any(word in similar for word in ("UniSpeech", "TDNN")) and "unispeech" in str(judges.get("speaker"))
    is_base = "base-plus" in similar and "base-plus" in str(judges.get("speaker"))
    if similar and not (is_large or is_base):
        reasons.append(f"their similarity is by {similar}, ours by {judges.get('speaker')}")
    samples = record.get("samples", 1)
    if heading or similar:
        if samples != table.best_of:
            reasons.append(f"theirs is {_samples(table.best_of)}, ours {_samples(samples)}")
        known = protocols().get(report.protocol.name)
        if known is not None and report.protocol.decoding != known.decoding:
            reasons.append(f"ours was not decoded as the protocol says ({_changes(report.protocol, known)})")
        reasons += [f"ours is of a part of the list ({note})" for note in report.notes if is_partial(note)]
    return "; ".join(reasons)


def _samples(count: int) -> str:
    return "one sample" if count == 1 else f"the best of {count}"


def _changes(now: Protocol, known: Protocol) -> str:
    ours, theirs = (one.decoding.model_dump(mode="json") for one in (now, known))
    return ", ".join(f"{name} {value!r} for {theirs[name]!r}" for name, value in ours.items() if value != theirs[name])


def compare_rules(first: Report, second: Report) -> list[str]:
    """Return what keeps two reports from being compared pair by pair; none if one list was judged by the same rules.

    How the systems spoke may differ: that is what is compared.
    """

    def rules(report: Report) -> dict[str, Any]:
        judges = report.record.get("judges", {})
        own = {"test list": report.record.get("list", {}).get("digest"), "scored": report.record.get("scored")}
        return own | {name: judges.get(name) for name in RULES}

    one, two = rules(first), rules(second)
    return [f"{name}: {one[name]} and {two[name]}" for name in one if one[name] != two[name]]


def cell(figure: Figure | None, metric: str) -> str:
    """Return a figure as it is shown; a dash where it was not measured."""
    shown = METRICS[metric]
    return figure.text(percent=shown.percent, digits=shown.digits) if figure else "-"


def _wer(row: Result) -> float:
    return row.metrics.get("word_errors", 0) / max(row.metrics.get("words", 0), 1)


def _not_numbers(rows: Sequence[Result]) -> dict[str, int]:
    """Return how many rows lack each metric because it was NaN or infinite."""
    ending = " is not a number"
    counts: dict[str, int] = {}
    for row in rows:
        for note in row.notes:
            if note.endswith(ending):
                counts[note.removesuffix(ending)] = counts.get(note.removesuffix(ending), 0) + 1
    return counts
