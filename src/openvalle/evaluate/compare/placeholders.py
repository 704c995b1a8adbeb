"""Placeholders in templates: what an item puts into a command or a request."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openvalle.errors import ConfigError
from openvalle.evaluate.items import Item

NAMES = ("text", "prompt", "prompt_text", "prompt_base64", "output", "seed", "language", "speaker", "id")
PLACEHOLDER = re.compile(r"\{([a-z_0-9]+)\}")


def values_of(item: Item, seed: int, prompt: Path, output: Path) -> dict[str, str]:
    """Return the values of all placeholders but the prompt's bytes, which `filled` reads from its file if needed."""
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


def filled(template: str, values: Mapping[str, str]) -> str:
    """Return the template with its placeholders filled, once: braces in a value stay as they are."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name == "prompt_base64":
            return base64.b64encode(Path(values["prompt"]).read_bytes()).decode()
        if name not in values:
            raise ConfigError(f"there is no placeholder {{{name}}}", f"there are {', '.join(NAMES)}")
        return values[name]

    return PLACEHOLDER.sub(value, template)


def filled_tree(template: Any, values: Mapping[str, str]) -> Any:
    """Return JSON data with the placeholders in its texts filled; a text that is just {seed} becomes a number."""
    if isinstance(template, str):
        return int(values["seed"]) if template == "{seed}" else filled(template, values)
    if isinstance(template, dict):
        return {key: filled_tree(value, values) for key, value in template.items()}
    if isinstance(template, list | tuple):
        return [filled_tree(value, values) for value in template]
    return template
