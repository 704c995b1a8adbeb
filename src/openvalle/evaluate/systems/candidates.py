"""From a system's settings to what `evaluate` measures."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

from openvalle.errors import UserError
from openvalle.evaluate.protocols import Decoding
from openvalle.evaluate.results import ORIGINAL, RECONSTRUCTED
from openvalle.evaluate.run import Candidate
from openvalle.evaluate.systems.command import CommandSystem, FolderSystem
from openvalle.evaluate.systems.config import (
    NAMES,
    CommandConfig,
    CoquiConfig,
    FolderConfig,
    HttpConfig,
    ModelConfig,
    OpenAIConfig,
    SystemConfig,
    TransformersConfig,
    fill,
    settings_digest,
)
from openvalle.evaluate.systems.http import HttpSystem, read_secret
from openvalle.evaluate.systems.libraries import CoquiSystem, TransformersSystem
from openvalle.evaluate.systems.ours import candidate


def build_candidate(
    name: str, config: SystemConfig, device: str = "cpu", decoding: Decoding | None = None
) -> Candidate:
    """Return the system `name`; heavy things are loaded when it first speaks. `device`, `decoding`: of our models."""
    if name in (ORIGINAL, RECONSTRUCTED, "prompt"):
        raise UserError(f"{name!r} is the name of a row that is always there", "call the system something else")
    check(config)
    facts = config.model_dump(mode="json")
    if isinstance(config, ModelConfig):
        how = (decoding or Decoding()).changed(config.decode)
        return candidate(config.model, config.codec, name=name, device=device, decoding=how)
    if isinstance(config, FolderConfig):
        return Candidate(name, FolderSystem.load(name, config).digest, partial(FolderSystem.load, name, config), facts)
    if isinstance(config, CommandConfig):
        return Candidate(name, settings_digest(config), partial(CommandSystem, name, config), facts)
    if isinstance(config, TransformersConfig):
        return Candidate(name, settings_digest(config), partial(TransformersSystem.load, name, config), facts)
    if isinstance(config, CoquiConfig):
        return Candidate(name, settings_digest(config), partial(CoquiSystem.load, name, config), facts)
    return Candidate(name, settings_digest(config), partial(HttpSystem, name, config), facts)


def check(config: SystemConfig) -> None:
    """Raise `UserError` for what would make every item fail: no such program, placeholder or key."""
    if isinstance(config, CommandConfig):
        if not shutil.which(config.command[0]):
            raise UserError(f"there is no program {config.command[0]}", "check the command")
        _check_placeholders((*config.command, config.stdin or ""))
    elif isinstance(config, HttpConfig | OpenAIConfig):
        http = config.as_http() if isinstance(config, OpenAIConfig) else config
        for value in http.headers.values():
            read_secret(value)
        _check_placeholders((http.url, http.body))


def _check_placeholders(template: Any) -> None:
    """Raise `ConfigError` if a text in the template names a placeholder that there is not."""
    if isinstance(template, str):
        fill(template.replace("{prompt_base64}", ""), dict.fromkeys(NAMES, ""))
    elif isinstance(template, dict):
        _check_placeholders(tuple(template.values()))
    elif isinstance(template, list | tuple):
        for part in template:
            _check_placeholders(part)


def forget_failures(out: Path, name: str) -> int:
    """Let a system try again what it failed on in an earlier run; return how many answers that are."""
    failed = [path for path in sorted((out / "audio" / name).rglob("*.json")) if '"error"' in path.read_text("utf-8")]
    for path in failed:
        path.unlink()
    return len(failed)
