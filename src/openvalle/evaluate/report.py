"""A report: rows, their summary, the published figures of the protocol, and the full record of how it was made.

In its folder: `rows.jsonl` (every row), `report.json` (everything else, for programs), `report.md`, `report.html` (with
players and plots), `items.jsonl` (the test list) and `audio/`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from openvalle.config import Syntax, read_data
from openvalle.errors import UserError
from openvalle.evaluate.items import is_partial
from openvalle.evaluate.metrics import DOUBTFUL_WER, METRICS
from openvalle.evaluate.protocols import Protocol, Reference, protocols
from openvalle.evaluate.published import PublishedTable, published_for
from openvalle.evaluate.rows import ORIGINAL, Row, read_rows, write_rows
from openvalle.evaluate.statistics import Figure
from openvalle.evaluate.summary import figures, kept_share, per_seed, preservation
from openvalle.files import write_text

FORMAT = "openvalle-report"
VERSION = 1
RULES = ("asr", "asr decoding", "speaker", "speaker decoding", "normalizer", "quality", "DNSMOS every, s", "utmos")
ROWS, VALUES, MARKDOWN, HTML = "rows.jsonl", "report.json", "report.md", "report.html"


@dataclass(frozen=True)
class Report:
    """One evaluation."""

    protocol: Protocol
    rows: tuple[Row, ...]
    record: dict[str, Any]  # models and revisions, normaliser, seeds, sampling, commit, machine
    notes: tuple[str, ...] = ()  # what a reader has to know first
    values: dict[str, Any] = field(default_factory=dict)  # figures that others add

    @property
    def systems(self) -> list[str]:
        """Names of the systems, in the order of the rows."""
        return list(dict.fromkeys(row.system for row in self.rows))

    def of(self, system: str) -> list[Row]:
        """Return the rows of one system; `UserError` lists the systems there are."""
        found = [row for row in self.rows if row.system == system]
        if not found:
            raise UserError(f"the report holds no system {system!r}", f"it holds: {', '.join(self.systems)}")
        return found

    def figures(self, system: str) -> dict[str, Figure]:
        """Return a system's figures with intervals."""
        return figures(self.of(system))

    def published(self) -> list[PublishedTable]:
        """Return the published tables of this protocol."""
        return published_for(self.protocol.name)

    def columns(self) -> list[str]:
        """Return the metrics of the main table that were measured; the protocol's similarity first."""
        sim = ("sim_o", "sim_r") if self.protocol.similarity is Reference.ORIGINAL else ("sim_r", "sim_o")
        wanted = ("wer", "cer", *sim, "sim_other", "right_above_wrong", "dnsmos", "dnsmos_p808", "utmos", "seconds")
        there = {name for system in self.systems for name in self.figures(system)}
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
                "figures": {metric: asdict(figure) for metric, figure in self.figures(name).items()},
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
            "preservation": [asdict(item) for item in preservation(self.rows)],
            "published": [table.model_dump(mode="json") for table in self.published()],
            "values": self.values,
        }

    def save(self, folder: Path) -> list[Path]:
        """Write rows, JSON, Markdown and HTML; return their paths."""
        from openvalle.evaluate.report_html import html_of
        from openvalle.evaluate.report_markdown import markdown_of

        texts = {
            VALUES: json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n",
            MARKDOWN: markdown_of(self),
            HTML: html_of(self),
        }
        paths = [write_rows(folder / ROWS, self.rows)]
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
        protocol = Protocol.parse(values["protocol"], str(path))
        record, notes = values["record"], tuple(values["notes"])
    except (UserError, ValueError, KeyError, AttributeError, TypeError) as error:
        hint = "give a folder that `openvalle evaluate` wrote"
        what = error.what if isinstance(error, UserError) else error
        raise UserError(f"{folder} holds no report ({what})", hint) from None
    return Report(protocol, tuple(read_rows(folder / ROWS)), record, notes, values.get("values", {}))


def comparable(table: PublishedTable, report: Report) -> str:
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


def differing_rules(first: Report, second: Report) -> list[str]:
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


def _wer(row: Row) -> float:
    return row.metrics.get("word_errors", 0) / max(row.metrics.get("words", 0), 1)


def _not_numbers(rows: Sequence[Row]) -> dict[str, int]:
    """Return how many rows lack each metric because it was NaN or infinite."""
    ending = " is not a number"
    counts: dict[str, int] = {}
    for row in rows:
        for note in row.notes:
            if note.endswith(ending):
                counts[note.removesuffix(ending)] = counts.get(note.removesuffix(ending), 0) + 1
    return counts
