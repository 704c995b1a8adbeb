"""Home Assistant's Wyoming integration, with the `wyoming` package that it uses as the client.

What it sends and waits for was read in home-assistant/core `homeassistant/components/wyoming/tts.py`: in
`_write_tts_message` a start, chunks as the language model writes them, the whole text once more as `synthesize`, a
stop; in `_read_tts_audio` an `audio-start`, from which a WAV header is made, chunks, and `synthesize-stopped`. Without
streaming (`async_get_tts_audio`) it reads up to `audio-stop` on a connection of its own.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("wyoming", reason="Home Assistant's client is not installed")

from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info, SelectProgram
from wyoming.ping import Ping, Pong
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)

from openvalle.audio import Audio
from openvalle.server import wyoming

TEXT = "Saw, see. See, saw. A seesaw sees."
SECONDS = 60.0


def talk(port: int, *events: Event, last: str = "audio-stop") -> list[Event]:
    """Send events and return what comes back, up to and with the type `last`, or the end of the connection."""

    async def run() -> list[Event]:
        async with asyncio.timeout(SECONDS), AsyncTcpClient("127.0.0.1", port) as client:
            for event in events:
                await client.write_event(event)
            got: list[Event] = []
            while (event := await client.read_event()) is not None:
                got.append(event)
                if event.type == last:
                    break
            return got

    return asyncio.run(run())


def sound(events: list[Event]) -> np.ndarray:
    """Return the samples of the chunks, which all say what `audio-start` says."""
    start = next(AudioStart.from_event(event) for event in events if AudioStart.is_type(event.type))
    chunks = [AudioChunk.from_event(event) for event in events if AudioChunk.is_type(event.type)]
    form = (start.rate, start.width, start.channels)
    assert form == (24000, 2, 1) and all((chunk.rate, chunk.width, chunk.channels) == form for chunk in chunks)
    return np.frombuffer(b"".join(chunk.audio for chunk in chunks), "<i2")


def expect(served, voice, text) -> np.ndarray:
    """Return what the model says without a server; `text`: whole, or an iterator of pieces."""
    blocks = [block.audio.samples for block in served.server.synthesizer.stream(text, voice)]
    return np.frombuffer(Audio(np.concatenate(blocks), 24000).pcm(), "<i2")


def close_to(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and int(np.abs(one.astype(int) - other).max()) <= 4  # 1e-4 of full scale


def test_info_is_what_home_assistant_reads(served) -> None:
    (event,) = talk(served.wyoming, Describe().event(), last="info")
    info = Info.from_event(event)
    program = next(program for program in info.tts if program.installed)
    assert program.supports_synthesize_streaming and program.name == "openvalle"
    (voice,) = [voice for voice in program.voices if voice.name == "buzz"]
    assert voice.installed and voice.languages == ["en"] and voice.description == "buzz"
    assert not info.asr and info.satellite is None


def test_a_text_becomes_the_sound_that_the_model_gives(served, buzz) -> None:
    got = talk(served.wyoming, Synthesize(TEXT, SynthesizeVoice(name="buzz")).event())
    kinds = [event.type for event in got]
    assert kinds[0] == "audio-start" and kinds[-1] == "audio-stop" and set(kinds[1:-1]) == {"audio-chunk"}
    assert close_to(sound(got), expect(served, buzz, TEXT))


@pytest.mark.parametrize("voice", [None, SynthesizeVoice(language="en"), SynthesizeVoice(name="alloy")])
def test_without_a_known_name_the_default_voice_speaks(served, buzz, voice) -> None:
    assert close_to(sound(talk(served.wyoming, Synthesize("See.", voice).event())), expect(served, buzz, "See."))


def test_a_text_in_pieces_is_the_same_sound(served, buzz) -> None:
    """Pieces end in the middle of words; the whole text comes once more, and is not spoken twice."""
    pieces = [TEXT[place : place + 5] for place in range(0, len(TEXT), 5)]
    got = talk(
        served.wyoming,
        SynthesizeStart().event(),
        *(SynthesizeChunk(piece).event() for piece in pieces),
        Synthesize(TEXT).event(),
        SynthesizeStop().event(),
        last="synthesize-stopped",
    )
    kinds = [event.type for event in got]
    assert kinds[0] == "audio-start" and kinds[-2:] == ["audio-stop", "synthesize-stopped"]
    assert kinds.count("audio-start") == kinds.count("audio-stop") == 1
    assert close_to(sound(got), expect(served, buzz, iter(pieces)))


def test_the_first_sentence_is_heard_before_the_text_is_complete(served) -> None:
    async def run() -> None:
        async with asyncio.timeout(SECONDS), AsyncTcpClient("127.0.0.1", served.wyoming) as client:
            await client.write_event(SynthesizeStart().event())
            await client.write_event(SynthesizeChunk("Saw, see. See, sa").event())
            assert AudioStart.is_type((await client.read_event()).type)
            assert AudioChunk.is_type((await client.read_event()).type)
            await client.write_event(SynthesizeChunk("w.").event())
            await client.write_event(SynthesizeStop().event())
            while not SynthesizeStopped.is_type((await client.read_event()).type):
                pass

    asyncio.run(run())


def test_a_text_of_nothing_ends_at_once(served) -> None:
    got = talk(
        served.wyoming,
        SynthesizeStart().event(),
        SynthesizeChunk(" \n").event(),
        SynthesizeStop().event(),
        last="synthesize-stopped",
    )
    assert [event.type for event in got] == ["synthesize-stopped"]


def test_a_text_of_nothing_waits_for_the_sound_of_the_one_before(served, buzz) -> None:
    one, none = SynthesizeChunk(TEXT).event(), SynthesizeChunk(" ").event()

    async def run() -> list[Event]:
        async with asyncio.timeout(SECONDS), AsyncTcpClient("127.0.0.1", served.wyoming) as client:
            for chunk in (one, none):
                for event in (SynthesizeStart().event(), chunk, SynthesizeStop().event()):
                    await client.write_event(event)
            got: list[Event] = []
            while sum(SynthesizeStopped.is_type(event.type) for event in got) < 2:
                got.append(await client.read_event())
            return got

    got = asyncio.run(run())
    assert [event.type for event in got][-3:] == ["audio-stop", "synthesize-stopped", "synthesize-stopped"]
    assert close_to(sound(got), expect(served, buzz, iter([TEXT])))


def test_several_texts_on_one_connection_come_in_turn(served, buzz) -> None:
    texts = ["See.", "Saw, saw.", "A seesaw sees."]

    async def run() -> list[np.ndarray]:
        sounds = []
        async with asyncio.timeout(SECONDS), AsyncTcpClient("127.0.0.1", served.wyoming) as client:
            for text in texts:
                await client.write_event(Synthesize(text).event())
            for _ in texts:
                got = []
                while not AudioStop.is_type((event := await client.read_event()).type):
                    got.append(event)
                sounds.append(sound(got))
        return sounds

    for text, heard in zip(texts, asyncio.run(run()), strict=True):
        assert close_to(heard, expect(served, buzz, text))


def test_ssml_is_read(served, buzz) -> None:
    got = talk(served.wyoming, Synthesize('<speak>See.<break time="1s"/>Saw.</speak>', text_format="ssml").event())
    assert close_to(sound(got), expect(served, buzz, "See.[pause:1s]Saw."))


def test_unknown_events_are_let_pass(served) -> None:
    """Newer clients send more: a server that closes on it cannot be used by them."""
    got = talk(
        served.wyoming,
        Event("set-mood", {"mood": "gay"}, b"\0" * 1000),
        SelectProgram("openvalle").event(),
        SynthesizeChunk("no start came before").event(),
        SynthesizeStop().event(),
        Ping("here?").event(),
        last="pong",
    )
    assert [Pong.from_event(event).text for event in got] == ["here?"]


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([Synthesize("See.", SynthesizeVoice(name="nobody"))], "voice_not_found"),
        ([Synthesize("a" * 5000)], "too_long"),
        ([Synthesize("")], "error"),
        ([SynthesizeStart(), SynthesizeChunk("a" * 20_001)], "too_large"),
        ([SynthesizeStart(SynthesizeVoice(name="nobody")), SynthesizeChunk("See.")], "voice_not_found"),
    ],
    ids=["voice", "length", "nothing", "flood", "voice of a stream"],
)
def test_what_is_wrong_is_told_and_ends_the_connection(served, events, code: str) -> None:
    *before, event = talk(served.wyoming, *(each.event() for each in events), last="never")
    error = Error.from_event(event)
    assert not before and error.code == code and error.text


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"[]\n",
        b'{"type": 7}\n',
        b'{"type": "synthesize", "data": [1]}\n',
        b'{"type": "synthesize", "data": {"text": 7}}\n',
        b'{"type": "synthesize", "data": {"text": "\\ud800"}}\n',
        b'{"type": "synthesize", "data": {"text": "see", "voice": {"name": {}}}}\n',
        b'{"type": "audio-chunk", "payload_length": 99999999999}\n',
        b'{"type": "audio-chunk", "payload_length": -1}\n',
        b'{"type": "describe", "data_length": 5}\n{{{{{',
        b"x" * 200_000,
        b"[" * 60_000 + b"\n",
    ],
)
def test_what_is_no_event_is_told_and_ends_the_connection(served, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.wyoming), timeout=SECONDS) as client:
        client.sendall(data)
        answer = b""
        while part := client.recv(65536):
            answer += part
    head, _, rest = answer.partition(b"\n")
    assert json.loads(head)["type"] == "error"
    assert json.loads(rest[: json.loads(head)["data_length"]])["code"]
    assert talk(served.wyoming, Ping().event(), last="pong")


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < until, what
        time.sleep(0.02)


def test_a_client_that_leaves_frees_its_place(served) -> None:
    batcher = served.server.queue.batcher
    before = batcher.load

    async def run() -> None:
        client = AsyncTcpClient("127.0.0.1", served.wyoming)
        await client.connect()
        await client.write_event(Synthesize("Saw, see. " * 60).event())
        while not AudioChunk.is_type((await client.read_event()).type):
            pass
        assert batcher.load.running == before.running + 1
        await client.disconnect()

    asyncio.run(run())
    wait_until(lambda: batcher.load.running == before.running, "the job goes on")
    wait_until(lambda: batcher.load.cancelled == before.cancelled + 1, "the job was not cancelled")


def test_too_many_utterances_of_one_connection_are_refused(served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wyoming, "MOST_UTTERANCES", 2)
    got = talk(served.wyoming, *(Synthesize("Saw, see. " * 20).event() for _ in range(3)), last="error")
    assert Error.from_event(got[-1]).code == "queue_full"


def test_too_many_connections_are_closed(served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wyoming, "MOST_CONNECTIONS", 1)
    with socket.create_connection(("127.0.0.1", served.wyoming), timeout=SECONDS) as first:
        first.sendall(b'{"type": "ping"}\n')
        assert first.recv(100)
        second = socket.create_connection(("127.0.0.1", served.wyoming), timeout=SECONDS)
        with second, suppress(ConnectionError):
            assert second.recv(100) == b""


def test_a_silent_client_is_sent_away(served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wyoming, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(wyoming, "EVENT_SECONDS", 0.2)
    assert [event.type for event in talk(served.wyoming, last="never")] == ["error"]
    half = b'{"type": "synthesize", "data_length": 1000}\n{'
    with socket.create_connection(("127.0.0.1", served.wyoming), timeout=SECONDS) as client:
        client.sendall(half)
        assert b'"error"' in client.recv(65536)


def test_the_sound_is_marked(served, buzz) -> None:
    heard = sound(talk(served.wyoming, Synthesize(TEXT).event()))
    bare = replace(served.server.synthesizer, marker=None).stream(TEXT, buzz)
    unmarked = np.frombuffer(Audio(np.concatenate([block.audio.samples for block in bare]), 24000).pcm(), "<i2")
    assert close_to(heard, expect(served, buzz, TEXT)) and not close_to(heard, unmarked)


def test_where_keys_are_asked_for_strangers_have_the_built_in_voices(start) -> None:
    """The protocol has no place for a key: nobody's own voices are shown or spoken with."""
    locked = start(keys=("secret",))
    (event,) = talk(locked.wyoming, Describe().event(), last="info")
    assert "buzz" not in [voice.name for voice in Info.from_event(event).tts[0].voices]
    assert len(sound(talk(locked.wyoming, Synthesize("See.").event())))
