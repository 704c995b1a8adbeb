"""A program as a system: run once per item, without a shell; and clips that are there already."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from openvalle.audio import Audio
from openvalle.config import Config
from openvalle.errors import UserError
from openvalle.evaluate.systems.base import (
    MAX_OUTPUT_SECONDS,
    MAX_SECONDS,
    SHOWN,
    Output,
    check_placeholders,
    fill,
    placeholder_values,
    settings_digest,
)
from openvalle.evaluate.test_list import TestItem
from openvalle.files import expand_home
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
