"""`openvalle batch`: many texts from a table, each into a file of its own.

`openvalle edit` and `openvalle continue`: work on a recording.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from openvalle.cli import options as opt
from openvalle.cli.settings import Command
from openvalle.errors import UserError
from openvalle.files import FreeName, expand_home
from openvalle.parallel import status
from openvalle.pipes import is_special


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
    text_format: opt.TextFormat = "auto",
    lexicon: opt.Lexicon = None,
    language: opt.Language = "",
    resume: Annotated[bool, typer.Option(help="Keep the rows that an earlier run has spoken already.")] = True,
    model: opt.Model,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Speak every row of TABLE into a file of its own; print the path of the report.

    Voice and seed are those of rows that name none. Run it again to go on after an interruption, or after changing
    rows: only what is new is spoken.
    """
    from openvalle.apps.batch import TableJob, read_table
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
        jobs = TableJob(
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
            text_format,
            language,
            speaker.prompt_language,
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


PAIRED = ("--replace", "--insert-after")  # options of two values
BETWEEN = "\x1f"  # joins the two

Output = Annotated[Path | None, typer.Option("--output", "-o", help="Sound file to write.")]


class EditCommand(Command):
    """A command some of whose options take two values and may be given again, which Typer cannot declare."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the two values of each such option to one, and parse."""
        return super().parse_args(ctx, join_pairs(args))


def join_pairs(args: list[str]) -> list[str]:
    """Return the arguments with the two values of `PAIRED` options joined; `UserError` if one is missing."""
    joined: list[str] = []
    rest = iter(args)
    for argument in rest:
        joined.append(argument)
        if argument in PAIRED:
            values = [next(rest, None), next(rest, None)]
            if None in values or "" in values:
                raise UserError(f"{argument} needs two values", f'write {argument} "words there" "new words"')
            joined.append(BETWEEN.join(str(value) for value in values))
    return joined


def edit(
    *,
    clip: opt.Clip,
    transcript: opt.Transcript = None,
    channel: opt.Channel = "auto",
    asr: opt.Asr = "",
    replace: Annotated[list[str] | None, typer.Option("--replace", metavar="OLD NEW", help="Say NEW for OLD.")] = None,
    insert_after: Annotated[
        list[str] | None, typer.Option("--insert-after", metavar="OLD NEW", help="Say NEW after OLD.")
    ] = None,
    delete: Annotated[list[str] | None, typer.Option("--delete", metavar="OLD", help="Leave OLD out.")] = None,
    output: Output = None,
    seed: opt.Seed = 0,
    candidates: opt.Candidates = 1,
    keep: Annotated[bool, typer.Option("--keep", help="Write every candidate: NAME-2 is the second best.")] = False,
    text_format: opt.TextFormat = "auto",
    lexicon: opt.Lexicon = None,
    language: opt.Language = "",
    model: opt.Model,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Change words of a recording; all else stays, bit for bit. Print the path of the new file.

    \b
    openvalle edit clip.wav -t "I like green tea." --replace "green" "black"
    openvalle edit clip.wav -t "I like tea." --insert-after "like" "cold" --delete "tea" -o new.wav
    """
    from openvalle.synth.edit import Edit, EditKind
    from openvalle.synth.edit import edit as edit_clip
    from openvalle.synth.plan import parse_script, to_lexicon

    def read(kind: EditKind, pairs: list[str] | None) -> list[Edit]:
        split = (pair.split(BETWEEN) for pair in pairs or ())
        return [Edit(kind, old, parse_script(new, "auto", words, text_format)) for old, new in split]

    words = to_lexicon(lexicon)
    edits = read(EditKind.REPLACE, replace) + read(EditKind.INSERT, insert_after)
    edits += [Edit(EditKind.DELETE, old) for old in delete or ()]
    if not edits:
        raise UserError("there is nothing to edit", 'say what: --replace "old words" "new words", --delete, ...')
    place = free_output(output, clip, "edited")
    if not isinstance(place, FreeName) and is_special(place) and keep:
        raise UserError("--keep writes several files", "give -o the name of a file")
    with status(quiet) as show:
        synthesizer = model.load(asr)
        show("speaking")
        how: dict[str, Any] = {"candidates": candidates, "channel": channel, "language": language}
        best = edit_clip(synthesizer, clip, edits, transcript, seed, **how)
    tags = synthesizer.provenance.tags()
    rows = [
        {"path": str(one.clip.save(_numbered(place, number), tags))} | one.as_dict()
        for number, one in enumerate(best if keep else best[:1], start=1)
    ]
    opt.print_result(rows if keep else rows[0], as_json)


def continue_(
    *,
    clip: opt.Clip,
    text: Annotated[str, typer.Argument(help="What comes next.")],
    transcript: opt.Transcript = None,
    channel: opt.Channel = "auto",
    asr: opt.Asr = "",
    output: Output = None,
    only_new: Annotated[bool, typer.Option("--only-new", help="Write what comes next alone.")] = False,
    seed: opt.Seed = 0,
    candidates: opt.Candidates = 1,
    markup: opt.Markup = "auto",
    text_format: opt.TextFormat = "auto",
    lexicon: opt.Lexicon = None,
    language: opt.Language = "",
    model: opt.Model,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Let a recording go on with TEXT, in the same voice and breath. Print the path of the new file.

    \b
    openvalle continue clip.wav --transcript "It was late," "and then the rest."
    """
    place, words = free_output(output, clip, "continued"), opt.read_text(text, None, text_format)
    with status(quiet) as show:
        from openvalle.synth.edit import continue_clip

        synthesizer = model.load(asr)
        show("speaking")
        how: dict[str, Any] = {"candidates": candidates, "markup": markup, "lexicon": lexicon, "channel": channel}
        how["language"] = language
        result = continue_clip(synthesizer, clip, words, transcript, seed, **how)
    whole = result.clip
    written = dataclasses.replace(whole, frames=whole.frames[result.start :]) if only_new else whole
    row = {
        "path": str(written.save(place, synthesizer.provenance.tags())),
        "seconds": round(written.seconds, 3),
        "start": 0.0 if only_new else round(result.start / written.rate, 3),
        "text": result.text,
        "quality": result.speech.quality.as_dict(),
        "seed": seed,
    }
    opt.print_result(row, as_json)


def free_output(output: Path | None, clip: Path, word: str) -> Path | FreeName:
    """Return the file to write: never the recording itself; without a choice, one beside it with a free name."""
    from openvalle.media import format_ending

    if output is None:
        suffix = clip.suffix if clip.suffix.lower() in (".wav", ".flac") else ".wav"
        return FreeName(clip.with_name(f"{clip.stem}-{word}{suffix}"))
    path = expand_home(output)
    format_ending(path)
    if path.exists() and clip.exists() and path.samefile(clip):
        raise UserError("the output is the recording itself", "write to another file, so that the recording stays")
    return path


def _numbered(place: Path | FreeName, number: int) -> Path | FreeName:
    """Return where the `number`-th best of several goes: NAME, NAME-2 ..., or the next free name."""
    if isinstance(place, FreeName):
        return FreeName(place.first)
    return place if number == 1 else place.with_name(f"{place.stem}-{number}{place.suffix}")
