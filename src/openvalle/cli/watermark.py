"""`openvalle detect` and `openvalle watermark detect|embed`: is a recording synthetic, and marking sound of others."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from openvalle.errors import UserError

watermark = typer.Typer(help="Find or lay the inaudible mark in sound.", no_args_is_help=True, rich_markup_mode="rich")

Files = Annotated[list[Path], typer.Argument(help="Recordings: WAV, FLAC, MP3, Ogg or Opus, any rate.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per file.")]


def detect(files: Files, as_json: AsJson = False) -> None:
    """Say what the watermark and the tags of FILES tell about where they come from, and what not."""
    from openvalle.safety.detector import inspect
    from openvalle.safety.watermark import Detector

    detector = Detector()

    def look(path: Path) -> None:
        finding = inspect(path, detector)
        if as_json:
            print(json.dumps(finding.as_dict()))
            return
        made = finding.provenance
        tags = f"written by {made.generator}, model {made.model}" if made else "nothing about openvalle"
        print(path)
        print(f"  watermark: {described(finding.detection.as_dict())}")
        print(f"       tags: {tags}")
        print(f"    verdict: {finding.verdict.value}: {finding.meaning}")

    look_at(files, look)


@watermark.command("detect")
def find(files: Files, as_json: AsJson = False) -> None:
    """Look for the watermark in FILES, wherever they come from."""
    from openvalle.media import read
    from openvalle.safety.watermark import Detector

    detector = Detector()

    def look(path: Path) -> None:
        facts = {"path": str(path)} | detector.detect(read(path)).as_dict()
        print(json.dumps(facts) if as_json else f"{path}\t{described(facts)}")

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


def described(facts: dict[str, object]) -> str:
    """Return a detection in words."""
    if not facts["marked"]:
        return f"not found (score {facts['score']}, {facts['threshold']} or more counts)"
    return f"found in {facts['share']:.0%} of the recording (score {facts['score']})"
