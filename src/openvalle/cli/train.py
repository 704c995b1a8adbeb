"""`openvalle train codec|ar|nar`: a recipe file -> a trained model. `torchrun` starts the same command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openvalle.cli.settings import Command
from openvalle.hub import find_recipe

train = typer.Typer(
    help="Train the codec or the language models by a recipe, and pack them into a model.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Recipe = Annotated[str, typer.Argument(help="One of our recipes (`openvalle recipe list`) or a YAML or JSON file.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Settings to change, as key=value: loop.steps=100 start=builtin")
]
Out = Annotated[
    Path, typer.Option("--out", "-o", help="Folder of the run; a run found there is taken up where it stopped.")
]


@train.command("codec", cls=Command)
def codec(recipe: Recipe, overrides: Overrides = None, out: Out = Path("runs/codec")) -> None:
    """Train the codec: audio -> tokens -> audio."""
    launch("codec", recipe, overrides, out)


@train.command("ar", cls=Command)
def ar(recipe: Recipe, overrides: Overrides = None, out: Out = Path("runs/ar")) -> None:
    """Train the autoregressive model: text and a voice -> codebook 1."""
    launch("ar", recipe, overrides, out)


@train.command("nar", cls=Command)
def nar(recipe: Recipe, overrides: Overrides = None, out: Out = Path("runs/nar")) -> None:
    """Train the non-autoregressive model: codebook 1 -> codebooks 2 to 8."""
    launch("nar", recipe, overrides, out)


@train.command("predict", cls=Command)
def predict(recipe: Recipe, overrides: Overrides = None, out: Out = Path("runs/predicted")) -> None:
    """Fill recorded codebook 1 with a trained NAR model: codes that the codec's decoder is then tuned on."""
    launch("predict", recipe, overrides, out)


@train.command("pack", cls=Command)
def pack(recipe: Recipe, overrides: Overrides = None, out: Out = Path("runs/model")) -> None:
    """Put trained networks together into a model folder that `openvalle say --model` speaks with."""
    launch("pack", recipe, overrides, out)


@train.command("g2p", cls=Command)
def g2p(recipe: Recipe, overrides: Overrides = None, out: Out = Path("runs/g2p")) -> None:
    """Train the model that pronounces words no lexicon lists; scores.json says how well, on words it never saw."""
    launch("g2p", recipe, overrides, out)


def launch(part: str, recipe: str, overrides: list[str] | None, out: Path) -> None:
    """Run the training job and print where its result is."""
    from openvalle.train.run import run

    print(run(part, find_recipe(recipe), tuple(overrides or ()), out))
