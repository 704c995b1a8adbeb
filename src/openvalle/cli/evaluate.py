"""`openvalle evaluate RUN` and `openvalle report`: measure a model as the papers do, and compare two measurements."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from openvalle.evaluate.items import TestList
    from openvalle.evaluate.protocols import Protocol, Selection
    from openvalle.evaluate.report import Report


def evaluate(
    run: Annotated[str, typer.Argument(help="A model: its name or folder.")] = "builtin",
    protocol: Annotated[str, typer.Option(help="How to measure; `list` shows the protocols.")] = "quick",
    data: Annotated[Path | None, typer.Option(help="The corpus (default: $OPENVALLE_SPEECH).")] = None,
    prompts: Annotated[Path | None, typer.Option(help="The corpus of prompts in another language.")] = None,
    split: Annotated[str | None, typer.Option(help="The part of a manifest to use, such as dev-clean.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many texts, speakers in turn.")] = None,
    items: Annotated[Path | None, typer.Option(help="A test list (items.jsonl) to use instead of drawing one.")] = None,
    list_only: Annotated[bool, typer.Option("--list-only", help="Write the test list and stop.")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="Allow an incomplete corpus; the report says so.")] = False,
    seeds: Annotated[str, typer.Option(help="Seeds, as 0,1,2 (default: as many as the protocol asks for).")] = "",
    list_seed: Annotated[int, typer.Option(help="Seed of the test list.")] = 0,
    samples: Annotated[int, typer.Option(min=1, help="Samples of each item and seed; 5 in VALL-E 2.")] = 1,
    select: Annotated[str, typer.Option(help="Which sample counts: sorted (VALL-E 2, eq. 23) or metric-wise.")] = "",
    decode: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Decode otherwise than the protocol: mode, attempts, detectors, windows, as_one, or an option of the "
            "model such as path_temperature or sampling.top_p. Again for more.",
        ),
    ] = None,
    asr: Annotated[str, typer.Option(help="whisper[:MODEL], pocketsphinx, hubert-large, transformers:M.")] = "",
    speaker: Annotated[
        str, typer.Option(help="campplus[:PATH], resemblyzer, wavlm-sv[:MODEL] or unispeech:PATH.")
    ] = "",
    normalizer: Annotated[str, typer.Option(help="Text normaliser: openvalle-en-1 or plain-1.")] = "",
    utmos: Annotated[str, typer.Option(help="Path of the UTMOS checkpoint.")] = "",
    codec: Annotated[str | None, typer.Option(help="A codec's name or folder (default: the model's).")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps, for the model and the recogniser.")] = "cpu",
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes that speak and judge.")] = 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Speak again what is there already.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder (default: out/evaluate/PROTOCOL).")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure a model: words, voice, quality, manner, environment, cost, beside the recordings and the papers' figures.

    Writes rows, Markdown, JSON and a page with players. The same command goes on after any stop.
    """
    from openvalle.evaluate.protocols import protocol as protocol_named
    from openvalle.evaluate.protocols import protocols
    from openvalle.listen.scoring import normalizer_named

    if protocol == "list":
        for name, entry in protocols().items():
            print(f"{name:18} {entry.title}")
        return
    chosen = protocol_named(protocol)
    given = {"asr": asr, "speaker": speaker, "normalizer": normalizer, "utmos": utmos}
    judges = chosen.judges.model_copy(update={name: value for name, value in given.items() if value})
    normalizer_named(judges.normalizer)
    chosen = chosen.model_copy(update={"judges": judges, "decoding": chosen.decoding.changed(decode or [])})
    rule = selection_of(samples, select)
    numbers = seeds_of(seeds) or tuple(range(chosen.runs))
    folder = out or Path("out/evaluate") / protocol
    tests = chosen_tests(chosen, folder, data, prompts, split, limit, items, partial, list_seed)
    if list_only:
        print(tests.write(folder / "items.jsonl"))
        return
    from openvalle.evaluate.models import candidate, codec_of
    from openvalle.evaluate.run import Options
    from openvalle.evaluate.run import evaluate as run_evaluation
    from openvalle.synth.loading import chosen_device

    device = str(chosen_device(device))
    options = Options(folder, numbers, samples, rule, jobs, jobs, device, fresh, quiet)
    ours = candidate(run, codec, device=device, decoding=chosen.decoding)
    report = run_evaluation(tests, chosen, [ours], folders_of(data, prompts), options, codec_of(run, codec))
    show_report(report, report.save(folder), as_json)


def report(
    first: Annotated[Path, typer.Argument(help="Folder of a report.")],
    second: Annotated[Path | None, typer.Argument(help="Another report on the same items, to compare.")] = None,
    system: Annotated[str, typer.Option(help="The system of the first report to compare.")] = "synthesised",
    other: Annotated[str, typer.Option(help="The system of the second report (default: the same).")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a report again, or compare two: differences with intervals and a paired test."""
    from dataclasses import asdict

    from openvalle.errors import UserError
    from openvalle.evaluate.report import differing_rules, load_report
    from openvalle.evaluate.report_markdown import markdown_table
    from openvalle.evaluate.summary import compare
    from openvalle.evaluate.tables import comparison_table

    one = load_report(first)
    if second is None:
        show_report(one, [], as_json)
        return
    two = load_report(second)
    if others := differing_rules(one, two):
        hint = "compare reports on the same test list (--items), judged by the same rules"
        raise UserError(f"{first} and {second} cannot be compared ({'; '.join(others)})", hint)
    found = compare(one.of(system), two.of(other or system))
    if not found:
        raise UserError(f"{first} and {second} have no item in common", "compare reports on the same test list")
    if as_json:
        print(json.dumps([asdict(item) for item in found]))
        return
    table = comparison_table(found, f"{first} {system}", f"{second} {other or system}")
    print("\n".join(markdown_table(table)))


def chosen_tests(
    protocol: Protocol,
    out: Path,
    data: Path | None,
    prompts: Path | None,
    split: str | None,
    limit: int | None,
    items: Path | None,
    partial: bool,
    seed: int = 0,
) -> TestList:
    """Return the test list of a file, or the one drawn now or by an earlier run into `out`."""
    from openvalle.evaluate.corpus import corpus_folder
    from openvalle.evaluate.lists import drawn_before

    if items is not None:
        return _given_list(items, protocol, limit)
    drawing: dict[str, Any] = {"seed": seed, "limit": limit, "split": split, "prompts": prompts, "partial": partial}
    return drawn_before(out / "items.jsonl", protocol, corpus_folder(data), **drawing)


def folders_of(data: Path | None, prompts: Path | None) -> dict[str, Path]:
    """Return the folders that test lists refer to."""
    from openvalle.evaluate.corpus import corpus_folder
    from openvalle.evaluate.items import CORPUS, PROMPTS

    given = {CORPUS: corpus_folder(data)} | ({PROMPTS: prompts} if prompts is not None else {})
    return {name: folder if folder.is_dir() else folder.parent for name, folder in given.items()}


def _given_list(path: Path, protocol: Protocol, limit: int | None) -> TestList:
    """Return a test list from a file; `UserError` if it was drawn for another protocol."""
    from openvalle.errors import UserError
    from openvalle.evaluate.items import read_list

    found = read_list(path)
    if found.protocol != protocol.name:
        hint = f"give --protocol {found.protocol}, or another list"
        raise UserError(f"{path} is a list of the protocol {found.protocol}, not {protocol.name}", hint)
    return found.limited(limit) if limit else found


def seeds_of(text: str) -> tuple[int, ...]:
    from openvalle.errors import UserError

    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",") if part.strip()))
    except ValueError:
        raise UserError(f"{text!r} are no seeds", "give whole numbers, as 0,1,2") from None


def selection_of(samples: int, select: str) -> Selection | None:
    """Return the rule that selects among samples; `UserError` if one of both is given without the other."""
    from openvalle.errors import UserError
    from openvalle.evaluate.protocols import Selection

    if bool(select) != (samples > 1):
        raise UserError("--samples and --select go together", "give for example --samples 5 --select sorted")
    try:
        return Selection(select) if select else None
    except ValueError:
        hint = f"use {' or '.join(Selection)}"
        raise UserError(f"there is no rule {select!r} to select a sample", hint) from None


def show_report(report: Report, paths: list[Path], as_json: bool) -> None:
    """Print the figures and where the files are."""
    from openvalle.evaluate.report_markdown import markdown_table
    from openvalle.evaluate.tables import SETTINGS, tables

    if as_json:
        print(json.dumps(report.as_dict()))
        return
    for warning in report.warnings():
        print(f"warning: {warning}", file=sys.stderr)
    for table in tables(report):
        if table.title != SETTINGS:  # they are in the files
            print("\n".join(markdown_table(table)), end="\n\n")
    for path in paths:
        print(path)
