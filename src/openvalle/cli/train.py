"""`openvalle train codec|ar|nar`: a recipe file -> a trained model. `torchrun` starts the same command.

`openvalle recipe list|show|copy`: the recipes that come with the package.

`openvalle prepare`: a folder or manifest of audio and text -> shards that `openvalle train` reads.

`openvalle model describe`: what a recipe or a model is, in numbers and as a picture.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openvalle.cli import options as opt
from openvalle.cli.settings import Command
from openvalle.errors import find_choice
from openvalle.hub import Kind, find, find_recipe
from openvalle.parallel import progress

if TYPE_CHECKING:
    from openvalle.prepare.perf import StepCost


def prepare(
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder or list of speech and text: audio with .txt beside it, or as published corpora lie on disk "
            "(docs/corpora.md)."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the result; what is already done there is kept.")],
    codec: Annotated[
        str, typer.Option(help="builtin, a folder, hf://owner/name, or encodec:PLACE?bandwidth=6.")
    ] = "builtin",
    text_unit: Annotated[str, typer.Option(help="phoneme, or bpe: byte pairs, without alignment.")] = "phoneme",
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
    transcribe: Annotated[
        str | None,
        typer.Option(help="Cut recordings without words and let whisper:base, pocketsphinx or `best` write them down."),
    ] = None,
    aligner: Annotated[
        str,
        typer.Option(help="Who finds the phones in time: auto, pocketsphinx, ctc, ctc:FOLDER of `train aligner`."),
    ] = "auto",
    second: Annotated[
        str | None, typer.Option(help="Let this recogniser hear them, too, and leave out what they do not agree on.")
    ] = None,
    max_cer: Annotated[
        float, typer.Option(min=0, help="Share of the letters in which the two recognisers may differ.")
    ] = 0.3,
    min_mos: Annotated[float | None, typer.Option(min=1, max=5, help="Leave out what DNSMOS finds worse.")] = None,
    min_bandwidth: Annotated[
        float | None, typer.Option(min=1, help="Leave out what has no sound above so many hertz.")
    ] = None,
    min_language: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="Leave out what Whisper finds less likely in its language.")
    ] = None,
    max_seconds: Annotated[
        float, typer.Option(min=2, max=180, help="Longer utterances are cut in pauses: 60 for VALL-E's crops.")
    ] = 20.0,
    jobs: opt.Jobs = 1,
    executor: Annotated[
        str,
        typer.Option(help="local, ray ($RAY_ADDRESS, else one on this machine) or slurm: --jobs at a time."),
    ] = "local",
    device: Annotated[str, typer.Option(help="cpu, or cuda for the networks that can run there.")] = "cpu",
    last: Annotated[
        str, typer.Option(help="Stop after this step: scan, segment, audio, transcribe, align, filter or tokens.")
    ] = "tokens",
    speed: Annotated[
        list[float] | None,
        typer.Option(min=0.5, max=2, help="Also a copy of the training speech at this speed and pitch; repeatable."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting (docs/corpora.md), such as clean.trim_db=30; repeatable."),
    ] = None,
    hours: Annotated[
        float | None, typer.Option("--estimate", min=0.01, help="Print what so many hours of such speech would cost.")
    ] = None,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Prepare speech for training: scan, trim and level, align the phones, encode.

    Unusable files are left out and listed with their reasons in OUT/rejected.jsonl. The same command goes on after
    any stop. Whoever does the work (--executor), its bytes are the same.
    """
    from openvalle.prepare.executor import Executor
    from openvalle.prepare.filter import FilterSettings
    from openvalle.prepare.perf import estimate
    from openvalle.prepare.run import prepare as prepare_speech
    from openvalle.prepare.steps import AlignSettings, PrepareOptions, SegmentSettings, Step
    from openvalle.prepare.transcribe import TranscribeSettings
    from openvalle.text.symbols import TextUnit

    step = find_choice(Step, last, "step")
    options = PrepareOptions(
        text_unit=find_choice(TextUnit, text_unit, "text unit"),
        bpe_size=bpe_size,
        symbols=None if symbols is None else _table_file(symbols),
        merge=merge,
        speeds=tuple(speed or ()),
        transcribe=None
        if transcribe is None
        else TranscribeSettings(recognizer="" if transcribe == "best" else transcribe, second=second or ""),
        filter=FilterSettings(max_cer=max_cer, min_mos=min_mos, min_bandwidth=min_bandwidth, min_language=min_language)
        if transcribe is not None or min_mos or min_bandwidth or min_language
        else None,
        segment=SegmentSettings(max_seconds=max_seconds),
        align=AlignSettings(aligner=aligner, max_seconds=max_seconds),
    ).change(settings or ())
    who = find_choice(Executor, executor, "executor")
    with progress(quiet) as show:
        report = prepare_speech(
            source, out, codec, jobs, last=step, options=options, executor=who, device=device, progress=show
        )
    costs = [] if hours is None else estimate(out, list(report.kept), hours)
    found = {"kept": report.kept, "rejected": report.rejected, "seconds": report.seconds}
    found |= {"estimate": [vars(cost) | {"days": cost.days} for cost in costs]} if costs else {}
    opt.print_result(found, as_json, [out])
    if costs and not as_json:
        show_costs(costs, hours or 0.0)
    if not (quiet or as_json):
        where = f" (see {out / 'rejected.jsonl'})" if report.rejected else ""
        hours = report.seconds / 3600
        print(f"{report.kept[last]} utterances, {hours:.2f} h; {report.rejected} left out{where}", file=sys.stderr)


def show_costs(costs: list[StepCost], hours: float) -> None:
    """Print what a larger corpus would cost, a step a line."""
    from rich.console import Console
    from rich.table import Table

    from openvalle.prepare.perf import CORES

    table = Table(f"{hours:,.0f} h of such speech", "CPU hours", f"days on {CORES} cores", "GB", "passes %")
    for column in table.columns[1:]:
        column.justify = "right"
    for cost in costs:
        size = f"{cost.gigabytes:,.0f}"
        table.add_row(cost.step, f"{cost.cpu_hours:,.0f}", f"{cost.days:,.1f}", size, f"{100 * cost.kept:.0f}")
    cpu, days, size = (sum(getattr(cost, name) for cost in costs) for name in ("cpu_hours", "days", "gigabytes"))
    table.add_section()
    table.add_row("in all", f"{cpu:,.0f}", f"{days:,.1f}", f"{size:,.0f}", "")
    Console().print(table)


def _table_file(name: str) -> Path:
    """Return the symbols.json at a path, or that of a model by its name or folder."""
    return Path(name) if name.endswith(".json") else find(Kind.MODEL, name) / "symbols.json"


train = typer.Typer(
    help="Train the codec or the language models by a recipe, and pack them into a model.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Recipe = Annotated[str, typer.Argument(help="One of our recipes (`openvalle recipe list`) or a YAML or JSON file.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Settings to change, as key=value: loop.steps=100 start=builtin")
]
Out = Annotated[
    Path, typer.Option("--out", "-o", help="Folder of the run; a run found there is taken up where it stopped.")
]


PARTS = {  # what can be trained: folder of the run, help
    "codec": ("codec", "Train the codec: audio -> tokens -> audio."),
    "ar": ("ar", "Train the autoregressive model: text and a voice -> codebook 1."),
    "nar": ("nar", "Train the non-autoregressive model: codebook 1 -> codebooks 2 to 8."),
    "predict": (
        "predicted",
        "Fill recorded codebook 1 with a trained NAR model: codes that the codec's decoder is then tuned on.",
    ),
    "pack": ("model", "Put trained networks together into a model folder that `openvalle say --model` speaks with."),
    "g2p": (
        "g2p",
        "Train the model that pronounces words no lexicon lists; scores.json says how well, on words it never saw.",
    ),
    "aligner": (
        "aligner",
        "Train the forced aligner: speech, words -> when each phone is said; `prepare --aligner ctc:FOLDER` takes it.",
    ),
}


def build_command(part: str, folder: str) -> Callable[..., None]:
    """Return the command that runs the training job `part`, by default in runs/`folder`."""

    def launch(recipe: Recipe, overrides: Overrides = None, out: Out = Path("runs") / folder) -> None:
        from openvalle.train.recipe import run

        print(run(part, find_recipe(recipe), tuple(overrides or ()), out))

    return launch


for _part, (_folder, _help) in PARTS.items():
    train.command(_part, cls=Command, help=_help)(build_command(_part, _folder))


def speedrun(
    data: Annotated[
        list[Path], typer.Argument(help="Folders that `openvalle prepare` made; speakers of one split are held out.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the result; what is already done there is kept.")
    ] = Path("runs/speedrun"),
    seconds: Annotated[float, typer.Option(min=1, help="The budget, 60 or more, from start to table.")] = 720,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change the recipe: ar.loop.optim.learning_rate=0.001; repeatable."),
    ] = None,
    sentences: Annotated[int, typer.Option(min=1, max=200, help="Held-out sentences judged, if time lasts.")] = 12,
    asr: opt.Asr = "",
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Train, pack and judge a model in a budget of seconds; print what it reached.

    \b
    openvalle prepare corpus/ data/
    openvalle speedrun data/ -o runs/speedrun --seconds 720
    openvalle say "Hello." --model runs/speedrun/model
    This machine is timed first; that and the budget choose the sizes. The same command goes on after any stop.
    """
    from rich.console import Console
    from rich.table import Table

    from openvalle.speedrun.report import list_rows
    from openvalle.speedrun.run import SpeedrunOptions
    from openvalle.speedrun.run import speedrun as run

    def tell(line: str) -> None:
        if not quiet:
            print(line, file=sys.stderr, flush=True)

    reached = run(tuple(data), output, SpeedrunOptions(seconds, sentences, tuple(settings or ()), asr), tell)
    rows = list_rows(reached)
    if not as_json:
        table = Table("what it reached", "", box=None)
        table.columns[1].justify = "right"
        for what, value in rows:
            table.add_row(what, value)
        Console().print(table)
    opt.print_result({"model": str(output / "model"), **dict(rows)}, as_json, [output / "model"])
