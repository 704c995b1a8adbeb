"""`openvalle prepare`: a folder or manifest of audio and text -> shards that `openvalle train` reads."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Unit(StrEnum):
    """What the models will read."""

    PHONEME = "phoneme"
    BPE = "bpe"


class LastStep(StrEnum):
    """Where to stop: each step's manifest can be looked at before the next is run."""

    SCAN = "scan"
    AUDIO = "audio"
    ALIGN = "align"
    TOKENS = "tokens"


def prepare(
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder (LibriSpeech, LibriTTS, VCTK, LJSpeech, Seed-TTS, or audio with .txt/.lab) or manifest."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the result; what is already done there is kept.")],
    codec: Annotated[
        str, typer.Option(help="builtin, a folder, hf://owner/name, or encodec:PLACE?bandwidth=6.")
    ] = "builtin",
    text_unit: Annotated[Unit, typer.Option(help="bpe: byte pairs of the text, without alignment.")] = Unit.PHONEME,
    bpe_size: Annotated[int | None, typer.Option(help="Byte pairs to learn; default 4096.")] = None,
    symbols: Annotated[
        str | None,
        typer.Option(help="The table to use: a symbols.json, or the model to go on from. Default: all phones."),
    ] = None,
    merge: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Frames that share an entry of codebook 1: 1 for VALL-E, X and 2. Default: 2, with byte pairs 1.",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes.")] = 1,
    last: Annotated[LastStep, typer.Option("--last", help="Stop after this step.")] = LastStep.TOKENS,
    speed: Annotated[
        list[float] | None,
        typer.Option(min=0.5, max=2, help="Also a copy of the training speech at this speed and pitch; repeatable."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Prepare speech for training: scan, trim and level, align the phones, encode.

    Unusable files are left out and listed with their reasons in OUT/rejected.jsonl. The same command goes on after
    any stop.
    """
    from rich.console import Console
    from rich.progress import Progress

    from openvalle.prepare.run import Options, Step
    from openvalle.prepare.run import prepare as prepare_speech
    from openvalle.text.symbols import TextUnit

    options = Options(
        text_unit=TextUnit(text_unit.value),
        bpe_size=bpe_size,
        symbols=None if symbols is None else _table_file(symbols),
        merge=merge,
        speeds=tuple(speed or ()),
    )
    with Progress(console=Console(stderr=True), disable=quiet or not sys.stderr.isatty()) as bars:
        tasks = {str(step): bars.add_task(str(step), total=None) for step in options.steps}

        def show(step: str, done: int, total: int) -> None:
            bars.update(tasks[str(step)], completed=done, total=total)

        report = prepare_speech(source, out, codec, jobs, last=Step(last.value), options=options, progress=show)
    if as_json:
        print(json.dumps({"kept": report.kept, "rejected": len(report.rejected), "seconds": report.seconds}))
        return
    print(out)
    summary = f"{report.kept[last.value]} utterances, {report.seconds / 3600:.2f} h; {len(report.rejected)} left out"
    print(summary + (f" (see {out / 'rejected.jsonl'})" if report.rejected else ""), file=sys.stderr)


def _table_file(name: str) -> Path:
    """Return the symbols.json at a path, or that of a model by its name or folder."""
    from openvalle.hub import Kind, find

    return Path(name) if name.endswith(".json") else find(Kind.MODEL, name) / "symbols.json"
