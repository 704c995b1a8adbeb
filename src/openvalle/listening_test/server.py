"""A small server for one listening test: pages, clips and answers, with Python's own HTTP server.

It serves a fixed list of names (no request is ever turned into a path), takes small JSON bodies only, and listens
on 127.0.0.1 unless told otherwise. For raters outside, put a reverse proxy with TLS before it.

What a rater's browser is told: everything on the pages, and nothing that says which system a clip is from.

A listening test as a folder of plain files, for any web space or a USB stick; raters send back one file each.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from openvalle.config import Config
from openvalle.errors import UserError
from openvalle.files import atomic_folder
from openvalle.listening_test.answers import Answer, RequestRefused, Store
from openvalle.listening_test.schedule import schedule
from openvalle.listening_test.study import AUDIO_FOLDER, Study, TestKind, load_study

PAGE_FILES = {
    "index.html": "text/html",
    "listen.css": "text/css",
    **dict.fromkeys(("answers.js", "players.js", "listen.js"), "text/javascript"),
}
STUDY_SCRIPT = "study.js"
TRIAL_SECONDS = {TestKind.CMOS: 25, TestKind.MOS: 14, TestKind.SMOS: 22, TestKind.MUSHRA: 75}


def page_file(name: str) -> bytes:
    """Return one of the `PAGE_FILES`."""
    return files("openvalle.listening_test").joinpath("page", name).read_bytes()


def public_study(study: Study) -> dict[str, Any]:
    """Return what the page shows in every trial and before the first."""
    design = study.design
    count = len(study.headphones) + len(study.training) + study.per_rater + len(study.catches)
    return {
        "study": study.id,
        "kind": str(design.kind),
        "title": design.title,
        "question": design.asks(),
        "introduction": [part for part in design.introduction.split("\n\n") if part.strip()],
        "consent": design.consent,
        "scale": design.scale().model_dump(),
        "mustHear": design.must_hear,
        "trials": count,
        "minutes": max(1, round(count * TRIAL_SECONDS[design.kind] / 60)),
    }


def public_trials(study: Study, number: int) -> list[dict[str, Any]]:
    """Return the trials of rater `number` as the page shows them; a catch looks like any other."""
    made = []
    for trial in schedule(study, number):
        text = study.texts.get(trial.item, "") if study.design.show_text else ""
        beside = {name: value for name, value in (("text", text), ("lesson", trial.lesson)) if value}
        made.append({"stage": trial.stage, "clips": list(trial.clips), "reference": trial.reference, **beside})
    return made


def audio_type(name: str) -> str:
    """Return the media type of a clip."""
    return {".flac": "audio/flac", ".wav": "audio/wav", ".mp3": "audio/mpeg"}[Path(name).suffix]


def clip_path(folder: Path, study: Study, name: str) -> Path | None:
    """Return the file of a clip; None for any name that the test does not list, so that no path can be asked for."""
    return folder / AUDIO_FOLDER / name if name in study.clips else None


def export_study(folder: Path, target: Path, raters: int) -> Path:
    """Write the test in `folder` with the trials of `raters` raters into the new folder `target`; return it.

    Nothing in it says which system a clip is from: the key stays in `folder`.
    """
    study = load_study(folder)
    if target.exists():
        raise UserError(f"{target} is there already", "choose another folder")
    with atomic_folder(target) as part:
        for name in PAGE_FILES:
            (part / name).write_bytes(page_file(name))
        shown = public_study(study) | {
            "mode": "files",
            "code": study.design.code,
            "schedules": [public_trials(study, number) for number in range(raters)],
        }
        (part / STUDY_SCRIPT).write_text(f"window.STUDY = {json.dumps(shown)};\n", encoding="utf-8")
        shutil.copytree(folder / AUDIO_FOLDER, part / AUDIO_FOLDER)
    return target


log = logging.getLogger(__name__)

MAX_BODY = 16_384  # bytes; an answer has a few hundred
MAX_CONNECTIONS = 128
IDLE_SECONDS = 20.0  # a connection that says nothing for so long is closed
RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; media-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
CLIP_HEADERS = {"Accept-Ranges": "bytes", "Cache-Control": "private, max-age=86400"}  # names are never used again


class JoinRequest(Config):
    """A rater comes, for the first time or again."""

    rater: str = Field("", pattern=r"^([A-Za-z0-9][A-Za-z0-9._@-]{0,63})?$")
    token: str = Field("", max_length=64)


class AnswerRequest(Config):
    """A rater's answer to one trial."""

    token: str = Field(max_length=64)
    answer: Answer


class FinishRequest(Config):
    """A rater's test is over."""

    token: str = Field(max_length=64)
    comment: str = Field("", max_length=4000)


class ListeningServer(ThreadingHTTPServer):
    """Serves the test in a folder until it is shut down."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        self.folder = folder
        self.study: Study = load_study(folder)
        self.store = Store(self.study, folder)
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            self.store.close()
            raise UserError(
                f"cannot listen on {host}:{port} ({error.strerror or error})", "choose another --port"
            ) from None

    @property
    def url(self) -> str:
        """The address of the test."""
        host, port = self.server_address[0], self.server_address[1]
        name = host.decode() if isinstance(host, bytes) else str(host)
        return f"http://{f'[{name}]' if ':' in name else name}:{port}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve in a thread, unless too many connections are open."""
        if not self._places.acquire(blocking=False):
            log.warning("too many connections; one was turned away")
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection and give its place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def server_close(self) -> None:
        """Stop listening and let go of the answers."""
        super().server_close()
        self.store.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong with one connection; a browser that went away is nothing to worry about."""
        log.info("a connection ended early", exc_info=True)

    def join(self, body: JoinRequest) -> dict[str, Any]:
        """Return a rater's key, trials, and which of them are answered."""
        rater = self.store.join(body.rater, body.token)
        return {
            "token": rater.token,
            "number": rater.number,
            "trials": public_trials(self.study, rater.number),
            "answered": self.store.list_answered(rater),
            **self._end(rater.finished),
        }

    def answer(self, body: AnswerRequest) -> dict[str, Any]:
        """Keep an answer."""
        self.store.answer(body.token, body.answer)
        return {"kept": body.answer.trial}

    def finish(self, body: FinishRequest) -> dict[str, Any]:
        """Close a rater's test."""
        self.store.finish(body.token, body.comment)
        return self._end(True)

    def _end(self, is_finished: bool) -> dict[str, Any]:
        # the code is worth money on some platforms: only who is done is told
        return {"finished": is_finished, "code": self.study.design.code if is_finished else ""}


ADDRESSES: dict[str, tuple[type[Config], Any]] = {  # what is sent there, and what answers it
    "/api/join": (JoinRequest, ListeningServer.join),
    "/api/answer": (AnswerRequest, ListeningServer.answer),
    "/api/finish": (FinishRequest, ListeningServer.finish),
}


class _Handler(BaseHTTPRequestHandler):
    """One connection of the server."""

    server: ListeningServer
    protocol_version = "HTTP/1.1"
    server_version = "openvalle"
    sys_version = ""
    timeout = IDLE_SECONDS

    def do_GET(self) -> None:
        name = urlsplit(self.path).path.removeprefix("/") or "index.html"
        if name in PAGE_FILES:
            self._send(HTTPStatus.OK, page_file(name), f"{PAGE_FILES[name]}; charset=utf-8")
        elif name == STUDY_SCRIPT:
            script = f"window.STUDY = {json.dumps(public_study(self.server.study) | {'mode': 'server'})};\n"
            self._send(HTTPStatus.OK, script.encode(), "text/javascript; charset=utf-8")
        elif path := clip_path(self.server.folder, self.server.study, name.removeprefix("audio/")):
            self._send_clip(path)
        else:
            self._send_json(HTTPStatus.NOT_FOUND, {"error": "there is no such page"})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        try:
            body = self._body()
            if path not in ADDRESSES:
                raise RequestRefused(404, "there is no such address")
            request, answer = ADDRESSES[path]
            self._send_json(HTTPStatus.OK, answer(self.server, request.model_validate_json(body)))
        except RequestRefused as error:
            self._send_json(error.status, {"error": str(error)})
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "the request"
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": f"{where} cannot be used"})
        except UserError as error:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": str(error)})

    def _body(self) -> bytes:
        """Return a small JSON body; `RequestRefused` for anything else."""
        self.close_connection = True  # until the body is read, the next request cannot be found
        if self.headers.get_content_type() != "application/json":
            raise RequestRefused(415, "the body must be JSON")  # a foreign page cannot send this type without asking
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            raise RequestRefused(411, "the length of the body is missing")
        if len(length) > 9 or int(length) > MAX_BODY:
            raise RequestRefused(413, f"the body is longer than {MAX_BODY} bytes")
        body = self.rfile.read(int(length))
        self.close_connection = False
        return body

    def _send_clip(self, path: Path) -> None:
        """Send a clip, or the part asked for: some browsers play nothing from a server that cannot do parts."""
        data = path.read_bytes()
        asked = RANGE.match(self.headers.get("Range", ""))
        if asked is None or asked.groups() == ("", ""):
            self._send(HTTPStatus.OK, data, audio_type(path.name), CLIP_HEADERS)
            return
        first, last = asked.groups()
        start = int(first) if first else max(0, len(data) - int(last))
        end = min(int(last) + 1 if first and last else len(data), len(data))
        if start >= end:
            refusal = {"Content-Range": f"bytes */{len(data)}"}
            self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", audio_type(path.name), refusal)
            return
        part = {**CLIP_HEADERS, "Content-Range": f"bytes {start}-{end - 1}/{len(data)}"}
        self._send(HTTPStatus.PARTIAL_CONTENT, data[start:end], audio_type(path.name), part)

    def _send_json(self, status: int, reply: dict[str, Any]) -> None:
        self._send(status, json.dumps(reply).encode(), "application/json")

    def _send(self, status: int, data: bytes, kind: str, extra: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**HEADERS, **(extra or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing about ordinary requests: addresses of raters are nobody's business."""
