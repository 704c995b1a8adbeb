"""`openvalle model describe`: what a recipe or a model is, in numbers and as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openvalle.hub import find_recipe, recipes

if TYPE_CHECKING:
    from openvalle.model.config import ARConfig, NARConfig
    from openvalle.model.describe import Numbers

model = typer.Typer(help="Look at models and at the recipes they are made by.", no_args_is_help=True)


@model.callback()
def group() -> None:
    """Look at models and at the recipes they are made by."""


@model.command("describe")
def describe(
    recipe: Annotated[
        str, typer.Argument(help="A recipe of a whole system, by name (valle-paper) or path, or a model.")
    ],
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="Speech that steps and memory are for.")] = 10.0,
    plot: Annotated[Path | None, typer.Option(help="Draw the attention masks into this .png, .pdf or .svg.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Print parameters per part, tokens a second, and the steps and memory that speaking takes.

    openvalle model describe valler-paper --plot mask.png
    """
    if plot is not None:
        from openvalle.synth.plot import need_matplotlib

        need_matplotlib()
    from openvalle.model.describe import describe as numbers_of

    ar, nar = networks(recipe)
    numbers = numbers_of(ar, nar, seconds)
    drawn = None
    if plot is not None:
        from openvalle.model.picture import plot_masks

        drawn = plot_masks(ar, nar, plot, title=Path(recipe).stem)
    if as_json:
        print(json.dumps({"recipe": recipe, **numbers.values(), "plot": None if drawn is None else str(drawn)}))
        return
    show_numbers(numbers)
    if drawn is not None:
        print(drawn)


def networks(recipe: str) -> tuple[ARConfig, NARConfig]:
    """Return both configurations of a recipe file, or of a model by name or folder."""
    if recipe in recipes() or Path(recipe).suffix in (".yaml", ".yml", ".json"):
        from openvalle.train.recipe import read_pair

        return read_pair(find_recipe(recipe))
    from openvalle.hub import Kind, find
    from openvalle.model.bundle import BundleConfig

    config = BundleConfig.load(find(Kind.MODEL, recipe) / "config.json")
    return config.ar, config.nar


def show_numbers(numbers: Numbers) -> None:
    """Print the numbers as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    parameters = Table("parameters", "AR", "NAR", title_justify="left")
    for column in parameters.columns[1:]:
        column.justify = "right"
    for part in dict.fromkeys([*numbers.ar.parts, *numbers.nar.parts]):
        counts = [network.parts.get(part, 0) for network in (numbers.ar, numbers.nar)]
        parameters.add_row(part, *(f"{count:,}" if count else "-" for count in counts))
    parameters.add_section()
    parameters.add_row("in the blocks", f"{numbers.ar.blocks / 1e6:.1f} M", f"{numbers.nar.blocks / 1e6:.1f} M")
    parameters.add_row("in all", f"{numbers.ar.total / 1e6:.1f} M", f"{numbers.nar.total / 1e6:.1f} M")
    console.print(parameters)
    speech = Table(f"{numbers.seconds:g} s of speech", "")
    speech.columns[1].justify = "right"
    codes = f"{numbers.codes_per_second:g}, of codebook 1 {numbers.ar_codes_per_second:g}"
    speech.add_row("codes a second", codes)
    speech.add_row("AR steps", f"{numbers.ar_steps:,}")
    speech.add_row("NAR passes", str(numbers.nar_passes))
    speech.add_row("weights", f"{numbers.weights / 2**20:,.0f} MiB")
    speech.add_row(f"AR cache ({numbers.positions:,} positions)", f"{numbers.cache / 2**20:,.1f} MiB")
    speech.add_row("memory", f"{numbers.memory / 2**20:,.0f} MiB")
    console.print(speech)
