"""`openvalle stream`: text in as it arrives, sound out while it is being made."""

from __future__ import annotations

import codecs
import io
import struct
import sys
from collections.abc import Iterator
from typing import Annotated, Any, cast

import typer

from openvalle.cli import options as opt
from openvalle.errors import TextError, UserError

UNKNOWN = 0xFFFFFFFF  # for sizes that nobody knows yet; players then read to the end, with 0 they read nothing


def stream(
    *,
    text: Annotated[str, typer.Argument(help="What to say; - reads standard input while it is being written.")] = "-",
    speaker: opt.Speaker,
    seed: opt.Seed = 0,
    sampling: opt.Sampling,
    patient: Annotated[
        bool, typer.Option("--patient", help="Hear each line only when it is known to be right: later, but repaired.")
    ] = False,
    whole_lines: Annotated[
        bool, typer.Option("--whole-lines", help="Fill each line in one go, as `say` does: later, but the same sound.")
    ] = False,
    text_format: opt.TextFormat = "auto",
    lexicon: opt.Lexicon = None,
    language: opt.Language = "",
    file_format: Annotated[str, typer.Option("--format", help="wav, or pcm: 16 bit, 24 kHz, mono.")] = "wav",
    model: opt.Model,
) -> None:
    """Write sound to standard output while it is being made.

    \b
    openvalle stream "Hello there." | ffplay -nodisp -autoexit -
    language-model | openvalle stream | aplay    sentence by sentence
    """
    if file_format not in ("wav", "pcm"):
        raise UserError(f"cannot stream {file_format!r}", "use wav or pcm")
    if sys.stdout.isatty():
        raise UserError("the sound would go to the terminal", "pipe it into a player or a file")
    synthesizer = model.load(speaker.asr)
    from openvalle.synth.synthesizer import WINDOWS
    from openvalle.text.layout import to_plain

    how: dict[str, Any] = {"live": not patient, "windows": None if whole_lines else WINDOWS}
    how |= {"lexicon": lexicon, "language": language}
    arrives = text == "-" and text_format in ("auto", "plain")  # of other formats the whole is looked at
    words, voice = read_arriving() if arrives else opt.read_text(text, None, text_format), speaker.read(synthesizer)
    if arrives and text_format == "plain":
        words = (to_plain(piece, text_format) for piece in words)
    blocks = synthesizer.stream(words, voice, None, seed, sampling.read(synthesizer), **how)
    for number, block in enumerate(blocks):
        if number == 0 and file_format == "wav":  # a text that cannot be spoken writes nothing
            rate = synthesizer.rate
            form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)  # 16 bit, mono
            head = struct.pack("<4sI4s", b"RIFF", UNKNOWN, b"WAVE") + form + struct.pack("<4sI", b"data", UNKNOWN)
            sys.stdout.buffer.write(head)
        sys.stdout.buffer.write(block.audio.pcm())
        sys.stdout.buffer.flush()


def read_arriving() -> Iterator[str]:
    """Yield standard input as it is written."""
    source = cast(io.BufferedReader, sys.stdin.buffer)
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    raw = b"\0"
    while raw:
        raw = source.read1(4096)
        try:
            yield decoder.decode(raw, final=not raw)
        except UnicodeDecodeError:
            raise TextError("the text is not UTF-8", "save it as UTF-8 first") from None
