"""Which systems are compared, and how each is reached: one YAML or JSON file, or short forms on the command line.

A new kind of system is a file with its settings and its class, and a row here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from openvalle.config import Config, read_mapping
from openvalle.errors import ConfigError, UserError
from openvalle.evaluate.protocols import Decoding
from openvalle.evaluate.results import ORIGINAL, RECONSTRUCTED
from openvalle.evaluate.systems.base import Candidate, System, settings_digest
from openvalle.evaluate.systems.external import (
    CommandConfig,
    CommandSystem,
    FolderConfig,
    FolderSystem,
    HttpConfig,
    HttpSystem,
    OpenAIConfig,
)
from openvalle.evaluate.systems.libraries import CoquiConfig, CoquiSystem, TransformersConfig, TransformersSystem
from openvalle.evaluate.systems.ours import ModelConfig, build_model_candidate

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,59}\Z")  # names become folders
RESERVED = (ORIGINAL, RECONSTRUCTED, "prompt")  # rows and folders that are always there
SystemConfig = Annotated[
    ModelConfig | CommandConfig | FolderConfig | HttpConfig | OpenAIConfig | TransformersConfig | CoquiConfig,
    Field(discriminator="kind"),
]
_ONE: TypeAdapter[SystemConfig] = TypeAdapter(SystemConfig)
SHORT = {"model": "model", "folder": "path", "openai": "url", "transformers": "model", "coqui": "model"}


def read_systems(path: Path) -> dict[str, SystemConfig]:
    """Return the systems in a file of the form `systems: {NAME: {kind: ..., ...}}`."""
    values = read_mapping(path)
    if set(values) != {"systems"} or not isinstance(values["systems"], dict) or not values["systems"]:
        raise ConfigError(f"{path} does not hold systems", "write systems: and below it NAME: with kind: and the rest")
    return {str(name): parse_system(str(name), given, str(path)) for name, given in values["systems"].items()}


def parse_system(name: str, given: Any, source: str = "the system") -> SystemConfig:
    """Return one checked system; `ConfigError` says which key is wrong."""
    if not NAME.match(name):
        raise ConfigError(f"{name!r} cannot be the name of a system", "use letters, digits, spaces and . _ + -")
    try:
        return _ONE.validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][1:]) or "kind"
        raise ConfigError(f"{source}, {name}: {key}: {first['msg']}", "see docs/compare.md") from None


def short_system(text: str) -> tuple[str, SystemConfig]:
    """Return name and system of the short form `NAME=KIND:VALUE`, such as `ours=model:builtin`."""
    name, equals, rest = text.partition("=")
    kind, _, value = rest.partition(":")
    if not equals or kind not in SHORT:
        raise UserError(f"cannot read --system {text!r}", f"write NAME=KIND:VALUE with KIND one of {', '.join(SHORT)}")
    return name, parse_system(name, {"kind": kind} | ({SHORT[kind]: value} if value else {}))


SYSTEMS: dict[type[Config], Callable[[str, Any], System]] = {  # settings -> how the system is built
    CommandConfig: CommandSystem,
    FolderConfig: FolderSystem.load,
    HttpConfig: HttpSystem,
    OpenAIConfig: HttpSystem,
    TransformersConfig: TransformersSystem.load,
    CoquiConfig: CoquiSystem.load,
}


def build_candidate(
    name: str, config: SystemConfig, device: str = "cpu", decoding: Decoding | None = None
) -> Candidate:
    """Return the system `name`; heavy things are loaded when it first speaks. `device`, `decoding`: of our models.

    `UserError` for what would make every item fail.
    """
    if name in RESERVED:
        raise UserError(f"{name!r} is the name of a row that is always there", "call the system something else")
    if isinstance(config, ModelConfig):
        how = (decoding or Decoding()).with_settings(config.decode)
        given: dict[str, Any] = {"name": name, "device": device, "decoding": how}
        given |= {"adapter": config.adapter, "engine": config.engine}
        return build_model_candidate(config.model, config.codec, **given)
    if isinstance(config, CommandConfig | HttpConfig | OpenAIConfig):
        config.check()
    build = partial(SYSTEMS[type(config)], name, config)
    digest = FolderSystem.load(name, config).digest if isinstance(config, FolderConfig) else settings_digest(config)
    return Candidate(name, digest, build, config.model_dump(mode="json"))


def forget_failures(out: Path, name: str) -> int:
    """Let a system try again what it failed on in an earlier run; return how many answers that are."""
    failed = [path for path in sorted((out / "audio" / name).rglob("*.json")) if '"error"' in path.read_text("utf-8")]
    for path in failed:
        path.unlink()
    return len(failed)
