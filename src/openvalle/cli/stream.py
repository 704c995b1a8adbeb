"""`openvalle stream`: text in as it arrives, sound out while it is being made."""

from __future__ import annotations

import codecs
import io
import struct
import sys
from collections.abc import Iterator
from typing import Annotated, cast

import typer

from openvalle.cli.say import Asr
from openvalle.errors import TextError, UserError

UNKNOWN = 0xFFFFFFFF  # for sizes that nobody knows yet; players then read to the end, with 0 they read nothing


def stream(
    text: Annotated[str, typer.Argument(help="What to say; - reads standard input while it is being written.")] = "-",
    voice: Annotated[str | None, typer.Option("--voice", "-v", help="A voice's name, a clip or a voice file.")] = None,
    prompt_text: Annotated[str | None, typer.Option(help="What the clip says; else it is transcribed.")] = None,
    asr: Asr = "",
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same sound.")] = 0,
    speed: Annotated[float | None, typer.Option(min=0.5, max=2.0, help="2 is twice as fast.")] = None,
    patient: Annotated[
        bool, typer.Option("--patient", help="Hear each line only when it is known to be right: later, but repaired.")
    ] = False,
    whole_lines: Annotated[
        bool, typer.Option("--whole-lines", help="Fill each line in one go, as `say` does: later, but the same sound.")
    ] = False,
    file_format: Annotated[str, typer.Option("--format", help="wav, or pcm: 16 bit, 24 kHz, mono.")] = "wav",
    model: Annotated[str, typer.Option("--model", "-m", help="A model's name or folder.")] = "builtin",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
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
    from openvalle.synth.pipeline import WINDOWS, Synthesizer

    synthesizer = Synthesizer.load(model, device=device, asr=asr)
    blocks = synthesizer.stream(
        arriving() if text == "-" else text,
        voice,
        prompt_text,
        seed,
        synthesizer.sampling(speed=speed),
        live=not patient,
        windows=None if whole_lines else WINDOWS,
    )
    out = sys.stdout.buffer
    for number, block in enumerate(blocks):
        if number == 0 and file_format == "wav":  # a text that cannot be spoken writes nothing
            out.write(wav_header(synthesizer.rate))
        out.write(block.audio.pcm())
        out.flush()


def arriving() -> Iterator[str]:
    """Yield standard input as it is written."""
    source = cast(io.BufferedReader, sys.stdin.buffer)
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    while True:
        raw = source.read1(4096)
        try:
            yield decoder.decode(raw, final=not raw)
        except UnicodeDecodeError:
            raise TextError("the text is not UTF-8", "save it as UTF-8 first") from None
        if not raw:
            return


def wav_header(rate: int) -> bytes:
    """Return the 44 bytes before 16-bit mono samples of unknown number."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", UNKNOWN, b"WAVE") + form + struct.pack("<4sI", b"data", UNKNOWN)
