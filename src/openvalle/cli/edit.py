"""`openvalle edit` and `openvalle continue`: work on a recording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openvalle.cli.say import Asr, Channel
from openvalle.cli.settings import Command
from openvalle.errors import UserError
from openvalle.files import Free, expanded, is_special, is_stdout
from openvalle.parallel import status

if TYPE_CHECKING:
    from openvalle.synth.edit import Edit

PAIRED = ("--replace", "--insert-after")  # options of two values
BETWEEN = "\x1f"  # joins the two

Clip = Annotated[Path, typer.Argument(help="The recording: any sound file of up to two minutes.")]
Transcript = Annotated[str | None, typer.Option("--transcript", "-t", help="What it says; else it is transcribed.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Sound file to write.")]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same sound.")]
Candidates = Annotated[int, typer.Option(min=1, max=20, help="Speak it so often and keep the best.")]
Model = Annotated[str, typer.Option("--model", "-m", help="A model's name or folder.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


class EditCommand(Command):
    """A command some of whose options take two values and may be given again, which Typer cannot declare."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the two values of each such option to one, and parse."""
        return super().parse_args(ctx, paired(args))


def paired(args: list[str]) -> list[str]:
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
    clip: Clip,
    transcript: Transcript = None,
    channel: Channel = "auto",
    asr: Asr = "",
    replace: Annotated[list[str] | None, typer.Option("--replace", metavar="OLD NEW", help="Say NEW for OLD.")] = None,
    insert_after: Annotated[
        list[str] | None, typer.Option("--insert-after", metavar="OLD NEW", help="Say NEW after OLD.")
    ] = None,
    delete: Annotated[list[str] | None, typer.Option("--delete", metavar="OLD", help="Leave OLD out.")] = None,
    output: Output = None,
    seed: Seed = 0,
    candidates: Candidates = 1,
    keep: Annotated[bool, typer.Option("--keep", help="Write every candidate: NAME-2 is the second best.")] = False,
    model: Model = "builtin",
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Change words of a recording; all else stays, bit for bit. Print the path of the new file.

    \b
    openvalle edit clip.wav -t "I like green tea." --replace "green" "black"
    openvalle edit clip.wav -t "I like tea." --insert-after "like" "cold" --delete "tea" -o new.wav
    """
    edits = chosen_edits(replace or [], insert_after or [], delete or [])
    place = free_output(output, clip, "edited")
    if not isinstance(place, Free) and is_special(place) and keep:
        raise UserError("--keep writes several files", "give -o the name of a file")
    with status(quiet) as show:
        show("loading the model")
        from openvalle.synth.edit import edit as edited_clip
        from openvalle.synth.synthesizer import Synthesizer

        synthesizer = Synthesizer.load(model, device=device, asr=asr)
        show("speaking")
        takes = edited_clip(synthesizer, clip, edits, transcript, seed, candidates=candidates, channel=channel)
    kept = takes if keep else takes[:1]
    places = [_numbered(place, number) for number in range(1, len(kept) + 1)]
    tags = synthesizer.provenance.tags()
    rows = [
        {"path": str(take.clip.save(where, tags))} | take.as_dict() for where, take in zip(places, kept, strict=True)
    ]
    print_rows(rows if keep else rows[0], as_json)


def continue_(
    clip: Clip,
    text: Annotated[str, typer.Argument(help="What comes next.")],
    transcript: Transcript = None,
    channel: Channel = "auto",
    asr: Asr = "",
    output: Output = None,
    only_new: Annotated[bool, typer.Option("--only-new", help="Write what comes next alone.")] = False,
    seed: Seed = 0,
    candidates: Candidates = 1,
    lexicon: Annotated[Path | None, typer.Option(help="Pronunciations: a TSV file of word<TAB>phones.")] = None,
    model: Model = "builtin",
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Let a recording go on with TEXT, in the same voice and breath. Print the path of the new file.

    \b
    openvalle continue clip.wav --transcript "It was late," "and then the rest."
    """
    place = free_output(output, clip, "continued")
    with status(quiet) as show:
        show("loading the model")
        from openvalle.synth.edit import continue_clip
        from openvalle.synth.synthesizer import Synthesizer

        synthesizer = Synthesizer.load(model, device=device, asr=asr)
        show("speaking")
        result = continue_clip(
            synthesizer, clip, text, transcript, seed, candidates=candidates, lexicon=lexicon, channel=channel
        )
    written = result.added if only_new else result.clip
    row = {
        "path": str(written.save(place, synthesizer.provenance.tags())),
        "seconds": round(written.seconds, 3),
        "start": 0.0 if only_new else round(result.start / written.rate, 3),
        "text": result.text,
        "quality": result.speech.quality.as_dict(),
        "seed": seed,
    }
    print_rows(row, as_json)


def chosen_edits(replace: list[str], insert_after: list[str], delete: list[str]) -> list[Edit]:
    """Return the edits; `UserError` if there are none."""
    from openvalle.synth.edit import Edit, EditKind

    edits = [Edit(EditKind.REPLACE, *pair.split(BETWEEN)) for pair in replace]
    edits += [Edit(EditKind.INSERT, *pair.split(BETWEEN)) for pair in insert_after]
    edits += [Edit(EditKind.DELETE, words) for words in delete]
    if not edits:
        raise UserError("there is nothing to edit", 'say what: --replace "old words" "new words", --delete, ...')
    return edits


def free_output(output: Path | None, clip: Path, word: str) -> Path | Free:
    """Return the file to write: never the recording itself; without a choice, one beside it with a free name."""
    from openvalle.media import format_ending

    if output is None:
        suffix = clip.suffix if clip.suffix.lower() in (".wav", ".flac") else ".wav"
        return Free(clip.with_name(f"{clip.stem}-{word}{suffix}"))
    path = expanded(output)
    format_ending(path)
    if path.exists() and clip.exists() and path.samefile(clip):
        raise UserError("the output is the recording itself", "write to another file, so that the recording stays")
    return path


def _numbered(place: Path | Free, number: int) -> Path | Free:
    """Return where the `number`-th best of several goes: NAME, NAME-2 ..., or the next free name."""
    if isinstance(place, Free):
        return Free(place.first)
    return place if number == 1 else place.with_name(f"{place.stem}-{number}{place.suffix}")


def print_rows(rows: dict[str, Any] | list[dict[str, Any]], as_json: bool) -> None:
    """Print the result to stdout: the paths, or everything as JSON; nothing where the sound went there."""
    if not isinstance(rows, list) and is_stdout(rows["path"]):
        return
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows if isinstance(rows, list) else [rows]:
        print(row["path"])
