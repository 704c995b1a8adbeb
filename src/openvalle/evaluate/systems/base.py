"""What can be measured: anything with a `name` and `say`, and what its settings may hold.

A failure is an `UserError`: it is counted and shown.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from openvalle.audio import Audio
from openvalle.config import Config
from openvalle.errors import ConfigError
from openvalle.evaluate.test_list import TestItem

MAX_SECONDS = 3600.0  # that a system may be given for one item
MAX_OUTPUT_SECONDS = 600.0  # a longer output for one sentence is a fault
SHOWN = 300  # characters of a program's or server's last words
NAMES = ("text", "prompt", "prompt_text", "prompt_base64", "output", "seed", "language", "speaker", "id")
PLACEHOLDER = re.compile(r"\{([a-z_0-9]+)\}")


@dataclass(frozen=True)
class Output:
    """What a system gave for an item: the sound and what it took.

    `seconds`: wall clock, NaN if unknown; `processor`: processor seconds, 0 if unknown; `ended`: False if it was
    cut off at a limit, None if the system does not say; `memory`: peak bytes, 0 if unknown.
    """

    audio: Audio
    seconds: float
    processor: float = 0.0
    ended: bool | None = None
    flags: tuple[str, ...] = ()
    memory: int = 0


class System(Protocol):
    """Anything that speaks."""

    @property
    def name(self) -> str:
        """What the rows are called."""

    def say(self, item: TestItem, prompt: Audio, seed: int) -> Output:
        """Return the item's text in the prompt's voice; `UserError` if it cannot."""


@dataclass(frozen=True)
class Candidate:
    """A system to be measured: how to build it, and its identity without building it."""

    name: str
    digest: str  # of it and all its settings: outputs are used again as long as it stays the same
    build: Callable[[], System]
    facts: dict[str, Any] = field(default_factory=dict)  # for the record: model, sampling ...


def reset_peak_memory() -> None:
    """Let the most memory that this process has held begin anew, where the system knows how (Linux, accelerators)."""
    import torch

    from openvalle.synth.generate import release_memory

    release_memory()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory() -> int:
    """Return the most memory this process has held, in bytes; the accelerator's where there is one."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit


def commit() -> str:
    """Return the commit of the source that runs, with `+` if it was changed; empty outside a repository."""
    folder = Path(__file__).parent
    try:
        command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def placeholder_values(item: TestItem, seed: int, prompt: Path, output: Path) -> dict[str, str]:
    """Return the values of all placeholders but the prompt's bytes, which `fill` reads from its file if needed."""
    return {
        "text": item.text,
        "prompt": str(prompt),
        "prompt_text": item.prompt.text,
        "output": str(output),
        "seed": str(seed),
        "language": item.reference.language,
        "speaker": item.prompt.speaker,
        "id": item.id,
    }


def fill(template: str, values: Mapping[str, str]) -> str:
    """Return the template with its placeholders filled, once: braces in a value stay as they are."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name == "prompt_base64":
            return base64.b64encode(Path(values["prompt"]).read_bytes()).decode()
        if name not in values:
            raise ConfigError(f"there is no placeholder {{{name}}}", f"there are {', '.join(NAMES)}")
        return values[name]

    return PLACEHOLDER.sub(value, template)


def fill_tree(template: Any, values: Mapping[str, str]) -> Any:
    """Return JSON data with the placeholders in its texts filled; a text that is just {seed} becomes a number."""
    if isinstance(template, str):
        return int(values["seed"]) if template == "{seed}" else fill(template, values)
    if isinstance(template, dict):
        return {key: fill_tree(value, values) for key, value in template.items()}
    if isinstance(template, list | tuple):
        return [fill_tree(value, values) for value in template]
    return template


def check_placeholders(template: Any) -> None:
    """Raise `ConfigError` if a text in the template names a placeholder that there is not."""
    fill_tree(template, dict.fromkeys(NAMES, "0") | {"prompt": os.devnull})


def settings_digest(config: Config, *more: str) -> str:
    """Return the identity of a system's settings; keys are named in them, never held."""
    text = json.dumps([config.model_dump(mode="json"), *more], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
