"""How a report is written: Markdown, and an HTML page with plots and a player for every sound.

The page needs no script and fetches none; sounds are linked relative to it, so that the folder can be moved.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from openvalle.evaluate.metrics import METRICS
from openvalle.evaluate.report import RESULTS, VALUES, Report
from openvalle.evaluate.report_tables import Table, tables
from openvalle.evaluate.results import (
    Result,
    write_results,
)
from openvalle.files import write_text


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


PLOTTED = ("wer", "sim_o", "sim_r", "dnsmos", "utmos", "rtf")
WIDTH, BAND, LEFT, RIGHT = 420, 30, 150, 60  # of a plot, in pixels
MAX_ITEMS = 200  # items shown with players; all of them are in rows.jsonl
STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --a: #2f6f9f; --b: #c2571a; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 92rem; padding: 0 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; } .scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .6rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { vertical-align: bottom; white-space: normal; }
caption { caption-side: bottom; text-align: left; font-size: .85rem; opacity: .8; padding-top: .4rem; }
.plots { display: flex; flex-wrap: wrap; gap: 1.5rem; } figure { margin: 0; } figcaption { font-weight: 600; }
svg text { fill: currentColor; font: 13px system-ui, sans-serif; }
.warn { border-left: 4px solid var(--b); background: var(--soft); padding: .5rem 1rem; margin: .5rem 0; }
.item { border-top: 1px solid var(--line); padding: .8rem 0; } .item p { margin: .2rem 0; }
.sounds { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: .6rem; }
.sounds div { background: var(--soft); padding: .5rem; border-radius: .4rem; font-size: .85rem; }
audio { width: 100%; height: 2.2rem; } .heard { opacity: .8; } code, pre { font-size: .8rem; overflow-x: auto; }
"""


def save_report(report: Report, folder: Path) -> list[Path]:
    """Write results, JSON, Markdown and HTML into `folder`; return their paths."""
    texts = {
        VALUES: json.dumps(report.as_dict(), indent=2, ensure_ascii=False) + "\n",
        "report.md": to_markdown(report),
        "report.html": to_html(report),
    }
    paths = [write_results(folder / RESULTS, report.results)]
    for name, text in texts.items():
        write_text(folder / name, text)
        paths.append(folder / name)
    return paths


def to_html(report: Report) -> str:
    """Return the whole page."""
    protocol = report.protocol
    paper = f", after {protocol.paper}" if protocol.paper else ""
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(protocol.title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(protocol.title)}</h1>",
        f"<p>Protocol <code>{escape(protocol.name)}</code>{escape(paper)}. {escape(protocol.notes)}</p>",
        *(f'<p class="warn">{escape(warning)}</p>' for warning in report.warnings()),
        "<h2>At a glance</h2>",
        f'<div class="plots">{"".join(_plots(report))}</div>',
        "<h2>Figures</h2><p>Means, 95 % bootstrap intervals over readers; WER and CER are of all words together.</p>",
        *(_table(table) for table in tables(report)),
        *_items(report),
        "<h2>Record</h2>",
        f"<pre>{escape(json.dumps(report.record, indent=2, ensure_ascii=False))}</pre>",
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    title = f"<h3>{escape(table.title)}</h3>"
    return (
        f'{title}<div class="scroll"><table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _plots(report: Report) -> Iterator[str]:
    found = {system: report.summarise(system) for system in report.systems}
    for name in PLOTTED:
        rows = [(system, figures[name]) for system, figures in found.items() if name in figures]
        if rows:
            scale = 100 if METRICS[name].percent else 1
            values = [(system, *(getattr(f, key) * scale for key in ("low", "value", "high"))) for system, f in rows]
            yield _plot(METRICS[name].title, values)


def _plot(title: str, values: Sequence[tuple[str, float, float, float]]) -> str:
    """Return points with intervals, one line a system, from zero to the largest."""
    top = max(high for *_, high in values) or 1.0
    room = WIDTH - LEFT - RIGHT

    def at(value: float) -> float:
        return LEFT + room * max(value, 0) / top

    marks = []
    for index, (system, low, value, high) in enumerate(values):
        y = BAND * index + BAND / 2
        short = system if len(system) <= 20 else f"{system[:19]}…"
        marks.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{escape(short)}</text>')
        marks.append(
            f'<line x1="{at(low):.1f}" x2="{at(high):.1f}" y1="{y}" y2="{y}" stroke="var(--a)" stroke-width="3"/>'
        )
        marks.append(f'<circle cx="{at(value):.1f}" cy="{y}" r="5" fill="var(--a)"/>')
        marks.append(f'<text x="{at(high) + 8:.1f}" y="{y + 4}">{value:.3g}</text>')
    height = BAND * len(values)
    marks.append(f'<line x1="{LEFT}" x2="{LEFT}" y1="0" y2="{height}" stroke="var(--line)"/>')
    label = "; ".join(f"{system} {value:.3g}" for system, _, value, _ in values)
    box = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    svg = f'<svg {box} role="img" aria-label="{escape(title)}: {escape(label)}">{"".join(marks)}</svg>'
    return f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>"


def _items(report: Report) -> Iterator[str]:
    by_item: dict[str, list[Result]] = {}
    for row in report.results:
        by_item.setdefault(row.item, []).append(row)
    yield f"<h2>Listen</h2><p>{len(by_item)} items; the first {min(len(by_item), MAX_ITEMS)} are shown.</p>"
    for item, rows in list(by_item.items())[:MAX_ITEMS]:
        sounds = [_sound("prompt", rows[0].prompt_audio, "")] if rows[0].prompt_audio else []
        several = len({row.seed for row in rows}) > 1
        for row in rows:
            title = f"{row.system}, seed {row.seed}" if several else row.system
            sounds.append(_sound(title, row.audio, _facts(row)))
        condition = "" if rows[0].condition == "clean" else f" · {rows[0].condition}"
        head = f"<p><b>{escape(item)}</b>{escape(condition)}: {escape(rows[0].text)}</p>"
        yield f'<div class="item">{head}<div class="sounds">{"".join(sounds)}</div></div>'


def _facts(row: Result) -> str:
    if row.failed:
        return f'<p class="warn">failed: {escape(row.error)}</p>'
    own = row.metrics
    shown = [f"{own['word_errors']:.0f} of {own['words']:.0f} words wrong"] if own.get("words") else []
    shown += [f"{METRICS[name].title} {row.metrics[name]:.2f}" for name in ("sim_o", "dnsmos") if name in row.metrics]
    notes = "".join(f"<br>{escape(note)}" for note in row.notes)
    return f'<p class="heard">{escape(row.heard)}</p><p>{escape(" · ".join(shown))}{notes}</p>'


def _sound(title: str, path: str, facts: str) -> str:
    player = f'<audio controls preload="none" src="{quote(path)}"></audio>' if path else ""
    return f"<div><b>{escape(title)}</b>{player}{facts}</div>"
