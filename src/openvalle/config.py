"""Strict configuration: pydantic models that refuse unknown keys, read from YAML or JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from openvalle.errors import ConfigError
from openvalle.files import write_text


class Config(BaseModel):
    """Base of every configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
        given = "" if item["type"] == "missing" else f" (it was {item['input']!r})"
        parts.append(f"{key}: {item['msg']}{given}")
    return "; ".join(parts)


def read_mapping(path: str | Path) -> dict[str, Any]:
    """Return the mapping in a YAML or JSON file."""
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", "give the path of a YAML or JSON file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML or JSON: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} does not hold a mapping of keys to values")
    return values


def override(values: dict[str, Any], overrides: tuple[str, ...]) -> dict[str, Any]:
    """Return `values` with each `a.b=value` (value in YAML) set."""
    values = json.loads(json.dumps(values))
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
        node[last] = yaml.safe_load(text)
    return values
