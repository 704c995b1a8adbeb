"""Two laws: in the server among others is what is alone, and the watermark is in every door."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import random
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import numpy as np
import pytest
import soundfile
from websockets.asyncio.client import connect

from openvalle.audio import Audio
from openvalle.safety.watermark import Detector
from openvalle.server.voices import EVERYBODY

TEXTS = (
    "Saw.",
    "See the saw, so we see it.",
    "So we see the saw. And the saw sees us, so it seems. Sue sees it, too.",
    "I saw [voice:hum] the sea [pause:0.3s] and the sun. So did she.",
    "One, two, three, four, five, six, seven, eight, nine, ten.",
)
# Random weights speak noise, which carries the mark less clearly than speech; without it, it scores 0.0002 at most.
HEARD = 0.3
MARKED = "See the saw, so we see it. And so we saw the sea, and the sun, and the sand."


@pytest.fixture(scope="module")
def busy(served, hum):
    """The server with a second voice."""
    kept = served.server.voices.add(EVERYBODY, hum)
    yield served
    served.server.voices.remove(EVERYBODY, kept["id"])


def requests(count: int, rng: random.Random) -> list[dict[str, object]]:
    """Requests that differ in everything."""
    return [
        {
            "input": rng.choice(TEXTS),
            "voice": rng.choice(("buzz", "hum")),
            "seed": rng.randrange(100),
            "stream": rng.random() < 0.7,
            "speed": rng.choice((1.0, 1.0, 1.3)),
            "temperature": rng.choice((0.8, 1.0)),
            "response_format": "pcm",
        }
        for _ in range(count)
    ]


def test_among_others_is_as_alone(busy) -> None:
    """Mixed voices, lengths, seeds, streamed or not, while others come and go away in the middle."""
    rng = random.Random(0)
    wanted = requests(24, rng)
    alone = [busy.http().post("/v1/audio/speech", json=body).content for body in wanted]
    assert all(len(sound) > 1000 for sound in alone) and len(set(alone)) > 15

    async def ask() -> list[bytes]:
        async with httpx.AsyncClient(base_url=busy.url, timeout=120, limits=httpx.Limits(max_connections=64)) as http:

            async def keep(body: dict[str, object]) -> bytes:
                await asyncio.sleep(rng.random() / 2)
                return (await http.post("/v1/audio/speech", json=body)).content

            async def leave(body: dict[str, object]) -> None:
                await asyncio.sleep(rng.random() / 2)
                async with http.stream("POST", "/v1/audio/speech", json=body) as answer:
                    async for _ in answer.aiter_raw():
                        return

            leaving = [asyncio.create_task(leave(body | {"stream": True})) for body in requests(12, rng)]
            kept = await asyncio.gather(*(keep(body) for body in wanted))
            await asyncio.gather(*leaving)
            return list(kept)

    together = asyncio.run(ask())
    for body, one, other in zip(wanted, alone, together, strict=True):
        assert len(one) == len(other), body
        difference = np.frombuffer(one, "<i2").astype(int) - np.frombuffer(other, "<i2")
        assert np.abs(difference).max() <= 4, body  # 1e-4 of full scale, in steps of 16 bits


def read_sound(data: bytes) -> Audio:
    if data[:4] == b"RIFF" or data[:4] in (b"fLaC", b"OggS") or data[:3] == b"ID3" or data[0] == 0xFF:
        if data[0] == 0xFF and data[1] & 0xF6 == 0xF0:  # AAC
            av = pytest.importorskip("av")
            with av.open(io.BytesIO(data)) as file:
                frames = [frame.to_ndarray()[0] for frame in file.decode(audio=0)]
            return Audio(np.concatenate(frames), 24_000)
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            file.seekable = lambda: False
            return Audio(file.read(1 << 20, dtype="float32", always_2d=True)[:, 0], file.samplerate)
    return Audio(np.frombuffer(data, "<i2").astype(np.float32) / 32768, 24_000)


def speech(**more: object) -> Callable[[httpx.Client, bytes], bytes]:
    return lambda http, clip: http.post("/v1/audio/speech", json={"input": MARKED, **more}).content


def events(http: httpx.Client, clip: bytes) -> bytes:
    body = {"input": MARKED, "stream_format": "sse", "response_format": "pcm"}
    lines = http.post("/v1/audio/speech", json=body).text.strip().split("\n\n")
    return b"".join(base64.b64decode(json.loads(line[6:]).get("audio", "")) for line in lines)


def batch(http: httpx.Client, clip: bytes) -> bytes:
    body = {"items": [{"input": MARKED}], "response_format": "flac"}
    return base64.b64decode(http.post("/v1/audio/speech/batch", json=body).json()["results"][0]["audio_data"])


def captioned(http: httpx.Client, clip: bytes) -> bytes:
    lines = http.post("/dev/captioned_speech", json={"input": MARKED, "response_format": "pcm"}).text.splitlines()
    return b"".join(base64.b64decode(json.loads(line)["audio"]) for line in lines)


def dialogue(http: httpx.Client, clip: bytes) -> bytes:
    body = {"input": f"[S1] {MARKED} [S2] {MARKED}", "voices": {"S1": "buzz", "S2": "hum"}, "response_format": "wav"}
    return http.post("/dev/dialogue", json=body).content


def edited(http: httpx.Client, clip: bytes) -> bytes:
    """Of a recording only what is new carries the mark: half a second of it at least."""
    new = "so we see it and so we saw the sea and the sun"
    fields = {"transcript": "saw, see, saw, see", "edits": json.dumps([{"old": "see saw", "new": new}])}
    fields["consent"] = "nobody's: made of buzz"
    answer = http.post("/dev/edit", data=fields, files={"audio": ("clip.wav", clip)})
    place = json.loads(answer.headers["x-edit"])["spans"][0]
    sound = read_sound(answer.content)
    start, end = (round(place[key] * sound.rate) for key in ("new_start", "new_end"))
    return Audio(sound.samples[start:end], sound.rate).pcm()


def socketed(http: httpx.Client, clip: bytes) -> bytes:
    async def talk() -> bytes:
        async with connect(f"ws{str(http.base_url).removeprefix('http')}/v1/audio/speech/stream") as socket:
            await socket.send(json.dumps({"type": "input.text", "text": MARKED}))
            await socket.send(json.dumps({"type": "input.done"}))
            sound = b""
            while isinstance(message := await socket.recv(), bytes) or "session.done" not in message:
                sound += message if isinstance(message, bytes) else b""
            return sound

    return asyncio.run(talk())


def linked(http: httpx.Client, clip: bytes) -> bytes:
    answer = http.post("/v1/audio/speech", json={"input": MARKED, "return_download_link": True})
    return http.get(answer.headers["x-download-path"]).content


DOORS: dict[str, Callable[[httpx.Client, bytes], bytes]] = {
    **{name: speech(response_format=name) for name in ("mp3", "opus", "aac", "flac", "wav", "pcm")},
    "whole": speech(stream=False, response_format="wav"),
    "louder": speech(volume_multiplier=2.0, response_format="pcm"),
    "faster": speech(speed=1.5, response_format="pcm"),
    "events": events,
    "batch": batch,
    "captioned": captioned,
    "dialogue": dialogue,
    "edit": edited,
    "websocket": socketed,
    "link": linked,
}


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector()


@pytest.mark.parametrize("door", DOORS)
def test_the_watermark_is_in_every_door(busy, detector: Detector, clip_path, door: str) -> None:
    found = detector.detect(read_sound(DOORS[door](busy.http(), clip_path.read_bytes())))
    assert found.score > HEARD, found


def test_the_watermark_is_in_home_assistants_door(busy, detector: Detector) -> None:
    with socket.create_connection(("127.0.0.1", busy.wyoming), timeout=60) as client, client.makefile("rwb") as file:
        file.write(json.dumps({"type": "synthesize", "data": {"text": MARKED}}).encode() + b"\n")
        file.flush()
        sound, event = b"", {"type": ""}
        while event["type"] != "audio-stop":
            event = json.loads(file.readline())
            file.read(event["data_length"])
            sound += file.read(event["payload_length"])
    assert detector.detect(read_sound(sound)).score > HEARD


def test_the_watermark_is_in_the_door_for_translations(start, many, translators, clip_path, detector: Detector) -> None:
    for package in ("pypinyin", "jieba", "wetext"):
        pytest.importorskip(package)
    one = start(many, translators=(str(translators / "en-zh"),))
    fields = {"to": "zh", "from": "en", "transcript": "saw, see, saw, see", "consent": "nobody's: made of buzz"}
    answer = one.http().post("/dev/translate", data=fields, files={"audio": ("clip.wav", clip_path.read_bytes())})
    assert detector.detect(read_sound(answer.content)).score > HEARD


def test_without_the_watermark_none_is_found(synthesizer, buzz, detector: Detector) -> None:
    """So that the test before can fail."""
    plain = replace(synthesizer, marker=None).say(MARKED, buzz).audio
    assert detector.detect(plain).score < HEARD / 10
    assert detector.detect(synthesizer.say(MARKED, buzz).audio).score > HEARD


def test_many_at_once_are_all_answered(busy) -> None:
    """A burst, as Open WebUI sends it: a request a sentence, all at once."""
    with ThreadPoolExecutor(24) as pool:
        body = {"input": "See the saw.", "response_format": "pcm"}
        answers = list(pool.map(lambda _: busy.http().post("/v1/audio/speech", json=body), range(24)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
