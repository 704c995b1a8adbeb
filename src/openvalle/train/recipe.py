"""Recipes of whole systems: AR, NAR and packing in one file, which `openvalle train ar|nar|pack` all read.

```
data: data            what both networks share
ar: {model: ..., loop: ..., batches: ...}
nar: {model: ..., loop: ..., batches: ...}
pack: {ar: runs/ar, nar: runs/nar, name: ..., licence: ..., generation: ...}
```

A file without these sections is the recipe of one job. `run` does what `openvalle train PART` asks for.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from openvalle.config import Config, Syntax, override, read_data, read_mapping
from openvalle.decode.ar import AROptions
from openvalle.errors import ConfigError, ModelError, import_extra
from openvalle.files import lock_folder
from openvalle.hub import Kind, find
from openvalle.model.bundle import convert_settings, read_description
from openvalle.model.config import ARConfig, NARConfig, check_pair
from openvalle.text.symbols import inventory

C = TypeVar("C", bound=Config)
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
    shared = {key: value for key, value in values.items() if key not in SECTIONS}
    job = {**({} if part == "pack" else shared), **_section(values, part, path)}
    values = {**values, part: override(job, tuple(o for o in overrides if o not in in_sections))}
    if "ar" in values and "nar" in values:
        with suppress(ModelError):  # a start that is not here is told of where its network is trained
            parse_pair(values, path)
    if isinstance(values.get("pack"), dict):  # what would be refused after days of training is refused before
        AROptions.parse(values["pack"].get("generation") or {}, f"{path}: pack.generation")
    return values[part]


def read_pair(path: Path) -> tuple[ARConfig, NARConfig]:
    """Return both networks of a system's recipe."""
    values = read_mapping(path)
    if not ("ar" in values and "nar" in values):
        raise ConfigError(f"{path} has no sections `ar` and `nar`", "give the recipe of a whole system")
    return parse_pair(values, path)


def is_system(values: dict[str, Any]) -> bool:
    """Whether the values are those of several jobs."""
    return any(section in values for section in SECTIONS) and not isinstance(values.get("ar"), str)


def parse_pair(values: dict[str, Any], path: Path) -> tuple[ARConfig, NARConfig]:
    """Return the checked configurations of both networks; the size of an unsaid symbol table is ARPAbet's.

    A network with a `start` is what that is, but for what its section says.
    """
    ar, nar = _parse(ARConfig, values, "ar", path), _parse(NARConfig, values, "nar", path)
    try:
        check_pair(ar, nar)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}", "change one of the two sections") from None
    return ar, nar


def _parse(kind: type[C], values: dict[str, Any], part: str, path: Path) -> C:
    """Return a network's configuration: what its section says, laid over that of its `start`.

    `ModelError` for a start that is not here, unless the section says all by itself.
    """
    section = _section(values, part, path)
    start, known, absent = section.get("start") or values.get("start"), {}, None
    try:
        known = _read_start(part, str(start)) if start else {}
    except ModelError as error:
        absent = error
    try:
        stated = {"symbols": len(inventory()), **known, **(section.get("model") or {})}
        return kind.parse(stated, f"{path}: {part}.model")
    except ConfigError:
        if absent is not None:
            raise absent from None
        raise


def _read_start(part: str, place: str) -> dict[str, Any]:
    """Return the configuration of the network that training starts from: a run's or a model's."""
    folder = find(Kind.MODEL, place)
    if (folder / f"{part}.json").is_file():
        return convert_settings(read_data(folder / f"{part}.json", Syntax.JSON)["config"])
    config: Config = getattr(read_description(folder).config, part)
    return config.model_dump(mode="json")


def _section(values: dict[str, Any], part: str, path: Path) -> dict[str, Any]:
    section = values.get(part)
    if not isinstance(section, dict):
        there = ", ".join(name for name in SECTIONS if name in values)
        raise ConfigError(f"{path} has no section `{part}`", f"it has {there}")
    return section


def run(part: str, recipe: Path, overrides: tuple[str, ...] = (), out: Path = Path("runs")) -> Path:
    """Train `part` (codec, ar, nar, predict, pack, g2p or aligner) by the recipe into `out`; return what was made.

    `UserError` if another process is at `out`. Of the processes that train together the first one holds the folder;
    `pack` replaces its folder whole, and needs no lock.
    """
    if part in ("codec", "ar", "nar", "g2p", "aligner"):
        from openvalle.train.distributed import warn_if_alone

        import_extra("torch.utils.tensorboard", "tensorboard", "train")
        warn_if_alone()
    if part == "pack" or os.environ.get("RANK", "0") != "0":
        return _run(part, recipe, overrides, out)
    with lock_folder(out):
        return _run(part, recipe, overrides, out)


def read_recipe(part: str, recipe: Path, overrides: tuple[str, ...] = ()) -> Config:
    """Return the checked recipe of a job; `ConfigError` says what is wrong with it."""
    if part == "codec":
        from openvalle.train.codec import CodecRecipe

        return CodecRecipe.load(recipe, overrides)
    if part == "g2p":
        from openvalle.train.g2p import G2PRecipe

        return G2PRecipe.load(recipe, overrides)
    if part == "aligner":
        from openvalle.train.aligner import AlignerRecipe

        return AlignerRecipe.load(recipe, overrides)
    if part in ("ar", "nar"):
        from openvalle.train.lm import LanguageModelRecipe

        return LanguageModelRecipe.parse(read_job(part, recipe, overrides), str(recipe))
    if part == "predict":
        from openvalle.train.predict import PredictRecipe

        return PredictRecipe.load(recipe, overrides)
    if part == "pack":
        from openvalle.train.pack import PackRecipe

        return PackRecipe.parse(read_job(part, recipe, overrides), str(recipe))
    raise ConfigError(f"cannot train {part!r}", "train codec, ar, nar, predict, pack, g2p or aligner")


def _run(part: str, recipe: Path, overrides: tuple[str, ...], out: Path) -> Path:
    read: Any = read_recipe(part, recipe, overrides)
    if part == "codec":
        from openvalle.train.codec import train_codec

        return train_codec(read, out)
    if part == "g2p":
        from openvalle.train.g2p import train_g2p

        return train_g2p(read, out)
    if part == "aligner":
        from openvalle.train.aligner import train_aligner

        return train_aligner(read, out)
    if part == "predict":
        from openvalle.train.predict import predict

        return predict(read, out)
    if part == "pack":
        from openvalle.train.pack import pack

        return pack(read, out)
    from openvalle.model.checkpoint import Part
    from openvalle.train.lm import train_language_model

    return train_language_model(Part(part), read, out)
