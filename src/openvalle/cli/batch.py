"""`openvalle batch`: many texts from a table, each into a file of its own.

`openvalle book`: a long text, chapter by chapter, into a folder of sound files with a playlist.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from openvalle.cli import options as opt
from openvalle.errors import UserError
from openvalle.parallel import status


def batch(
    *,
    table: Annotated[
        Path,
        typer.Argument(
            help="A .csv or .tsv with a header, or .jsonl: text, and if wanted id, voice, prompt_text, seed, duration."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder for the files and report.jsonl.")] = Path(
        "batch"
    ),
    speaker: opt.Speaker,
    file_format: opt.Format = "wav",
    seed: opt.Seed = 0,
    sampling: opt.Sampling,
    markup: opt.Markup = "auto",
    lexicon: opt.Lexicon = None,
    resume: Annotated[bool, typer.Option(help="Keep the rows that an earlier run has spoken already.")] = True,
    model: opt.Model,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Speak every row of TABLE into a file of its own; print the path of the report.

    Voice and seed are those of rows that name none. Run it again to go on after an interruption, or after changing
    rows: only what is new is spoken.
    """
    from openvalle.apps.batch import Batch, read_table
    from openvalle.media import format_ending
    from openvalle.synth.plan import to_lexicon

    started = time.monotonic()
    rows, words = read_table(table), to_lexicon(lexicon)
    format_ending(None, file_format)
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file", "give the name of a folder")
    counts: Counter[str] = Counter()
    seconds = 0.0
    with status(quiet) as show:
        synthesizer = model.load(speaker.asr)
        jobs = Batch(
            synthesizer,
            output,
            table.parent,
            speaker.voice,
            speaker.prompt_text,
            seed,
            file_format or "wav",
            sampling.read(synthesizer),
            markup,
            words,
            speaker.channel,
            speaker.consent,
        )
        for outcome in jobs.run(rows, resume):
            counts[outcome.status] += 1
            seconds += outcome.seconds if outcome.status == "spoken" else 0.0
            show(f"{counts.total()} of {len(rows)} rows")
    found = {"report": str(jobs.report), "rows": len(rows)}
    found |= {status: counts[status] for status in ("spoken", "kept", "failed")}
    found |= {"seconds": round(seconds, 3), "elapsed": round(time.monotonic() - started, 3)}
    opt.print_result(found, as_json, [jobs.report])
    if not quiet:
        summary = f"{counts['spoken']} spoken ({seconds:.1f} s), {counts['kept']} kept, {counts['failed']} failed"
        print(summary, file=sys.stderr)
    if failed := counts["failed"]:
        hint = f"{jobs.report} says why; mend and run again"
        raise UserError(f"{failed} of {len(rows)} rows could not be spoken", hint)


def book(
    *,
    file: Annotated[Path, typer.Argument(help="A UTF-8 text; `# Title` or `Chapter 1` on its own line is a heading.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder; default: the file's name.")] = None,
    speaker: opt.Speaker,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a book that was interrupted.")] = False,
    file_format: opt.Format = "flac",
    seed: opt.Seed = 0,
    sampling: opt.Sampling,
    markup: opt.Markup = "auto",
    lexicon: opt.Lexicon = None,
    model: opt.Model,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Speak a book and print the paths of its chapters and its playlist.

    \b
    openvalle book novel.txt --voice anna             into the folder novel/
    openvalle book novel.txt --voice anna --resume    goes on where it was interrupted
    """
    from openvalle.media import format_ending
    from openvalle.synth.plan import to_lexicon
    from openvalle.text.sentences import split_chapters

    chapters, words = split_chapters(opt.read_text(None, file), title=file.stem), to_lexicon(lexicon)
    format_ending(None, file_format)
    with status(quiet) as show:
        from openvalle.apps.audiobook import Reading, speak_book

        synthesizer = model.load(speaker.asr)
        voice, options = speaker.read(synthesizer), sampling.read(synthesizer)
        reading = Reading(voice, seed, options, file_format or "flac", markup, words)
        done = speak_book(synthesizer, chapters, output or Path(file.stem), reading, resume=resume, show=show)
    rows = [{"title": one.title, "path": str(path)} for one, path in zip(chapters, done.chapters, strict=True)]
    found = {"playlist": str(done.playlist), "seconds": round(done.seconds, 3), "chapters": rows}
    opt.print_result(found, as_json, [*done.chapters, done.playlist])
