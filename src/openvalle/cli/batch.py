"""`openvalle batch`: many texts from a table, each into a file of its own.

`openvalle book`: a long text, chapter by chapter, into a folder of sound files with a playlist.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from openvalle.cli.say import Asr, chosen_text
from openvalle.errors import UserError
from openvalle.parallel import status


def batch(
    table: Annotated[
        Path,
        typer.Argument(
            help="A .csv or .tsv with a header, or .jsonl: text, and if wanted id, voice, prompt_text, seed, duration."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder for the files and report.jsonl.")] = Path(
        "batch"
    ),
    voice: Annotated[
        str | None,
        typer.Option("--voice", "-v", help="The voice of rows that name none: a name, a clip or a voice file."),
    ] = None,
    prompt_text: Annotated[str | None, typer.Option(help="What that clip says; else it is transcribed.")] = None,
    asr: Asr = "",
    file_format: Annotated[str, typer.Option("--format", help="wav, flac, mp3, ogg, opus or pcm.")] = "wav",
    seed: Annotated[int, typer.Option(min=0, help="The seed of rows that name none.")] = 0,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, help="0 takes the likeliest, and draws where that repeats.")
    ] = None,
    top_p: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Sample from this likeliest mass.")] = None,
    window: Annotated[int | None, typer.Option(min=1, help="Codes within which a repeat is drawn again.")] = None,
    speed: Annotated[float | None, typer.Option(min=0.5, max=2.0, help="2 is twice as fast.")] = None,
    attempts: Annotated[
        int | None, typer.Option(min=1, max=10, help="Times a line is spoken at most, if it goes wrong.")
    ] = None,
    markup: Annotated[str, typer.Option(help="auto, tags such as [pause:1s], ssml, or none.")] = "auto",
    lexicon: Annotated[Path | None, typer.Option(help="Pronunciations: a TSV file of word<TAB>phones.")] = None,
    resume: Annotated[bool, typer.Option(help="Keep the rows that an earlier run has spoken already.")] = True,
    model: Annotated[str, typer.Option("--model", "-m", help="A model's name or folder.")] = "builtin",
    codec: Annotated[str | None, typer.Option(help="A codec's name or folder; default: the model's.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Speak every row of TABLE into a file of its own; print the path of the report.

    Run it again to go on after an interruption, or after changing rows: only what is new is spoken.
    """
    started = time.monotonic()
    with status(quiet) as show:
        show("loading the model")
        from openvalle.apps.batch import Batch, read_table
        from openvalle.media import format_ending
        from openvalle.synth.plan import to_lexicon
        from openvalle.synth.synthesizer import Synthesizer

        rows, words = read_table(table), to_lexicon(lexicon)
        format_ending(None, file_format)
        if output.exists() and not output.is_dir():
            raise UserError(f"{output} is a file", "give the name of a folder")
        synthesizer = Synthesizer.load(model, codec=codec, device=device, asr=asr)
        options = synthesizer.sampling(temperature, top_p, window=window, speed=speed, attempts=attempts)
        jobs = Batch(synthesizer, output, table.parent, voice, prompt_text, seed, file_format, options, markup, words)
        counts: Counter[str] = Counter()
        seconds = 0.0
        for outcome in jobs.run(rows, resume):
            counts[outcome.status] += 1
            seconds += outcome.seconds if outcome.status == "spoken" else 0.0
            show(f"{counts.total()} of {len(rows)} rows")
    summary = {
        "report": str(jobs.report),
        "rows": len(rows),
        **{status: counts[status] for status in ("spoken", "kept", "failed")},
        "seconds": round(seconds, 3),
        "elapsed": round(time.monotonic() - started, 3),
    }
    print(json.dumps(summary) if as_json else summary["report"])
    if not quiet:
        said = f"{counts['spoken']} spoken ({seconds:.1f} s), {counts['kept']} kept, {counts['failed']} failed"
        print(said, file=sys.stderr)
    if counts["failed"]:
        raise UserError(
            f"{counts['failed']} of {len(rows)} rows could not be spoken", f"{jobs.report} says why; mend and run again"
        )


def book(
    file: Annotated[Path, typer.Argument(help="A UTF-8 text; `# Title` or `Chapter 1` on its own line is a heading.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder; default: the file's name.")] = None,
    voice: Annotated[str | None, typer.Option("--voice", "-v", help="A voice's name, a clip or a voice file.")] = None,
    prompt_text: Annotated[str | None, typer.Option(help="What the clip says; else it is transcribed.")] = None,
    asr: Asr = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a book that was interrupted.")] = False,
    file_format: Annotated[str, typer.Option("--format", help="wav, flac, mp3, ogg or opus.")] = "flac",
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same sound.")] = 0,
    speed: Annotated[float | None, typer.Option(min=0.5, max=2.0, help="2 is twice as fast.")] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="A model's name or folder.")] = "builtin",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Speak a book and print the paths of its chapters and its playlist.

    \b
    openvalle book novel.txt --voice anna             into the folder novel/
    openvalle book novel.txt --voice anna --resume    goes on where it was interrupted
    """
    from openvalle.media import format_ending
    from openvalle.text.sentences import chapters_of

    chapters = chapters_of(chosen_text(None, file), title=file.stem)
    format_ending(None, file_format)
    with status(quiet) as show:
        show("loading the model")
        from openvalle.apps.audiobook import Reading, speak_book
        from openvalle.synth.synthesizer import Synthesizer

        synthesizer = Synthesizer.load(model, device=device, asr=asr)
        reading = Reading(synthesizer.voice(voice, prompt_text), seed, synthesizer.sampling(speed=speed), file_format)
        folder = output or Path(file.stem)
        done = speak_book(synthesizer, chapters, folder, reading, resume=resume, show=show)
    if as_json:
        rows = [{"title": one.title, "path": str(path)} for one, path in zip(chapters, done.chapters, strict=True)]
        print(json.dumps({"playlist": str(done.playlist), "seconds": round(done.seconds, 3), "chapters": rows}))
        return
    for path in (*done.chapters, done.playlist):
        print(path)
