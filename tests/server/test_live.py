"""The WebSocket: text in pieces, sound while it is written."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from openvalle.server import live
from openvalle.server.orders import Server
from openvalle.server.queue import SpeechQueue

PATH = "/v1/audio/speech/stream"


def talk(url: str, script: Callable[[ClientConnection], Coroutine[Any, Any, Any]], **options: object) -> Any:
    """Run a client."""

    async def run() -> Any:
        async with connect(f"ws{url.removeprefix('http')}{PATH}", **options) as socket:
            return await asyncio.wait_for(script(socket), 60)

    return asyncio.run(run())


async def say(socket: ClientConnection, *messages: dict[str, Any]) -> None:
    for message in messages:
        await socket.send(json.dumps(message))


async def hear(socket: ClientConnection) -> tuple[list[dict[str, Any]], bytes]:
    """The messages and the sound of one utterance, to its end or an error."""
    told: list[dict[str, Any]] = []
    sound = b""
    while not told or told[-1]["type"] not in ("session.done", "error"):
        message = await socket.recv()
        if isinstance(message, bytes):
            sound += message
        else:
            told.append(json.loads(message))
    return told, sound


def text(words: str) -> dict[str, Any]:
    return {"type": "input.text", "text": words}


DONE = {"type": "input.done"}


def test_text_in_pieces_is_spoken_as_the_synthesizer_streams_it(served, synthesizer, buzz) -> None:
    async def script(socket: ClientConnection):
        await say(socket, {"type": "session.config", "voice": "buzz", "seed": 4})
        await say(socket, *(text(piece) for piece in ("See the s", "aw. So", " we see", " it.")), DONE)
        return await hear(socket)

    told, sound = talk(served.url, script)
    kinds = [message["type"] for message in told]
    assert kinds == ["audio.start", "audio.done", "audio.start", "audio.done", "session.done"]
    starts = [message for message in told if message["type"] == "audio.start"]
    assert [start["sentence_text"] for start in starts] == ["See the saw.", "So we see it."]
    assert starts[0]["sample_rate"] == 24_000 and starts[0]["format"] == "pcm" and starts[1]["sentence_index"] == 1
    words = [word for message in told if message["type"] == "audio.done" for word in message["words"]]
    assert [word["word"] for word in words] == ["See", "the", "saw", "So", "we", "see", "it"]
    times = [word["start_time"] for word in words]
    assert times == sorted(times) and words[-1]["end_time"] <= len(sound) / 48_000 + 0.01
    pieces = synthesizer.stream(iter(["See the saw. ", "So we see it."]), buzz, None, 4)
    wanted = np.concatenate([block.audio.samples for block in pieces])
    heard = np.frombuffer(sound, "<i2").astype(np.float32) / 32768
    assert len(heard) == len(wanted) and np.abs(heard - wanted).max() < 1e-4


def test_a_sentence_is_heard_before_the_next_one_is_written(served) -> None:
    async def script(socket: ClientConnection):
        await say(socket, text("See the saw. And"))
        heard = 0
        while heard < 12_000:  # but for its last third of a second, which depends on whether another one follows
            message = await socket.recv()
            heard += len(message) if isinstance(message, bytes) else 0
        await say(socket, text(" then see."), DONE)
        return await hear(socket)

    told, _ = talk(served.url, script)
    starts = [message["sentence_text"] for message in told if message["type"] == "audio.start"]
    assert starts == ["And then see."]


def test_what_is_flushed_is_spoken_to_its_end_while_the_rest_is_to_come(served) -> None:
    async def script(socket: ClientConnection):
        await say(socket, {"type": "input.flush"}, text("See the"), text(" saw"), {"type": "input.flush"})
        first = []
        while not first or first[-1]["type"] != "audio.done":
            message = await socket.recv()
            first += [] if isinstance(message, bytes) else [json.loads(message)]
        await say(socket, {"type": "input.flush"}, text("and see."), {"type": "input.flush"}, DONE)
        return first, await hear(socket)

    first, (rest, _) = talk(served.url, script)
    texts = [message["sentence_text"] for message in (*first, *rest) if message["type"] == "audio.start"]
    assert texts == ["See the saw", "and see."]
    assert [word["word"] for word in first[-1]["words"]] == ["See", "the", "saw"]
    assert rest[-1]["utterance_index"] == 0


def test_utterances_follow_each_other(served) -> None:
    async def script(socket: ClientConnection):
        await say(socket, text("Saw."), DONE, text("See."), DONE)
        return [await hear(socket) for _ in range(2)]

    first, second = talk(served.url, script)
    assert [told[-1]["utterance_index"] for told, _ in (first, second)] == [0, 1]
    assert first[1] != second[1] and all(len(sound) > 1000 for _, sound in (first, second))


def test_many_quick_utterances_are_queued_and_heard_in_their_order(served, monkeypatch) -> None:
    """However long each takes to be made ready, in threads that run at the same time."""
    order, queued = Server.order, list[float]()
    monkeypatch.setattr(
        Server, "order", lambda self, fields, *rest: time.sleep(fields.speed / 10) or order(self, fields, *rest)
    )
    submit = SpeechQueue.submit

    def note(self, work, *rest):
        queued.append(work.__self__.options.speed)
        return submit(self, work, *rest)

    monkeypatch.setattr(SpeechQueue, "submit", note)
    speeds = [2.0 - number / 8 for number in range(live.MOST_UTTERANCES)]  # the first ones take longest

    async def script(socket: ClientConnection):
        for speed in speeds:
            await say(socket, {"type": "session.config", "speed": speed}, text("Saw."), DONE)
        return [await hear(socket) for _ in speeds]

    heard = talk(served.url, script)
    assert [told[-1]["utterance_index"] for told, _ in heard] == list(range(len(speeds)))
    assert queued == speeds


def test_other_formats_come_as_one_stream(served) -> None:
    async def script(socket: ClientConnection):
        await say(socket, {"type": "session.config", "session": {"response_format": "mp3", "speed": 1.5}})
        await say(socket, text("Saw. See."), DONE)
        return await hear(socket)

    told, sound = talk(served.url, script)
    assert told[0]["format"] == "mp3" and sound[:3] == b"ID3"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", None),
        ("[]", None),
        ('{"type": 1}', None),
        ("[" * 50_000, None),
        ('{"type": "input.text", "text": 7}', None),
        ('{"type": "input.text", "text": "\\ud800"}', None),
        ('{"type": "session.config", "speed": 99}', None),
        (b"\x00\x01", None),
        (json.dumps({"type": "input.text", "text": "a " * 30_000}), "too_large"),
    ],
)
def test_a_message_that_is_none_ends_the_session_with_an_error(served, message, code) -> None:
    async def script(socket: ClientConnection):
        await socket.send(message)
        told, _ = await hear(socket)
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 20)
        return told[-1]["error"]

    error = talk(served.url, script)
    assert error["type"] == "invalid_request_error" and (code is None or error["code"] == code)


def test_what_cannot_be_spoken_is_an_error_and_the_session_goes_on(served) -> None:
    async def script(socket: ClientConnection):
        await say(socket, {"type": "input.sing"})
        unknown, _ = await hear(socket)
        await say(socket, text("..."), DONE)
        silent, _ = await hear(socket)
        await say(socket, {"type": "session.config", "voice": "nobody"}, text("Saw."), DONE)
        missing, _ = await hear(socket)
        await say(socket, {"type": "session.config"}, text("Saw."), DONE)
        return unknown, silent, missing, await hear(socket)

    unknown, silent, missing, (told, sound) = talk(served.url, script)
    assert unknown[-1]["error"]["code"] == "unknown_message"
    assert "spoken" in silent[-1]["error"]["message"] and missing[-1]["error"]["param"] == "voice"
    assert told[-1]["type"] == "session.done" and len(sound) > 1000


def test_being_silent_is_quick_and_a_client_that_goes_frees_its_place(served) -> None:
    batcher = served.server.queue.batcher

    async def interrupted(socket: ClientConnection):
        await say(socket, text("See the saw. " * 40), DONE)
        while not isinstance(await socket.recv(), bytes):
            pass
        started = time.monotonic()
        await say(socket, {"type": "input.cancel"}, text("See."), DONE)
        told, _ = await hear(socket)
        again, sound = await hear(socket)
        return told[-1], again[-1], sound, time.monotonic() - started

    cancelled, again, sound, seconds = talk(served.url, interrupted)
    assert cancelled["cancelled"] and again["type"] == "session.done" and len(sound) > 1000
    assert seconds < 20

    async def gone(socket: ClientConnection):
        await say(socket, text("See the saw. " * 40))
        while not isinstance(await socket.recv(), bytes):
            pass

    talk(served.url, gone)
    deadline = time.monotonic() + 20
    while batcher.load.running and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not batcher.load.running and not batcher.load.rows


def test_keys_and_foreign_pages(start) -> None:
    one = start(keys=("secret",), origins=("https://my.site",))

    async def script(socket: ClientConnection):
        await say(socket, text("Saw."), DONE)
        return (await hear(socket))[0][-1]["type"]

    assert talk(one.url, script, additional_headers={"Authorization": "Bearer secret"}) == "session.done"
    protocols = ["realtime", "openai-insecure-api-key.secret"]
    assert talk(one.url, script, subprotocols=protocols) == "session.done"
    assert talk(one.url, script, subprotocols=protocols, origin="https://my.site") == "session.done"
    with pytest.raises(InvalidStatus):
        talk(one.url, script)
    with pytest.raises(InvalidStatus):
        talk(one.url, script, subprotocols=protocols, origin="https://evil.site")


def test_a_client_that_says_nothing_is_sent_away(served, monkeypatch) -> None:
    monkeypatch.setattr(live, "IDLE_SECONDS", 0.3)

    async def script(socket: ClientConnection):
        return (await hear(socket))[0][-1]["error"]["code"]

    assert talk(served.url, script) == "idle"


def test_there_are_only_so_many_sessions(served, monkeypatch) -> None:
    monkeypatch.setattr(live, "MOST_SESSIONS", 1)

    async def script(socket: ClientConnection):
        async def other(second: ClientConnection):
            return (await hear(second))[0][-1]["error"]["code"]

        refused = await asyncio.to_thread(talk, served.url, other)
        await say(socket, text("Saw."), DONE)
        return refused, (await hear(socket))[0][-1]["type"]

    assert talk(served.url, script) == ("too_many_sessions", "session.done")
    deadline = time.monotonic() + 10
    while served.server.sessions:
        assert time.monotonic() < deadline
        time.sleep(0.02)
