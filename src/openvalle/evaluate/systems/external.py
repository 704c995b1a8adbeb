"""Systems outside this process: programs, run once per item; clips that are there already; servers behind HTTP."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from openvalle.audio import RATE, Audio, resample
from openvalle.config import Config
from openvalle.errors import ConfigError, UserError
from openvalle.evaluate.systems.base import (
    MAX_OUTPUT_SECONDS,
    MAX_SECONDS,
    SHOWN,
    Output,
    check_placeholders,
    fill,
    fill_tree,
    placeholder_values,
    settings_digest,
)
from openvalle.evaluate.test_list import TestItem
from openvalle.files import expand_home
from openvalle.http_client import explain_failure, open_url, read_wait
from openvalle.media import FORMATS, read, write


class CommandConfig(Config):
    """A program that is run once per item, without a shell. It writes `{output}`, any format that can be read."""

    kind: Literal["command"] = "command"
    command: tuple[str, ...] = Field(min_length=1, description="program and arguments, with placeholders in braces")
    stdin: str | None = Field(None, description="what the program reads, with placeholders")
    timeout: float = Field(300.0, gt=0, le=MAX_SECONDS, description="seconds; a slower answer is a failure")

    def check(self) -> None:
        """Raise `UserError` for what would make every item fail: no such program or placeholder."""
        if not shutil.which(self.command[0]):
            raise UserError(f"there is no program {self.command[0]}", "check the command")
        check_placeholders((*self.command, self.stdin or ""))


class FolderConfig(Config):
    """Clips that are there already, one per item, named after it; {id}.wav or another format."""

    kind: Literal["folder"] = "folder"
    path: str
    pattern: str = Field("{id}", description="name of the file without its ending; {seed} may be part of it")


@dataclass(frozen=True)
class CommandSystem:
    """A command template."""

    name: str
    config: CommandConfig

    def say(self, item: TestItem, prompt: Audio, seed: int) -> Output:
        """Run the program for one item and read what it wrote; `UserError` for whatever goes wrong."""
        with tempfile.TemporaryDirectory(prefix="openvalle-") as folder:
            clip, output = Path(folder) / "prompt.wav", Path(folder) / "output.wav"
            write(clip, prompt)
            values = placeholder_values(item, seed, clip, output)
            command = [fill(part, values) for part in self.config.command]
            stdin = None if self.config.stdin is None else fill(self.config.stdin, values)
            started = time.perf_counter()
            run(command, stdin, self.config.timeout)
            took = time.perf_counter() - started
            if not output.is_file():
                raise UserError(f"{command[0]} wrote no {{output}}", "check the command")
            return Output(read(output, max_seconds=MAX_OUTPUT_SECONDS), took)


def run(command: list[str], stdin: str | None, timeout: float) -> None:
    """Run a program to its end; `UserError` with its last words if it fails or takes too long."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that what it started ends with it
        )
    except (OSError, ValueError) as error:
        raise UserError(f"cannot run {command[0]} ({error})", "check the command") from None
    try:
        _, said = process.communicate(None if stdin is None else stdin.encode(), timeout)
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]} took longer than {timeout:g} s", "raise its timeout") from None
    finally:
        if process.poll() is None:
            _end(process)
    if process.returncode:
        words = " ".join(said.decode(errors="replace").split())[-SHOWN:]
        raise UserError(f"{command[0]} ended with exit code {process.returncode}: {words or 'it said nothing'}")


def _end(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()  # Windows
    process.communicate()


@dataclass(frozen=True)
class FolderSystem:
    """Clips made elsewhere. What they took to make is not known."""

    name: str
    config: FolderConfig
    digest: str

    @classmethod
    def load(cls, name: str, config: FolderConfig) -> FolderSystem:
        """Return the system; its digest knows names, sizes and times of the files: new clips are judged anew."""
        folder = expand_home(config.path)
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}", f"check the path of the system {name!r}")
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in FORMATS)
        state = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return cls(name, config, settings_digest(config, hashlib.sha256(repr(state).encode()).hexdigest()))

    def say(self, item: TestItem, prompt: Audio, seed: int) -> Output:
        """Return the clip of an item; `UserError` if there is none."""
        folder = expand_home(self.config.path)
        stem = fill(self.config.pattern, {"id": item.id, "seed": str(seed)})
        found = [path for ending in FORMATS if (path := folder / f"{stem}{ending}").is_file()]
        if not found:
            raise UserError(f"{folder} holds no clip {stem}", f"name it {stem}.wav")
        return Output(read(found[0], max_seconds=MAX_OUTPUT_SECONDS), float("nan"))


MAX_BYTES = 100_000_000  # of a reply
WAIT_SECONDS, LONGEST_WAIT = 0.5, 60.0  # before the second try, doubled each time; a server may ask for more
VARIABLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")


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

    def check(self) -> None:
        """Raise `UserError` for what would make every item fail: no such key or placeholder."""
        for value in self.headers.values():
            read_secret(value)
        check_placeholders((self.url, self.body))


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

    def check(self) -> None:
        """Raise `UserError` for what would make every item fail: no such key or placeholder."""
        self.as_http().check()


@dataclass(frozen=True)
class HttpSystem:
    """A server that speaks."""

    name: str
    config: HttpConfig | OpenAIConfig

    def say(self, item: TestItem, prompt: Audio, seed: int) -> Output:
        """Ask the server for one item; `UserError` for whatever goes wrong."""
        config = self.config.as_http() if isinstance(self.config, OpenAIConfig) else self.config
        with tempfile.TemporaryDirectory(prefix="openvalle-") as folder:
            clip, answer = Path(folder) / "prompt.wav", Path(folder) / "answer"
            write(clip, prompt)
            values = placeholder_values(item, seed, clip, answer)
            body = json.dumps(fill_tree(config.body, values)).encode()
            headers = {"Content-Type": "application/json", **{k: read_secret(v) for k, v in config.headers.items()}}
            request = urllib.request.Request(fill(config.url, values), body, headers, method="POST")
            started = time.perf_counter()
            reply = fetch_reply(request, config)
            took = time.perf_counter() - started
            data = sound_in(reply, config.audio_field) if config.audio_field else reply
            if config.pcm_rate:
                return Output(from_pcm(data, config.pcm_rate), took)
            answer.write_bytes(data)
            return Output(read(answer, max_seconds=MAX_OUTPUT_SECONDS), took)


def read_secret(value: str) -> str:
    """Return a header's value with $NAMES replaced from the environment; `ConfigError` if one is not set."""

    def look_up(match: re.Match[str]) -> str:
        name = match.group(1)
        if not os.environ.get(name):
            raise ConfigError(f"the environment variable {name} is not set", f"export {name}=...")
        return os.environ[name]

    return VARIABLE.sub(look_up, value)


def fetch_reply(request: urllib.request.Request, config: HttpConfig) -> bytes:
    """Return the reply's bytes; waits and tries again when the server is overloaded or the line breaks."""
    wait = WAIT_SECONDS
    for left in range(config.tries - 1, -1, -1):
        try:
            with open_url(request, config.timeout) as reply:
                data = reply.read(MAX_BYTES + 1)
            break
        except urllib.error.HTTPError as error:
            if not left or (error.code != 429 and error.code < 500):
                words = " ".join(error.read(4 * SHOWN).decode(errors="replace").split())[:SHOWN]
                raise UserError(f"the server answers {error.code}: {words}") from None
            wait = max(wait, read_wait(error) or 0.0)
        except (OSError, HTTPException) as error:  # timeouts and refused connections are OSErrors
            if not left:
                reason = f"cannot reach {request.host} ({explain_failure(error)})"
                raise UserError(reason, "is the server running?") from None
        time.sleep(min(wait, LONGEST_WAIT))
        wait *= 2
    if len(data) > MAX_BYTES:
        raise UserError(f"the reply is longer than {MAX_BYTES // 1_000_000} MB")
    return data


def sound_in(reply: bytes, field: str) -> bytes:
    """Return the base64 sound at a path such as `data.0.audio` in a JSON reply."""
    try:
        node: Any = json.loads(reply)
        for part in field.split("."):
            node = node[int(part)] if isinstance(node, list) else node[part]
        return base64.b64decode(node.partition("base64,")[2] or node, validate=True)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, binascii.Error):
        raise UserError(f"the reply holds no base64 sound at {field}", "check audio_field") from None


def from_pcm(data: bytes, rate: int) -> Audio:
    """Return bare 16-bit little-endian mono samples as sound at 24 kHz."""
    samples = np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / 32768
    return resample(Audio(samples, rate), RATE)
