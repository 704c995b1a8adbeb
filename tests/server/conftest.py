"""A real server on a free port, with a tiny model: one for all tests that ask nothing special of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import pytest

if all(find_spec(name) for name in ("fastapi", "httpx", "openai")):
    import httpx
    import openai

    from openvalle.server.app import create_app
    from openvalle.server.orders import Server, Settings
    from openvalle.server.run import listen, make_server
    from openvalle.synth.synthesizer import Synthesizer
    from openvalle.synth.voice import Voice
else:  # `make test` installs them
    collect_ignore_glob = ["test_*.py"]

PATIENCE = 60.0  # seconds


@dataclass(frozen=True)
class Running:
    """A server that listens."""

    url: str
    server: Server  # what its routes share
    folder: Path  # of uploads
    wyoming: int  # its port for Home Assistant's protocol

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def client(self, key: str = "any", **options: object) -> openai.OpenAI:
        """The real client."""
        return openai.OpenAI(
            base_url=f"{self.url}/v1", api_key=key, **{"max_retries": 0, "timeout": PATIENCE} | options
        )

    def http(self, key: str = "") -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE)


@contextmanager
def running(synthesizer: Synthesizer, folder: Path, voice: Voice | None, settings: Settings | None = None):
    """Serve in a thread until the block ends."""
    listener, door = listen("127.0.0.1", 0), listen("127.0.0.1", 0)
    app = create_app(synthesizer, folder, settings, voice, door)
    server = make_server(app, (settings or Settings()).drain_seconds)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        for _ in range(round(PATIENCE * 20)):
            if server.started and httpx.get(f"{url}/ready").status_code == 200:
                break
            threading.Event().wait(0.05)
        yield Running(url, app.state.server, folder, door.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


@pytest.fixture(scope="session")
def buzz(tiny_voice: Voice) -> Voice:
    """The voice of requests that name none."""
    return replace(tiny_voice, name="buzz")


@pytest.fixture(scope="session")
def hum(synthesizer: Synthesizer, speak) -> Voice:
    """Another one."""
    found = synthesizer.voice(speak(160.0), "saw, see, saw, see", consent="nobody's: made of buzz and hiss")
    return replace(found, name="hum")


@pytest.fixture(scope="session")
def served(synthesizer: Synthesizer, buzz: Voice, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server without keys."""
    with running(synthesizer, tmp_path_factory.mktemp("uploads"), buzz) as one:
        yield one


@pytest.fixture
def start(synthesizer: Synthesizer, buzz: Voice, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """A function that starts a server of one's own with settings, or another model, or folder."""
    with ExitStack() as stack:

        def begin(model: Synthesizer = synthesizer, folder: Path = tmp_path / "uploads", **settings: object) -> Running:
            return stack.enter_context(running(model, folder, buzz, Settings(**settings)))  # type: ignore[arg-type]

        yield begin
