"""A server that really listens, with a tiny model: what the clients talk to."""

from __future__ import annotations

import asyncio
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

for package in ("fastapi", "uvicorn", "prometheus_client", "multipart"):
    pytest.importorskip(package, reason="the server's packages are not installed")

from fastapi import FastAPI

from openvalle.server.app import create_app
from openvalle.server.orders import Settings
from openvalle.server.run import listen, make_server

READY_SECONDS = 60.0


@dataclass(frozen=True)
class Running:
    """A server: where it is, and the app inside."""

    port: int
    wyoming: int
    app: FastAPI

    @property
    def url(self) -> str:
        """Where it is, without /v1."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def run_server(synthesizer, voice, folder: Path, **settings) -> Iterator[Running]:
    """Yield a server that is ready, and end it as a signal would."""
    listener, door = listen("127.0.0.1", 0), listen("127.0.0.1", 0)
    app = create_app(synthesizer, folder, Settings(**settings), voice, door)
    server = make_server(app, 5.0)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    running = Running(listener.getsockname()[1], door.getsockname()[1], app)
    try:
        until = time.monotonic() + READY_SECONDS
        while not app.state.server.queue.is_ready:
            assert time.monotonic() < until and thread.is_alive(), "the server does not come up"
            time.sleep(0.02)
        assert urllib.request.urlopen(f"{running.url}/ready", timeout=10).status == 200
        yield running
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive(), "the server does not end"


@pytest.fixture(scope="session")
def named_voice(tiny_voice):
    """The voice of the server, by a name."""
    return replace(tiny_voice, name="anna")


@pytest.fixture(scope="session")
def server(synthesizer, named_voice, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that asks for no key."""
    with run_server(synthesizer, named_voice, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def locked_server(synthesizer, named_voice, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that asks for the key "secret"."""
    with run_server(synthesizer, named_voice, tmp_path_factory.mktemp("locked"), keys=("secret",)) as running:
        yield running
