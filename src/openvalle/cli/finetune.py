"""`openvalle finetune`: a model and speech of a voice -> an adapter that `say --adapter` speaks with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openvalle.cli import options as opt
from openvalle.errors import find_choice
from openvalle.parallel import progress

if TYPE_CHECKING:
    from openvalle.statistics import Estimate


def finetune(
    model: Annotated[str, typer.Argument(help="The model to start from: builtin, another name, or a folder.")],
    data: Annotated[
        Path,
        typer.Argument(help="Speech: a folder of clips, with or without .txt beside them, or what `prepare` reads."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the result; what is already done there is kept.")
    ] = Path("finetuned"),
    method: Annotated[
        str, typer.Option(help="lora: an adapter of a few megabytes; full: all weights, a new model.")
    ] = "lora",
    rank: Annotated[int, typer.Option(min=1, max=512, help="Size of the adapter.")] = 16,
    steps: Annotated[int, typer.Option(min=1, help="Updates of each network, at most.")] = 600,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Of training in all, at most.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Default: 1e-3 for lora, 1e-4 for full.")] = None,
    held_out: Annotated[float, typer.Option(help="Share of the clips that training never sees.")] = 0.1,
    patience: Annotated[
        int, typer.Option(min=1, help="Training ends after so many checks on these without improvement.")
    ] = 4,
    name: Annotated[str, typer.Option(help="Of the voice; default: the folder's.")] = "",
    consent: opt.Consent = "",
    asr: opt.Asr = "",
    judged: Annotated[int, typer.Option(min=0, max=32, help="Held-out sentences spoken for the report.")] = 6,
    seed: opt.Seed = 0,
    jobs: opt.Jobs = 1,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Fine-tune MODEL on the speech in DATA: a voice, from half a minute on; ten minutes are good.

    \b
    openvalle finetune builtin clips/ -o anna --consent "Anna Muster, 2026-11-02"
    openvalle say "Hello there." --adapter anna
    The same command goes on after any stop. report.md compares the model before and after.
    """
    from openvalle.finetune.run import FinetuneOptions, Method
    from openvalle.finetune.run import finetune as run

    options = FinetuneOptions(
        method=find_choice(Method, method, "method"),
        rank=rank,
        steps=steps,
        minutes=minutes,
        learning_rate=learning_rate,
        held_out=held_out,
        patience=patience,
        judged=judged,
        name=name,
        consent=consent,
        asr=asr,
        seed=seed,
        jobs=jobs,
    )
    with progress(quiet) as show:
        made = run(model, data, output, options, show)
    rows = made.comparison.rows if made.comparison else ()
    facts = {
        "path": str(made.path),
        "seconds": round(made.seconds, 1),
        "report": str(output / "report.md") if rows else None,
        "rows": [
            {"name": row.name, "wer": _value(row.word_error_rate), "similarity": _value(row.similarity)} for row in rows
        ],
    }
    opt.print_result(facts, as_json, [made.path])
    if not (quiet or as_json):
        option = "--adapter" if options.method is Method.LORA else "--model"
        print(f"speak with it: openvalle say 'Hello there.' {option} {made.path}", file=sys.stderr)


def _value(found: Estimate | None) -> float | None:
    return None if found is None else found.value
