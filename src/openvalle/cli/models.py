"""`openvalle recipe list|show|copy`: the recipes that come with the package.

`openvalle model describe`: what a recipe or a model is, in numbers and as a picture.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openvalle.cli import options as opt
from openvalle.errors import ConfigError, UserError, import_extra
from openvalle.hub import Kind, find, find_recipe, recipes

if TYPE_CHECKING:
    from openvalle.model.config import ARConfig, NARConfig
    from openvalle.model.describe import Numbers

recipe = typer.Typer(help="Look at our recipes, and copy them to change them.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The recipe's name.")]


@recipe.command("list")
def list_() -> None:
    """Print the names of our recipes and what each makes: the first line of its file."""
    for name, path in recipes().items():
        print(f"{name:14} {path.read_text(encoding='utf-8').splitlines()[0].removeprefix('#').strip()}")


@recipe.command("show")
def show_recipe(name: Name) -> None:
    """Print a recipe."""
    sys.stdout.write(ours(name).read_text(encoding="utf-8"))


@recipe.command("copy")
def copy(
    name: Name,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default: NAME.yaml here.")
    ] = None,
    replace: opt.Replace = False,
) -> None:
    """Copy a recipe to a file that you can change; print its path."""
    text = ours(name).read_text(encoding="utf-8")
    path = output or Path(f"{name}.yaml")
    try:
        with path.open("w" if replace else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UserError(f"{path} is there already", "add --replace, or take another name with -o") from None
    print(path)


def ours(name: str) -> Path:
    """Return the file of one of our recipes."""
    found = recipes()
    if name not in found:
        raise ConfigError(f"there is no recipe {name!r}", f"there are: {', '.join(found)}")
    return found[name]


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
    plot: opt.Plot = None,
    as_json: opt.AsJson = False,
) -> None:
    """Print parameters per part, tokens a second, and the steps and memory that speaking takes.

    openvalle model describe valler-paper --plot mask.png
    """
    if plot is not None:
        import_extra("matplotlib", "matplotlib", "plot")
    from openvalle.model.describe import describe as count
    from openvalle.model.describe import plot_masks

    ar, nar = networks(recipe)
    numbers = count(ar, nar, seconds)
    drawn = [] if plot is None else [str(plot_masks(ar, nar, plot, title=Path(recipe).stem))]
    if not as_json:
        show_numbers(numbers)
    opt.print_result({"recipe": recipe, **numbers.values(), "plot": drawn[0] if drawn else None}, as_json, drawn)


def networks(recipe: str) -> tuple[ARConfig, NARConfig]:
    """Return both configurations of a recipe file, or of a model by name or folder."""
    if recipe in recipes() or Path(recipe).suffix in (".yaml", ".yml", ".json"):
        from openvalle.train.recipe import read_pair

        return read_pair(find_recipe(recipe))
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
