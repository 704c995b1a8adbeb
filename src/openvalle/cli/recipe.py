"""`openvalle recipe list|show|copy`: the recipes that come with the package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from openvalle.errors import ConfigError, UserError
from openvalle.hub import recipes

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
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite the file.")] = False,
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
