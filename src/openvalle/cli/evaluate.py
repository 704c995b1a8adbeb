"""`openvalle evaluate RUN` and `openvalle report`: measure a model as the papers do, and compare two measurements.

`openvalle compare`: the same test list through several systems.

`openvalle spoofing`: an evaluation's speech as a data set for detectors of synthesised speech.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openvalle.errors import UserError
from openvalle.parallel import progress

if TYPE_CHECKING:
    from openvalle.evaluate.protocols import Protocol, Selection
    from openvalle.evaluate.report import Report
    from openvalle.evaluate.systems.config import SystemConfig
    from openvalle.evaluate.test_list import TestList


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
    from openvalle.evaluate.protocols import protocol as find_protocol
    from openvalle.evaluate.protocols import protocols
    from openvalle.speech_models.wer import find_normalizer

    if protocol == "list":
        for name, entry in protocols().items():
            print(f"{name:18} {entry.title}")
        return
    chosen = find_protocol(protocol)
    given = {"asr": asr, "speaker": speaker, "normalizer": normalizer, "utmos": utmos}
    judges = chosen.judges.model_copy(update={name: value for name, value in given.items() if value})
    find_normalizer(judges.normalizer)
    chosen = chosen.model_copy(update={"judges": judges, "decoding": chosen.decoding.changed(decode or [])})
    rule = selection_of(samples, select)
    numbers = seeds_of(seeds) or tuple(range(chosen.runs))
    folder = out or Path("out/evaluate") / protocol
    tests = chosen_tests(chosen, folder, data, prompts, split, limit, items, partial, list_seed)
    if list_only:
        print(tests.write(folder / "items.jsonl"))
        return
    from openvalle.engines.torch import choose_device
    from openvalle.evaluate.run import EvaluationOptions
    from openvalle.evaluate.run import evaluate as run_evaluation
    from openvalle.evaluate.systems.ours import candidate, load_model_codec

    device = str(choose_device(device))
    options = EvaluationOptions(folder, numbers, samples, rule, jobs, jobs, device, fresh, quiet)
    ours = candidate(run, codec, device=device, decoding=chosen.decoding)
    report = run_evaluation(tests, chosen, [ours], folders_of(data, prompts), options, load_model_codec(run, codec))
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
    from openvalle.evaluate.report import compare_rules, comparison_table, load_report, markdown_table
    from openvalle.evaluate.summary import compare

    one = load_report(first)
    if second is None:
        show_report(one, [], as_json)
        return
    two = load_report(second)
    if others := compare_rules(one, two):
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
    from openvalle.evaluate.build_list import reuse_or_build
    from openvalle.evaluate.corpus import corpus_folder

    if items is not None:
        return _given_list(items, protocol, limit)
    drawing: dict[str, Any] = {"seed": seed, "limit": limit, "split": split, "prompts": prompts, "partial": partial}
    return reuse_or_build(out / "items.jsonl", protocol, corpus_folder(data), **drawing)


def folders_of(data: Path | None, prompts: Path | None) -> dict[str, Path]:
    """Return the folders that test lists refer to."""
    from openvalle.evaluate.corpus import corpus_folder
    from openvalle.evaluate.test_list import CORPUS, PROMPTS

    given = {CORPUS: corpus_folder(data)} | ({PROMPTS: prompts} if prompts is not None else {})
    return {name: folder if folder.is_dir() else folder.parent for name, folder in given.items()}


def _given_list(path: Path, protocol: Protocol, limit: int | None) -> TestList:
    """Return a test list from a file; `UserError` if it was drawn for another protocol."""
    from openvalle.errors import UserError
    from openvalle.evaluate.test_list import read_list

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
    from openvalle.evaluate.report import SETTINGS, markdown_table, tables

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


def compare(
    systems: Annotated[Path | None, typer.Argument(help="YAML or JSON file with systems (docs/compare.md).")] = None,
    system: Annotated[
        list[str] | None,
        typer.Option(
            "--system", "-s", metavar="NAME=KIND:VALUE", help="Such as ours=model:builtin, clips=folder:PATH."
        ),
    ] = None,
    protocol: Annotated[str, typer.Option(help="How to measure; `openvalle evaluate --protocol list`.")] = "quick",
    data: Annotated[Path | None, typer.Option(help="The corpus (default: $OPENVALLE_SPEECH).")] = None,
    prompts: Annotated[Path | None, typer.Option(help="The corpus of prompts in another language.")] = None,
    split: Annotated[str | None, typer.Option(help="The part of a manifest to use, such as dev-clean.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many texts, speakers in turn.")] = None,
    items: Annotated[Path | None, typer.Option(help="A test list (items.jsonl) to use instead of drawing one.")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Allow an incomplete corpus; the report says so.")] = False,
    seeds: Annotated[str, typer.Option(help="Seeds, as 0,1,2 (default: as many as the protocol asks for).")] = "",
    samples: Annotated[int, typer.Option(min=1, help="Samples of each item and seed; 5 in VALL-E 2.")] = 1,
    select: Annotated[str, typer.Option(help="Which sample counts: sorted (VALL-E 2, eq. 23) or metric-wise.")] = "",
    asr: Annotated[str, typer.Option(help="whisper[:MODEL], pocketsphinx, hubert-large, transformers:M.")] = "",
    speaker: Annotated[
        str, typer.Option(help="campplus[:PATH], resemblyzer, wavlm-sv[:MODEL] or unispeech:PATH.")
    ] = "",
    codec: Annotated[str, typer.Option(help="A codec for the reconstructed row; none leaves it out.")] = "builtin",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps, for our models and the recogniser.")] = "cpu",
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes that speak and judge.")] = 1,
    retry: Annotated[bool, typer.Option("--retry", help="Try again what failed in an earlier run.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Speak again what is there already.")] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the report.")] = Path("out/compare"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Send one test list through every system and measure all with the same judges.

    openvalle compare systems.yaml -s ours=model:builtin --data LibriSpeech --limit 20

    What a system cannot say counts as a failure and is shown. Each system is compared with the first, pair by pair.
    """
    from openvalle.evaluate.protocols import protocol as find_protocol
    from openvalle.evaluate.run import EvaluationOptions
    from openvalle.evaluate.run import evaluate as run_evaluation
    from openvalle.evaluate.systems.candidates import build_candidate, forget_failures

    chosen = find_protocol(protocol)
    judges = chosen.judges.model_copy(
        update={key: value for key, value in (("asr", asr), ("speaker", speaker)) if value}
    )
    chosen, rule = chosen.model_copy(update={"judges": judges}), selection_of(samples, select)
    given = given_systems(systems, system)
    candidates = [build_candidate(name, config, device, chosen.decoding) for name, config in given.items()]
    tests = chosen_tests(chosen, out, data, prompts, split, limit, items, partial)
    numbers = seeds_of(seeds) or tuple(range(chosen.runs))
    if retry:
        for candidate in candidates:
            forget_failures(out, candidate.name)
    options = EvaluationOptions(out, numbers, samples, rule, jobs, jobs, device, fresh, quiet, players=len(tests.items))
    report = run_evaluation(tests, chosen, candidates, folders_of(data, prompts), options, codec_named(codec))
    show_report(report, report.save(out), as_json)
    failures(report)
    if not as_json:
        differences(report, [candidate.name for candidate in candidates])


def given_systems(path: Path | None, short: list[str] | None) -> dict[str, SystemConfig]:
    """Return the systems of the file and of the options, by name."""
    from openvalle.evaluate.systems.config import read_systems, short_system

    found = read_systems(path) if path else {}
    for text in short or ():
        name, config = short_system(text)
        if name in found:
            raise UserError(f"the system {name!r} is there twice", "give every system its own name")
        found[name] = config
    if not found:
        raise UserError("there are no systems to compare", "give a file, or --system NAME=KIND:VALUE")
    return found


def codec_named(name: str) -> Any:
    """Return the codec of the reconstructed row; None for none."""
    from openvalle.codec.load import load_codec

    return None if name == "none" else load_codec(name)


def failures(report: Report) -> None:
    """Say on stderr what each system could not do."""
    for name in report.systems:
        failed = [row for row in report.of(name) if row.failed]
        if failed:
            some = "; ".join(f"{row.item}: {row.error}" for row in failed[:3])
            print(f"{name} failed on {len(failed)} of {len(report.of(name))}: {some}", file=sys.stderr)


def differences(report: Report, names: list[str]) -> None:
    """Print how each system differs from the first, with intervals and a paired test."""
    from openvalle.evaluate.report import comparison_table, markdown_table
    from openvalle.evaluate.summary import compare as compare_rows

    for name in names[1:]:
        found = compare_rows(report.of(names[0]), report.of(name))
        if found:
            print("\n".join(markdown_table(comparison_table(found, names[0], name))), end="\n\n")


def spoofing(
    report: Annotated[Path, typer.Argument(help="Folder that `openvalle evaluate` or `openvalle compare` wrote.")],
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder to make.")],
    layout: Annotated[str, typer.Option(help="2019 (ASVspoof 2019 LA) or 5 (ASVspoof 5, track 1).")] = "2019",
    train: Annotated[float, typer.Option(min=0, max=1, help="Share of the speakers for training.")] = 0.0,
    dev: Annotated[float, typer.Option(min=0, max=1, help="Share of the speakers for development.")] = 0.0,
    prefix: Annotated[str, typer.Option(help="What folders and protocol files begin with.")] = "openvalle",
    without: Annotated[list[str] | None, typer.Option(help="A system to leave out; repeat it.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the order and of the parts.")] = 0,
) -> None:
    """Write genuine and synthesised speech with protocol files in ASVspoof's layout, speakers parted.

    Speech of openvalle carries a watermark: a detector may learn the mark and not the synthesis (docs/compare.md).
    """
    from openvalle.errors import UserError
    from openvalle.evaluate.spoofing import Layout, Shares, export_spoofing

    if layout not in set(Layout):
        raise UserError(f"there is no layout {layout!r}", f"choose {' or '.join(Layout)}")
    if not prefix or "/" in prefix or "\\" in prefix or prefix.startswith("."):
        raise UserError(f"{prefix!r} cannot begin a file's name", "use letters and digits")
    with progress() as show:
        counts = export_spoofing(
            report, target, Layout(layout), Shares(train, dev), prefix, without or (), seed, progress=show
        )
    print(target)
    print(", ".join(f"{count} {name}" for name, count in counts.items()), file=sys.stderr)
