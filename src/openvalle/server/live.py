"""A WebSocket that takes a text in pieces and gives its sound while it is being written.

The client sends JSON: `session.config` (voice, response_format, speed ...), `input.text` (`text`), `input.flush`
(what was written so far is complete), `input.done` (the utterance is, too; another may follow), `input.cancel` (be
silent) and `session.close`. The server answers
`audio.start` and `audio.done` (with words in time) around the binary frames of each sentence, `session.done` after an
utterance, and `error`. Its frames, joined, are one file. A sentence is spoken as soon as it is complete,
but for its last third of a second, which depends on whether another one follows; a text is never changed inside of one.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import ValidationError

from openvalle.server.dev import show_word
from openvalle.server.errors import ApiError, busy, explain_validation, to_api_error
from openvalle.server.guard import SOCKET_KEY
from openvalle.server.orders import Owner, Server, State
from openvalle.server.queue import SEND_SECONDS, ArrivingText
from openvalle.server.schema import SpeechFields, check_text
from openvalle.server.speech import Piece, Usage
from openvalle.synth.batching import Job
from openvalle.synth.plan import FLUSH

log = logging.getLogger(__name__)
router = APIRouter()

IDLE_SECONDS = 300.0  # in which a client says nothing and nothing is spoken
MOST_WAITING = 20_000  # characters that were sent and not spoken yet
MOST_SESSIONS = 128
BUFFER = 64  # pieces that are made before the client has taken them
FORMAT = "pcm"  # by default: the one that needs no decoder
MOST_UTTERANCES = 8  # that wait to be sent


@router.websocket("/v1/audio/speech/stream")
async def speak_live(socket: WebSocket, server: State, owner: Owner) -> None:
    """Serve one client."""
    offered = ",".join(socket.scope.get("subprotocols", [])).split(",")  # some servers hand them over unsplit
    names = [name.strip() for name in offered if name.strip() and not name.strip().startswith(SOCKET_KEY)]
    await socket.accept(names[0] if names else None)
    session = Session(socket, server, owner)
    server.sessions += 1
    try:
        if server.sessions > MOST_SESSIONS:
            raise busy(503, f"{MOST_SESSIONS} sessions are open already", code="too_many_sessions")
        await session.run()
    except WebSocketDisconnect:
        pass
    except ApiError as error:
        with suppress(RuntimeError, WebSocketDisconnect):
            await socket.send_json({"type": "error", **error.body()})
            await socket.close(1013 if error.status_code in (429, 503) else 1008)
    finally:
        server.sessions -= 1
        session.stop()


class Session:
    """One client's utterances. The next one may be written, and is spoken, while the one before is being sent."""

    def __init__(self, socket: WebSocket, server: Server, owner: str) -> None:
        self._socket, self._server, self._owner = socket, server, owner
        self._fields = SpeechFields(response_format=FORMAT)
        self._text: ArrivingText | None = None  # of the utterance that is being written
        self._utterances: set[asyncio.Task[None]] = set()
        self._order = asyncio.Lock()  # whose job is being queued; locks are given in the order in which they are asked
        self._turn = asyncio.Lock()  # whose sound is being sent
        self._count = 0

    async def run(self) -> None:
        """Take messages until the client closes."""
        while True:
            kind, values = await self._receive()
            if kind == "session.config":
                self._configure(values)
            elif kind == "input.text":
                self._take(values.get("text", ""))
            elif kind == "input.done":
                self._end_text()
            elif kind == "input.flush":
                self._flush()
            elif kind == "input.cancel":
                self.stop()
            elif kind == "session.close":
                await self._socket.close()
                return
            else:
                await self._complain(ApiError(400, f"there is no message {kind[:60]!r}", "type", "unknown_message"))

    def stop(self) -> None:
        """End everything that is being spoken."""
        self._end_text()
        for task in self._utterances:
            task.cancel()

    async def _receive(self) -> tuple[str, dict[str, Any]]:
        """Return the type and the fields of the next message; `ApiError` for what is none, or does not come."""
        waiting = asyncio.ensure_future(self._socket.receive_text())
        try:
            while not (await asyncio.wait({waiting}, timeout=IDLE_SECONDS))[0]:
                if not self._utterances or self._text is not None:
                    raise ApiError(408, f"nothing was said for {IDLE_SECONDS:.0f} s", code="idle")
            text = check_text(waiting.result())
            values = json.loads(text)
        except KeyError:
            raise ApiError(400, "messages are texts of JSON") from None
        except (ValueError, RecursionError):
            raise ApiError(400, "the message is not valid JSON") from None
        finally:
            waiting.cancel()
        if not isinstance(values, dict) or not isinstance(values.get("type"), str):
            raise ApiError(400, "a message is an object with a type", "type")
        return values.pop("type"), values

    def _configure(self, values: dict[str, Any]) -> None:
        """Take the manner of the utterances that begin from now on."""
        nested = values.get("session")
        chosen = {"response_format": FORMAT, **(nested if isinstance(nested, dict) else values)}
        try:
            self._fields = SpeechFields.model_validate(chosen)
        except ValidationError as error:
            raise explain_validation(error.errors()) from None

    def _take(self, text: Any) -> None:
        """Take some text; the first of an utterance starts its job."""
        if not isinstance(text, str):
            raise ApiError(400, "text: it is no text", "text")
        try:
            text = check_text(text)
        except ValueError as error:
            raise ApiError(400, f"text: {error}", "text") from None
        if self._text is None:
            if not text.strip():
                return
            if len(self._utterances) >= MOST_UTTERANCES:
                raise busy(429, f"{MOST_UTTERANCES} utterances wait already", code="queue_full")
            self._text = ArrivingText(self._server.queue.batcher.aside)
            task = asyncio.create_task(self._speak(self._text, self._fields, self._count))
            self._utterances.add(task)
            task.add_done_callback(self._utterances.discard)
            self._count += 1
        if self._text.waiting + len(text) > MOST_WAITING:
            raise ApiError(413, f"more than {MOST_WAITING} characters wait to be spoken", "text", "too_large")
        self._text.put(text)

    def _flush(self) -> None:
        """Let what was written be spoken to its end; the utterance goes on."""
        if self._text is not None:
            self._text.put(FLUSH)

    def _end_text(self) -> None:
        if self._text is not None:
            self._text.end()
            self._text = None

    async def _speak(self, text: ArrivingText, fields: SpeechFields, number: int) -> None:
        """Speak and send one utterance."""
        notes: list[str] = []
        job: Job[Piece] | None = None
        done: dict[str, Any] = {"type": "session.done", "utterance_index": number}
        try:
            async with self._order:
                order = await asyncio.to_thread(self._server.order, fields, self._owner, text, notes)
                job = self._server.queue.submit(order.speak, BUFFER)
            async with self._turn:  # nobody comes between: nothing is waited for
                await self._send(order.file_format, job, number)
                await self._say(done | {"warnings": notes})
        except asyncio.CancelledError:
            with suppress(RuntimeError, WebSocketDisconnect):
                await self._socket.send_json(done | {"cancelled": True})
            raise
        except WebSocketDisconnect:
            pass  # whoever receives sees it, too
        except Exception as error:  # noqa: BLE001
            await self._complain(to_api_error(error))
        finally:
            text.end()
            if job is not None:
                job.cancel()

    async def _send(self, file_format: str, job: Job[Piece], number: int) -> None:
        """Send the sound of a job, sentence by sentence."""
        watch, sentence, count, usage = self._server.queue.metrics.watch(), 0, 0, Usage()
        place = {"utterance_index": number}
        is_open = False
        async for piece in job:
            watch.see(piece)
            if not is_open and piece.text:
                is_open, count = True, 0
                about = {
                    "sentence_text": piece.text,
                    "format": file_format,
                    "sample_rate": self._server.synthesizer.rate,
                }
                await self._say({"type": "audio.start", **place, "sentence_index": sentence, **about})
            if piece.data:
                count += len(piece.data)
                await self._say(piece.data)
            if piece.speech is not None:
                usage.add(piece.speech)
                facts = {"total_bytes": count, "words": [show_word(word) for word in piece.words], "error": False}
                await self._say({"type": "audio.done", **place, "sentence_index": sentence, **facts})
                is_open, sentence = False, sentence + 1
        watch.end()

    async def _say(self, message: dict[str, Any] | bytes) -> None:
        """Send a message; `WebSocketDisconnect` if the client does not take it."""
        try:
            async with asyncio.timeout(SEND_SECONDS):
                if isinstance(message, bytes):
                    await self._socket.send_bytes(message)
                else:
                    await self._socket.send_json(message)
        except (TimeoutError, RuntimeError) as error:
            raise WebSocketDisconnect(1006) from error

    async def _complain(self, error: ApiError) -> None:
        with suppress(WebSocketDisconnect):
            await self._say({"type": "error", **error.body()})
