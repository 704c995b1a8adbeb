"""Home Assistant's protocol, Wyoming: a text, or one that is still being written, in; 16-bit samples out.

An event is a line of JSON (`type`, `data`, or `data_length` bytes of JSON that follow, and `payload_length` bytes of
sound after them). `describe` -> `info`. `synthesize` (`text`, `voice`) -> `audio-start`, `audio-chunk` ...,
`audio-stop`. A text in pieces comes as `synthesize-start`, `synthesize-chunk` ..., `synthesize-stop`; its sound, which
begins with its first sentence, ends with `audio-stop` and `synthesize-stopped`. What went wrong is an `error`, and the
end of the connection: a client that waits for an `audio-stop` would wait for ever.

The protocol knows no keys. Where the server asks for some, who comes this way is a stranger: built-in voices only.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from pydantic import ValidationError

from openvalle import __version__
from openvalle.server.errors import ApiError, busy, explain_validation, to_api_error
from openvalle.server.orders import Server
from openvalle.server.queue import SEND_SECONDS, ArrivingText
from openvalle.server.schema import SpeechFields, check_text
from openvalle.server.speech import Piece
from openvalle.server.voices import EVERYBODY
from openvalle.synth.batching import Job

log = logging.getLogger(__name__)

MOST_LINE = 1 << 16  # bytes of an event's line
MOST_PART = 1 << 18  # bytes of what follows it
MOST_CONNECTIONS = 64
MOST_UTTERANCES = 8  # of one connection that are not spoken to their end
MOST_WAITING = 20_000  # characters of a text in pieces that were sent and are not spoken yet
EVENT_SECONDS = 10.0  # in which an event that was begun has to be complete
IDLE_SECONDS = 300.0  # in which a client says nothing and nothing is spoken
BUFFER = 64  # pieces that are made before the client has taken them


@asynccontextmanager
async def open_wyoming(server: Server, listener: socket.socket) -> AsyncIterator[None]:
    """Serve who connects to `listener`; at the end nobody new is let in, and who is there has a second to leave."""
    talks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(talks) >= MOST_CONNECTIONS:
            writer.transport.abort()
            return
        talks.add(task)
        try:
            await WyomingConnection(server, reader, writer).run()
        finally:
            talks.discard(task)

    door = await asyncio.start_server(talk, sock=listener, limit=MOST_LINE)
    try:
        yield
    finally:
        door.close()
        if talks:
            await asyncio.wait(talks, timeout=1.0)
        for task in talks:
            task.cancel()


class WyomingConnection:
    """One client's connection. Its utterances are spoken at the same time and sent one after the other."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server, self._reader, self._writer = server, reader, writer
        self._owner = "" if server.settings.keys else EVERYBODY
        self._fields: SpeechFields | None = None  # of a text that comes in pieces
        self._text: ArrivingText | None = None  # that text, once some of it came
        self._utterances: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()  # whose sound is being sent

    async def run(self) -> None:
        """Take events until the client leaves, or something goes wrong."""
        try:
            async with asyncio.TaskGroup() as self._tasks:  # what fails ends the rest
                self._tasks.create_task(self._listen())
        except* (ConnectionError, asyncio.IncompleteReadError):
            pass
        except* Exception as errors:  # noqa: BLE001
            await self._complain(errors.exceptions[0])
        finally:
            self._end_text()
            self._writer.close()

    async def _listen(self) -> None:
        while (event := await self._receive()) is not None:
            await self._take(*event)
        raise ConnectionResetError  # nobody hears what is still being spoken

    async def _complain(self, error: Exception) -> None:
        told = to_api_error(error)
        with suppress(ConnectionError):
            await self._send("error", {"text": told.body()["error"]["message"], "code": told.code or "error"})

    async def _take(self, kind: str, data: dict[str, Any]) -> None:
        """Do what an event asks for. Those that are not known are let pass: the protocol grows."""
        if kind == "describe":
            await self._send("info", await asyncio.to_thread(self._show))
        elif kind == "ping":
            await self._send("pong", {"text": data.get("text")})
        elif kind == "synthesize" and self._fields is None:  # in a stream it only repeats the text, for older servers
            await self._start(_read_fields(data), _read_text(data))
        elif kind == "synthesize-start":
            self._end_text()
            self._fields = _read_fields(data)
        elif kind == "synthesize-chunk" and self._fields is not None:
            await self._add(self._fields, _read_text(data))
        elif kind == "synthesize-stop" and self._fields is not None:
            is_silent = self._text is None
            self._end_text()
            if is_silent:
                self._tasks.create_task(self._stop_in_turn())

    async def _stop_in_turn(self) -> None:
        """Tell the end of an utterance without words, after the sound of those before it."""
        async with self._turn:
            await self._send("synthesize-stopped")

    async def _add(self, fields: SpeechFields, text: str) -> None:
        """Take a piece of a text; the first one that says something starts its utterance."""
        if self._text is None:
            if not text.strip():
                return
            self._text = ArrivingText(self._server.queue.batcher.aside)
            await self._start(fields, self._text)
        if self._text.waiting + len(text) > MOST_WAITING:
            raise ApiError(413, f"more than {MOST_WAITING} characters wait to be spoken", "text", "too_large")
        self._text.put(text)

    def _end_text(self) -> None:
        if self._text is not None:
            self._text.end()
        self._text = self._fields = None

    async def _start(self, fields: SpeechFields, text: str | ArrivingText) -> None:
        """Begin to speak an utterance."""
        if len(self._utterances) >= MOST_UTTERANCES:
            raise busy(429, f"{MOST_UTTERANCES} utterances wait already", code="queue_full")
        order = await asyncio.to_thread(self._server.order, fields, self._owner, text, [])
        job = self._server.queue.submit(order.speak, BUFFER)
        task = self._tasks.create_task(self._speak(job, is_in_pieces=isinstance(text, ArrivingText)))
        self._utterances.add(task)
        task.add_done_callback(self._utterances.discard)

    async def _speak(self, job: Job[Piece], *, is_in_pieces: bool) -> None:
        """Send the sound of a job."""
        form = {"rate": self._server.synthesizer.rate, "width": 2, "channels": 1}
        watch, is_begun = self._server.queue.metrics.watch(), False
        try:
            async with self._turn:
                async for piece in job:
                    watch.see(piece)
                    if not piece.data:
                        continue
                    if not is_begun:
                        await self._send("audio-start", form)
                        is_begun = True
                    await self._send("audio-chunk", form, piece.data)
                if not is_begun:
                    await self._send("audio-start", form)
                await self._send("audio-stop")
                if is_in_pieces:
                    await self._send("synthesize-stopped")
            watch.end()
        finally:
            job.cancel()

    def _show(self) -> dict[str, Any]:
        """Return what this server can do, as Home Assistant reads it."""
        config = self._server.synthesizer.config
        made = {"attribution": {"name": "openvalle", "url": ""}, "installed": True, "version": __version__}
        voices = [
            {
                "name": voice["id"],
                "description": voice["name"],
                "languages": [voice["language"]],
                "speakers": None,
                **made,
            }
            for voice in self._server.voices.show(self._owner)
        ]
        about = f"Zero-shot text to speech ({config.name})"
        program = {"name": "openvalle", "description": about, "voices": voices, "supports_synthesize_streaming": True}
        return {"tts": [program | made]}

    async def _receive(self) -> tuple[str, dict[str, Any]] | None:
        """Return the type and the data of the next event; None at the end."""
        line = await self._read_line()
        if not line:
            return None
        async with asyncio.timeout(EVENT_SECONDS):
            try:
                event = json.loads(line)
                data, kind = dict(event.get("data") or {}), event["type"]
                lengths = [int(event.get(name) or 0) for name in ("data_length", "payload_length")]
                if not isinstance(kind, str) or not all(0 <= length <= MOST_PART for length in lengths):
                    raise ValueError
                if lengths[0]:
                    data |= json.loads(await self._reader.readexactly(lengths[0]))
                await self._reader.readexactly(lengths[1])  # sound: nobody here listens to it
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                raise ApiError(400, "that is no event of the Wyoming protocol", code="bad_event") from None
        return kind, data

    async def _read_line(self) -> bytes:
        """Return the next line; wait for it as long as something is being spoken."""
        waiting = asyncio.ensure_future(self._reader.readline())
        try:
            while not (await asyncio.wait({waiting}, timeout=IDLE_SECONDS))[0]:
                if not self._utterances or self._text is not None:
                    raise ApiError(408, f"nothing was said for {IDLE_SECONDS:.0f} s", code="idle")
            return waiting.result()
        except ValueError:
            raise ApiError(413, f"an event's line is longer than {MOST_LINE} bytes", code="too_large") from None
        finally:
            waiting.cancel()

    async def _send(self, kind: str, data: dict[str, Any] | None = None, payload: bytes = b"") -> None:
        """Send an event; `ConnectionError` if the client does not take it."""
        part = json.dumps(data or {}).encode()
        head = {"type": kind, "version": __version__, "data_length": len(part), "payload_length": len(payload)}
        self._writer.write(json.dumps(head).encode() + b"\n" + part + payload)
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._writer.drain()
        except TimeoutError:
            raise ConnectionAbortedError from None


def _read_fields(data: dict[str, Any]) -> SpeechFields:
    """Return how to speak; a voice that is named by its language is the default one."""
    voice = data.get("voice")
    name = voice.get("name") if isinstance(voice, dict) else None
    markup = "ssml" if data.get("text_format") == "ssml" else "auto"
    try:
        return SpeechFields(voice=None if name == "" else name, response_format="pcm", markup=markup)
    except ValidationError as error:
        raise explain_validation(error.errors()) from None


def _read_text(data: dict[str, Any]) -> str:
    text = data.get("text")
    if not isinstance(text, str):
        raise ApiError(400, "text: it is missing", "text")
    try:
        return check_text(text)
    except ValueError as error:
        raise ApiError(400, f"text: {error}", "text") from None
