"""`openvalle compare`: the same test list through several systems."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openvalle.errors import UserError

if TYPE_CHECKING:
    from openvalle.evaluate.compare.config import SystemConfig
    from openvalle.evaluate.report import Report


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
    from openvalle.cli.evaluate import chosen_tests, folders_of, seeds_of, selection_of, show_report
    from openvalle.evaluate.compare.candidates import candidate_of, forget_failures
    from openvalle.evaluate.protocols import protocol as protocol_named
    from openvalle.evaluate.run import Options
    from openvalle.evaluate.run import evaluate as run_evaluation

    chosen = protocol_named(protocol)
    judges = chosen.judges.model_copy(
        update={key: value for key, value in (("asr", asr), ("speaker", speaker)) if value}
    )
    chosen, rule = chosen.model_copy(update={"judges": judges}), selection_of(samples, select)
    given = given_systems(systems, system)
    candidates = [candidate_of(name, config, device, chosen.decoding) for name, config in given.items()]
    tests = chosen_tests(chosen, out, data, prompts, split, limit, items, partial)
    numbers = seeds_of(seeds) or tuple(range(chosen.runs))
    if retry:
        for candidate in candidates:
            forget_failures(out, candidate.name)
    options = Options(out, numbers, samples, rule, jobs, jobs, device, fresh, quiet, players=len(tests.items))
    report = run_evaluation(tests, chosen, candidates, folders_of(data, prompts), options, codec_named(codec))
    show_report(report, report.save(out), as_json)
    failures(report)
    if not as_json:
        differences(report, [candidate.name for candidate in candidates])


def given_systems(path: Path | None, short: list[str] | None) -> dict[str, SystemConfig]:
    """Return the systems of the file and of the options, by name."""
    from openvalle.evaluate.compare.config import read_systems, short_system

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
    from openvalle.evaluate.report_markdown import markdown_table
    from openvalle.evaluate.summary import compare as compare_rows
    from openvalle.evaluate.tables import comparison_table

    for name in names[1:]:
        found = compare_rows(report.of(names[0]), report.of(name))
        if found:
            print("\n".join(markdown_table(comparison_table(found, names[0], name))), end="\n\n")
