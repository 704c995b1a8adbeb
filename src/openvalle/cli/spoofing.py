"""`openvalle spoofing`: an evaluation's speech as a data set for detectors of synthesised speech."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from openvalle.cli.listen import shower


def spoofing(
    report: Annotated[Path, typer.Argument(help="Folder that `openvalle evaluate` or `openvalle compare` wrote.")],
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder to make.")],
    layout: Annotated[str, typer.Option(help="2019 (ASVspoof 2019 LA) or 5 (ASVspoof 5, track 1).")] = "2019",
    train: Annotated[float, typer.Option(min=0, max=1, help="Share of the speakers for training.")] = 0.0,
    dev: Annotated[float, typer.Option(min=0, max=1, help="Share of the speakers for development.")] = 0.0,
    prefix: Annotated[str, typer.Option(help="What folders and protocol files begin with.")] = "openvalle",
    without: Annotated[list[str] | None, typer.Option(help="A system to leave out; repeat it.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the order and of the parts.")] = 0,
) -> None:
    """Write genuine and synthesised speech with protocol files in ASVspoof's layout, speakers parted.

    Speech of openvalle carries a watermark: a detector may learn the mark and not the synthesis (docs/compare.md).
    """
    from openvalle.errors import UserError
    from openvalle.evaluate.spoofing import Layout, Shares, export_spoofing

    if layout not in set(Layout):
        raise UserError(f"there is no layout {layout!r}", f"choose {' or '.join(Layout)}")
    if not prefix or "/" in prefix or "\\" in prefix or prefix.startswith("."):
        raise UserError(f"{prefix!r} cannot begin a file's name", "use letters and digits")
    counts = export_spoofing(
        report, target, Layout(layout), Shares(train, dev), prefix, without or (), seed, progress=shower()
    )
    print(target)
    print(", ".join(f"{count} {name}" for name, count in counts.items()), file=sys.stderr)
