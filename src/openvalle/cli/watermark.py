"""`openvalle detect` and `openvalle watermark detect|embed`: is a recording synthetic, and marking sound of others."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from openvalle.cli import options as opt
from openvalle.errors import UserError

watermark = typer.Typer(help="Find or lay the inaudible mark in sound.", no_args_is_help=True, rich_markup_mode="rich")

Files = Annotated[list[Path], typer.Argument(help="Recordings: WAV, FLAC, MP3, Ogg or Opus, any rate.")]


def detect(files: Files, as_json: opt.AsJson = False) -> None:
    """Say what the watermark and the tags of FILES tell about where they come from, and what not."""
    from openvalle.safety.detector import inspect
    from openvalle.safety.watermark import Detector

    detector = Detector()

    def look(path: Path) -> None:
        finding = inspect(path, detector)
        made = finding.provenance
        tags = f"written by {made.generator}, model {made.model}" if made else "nothing about openvalle"
        lines = {
            "watermark": describe(finding.detection.as_dict()),
            "tags": tags,
            "verdict": f"{finding.verdict.value}: {finding.meaning}",
        }
        opt.print_result(finding.as_dict(), as_json, [path, *(f"{key:>11}: {line}" for key, line in lines.items())])

    look_at(files, look)


@watermark.command("detect")
def find(files: Files, as_json: opt.AsJson = False) -> None:
    """Look for the watermark in FILES, wherever they come from."""
    from openvalle.media import read
    from openvalle.safety.watermark import Detector

    detector = Detector()

    def look(path: Path) -> None:
        facts = {"path": str(path)} | detector.detect(read(path)).as_dict()
        opt.print_result(facts, as_json, [f"{path}\t{describe(facts)}"])

    look_at(files, look)


def look_at(files: list[Path], look: Callable[[Path], None]) -> None:
    """Look at every file, also after one that cannot be read; `UserError` at the end if there was any."""
    bad: list[UserError] = []
    for path in files:
        try:
            look(path)
        except UserError as error:
            if len(files) == 1:
                raise
            bad.append(error)
            print(f"error: {error}", file=sys.stderr, flush=True)
    if bad:
        raise UserError(f"{len(bad)} of {len(files)} files could not be looked at", bad[0].hint)


@watermark.command("embed")
def embed(
    source: Annotated[Path, typer.Argument(help="The recording to mark.")],
    output: Annotated[Path, typer.Argument(help="The file to write (.wav .flac .mp3 .ogg .opus), 24 kHz mono.")],
) -> None:
    """Lay the watermark on a recording that another program made."""
    from openvalle.media import format_ending, read, write
    from openvalle.safety.watermark import Marker

    if output.is_dir():
        raise UserError(f"{output} is a folder", "give the name of a file in it")
    format_ending(output)
    print(write(output, Marker().mark(read(source))))


def describe(facts: dict[str, object]) -> str:
    """Return a detection in words."""
    if not facts["marked"]:
        return f"not found (score {facts['score']}, {facts['threshold']} or more counts)"
    return f"found in {facts['share']:.0%} of the recording (score {facts['score']})"
