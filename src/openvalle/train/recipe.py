"""Recipes of whole systems: AR, NAR and packing in one file, which `openvalle train ar|nar|pack` all read.

```
data: data            what both networks share
ar: {model: ..., loop: ..., batches: ...}
nar: {model: ..., loop: ..., batches: ...}
pack: {ar: runs/ar, nar: runs/nar, name: ..., licence: ..., generation: ...}
```

A file without these sections is the recipe of one job.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from openvalle.config import override, read_mapping
from openvalle.decode.ar import AROptions
from openvalle.errors import ConfigError
from openvalle.model.config import ARConfig, NARConfig, check_pair
from openvalle.text.symbols import inventory

SECTIONS = ("ar", "nar", "pack")


def read_job(part: str, path: Path, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the values of one job (ar, nar, pack) of a recipe with `a.b=value` overrides, which may name a section.

    `ConfigError` says what is wrong, also when the networks do not fit each other.
    """
    values = read_mapping(path)
    if not is_system(values):
        return override(values, overrides)
    in_sections = tuple(item for item in overrides if item.startswith(tuple(f"{section}." for section in SECTIONS)))
    values = override(values, in_sections)
    _section(values, part, path)
    values = {**values, part: override(_job(values, part, path), tuple(o for o in overrides if o not in in_sections))}
    if "ar" in values and "nar" in values:
        pair_of(values, path)
    if isinstance(values.get("pack"), dict):  # what would be refused after days of training is refused before
        AROptions.parse(values["pack"].get("generation") or {}, f"{path}: pack.generation")
    return values[part]


def read_pair(path: Path) -> tuple[ARConfig, NARConfig]:
    """Return both networks of a system's recipe."""
    values = read_mapping(path)
    if not ("ar" in values and "nar" in values):
        raise ConfigError(f"{path} has no sections `ar` and `nar`", "give the recipe of a whole system")
    return pair_of(values, path)


def is_system(values: dict[str, Any]) -> bool:
    """Whether the values are those of several jobs."""
    return any(section in values for section in SECTIONS) and not isinstance(values.get("ar"), str)


def pair_of(values: dict[str, Any], path: Path) -> tuple[ARConfig, NARConfig]:
    """Return the checked configurations of both networks; the size of an unsaid symbol table is ARPAbet's."""
    ar = ARConfig.parse(_model(values, "ar", path), f"{path}: ar.model")
    nar = NARConfig.parse(_model(values, "nar", path), f"{path}: nar.model")
    try:
        check_pair(ar, nar)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}", "change one of the two sections") from None
    return ar, nar


def _job(values: dict[str, Any], part: str, path: Path) -> dict[str, Any]:
    """Return a section together with what it shares with the others."""
    shared = {key: value for key, value in values.items() if key not in SECTIONS}
    return {**({} if part == "pack" else shared), **_section(values, part, path)}


def _model(values: dict[str, Any], part: str, path: Path) -> dict[str, Any]:
    return {"symbols": len(inventory()), **(_section(values, part, path).get("model") or {})}


def _section(values: dict[str, Any], part: str, path: Path) -> dict[str, Any]:
    section = values.get(part)
    if not isinstance(section, dict):
        there = ", ".join(name for name in SECTIONS if name in values)
        raise ConfigError(f"{path} has no section `{part}`", f"it has {there}")
    return section
