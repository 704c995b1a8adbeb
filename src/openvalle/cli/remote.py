"""Speech from a server: `openvalle say --server URL`, and `openvalle doctor --server URL`, which looks at one."""

from __future__ import annotations

import base64
import json
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from openvalle.cli.serve import KEYS
from openvalle.errors import UserError
from openvalle.files import FreeName, atomic_path, likely_path
from openvalle.http_client import explain_failure, open_url, read_wait
from openvalle.hub import VOICE_SUFFIX
from openvalle.pipes import STDOUT

log = logging.getLogger(__name__)

FORMATS = ("wav", "flac", "mp3", "opus", "aac", "pcm")
TRIES, USUAL_WAIT, LONGEST_WAIT = 6, 2.0, 30.0  # while a server is busy or not ready
SECONDS = 600.0  # without a byte, after which nobody waits any longer
LARGEST_CLIP = 10 << 20
BLOCK = 1 << 16
# What a server decides for itself: these options of `say` would do nothing.
LOCAL = (
    *("model", "codec", "device", "window", "attempts", "settings", "candidates", "lexicon", "prompt_mode", "prosody"),
    *("channel", "asr", "prompt_language", "timestamps", "plot", "threads", "adapter"),
)


class RemoteServer:
    """A server that speaks, by its address: with or without /v1."""

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise UserError(f"{url} is no address of a server", "write it as http://127.0.0.1:8000")
        self.url = url.rstrip("/").removesuffix("/v1")

    def ask(self, path: str, body: dict[str, Any] | None = None, tries: int = 1) -> HTTPResponse:
        """Return the answer to a question; `UserError` with what the server says is wrong."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if key := os.environ.get(KEYS, "").partition(",")[0].strip():
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        for left in range(tries - 1, -1, -1):
            try:
                return open_url(request, SECONDS)
            except urllib.error.HTTPError as error:
                if not left or error.code not in (429, 503):
                    raise UserError(
                        f"{self.url} answers {error.code}: {read_error(error)}", advise(error.code)
                    ) from None
                wait = read_wait(error)
                time.sleep(min(USUAL_WAIT if wait is None else wait, LONGEST_WAIT))
            except (OSError, HTTPException, ValueError) as error:
                raise self.explain(error) from None
        raise AssertionError

    def explain(self, error: Exception) -> UserError:
        """Return what to tell of a connection that failed."""
        return UserError(f"cannot reach {self.url} ({explain_failure(error)})", "is `openvalle serve` running there?")

    def say(self, body: dict[str, Any], place: Path | FreeName | None) -> tuple[int, str]:
        """Write the sound that a request gives; return its bytes, and what the server could not honour."""
        with (
            self.ask("/v1/audio/speech", body, TRIES) as answer,
            atomic_path(STDOUT if place is None else place) as part,
        ):
            count = 0
            with part.open("wb") as file:
                for block in self.read(answer):
                    count += file.write(block)
        return count, answer.headers.get("Warning", "")

    def read(self, answer: HTTPResponse) -> Iterator[bytes]:
        """Yield an answer in blocks; `UserError` if it breaks off."""
        try:
            while block := answer.read1(BLOCK):
                yield block
        except (OSError, HTTPException) as error:
            raise self.explain(error) from None


def read_error(error: urllib.error.HTTPError) -> str:
    """Return the message of an answer that is an error."""
    text = error.read(2000).decode(errors="replace")
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return " ".join(text.split())[:200]


def advise(status: int) -> str:
    """Return what to do about an answer."""
    return {401: f"set {KEYS} to the server's key", 404: "", 429: "try again later"}.get(status, "")


def describe_voice(voice: str | None, transcript: str | None, consent: str) -> dict[str, Any]:
    """Return the fields that say whose voice speaks: a name, or a clip that is sent along."""
    if voice is None or not Path(voice).is_file():
        return {} if voice is None else {"voice": voice}
    if Path(voice).suffix == VOICE_SUFFIX:
        raise UserError("a server takes no voice files", "name one of its voices, or give a clip")
    if Path(voice).stat().st_size > LARGEST_CLIP:
        raise UserError(f"{voice} is larger than {LARGEST_CLIP >> 20} MiB", "cut it first")
    data = base64.b64encode(Path(voice).read_bytes()).decode()
    return {"ref_audio": f"data:audio/any;base64,{data}", "ref_text": transcript, "consent": consent or None}


def choose_format(place: Path | FreeName | None, file_format: str | None) -> str:
    """Return the format to ask for; `UserError` for one that servers do not have."""
    path = None if place is None else likely_path(place)
    chosen = file_format or (path.suffix.lower().removeprefix(".") if path is not None else "wav")
    if chosen not in FORMATS:
        raise UserError(f"a server does not write {chosen!r}", f"use one of: {', '.join(FORMATS)}")
    return chosen


def inspect_server(url: str) -> dict[str, Any]:
    """Return what a look at a server shows; `problems` says in order what keeps it from speaking."""
    server = RemoteServer(url)
    report: dict[str, Any] = {"server": server.url}
    problems: list[str] = []

    def look(name: str, path: str) -> Any:
        try:
            with server.ask(path) as answer:
                return json.loads(answer.read(1 << 22))
        except (UserError, ValueError) as error:
            problems.append(f"{name}: {error}")
            return {}

    report["alive"] = look("alive", "/health").get("status") == "healthy"
    if problems:
        return report | {"problems": problems}
    report["ready"] = look("ready", "/ready").get("status") == "ready"
    report["models"] = [model["id"] for model in look("models", "/v1/models").get("data", [])]
    report["voices"] = [voice["name"] for voice in look("voices", "/v1/audio/voices").get("voices", [])]
    for name in ("mp3", "pcm"):
        started = time.monotonic()
        try:
            body = {"model": "tts-1", "voice": "alloy", "input": "This is a test.", "response_format": name}
            with server.ask("/v1/audio/speech", body) as answer:
                first, count = 0.0, 0
                for block in server.read(answer):
                    first = first or time.monotonic() - started
                    count += len(block)
            report[name] = f"first sound after {first:.2f} s, {count} bytes after {time.monotonic() - started:.2f} s"
        except UserError as error:
            problems.append(f"{name}: {error}")
    return report | {"problems": problems}
