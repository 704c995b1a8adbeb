"""Which systems are compared, and how each is reached: one YAML or JSON file, or short forms on the command line.

Placeholders in templates: what an item puts into a command or a request.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from openvalle.config import Config, read_mapping
from openvalle.errors import ConfigError, UserError
from openvalle.evaluate.test_list import TestItem

NAMES = ("text", "prompt", "prompt_text", "prompt_base64", "output", "seed", "language", "speaker", "id")
PLACEHOLDER = re.compile(r"\{([a-z_0-9]+)\}")


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


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,59}\Z")  # names become folders
MAX_SECONDS = 3600.0


class ModelConfig(Config):
    """A model of ours."""

    kind: Literal["model"] = "model"
    model: str = Field("builtin", description="its name or folder")
    codec: str | None = Field(None, description="a codec's name or folder; default: the model's")
    decode: tuple[str, ...] = Field((), description="decode otherwise than the protocol, `key=value` each")


class CommandConfig(Config):
    """A program that is run once per item, without a shell. It writes `{output}`, any format that can be read."""

    kind: Literal["command"] = "command"
    command: tuple[str, ...] = Field(min_length=1, description="program and arguments, with placeholders in braces")
    stdin: str | None = Field(None, description="what the program reads, with placeholders")
    timeout: float = Field(300.0, gt=0, le=MAX_SECONDS, description="seconds; a slower answer is a failure")


class FolderConfig(Config):
    """Clips that are there already, one per item, named after it; {id}.wav or another format."""

    kind: Literal["folder"] = "folder"
    path: str
    pattern: str = Field("{id}", description="name of the file without its ending; {seed} may be part of it")


class HttpConfig(Config):
    """Any HTTP interface that takes JSON and gives sound. Header values like $KEY come from the environment."""

    kind: Literal["http"] = "http"
    url: str = Field(pattern=r"^https?://", description="may hold {language}, {id} and {seed}")
    headers: dict[str, str] = Field(default_factory=dict)
    body: dict[str, Any] = Field(description="JSON with placeholders; a value that is just {seed} becomes a number")
    audio_field: str = Field("", description="where the reply is JSON: path of the base64 sound, such as data.audio")
    pcm_rate: int = Field(0, ge=0, le=192_000, description="where the reply is bare 16-bit PCM: its rate in hertz")
    timeout: float = Field(300.0, gt=0, le=MAX_SECONDS, description="seconds; a slower answer is a failure")
    tries: int = Field(3, ge=1, le=10, description="for overload (429, 5xx) and lost connections")


class OpenAIConfig(Config):
    """An OpenAI-compatible speech endpoint."""

    kind: Literal["openai"] = "openai"
    url: str = Field(pattern=r"^https?://", description="up to and with /v1")
    model: str = "tts-1"
    voice: str = "alloy"
    key: str = Field("", description="$NAME of the environment variable with the key")
    extra: dict[str, Any] = Field(default_factory=dict, description="more fields, with placeholders, such as a prompt")
    timeout: float = Field(300.0, gt=0, le=MAX_SECONDS)
    tries: int = Field(3, ge=1, le=10)

    def as_http(self) -> HttpConfig:
        """Return the same system in general terms."""
        body = {"model": self.model, "voice": self.voice, "input": "{text}", "response_format": "wav", **self.extra}
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        url = f"{self.url.rstrip('/')}/audio/speech"
        return HttpConfig(url=url, headers=headers, body=body, timeout=self.timeout, tries=self.tries)


class TransformersConfig(Config):
    """Any text-to-speech model of the transformers library: VITS and MMS, Bark, SpeechT5, ..."""

    kind: Literal["transformers"] = "transformers"
    model: str = Field(description="name on the hub, or folder")
    revision: str | None = None
    options: dict[str, Any] = Field(
        default_factory=dict, description="for its call, such as speaker_id; lists become tensors"
    )
    preprocess: dict[str, Any] = Field(default_factory=dict, description="for its processor, such as voice_preset")
    device: str = "cpu"


class CoquiConfig(Config):
    """A model of coqui TTS (XTTS v2, YourTTS), which has to be installed: pip install coqui-tts."""

    kind: Literal["coqui"] = "coqui"
    model: str = "tts_models/multilingual/multi-dataset/xtts_v2"
    language: str | None = Field(None, description="default: the item's; empty for models of one language")
    options: dict[str, Any] = Field(default_factory=dict, description="for its call")
    device: str = "cpu"


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


def settings_digest(config: Config, *more: str) -> str:
    """Return the identity of a system's settings; keys are named in them, never held."""
    text = json.dumps([config.model_dump(mode="json"), *more], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
