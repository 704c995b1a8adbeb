"""Settings and data, read strictly: pydantic models that refuse unknown keys; YAML, JSON, TOML and JSON lines."""

from __future__ import annotations

import copy
import datetime
import json
import math
import os
import tomllib
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from openvalle.errors import ConfigError
from openvalle.files import Place, atomic_path, final_path, write_text
from openvalle.pipes import read_text

DEEPEST = 40  # groups inside each other
MOST_CHARACTERS = 8_000_000  # of a YAML, JSON or TOML file
MOST_REPEATED = 10_000  # values that the aliases of a YAML file may stand for, in all
MOST_FIGURES = 400  # of a number
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Syntax(StrEnum):
    """How a file of settings is written. Every JSON file is YAML, too; read as JSON it is read faster."""

    YAML = "YAML or JSON"
    JSON = "JSON"
    TOML = "TOML"


class Config(BaseModel):
    """Base of every configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls, values: dict[str, Any], source: str = "the configuration") -> Self:
        """Return the checked configuration; `ConfigError` names each bad key in one line."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{source}: {_one_line(error)}", "see the field's description") from None

    @classmethod
    def load(cls, path: str | Path, overrides: tuple[str, ...] = ()) -> Self:
        """Read a YAML or JSON file and apply `a.b=value` overrides."""
        return cls.parse(override(read_mapping(path), overrides), str(path))

    def save(self, path: str | Path) -> None:
        """Write JSON, atomically."""
        write_text(path, self.model_dump_json(indent=2) + "\n")


def _one_line(error: ValidationError) -> str:
    parts = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"]) or "(whole)"
        given = "" if item["type"] == "missing" else f" (it was {_short(item['input'])})"
        parts.append(f"{key}: {item['msg']}{given}")
    return "; ".join(parts)


def _short(value: Any) -> str:
    shown = repr(value) if not isinstance(value, dict | list | tuple) or len(value) < 20 else f"{len(value)} values"
    return shown if len(shown) <= 200 else shown[:200] + "..."


def parse_data(text: str, source: str, syntax: Syntax = Syntax.YAML, finite: bool = True) -> Any:
    """Return the values in a text: mappings with names as keys, lists, strings, finite numbers, booleans, None.

    `finite` False: of our own results, in which figures that nobody can tell are NaN.

    `ConfigError` for what is not `syntax`, and for what would take without end to read or could not be stored: deep
    nesting, aliases that grow, numbers of hundreds of figures, dates, sets, bytes.
    """
    if len(text) > MOST_CHARACTERS:
        raise ConfigError(f"{source} is larger than any file of settings ({len(text)} characters)", "give another file")
    try:
        if syntax is Syntax.YAML:
            _check_yaml(text, source)
            values = yaml.load(text, Loader=_LOADER)  # a safe one
        else:
            values = json.loads(text) if syntax is Syntax.JSON else tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{source} is nested more than {DEEPEST} deep", "mend the file") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ConfigError(f"{source} is not valid {syntax}: {' '.join(str(error).split())[:300]}") from None
    _check_values(values, source, "", finite)
    return values


def _check_yaml(text: str, source: str) -> None:
    """Refuse what YAML can say in few words and what takes without end to make, before it is made."""
    sizes: dict[str, int] = {}  # values of each anchor
    open_: list[tuple[str | None, int]] = []  # anchors of the open groups, with the values before them
    count, repeated = 0, 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ConfigError(f"{source}: the alias *{event.anchor} names nothing before it", "write it out")
            repeated += sizes[event.anchor]
            count += sizes[event.anchor]
            if repeated > MOST_REPEATED:
                raise ConfigError(f"{source}: its aliases stand for more than {MOST_REPEATED} values", "write less")
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor:
                sizes[event.anchor] = 1
            if not event.style and len(event.value) > MOST_FIGURES and event.value.lstrip("+-.")[:1].isdigit():
                raise ConfigError(f"{source}: {event.value[:20]}... is no number that can be used", "mend it")
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, count))
            sizes.pop(event.anchor or "", None)  # an alias inside would be a group inside itself
            if len(open_) > DEEPEST:
                raise ConfigError(f"{source} is nested more than {DEEPEST} deep", "mend the file")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            count += 1
            if anchor:
                sizes[anchor] = count - before


def _check_values(value: Any, source: str, keys: str, finite: bool, depth: int = 0) -> None:
    """Refuse what settings cannot hold; `keys`: the names that lead to the value, each with a full stop."""
    if depth > DEEPEST:
        raise ConfigError(f"{source} is nested more than {DEEPEST} deep", "mend the file")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str | bool | int | float):  # names may be figures
                raise ConfigError(f"{source}: {keys}the name {_short(key)} is no text", "put it in quotes")
            _check_values(inner, source, f"{keys}{str(key)[:40]}.", finite, depth + 1)
        return
    if isinstance(value, list):
        for inner in value:
            _check_values(inner, source, keys, finite, depth + 1)
        return
    place = f"{source}: {keys.rstrip('.') or 'it'}"
    if isinstance(value, datetime.date | datetime.time):
        raise ConfigError(f"{place} is a date or a time ({value})", "put it in quotes, as text")
    if finite and isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{place} is not a finite number ({value})", "give a number")
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise ConfigError(f"{place} is too large a number", "give a smaller one")
    if not isinstance(value, str | bool | int | float | None):
        raise ConfigError(
            f"{place} is of a kind that settings do not have ({type(value).__name__})", "write it as text"
        )


def read_data(path: str | Path, syntax: Syntax = Syntax.YAML, finite: bool = True) -> Any:
    """Return the values in a file (see `parse_data`); `ConfigError` if it cannot be read."""
    path = Path(path)
    try:
        text = read_text(path)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", f"give the path of a {syntax} file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not valid {syntax}: {error}") from None
    return parse_data(text, str(path), syntax, finite)


def read_mapping(path: str | Path) -> dict[str, Any]:
    """Return the mapping in a YAML or JSON file."""
    values = read_data(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path} does not hold a mapping of keys to values")
    return values


def override(values: dict[str, Any], overrides: tuple[str, ...]) -> dict[str, Any]:
    """Return `values` with each `a.b=value` (value in YAML) set."""
    values = copy.deepcopy(values)
    for item in overrides:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise ConfigError(f"cannot read the override {item!r}", "write key=value, for example loop.steps=100")
        node = values
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(f"cannot override {key}: {parent} is not a group of settings")
        node[last] = parse_data(text, f"the override of {key}")
    return values


class BadLine(ValueError):
    """A line that is not JSON."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"line {number} is not JSON ({reason})")
        self.number, self.reason = number, reason


def json_lines(text: str | Iterable[str]) -> Iterator[tuple[int, Any]]:
    """Yield the number and the value of every line that is not blank; `BadLine` names one that cannot be read.

    `text`: as a whole, or an open file. Values are finite and not nested without end, as `parse_data` has them.

    Lines end in a line feed alone: text may hold the other characters that `str.splitlines` cuts at.
    """
    for number, line in enumerate(text.split("\n") if isinstance(text, str) else text, 1):
        if line.strip():
            try:
                value = _JSON.decode(line)
                is_deep = line.count("[") + line.count("{") > DEEPEST and _depth(value) > DEEPEST
            except RecursionError:
                is_deep = True
            except ValueError as error:
                raise BadLine(number, getattr(error, "msg", str(error))) from None
            if is_deep:
                raise BadLine(number, f"nested more than {DEEPEST} deep")
            yield number, value


def _depth(value: Any) -> int:
    """Return how many groups are inside each other."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max((1 + _depth(each) for each in inner), default=0)


def _whole(figures: str) -> int:
    if len(figures) > 19 or abs(int(figures)) >= 1 << 63:
        raise ValueError(f"{figures[:20]}... is too large a number")
    return int(figures)


def _finite(figures: str) -> float:
    if not math.isfinite(value := float(figures)):
        raise ValueError(f"{figures[:20]} is not a finite number")
    return value


_JSON = json.JSONDecoder(parse_int=_whole, parse_float=_finite, parse_constant=_finite)


def json_line(value: Any) -> str:
    """Return a value as a line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def write_json_lines(place: Place, values: Iterable[Any]) -> Path:
    """Write one value a line, atomically; return the path."""
    with atomic_path(place) as part, part.open("w", encoding="utf-8") as file:
        for value in values:
            file.write(json_line(value))
    return final_path(place)


def append_line(path: Path, value: Any) -> None:
    """Add a line at the end of a file; it is on the disk when this returns."""
    with path.open("ab") as file:
        file.write(json_line(value).encode())
        file.flush()
        os.fsync(file.fileno())
