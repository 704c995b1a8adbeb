"""The table of the benchmark of languages: figures by set, language and system, differences, and the targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from language_items import READERS, VOICES
from openvalle.evaluate.results import MetricComparison, Result, compare, summarise
from openvalle.statistics import Estimate
from openvalle.types import ENGLISH
from report import Report

MODEL, FOREIGN_ACCENT, ENGLISH_MODEL, ITSELF = "model", "model, foreign accent", "English model", "the teacher itself"
MOST_ERRORS, LEAST_NEARER, ENGLISH_POINTS, LEAST_PAIRS = 0.25, 0.8, 0.02, 40
COLUMNS = ["", "clips", "errors %", "language heard %", "similarity, same", "other", "same nearer %"]


@dataclass(frozen=True)
class Row:
    """A row of the table: a set and a language by one system."""

    set: str
    language: str
    system: str
    results: list[Result]

    @property
    def title(self) -> str:
        """What it is called."""
        return f"{self.language}, {self.set}: {self.system}"

    @property
    def figures(self) -> dict[str, Estimate]:
        """Its figures with intervals."""
        return summarise(self.results)


def compare_accents(rows: Sequence[Row], languages: Sequence[str]) -> list[tuple[str, list[MetricComparison]]]:
    """Return what the foreign accent changes in the voices of readers: by language, and in all of them."""
    by = {(row.system, row.language): row.results for row in rows if row.set == READERS}
    own = [language for language in languages if (FOREIGN_ACCENT, language) in by]
    groups = [[language] for language in own] + ([own] if len(own) > 1 else [])
    return [
        (
            f"{' and '.join(group)}, {READERS}: foreign less native",
            compare(
                [result for one in group for result in by[MODEL, one]],
                [result for one in group for result in by[FOREIGN_ACCENT, one]],
            ),
        )
        for group in groups
    ]


def compare_english(rows: Sequence[Row]) -> list[tuple[str, list[MetricComparison]]]:
    """Return how the English of the model differs from that of a model of English alone."""
    by = {row.system: row.results for row in rows if row.set == VOICES and row.language == ENGLISH}
    if ENGLISH_MODEL not in by or MODEL not in by:
        return []
    return [(f"{ENGLISH}, {VOICES}: model less English model", compare(by[ENGLISH_MODEL], by[MODEL]))]


def error_name(language: str) -> str:
    """Return which errors count in a language: words of English, signs of Chinese, kana of Japanese."""
    return "wer" if language == ENGLISH else "cer"


def tell(rows: Sequence[Row], differences: Sequence[tuple[str, list[MetricComparison]]], report: Report) -> None:
    """Add the table and the targets."""
    shown = [[row.title, str(len(row.results)), *_cells(row)] for row in rows]
    for title, found in differences:
        by = {one.metric: one.difference for one in found}
        errors = by.get("wer" if title.startswith(ENGLISH) else "cer")
        cells = [
            f"{100 * one.value:+.1f} [{100 * one.low:.1f}, {100 * one.high:.1f}]" if one else "-"
            for one in (errors, by.get("language_heard"))
        ]
        likeness = by.get("sim_o")
        voice = f"{likeness.value:+.2f} [{likeness.low:.2f}, {likeness.high:.2f}]" if likeness else "-"
        shown.append([title, f"{errors.count if errors else 0} pairs", *cells, voice, "", ""])
    report.table("Errors: words of English, signs of Chinese, kana of Japanese; 95 % intervals", COLUMNS, shown)
    if checks := [*_check_rows(rows), *_check_differences(differences)]:
        report.targets(checks)
    report.values |= {
        "rows": {row.title: {name: asdict(one) for name, one in row.figures.items()} for row in rows},
        "failed": {row.title: failed for row in rows if (failed := sum(one.failed for one in row.results))},
        "differences": {title: {one.metric: asdict(one.difference) for one in found} for title, found in differences},
    }


def _cells(row: Row) -> list[str]:
    figures = row.figures
    names = {error_name(row.language): True, "language_heard": True, "sim_o": False, "sim_other": False}
    names["right_above_wrong"] = True
    return [figures[name].text(percent=share) if name in figures else "-" for name, share in names.items()]


Check = tuple[str, float, str, bool]


def _check_rows(rows: Sequence[Row]) -> list[Check]:
    checks: list[Check] = []
    for row in rows:
        figures = row.figures
        if row.system != MODEL or row.language == ENGLISH:
            continue
        if row.set == VOICES:
            errors = figures["cer"].value
            checks.append((f"errors, {row.title}", errors, f"<= {MOST_ERRORS}", errors <= MOST_ERRORS))
        elif "right_above_wrong" in figures:
            nearer = figures["right_above_wrong"].value
            checks.append(
                (f"nearer to the right one, {row.title}", nearer, f">= {LEAST_NEARER}", nearer >= LEAST_NEARER)
            )
    return checks


def _check_differences(differences: Sequence[tuple[str, list[MetricComparison]]]) -> list[Check]:
    """Return the targets of English, and of the accent in all languages together (the last of its differences)."""
    checks: list[Check] = []
    accents = [one for one in differences if not one[0].startswith(ENGLISH)]
    for title, found in differences:
        by = {one.metric: one.difference for one in found}
        if title.startswith(ENGLISH):
            apart = by["wer"].value
            checks.append((f"WER, {title}", apart, f"<= {ENGLISH_POINTS}", apart <= ENGLISH_POINTS))
        elif (title, found) == accents[-1]:
            enough = by["cer"].count >= LEAST_PAIRS
            checks.append((f"pairs, {title}", by["cer"].count, f">= {LEAST_PAIRS}", enough))
            checks.append((f"errors, {title}, lower end", by["cer"].low, "> 0", by["cer"].low > 0))
            if heard := by.get("language_heard"):
                checks.append((f"language heard, {title}, upper end", heard.high, "< 0", heard.high < 0))
    return checks
