"""uvicorn, with what it leaves open: silent connections end, and a signal lets what was begun be finished."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from openvalle.errors import UserError

log = logging.getLogger(__name__)

HEAD_SECONDS = 10.0  # in which a request's head has to be complete
MOST_CONNECTIONS = 512  # beyond, the one that has been silent for longest makes room
MESSAGE_BYTES = 1 << 18  # of a WebSocket


class Connection(H11Protocol):
    """A connection that is closed if no request comes: uvicorn waits for the first one for ever."""

    _silent: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self._silent = self.loop.call_later(HEAD_SECONDS, self._give_up)
        others = [each for each in self.connections if isinstance(each, Connection) and not each.transport.is_closing()]
        if len(others) > MOST_CONNECTIONS:
            silent = [each for each in others if each.is_idle]
            oldest = min(
                silent, key=lambda each: each._silent.when() if each._silent else 0.0
            )  # this one is silent, too
            oldest.transport.close()

    @property
    def is_idle(self) -> bool:
        """True if no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def handle_events(self) -> None:
        """Wait no longer once a head is complete, and again while half of the next one is there."""
        super().handle_events()
        if not self.is_idle:
            self._stop_waiting()
        elif self._silent is None and not self.transport.is_closing() and self.conn.trailing_data[0]:
            self._silent = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Hand the connection on."""
        self._stop_waiting()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _stop_waiting(self) -> None:
        if self._silent is not None:
            self._silent.cancel()
            self._silent = None

    def _give_up(self) -> None:
        self._silent = None
        if self.is_idle and not self.transport.is_closing():
            self.transport.close()


class StoppableServer(uvicorn.Server):
    """A server that ends when it is asked to, with what it has begun; asked twice, it ends at once."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Hear signals while serving. They are not raised again at the end: who drains and leaves has done its work."""
        if threading.current_thread() is not threading.main_thread():  # only there can signals be heard
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin to end, or do it now."""
        self.force_exit = self.should_exit
        self.should_exit = True


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """Return a socket that listens; `UserError` if the address cannot be had. `option`: what chooses the port."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(MOST_CONNECTIONS)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host}:{port} ({error.strerror or error})", f"choose another {option}"
        ) from None
    return listener


def show_address(listener: socket.socket) -> str:
    """Return where a socket listens, as addresses are written."""
    address, number = listener.getsockname()[:2]
    return f"{f'[{address}]' if ':' in address else address}:{number}"


def make_server(app: Any, drain_seconds: float) -> StoppableServer:
    """Return what serves an app; see `serve`."""
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="websockets-sansio",
        ws_max_size=MESSAGE_BYTES,
        ws_per_message_deflate=False,  # sound does not become smaller
        lifespan="on",
        access_log=False,
        log_config=None,  # as the command line has it
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, round(drain_seconds)),
    )
    return StoppableServer(config)


def serve(app: Any, listener: socket.socket, drain_seconds: float, then: Callable[[], None]) -> None:
    """Serve an app until a signal comes; `then` is called once requests are taken."""
    server = make_server(app, drain_seconds)

    async def run() -> None:
        serving = asyncio.ensure_future(server.serve([listener]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.02)
        if server.started:
            then()
        await serving

    asyncio.run(run())
