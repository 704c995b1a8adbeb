"""A report: results, their summary, the published figures of the protocol, and the full record of how it was made.

In its folder (see `report_pages.save_report`): `rows.jsonl` (every result), `report.json` (everything else, for
programs), `report.md`, `report.html` (with players and plots), `items.jsonl` (the test list) and `audio/`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from openvalle.config import Syntax, read_data
from openvalle.errors import UserError
from openvalle.evaluate.by_language import measure_languages
from openvalle.evaluate.metrics import METRICS, Group
from openvalle.evaluate.protocols import Protocol, PublishedTable, Reference, find_published, protocols
from openvalle.evaluate.results import (
    NO_NUMBER,
    ORIGINAL,
    Result,
    measure_kept,
    measure_preservation,
    per_seed,
    read_results,
    summarise,
)
from openvalle.evaluate.test_list import is_partial
from openvalle.statistics import Estimate

DOUBTFUL_WER = 0.8  # of the recording itself: its transcript is probably not what is said
ACOUSTICS = tuple(name for name, metric in METRICS.items() if metric.of_prompt)
FORMAT = "openvalle-report"
VERSION = 2  # in version 1 the protocol's notes were called `said`
RULES = ("asr", "asr decoding", "speaker", "speaker decoding", "normalizer", "quality", "DNSMOS every, s", "utmos")
RESULTS, VALUES = "rows.jsonl", "report.json"


@dataclass(frozen=True)
class Report:
    """One evaluation."""

    protocol: Protocol
    results: tuple[Result, ...]
    record: dict[str, Any]  # models and revisions, normaliser, seeds, sampling, commit, machine
    notes: tuple[str, ...] = ()  # what a reader has to know first
    values: dict[str, Any] = field(default_factory=dict)  # figures that others add

    @property
    def systems(self) -> list[str]:
        """Names of the systems, in the order of the rows."""
        return list(dict.fromkeys(row.system for row in self.results))

    def of(self, system: str) -> list[Result]:
        """Return the rows of one system; `UserError` lists the systems there are."""
        found = [row for row in self.results if row.system == system]
        if not found:
            raise UserError(f"the report holds no system {system!r}", f"it holds: {', '.join(self.systems)}")
        return found

    def summarise(self, system: str) -> dict[str, Estimate]:
        """Return a system's figures with intervals."""
        return summarise(self.of(system))

    def find_published(self) -> list[PublishedTable]:
        """Return the published tables of this protocol."""
        return find_published(self.protocol.name)

    def columns(self) -> list[str]:
        """Return the metrics of the main table that were measured; the protocol's similarity first."""
        shown = [name for name, metric in METRICS.items() if metric.group is Group.QUALITY and metric.is_shown]
        if self.protocol.similarity is Reference.CODEC:
            shown.insert(shown.index("sim_o"), shown.pop(shown.index("sim_r")))
        there = {name for system in self.systems for name in self.summarise(system)}
        return [name for name in shown if name in there]

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
            notes = [note for row in self.of(system) for note in row.notes if note.endswith(NO_NUMBER)]
            for metric, count in Counter(note.removesuffix(NO_NUMBER) for note in notes).items():
                found.append(f"{system}: {metric} of {count} answers is not a number and is left out")
        doubtful = [
            one.item
            for one in self.results
            if one.system == ORIGINAL and one.metrics["word_errors"] >= DOUBTFUL_WER * max(one.metrics["words"], 1)
        ]
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
            kept = {measure: measure_kept(own, measure) for measure in ACOUSTICS}
            systems[name] = {
                "rows": len(own),
                "failed": sum(row.failed for row in own),
                "figures": {metric: asdict(figure) for metric, figure in self.summarise(name).items()},
                "seeds": {str(seed): values for seed, values in per_seed(own).items()},
                "kept": {measure: asdict(value) for measure, value in kept.items() if value is not None},
            }
        return {
            "format": FORMAT,
            "version": VERSION,
            "protocol": self.protocol.model_dump(mode="json"),
            "record": self.record,
            "notes": list(self.notes),
            "warnings": self.warnings(),
            "systems": systems,
            "languages": [one.as_dict() for one in measure_languages(self.results)],
            "preservation": [asdict(item) for item in measure_preservation(self.results)],
            "published": [table.model_dump(mode="json") for table in self.find_published()],
            "values": self.values,
        }


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
    return Report(protocol, tuple(read_results(folder / RESULTS)), record, notes, values.get("values", {}))


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
