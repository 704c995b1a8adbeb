"""What goes wrong beside and inside the engine: one answer fails, the others go on; nobody waits for ever."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import openai
import pytest

from openvalle.server import queue
from openvalle.synth.generate import SpeechGenerator

LONG = "See the saw, so we see it. " * 30
SAY = {"input": "Saw.", "response_format": "pcm"}
CRASH = "Crash now."


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch):
    """A function that makes the engine fail at every sentence that says so."""

    def arm(error: Exception) -> None:
        whole = SpeechGenerator.encode

        def encode(self, segment):
            if segment.sentence.text == CRASH:
                raise error
            return whole(self, segment)

        monkeypatch.setattr(SpeechGenerator, "encode", encode)

    return arm


def wait_idle(one, seconds: float = 20.0) -> None:
    """Wait until nothing is spoken; fail if that takes long."""
    deadline = time.monotonic() + seconds
    while (load := one.server.queue.batcher.load).running or load.waiting or load.rows:
        assert time.monotonic() < deadline, load
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RuntimeError("the engine broke at /secret/place"), 500, "internal_error"),
        (MemoryError(), 503, "out_of_memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), 503, "out_of_memory"),
    ],
)
def test_what_breaks_fails_one_answer_and_no_other(served, fragile, error, status, code) -> None:
    fragile(error)
    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(served.http().post, "/v1/audio/speech", json=SAY) for _ in range(3)]
        answer = served.http().post("/v1/audio/speech", json={"input": CRASH})
    assert answer.status_code == status and answer.json()["error"]["code"] == code
    assert answer.json()["error"]["type"] == "server_error" and "secret" not in answer.text
    assert ("retry-after" in answer.headers) == (status == 503)
    assert {other.result().status_code for other in others} == {200}
    wait_idle(served)


def test_what_breaks_in_the_middle_is_no_whole_answer(served, fragile) -> None:
    fragile(RuntimeError("the engine broke"))
    text = f"See the saw, so we see it.\n\n{CRASH}"
    with (
        pytest.raises(httpx.RemoteProtocolError),
        served.http().stream("POST", "/v1/audio/speech", json={"input": text, "response_format": "pcm"}) as answer,
    ):
        assert answer.status_code == 200
        for _ in answer.iter_raw():
            pass
    events = served.http().post("/v1/audio/speech", json={"input": text, "stream_format": "sse"})
    last = json.loads(events.text.strip().rpartition("data: ")[2])
    assert last["type"] == "speech.audio.error" and last["error"]["type"] == "server_error"
    lines = served.http().post("/dev/captioned_speech", json={"input": text}).text.strip().splitlines()
    assert json.loads(lines[-1])["error"]["code"] == "internal_error"
    whole = served.http().post("/v1/audio/speech", json={"input": text, "stream": False})
    assert whole.status_code == 500
    wait_idle(served)


def test_a_step_of_the_engine_that_fails_is_not_the_end(start, synthesizer) -> None:
    engine = synthesizer.generator.ar
    broken = threading.Event()

    class Breaking:
        """The engine, but that a step fails while `broken` is set."""

        def __getattr__(self, name: str):
            return getattr(engine, name)

        def step(self, *arguments, **more):
            if broken.is_set():
                raise RuntimeError("a kernel failed")
            return engine.step(*arguments, **more)

    one = start(replace(synthesizer, generator=replace(synthesizer.generator, ar=Breaking())))
    assert one.http().post("/v1/audio/speech", json=SAY).status_code == 200
    broken.set()
    assert one.http().post("/v1/audio/speech", json=SAY).status_code == 500
    broken.clear()
    assert one.http().post("/v1/audio/speech", json=SAY).status_code == 200
    wait_idle(one)


def test_a_full_queue_is_a_429_and_the_real_client_comes_back(start) -> None:
    one = start(rows=1, waiting=1)
    held = [one.http().stream("POST", "/v1/audio/speech", json={"input": LONG}) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        first = held[0].__enter__()
        waiting = pool.submit(held[1].__enter__)
        while one.server.queue.batcher.load.waiting < 1:
            time.sleep(0.01)
        with pytest.raises(openai.RateLimitError) as raised:
            one.client().audio.speech.create(model="tts-1", voice="alloy", input="Saw.")
        assert raised.value.code == "queue_full" and int(raised.value.response.headers["retry-after"]) >= 1
        patient = pool.submit(one.client(max_retries=5).audio.speech.create, model="tts-1", voice="alloy", input="Saw.")
        assert first.status_code == 200
        held[0].__exit__(None, None, None)  # both go away
        waiting.result()
        held[1].__exit__(None, None, None)
        assert len(patient.result().content) > 100
    wait_idle(one)
    assert one.server.queue.batcher.load.cancelled == 2


def test_a_server_that_is_not_ready_says_when_to_come_back(served) -> None:
    served.server.queue.is_ready = False
    try:
        for answer in (served.http().get("/ready"), served.http().post("/v1/audio/speech", json=SAY)):
            assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1
        assert served.http().get("/health").status_code == 200
    finally:
        served.server.queue.is_ready = True


def test_a_server_is_ready_when_it_has_spoken_not_when_it_has_failed_to(start, synthesizer, monkeypatch) -> None:
    """The device comes late, say, or memory is short for a while."""
    engine, failures = synthesizer.generator.ar, list[str]()

    class Late:
        """The engine, but that it cannot read the first two texts."""

        def __getattr__(self, name: str):
            return getattr(engine, name)

        def prefill(self, *arguments, **more):
            if len(failures) < 2:
                failures.append("no device is there yet")
                raise RuntimeError(failures[-1])
            return engine.prefill(*arguments, **more)

    monkeypatch.setattr(queue, "WARM_AGAIN", 0.2)
    one = start(replace(synthesizer, generator=replace(synthesizer.generator, ar=Late())))  # waits until it is ready
    assert len(failures) == 2 and one.http().post("/v1/audio/speech", json=SAY).status_code == 200


@pytest.mark.parametrize("stage", ["waiting", "begun", "whole", "batch", "upload"])
def test_a_client_that_goes_away_frees_its_place(start, stage: str, clip_path: Path) -> None:
    one = start(rows=1, waiting=8)
    holder = one.http().stream("POST", "/v1/audio/speech", json={"input": LONG}) if stage == "waiting" else None
    if holder:
        holder.__enter__()
    path = {"batch": "/v1/audio/speech/batch", "upload": "/v1/audio/voices"}.get(stage, "/v1/audio/speech")
    body = {"items": [{"input": LONG}] * 3} if stage == "batch" else {"input": LONG, "stream": stage != "whole"}
    with httpx.Client(base_url=one.url, timeout=httpx.Timeout(60, read=0.3)) as http:
        if stage == "begun":
            with http.stream("POST", path, json=body, timeout=60) as answer:
                next(answer.iter_raw())
        elif stage == "upload":
            files = {"audio_sample": ("clip.wav", clip_path.read_bytes(), "audio/wav")}
            data = {"name": "mine", "consent": "nobody's: made of buzz"}
            with pytest.raises(httpx.ReadTimeout):
                http.post(path, data=data, files=files, timeout=httpx.Timeout(30, read=0.01))
        else:
            with pytest.raises(httpx.ReadTimeout):
                http.post(path, json=body)
    if holder:
        time.sleep(0.3)
        assert one.server.queue.batcher.load.waiting == 0 and one.server.queue.batcher.load.running == 1
        holder.__exit__(None, None, None)
    deadline = time.monotonic() + 20
    while not one.server.queue.batcher.load.cancelled:  # the request may not even have been looked at
        assert time.monotonic() < deadline
        time.sleep(0.02)
    wait_idle(one)
    assert one.http().post("/v1/audio/speech", json=SAY).status_code == 200


def test_a_client_that_takes_nothing_holds_nothing(served, monkeypatch) -> None:
    monkeypatch.setattr(queue, "SEND_SECONDS", 0.5)
    body = json.dumps({"input": LONG * 4, "response_format": "wav"}).encode()
    head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    bare = socket.socket()
    bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with bare:
        bare.connect(("127.0.0.1", served.port))
        bare.sendall(head.encode() + b"\r\n\r\n" + body)
        time.sleep(0.5)
        wait_idle(served, 60)  # its sound is made, although nobody takes it, and its place is free


@pytest.fixture
def process(tiny_model: Path, buzz, tmp_path: Path):
    """The command itself, in a process of its own: (process, address)."""
    voice = buzz.save(tmp_path / "buzz.safetensors")
    command = [sys.executable, "-m", "openvalle", "serve", "--model", str(tiny_model), "--voice", str(voice)]
    served = subprocess.Popen(
        [*command, "--port", "0", "--folder", str(tmp_path / "kept")], stderr=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        assert served.stderr is not None
        line = served.stderr.readline()
        while "serving on" not in line:
            assert line, f"it ended with {served.wait()}"
            line = served.stderr.readline()
        url = line.split()[2]
        deadline = time.monotonic() + 60
        while httpx.get(f"{url}/ready").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield served, url
    finally:
        served.kill()
        served.communicate()


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGINT", marks=pytest.mark.slow)])
def test_a_signal_lets_what_was_begun_end_and_takes_nothing_more(process, name: str) -> None:
    served, url = process
    body = {"input": LONG, "response_format": "pcm"}
    wanted = httpx.post(f"{url}/v1/audio/speech", json=body, timeout=60).content
    with httpx.stream("POST", f"{url}/v1/audio/speech", json=body, timeout=60) as answer:
        pieces = answer.iter_raw()
        heard = next(pieces)
        served.send_signal(getattr(signal, name))
        time.sleep(0.5)
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=2).close()
        heard += b"".join(pieces)
    assert heard == wanted
    assert served.wait(30) == 0


@pytest.mark.slow
def test_two_signals_end_it_at_once(process) -> None:
    served, url = process
    with httpx.stream("POST", f"{url}/v1/audio/speech", json={"input": LONG}, timeout=60) as answer:
        next(answer.iter_raw())
        served.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        served.send_signal(signal.SIGTERM)
        assert served.wait(15) is not None
