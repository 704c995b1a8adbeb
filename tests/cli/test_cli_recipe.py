"""`openvalle recipe`, and recipes by name where a recipe is asked for."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import yaml

import openvalle as package
from openvalle.hub import recipes

ROOT = Path(package.__file__).parent
PROJECT = ROOT.parents[1]


def test_list_names_every_recipe_and_what_it_makes(openvalle) -> None:
    lines = openvalle("recipe", "list").out.splitlines()
    assert [line.split()[0] for line in lines] == list(recipes())
    assert {"codec", "ar", "nar", "valle-paper", "vallex-paper", "valler-paper", "valle2-paper"} <= set(recipes())
    assert all(len(line.split()) > 3 for line in lines)


def test_show_and_copy(openvalle) -> None:
    shown = openvalle("recipe", "show", "nar").out
    assert yaml.safe_load(shown)
    assert openvalle("recipe", "copy", "nar").out == "nar.yaml\n"
    assert Path("nar.yaml").read_text(encoding="utf-8") == shown
    Path("nar.yaml").write_text("mine")
    again = openvalle("recipe", "copy", "nar")
    assert (again.code, Path("nar.yaml").read_text()) == (2, "mine")
    assert openvalle("recipe", "copy", "nar", "--replace").code == 0
    assert Path("nar.yaml").read_text(encoding="utf-8") == shown


@pytest.mark.parametrize(
    "arguments", [("recipe", "show", "nra"), ("train", "nar", "nra"), ("train", "ar", "gone.yaml")]
)
def test_a_recipe_that_is_not_there_is_one_line(openvalle, arguments: tuple[str, ...]) -> None:
    run = openvalle(*arguments)
    assert (run.code, len(run.err.splitlines())) == (2, 1)
    assert "valle-paper" in run.err, "it names those there are"


def test_a_recipe_goes_by_its_name(openvalle) -> None:
    openvalle("recipe", "copy", "valler-small")
    by_name, by_path = (
        json.loads(openvalle("model", "describe", given, "--json").out)
        for given in ("valler-small", "valler-small.yaml")
    )
    assert by_name | {"recipe": ""} == by_path | {"recipe": ""}
    run = openvalle("train", "nar", "nar", "data=gone", "-o", "run")
    assert run.code == 2
    assert "recipe" not in run.err, "it was found: what is missing is the data"


def test_the_package_holds_all_that_lies_in_its_folder() -> None:
    """Whatever is no Python file reaches the wheel only by name."""
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["openvalle"]
    carried = {path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}
    there = {path for path in ROOT.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert there - carried == set()
    assert set(recipes().values()) <= carried
