"""Between asyncio and the engine's threads: jobs are queued, followed and, when their client goes away, ended."""

from __future__ import annotations

import asyncio
import logging
import queue
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, TypeVar

from fastapi import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from openvalle.errors import UserError
from openvalle.server.errors import ApiError, ClientGone, busy, to_api_error
from openvalle.server.metrics import Metrics, RequestTimer
from openvalle.server.speech import Order, Piece
from openvalle.synth.batching import Batcher, BatcherClosed, Job
from openvalle.synth.synthesizer import Synthesizer

T = TypeVar("T")
log = logging.getLogger(__name__)

WHOLE = 1 << 20  # items that a job may have ready: an answer of bounded length never waits for a slow reader
WARM_AGAIN = 5.0  # seconds after which the first words are tried again
SEND_SECONDS = 60.0  # a client that takes nothing for so long is gone


class SpeechQueue:
    """The engine and its jobs."""

    def __init__(self, synthesizer: Synthesizer, rows: int, waiting: int) -> None:
        """`rows`: sentences that are decoded at a time; `waiting`: requests that may wait for their turn."""
        self.batcher = Batcher(synthesizer, rows=rows, waiting=waiting)
        self.metrics = Metrics(lambda: self.batcher.load)
        self.is_ready = False

    def submit(self, work: Callable[[Synthesizer], Iterable[T]], buffer: int = WHOLE) -> Job[T]:
        """Queue a job; `ApiError` (429, 503) if it cannot be taken."""
        if not self.is_ready:
            raise busy(503, "the model is being made ready; ask again soon", 2, "not_ready")
        return self.batcher.submit(work, buffer)

    async def warm_up(self, order: Order | None) -> None:
        """Speak once, so that the first request does not wait for what is made ready at first use.

        Where that fails the server is not ready (memory is short, a device is not there yet), and tries again; only
        words that this model cannot say (`UserError`) say nothing of others.
        """
        while order is not None:
            try:
                await self.batcher.submit(order.speak).wait()
                break
            except BatcherClosed:
                return
            except UserError as error:
                log.warning("the first words could not be spoken: %s", error)
                break
            except Exception as error:  # noqa: BLE001
                log.error("the first words could not be spoken, again in %.0f s: %r", WARM_AGAIN, error)
                await asyncio.sleep(WARM_AGAIN)
        self.is_ready = True

    async def close(self, seconds: float) -> None:
        """Let the jobs there are finish, for so many seconds at most."""
        self.is_ready = False
        await asyncio.to_thread(self.batcher.close, drain=True, timeout=seconds)


async def while_connected(receive: Receive, jobs: Sequence[Job[Any]], work: Awaitable[T]) -> T:
    """Return what `work` gives; `ClientGone`, and the end of the jobs, as soon as the client leaves.

    The request's body must have been read: from then on the next message is that the client is gone.
    """

    async def wait_gone() -> None:
        message: Message = {"type": ""}
        while message["type"] != "http.disconnect":
            message = await receive()

    doing, gone = asyncio.ensure_future(work), asyncio.ensure_future(wait_gone())
    try:
        await asyncio.wait({doing, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientGone
        return doing.result()
    finally:
        for job in jobs:
            job.cancel()
        for task in (doing, gone):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def finish(request: Request, job: Job[T]) -> T:
    """Return the last item of a job; `ApiError` for what went wrong, `ClientGone` if nobody wants it any more."""

    async def wait() -> T:
        try:
            return await job.wait()
        except Exception as error:
            raise to_api_error(error) from error

    return await while_connected(request.receive, [job], wait())


class JobResponse(Response):
    """An answer that is sent while a job makes it. Its head leaves with the first bytes: what fails before is an error.

    `render`: pieces -> bytes; `explain`: what to send of an error in the middle, else the connection is broken off, so
    that nobody takes half of an answer for the whole.
    """

    def __init__(
        self,
        job: Job[Piece],
        watch: RequestTimer,
        media_type: str,
        headers: Mapping[str, str],
        render: Callable[[AsyncIterator[Piece]], AsyncIterator[bytes]],
        explain: Callable[[ApiError], bytes] | None = None,
    ) -> None:
        super().__init__(None, 200, dict(headers), media_type)
        if "content-length" in self.headers:
            del self.headers["content-length"]
        self._job, self._watch, self._render, self._explain = job, watch, render, explain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        with suppress(ClientGone):
            await while_connected(receive, [self._job], self._send(send))

    async def _send(self, send: Send) -> None:
        begun = False
        try:
            async for data in self._render(self._pieces()):
                if not data:
                    continue
                if not begun:
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                    begun = True
                await self._send_some(send, data)
        except Exception as error:
            if not begun:
                raise to_api_error(error) from error
            if self._explain is None:
                raise
            await self._send_some(send, self._explain(to_api_error(error)))
        self._watch.end()
        await send({"type": "http.response.body", "body": b""})

    async def _pieces(self) -> AsyncIterator[Piece]:
        async for piece in self._job:
            self._watch.see(piece)
            yield piece

    async def _send_some(self, send: Send, data: bytes) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await send({"type": "http.response.body", "body": data, "more_body": True})
        except TimeoutError:
            raise ClientGone from None


class ArrivingText:
    """A text that comes in pieces: put in by asyncio, read by a job's thread, which waits for more."""

    def __init__(self, aside: Callable[[], AbstractContextManager[None]]) -> None:
        """`aside`: what a job's thread waits in (`Batcher.aside`)."""
        self._pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._aside = aside
        self.waiting = 0  # characters that nobody has read yet

    def put(self, text: str) -> None:
        """Add some text."""
        self.waiting += len(text)
        self._pieces.put(text)

    def end(self) -> None:
        """Nothing more comes."""
        self._pieces.put(None)

    def __iter__(self) -> Iterator[str]:
        while (piece := self._get()) is not None:
            yield piece
            self.waiting -= len(piece)

    def _get(self) -> str | None:
        with suppress(queue.Empty):
            return self._pieces.get_nowait()
        with self._aside():
            return self._pieces.get()
