"""`openvalle book`: a long text, chapter by chapter, into a folder of sound files with a playlist."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from openvalle.cli.say import Asr, chosen_text, progress


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
    from openvalle.audio import format_ending
    from openvalle.text.chapters import chapters_of

    chapters = chapters_of(chosen_text(None, file), title=file.stem)
    format_ending(None, file_format)
    with progress(quiet) as show:
        show("loading the model")
        from openvalle.synth.book import Reading, speak_book
        from openvalle.synth.pipeline import Synthesizer

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
