"""`openvalle serve --ray`: a real Ray on this machine, two replicas, one of which is killed while both speak."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytest.importorskip("ray", reason="Ray is not installed")

import websockets

from openvalle.server.run import listen

pytestmark = pytest.mark.slow
PATIENCE = 300.0
TEXT = "See the saw. So we see it. " * 4
SEEDS = range(3)


def find_replicas(parent: int) -> dict[int, str]:
    """Return the replicas among the descendants of a process, by number."""
    parents, names = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
            names[int(stat.parent.name)] = (stat.parent / "cmdline").read_text()
        except (OSError, IndexError):
            continue
    ours = {parent}
    while more := {child for child, above in parents.items() if above in ours} - ours:
        ours |= more
    return {number: names[number] for number in ours if names.get(number, "").startswith("ray::ServeReplica")}


@pytest.fixture(scope="module")
def served(tiny_model: Path, tiny_voice, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """The address and the process of the command."""
    folder = tmp_path_factory.mktemp("ray")
    tiny_voice.save(folder / "buzz.safetensors")
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    options = ["--model", tiny_model, "--voice", folder / "buzz.safetensors", "--folder", folder / "uploads"]
    options += ["--port", port, "--replicas", 2, "--rows", 4, "--queue", 4]
    command = [sys.executable, "-m", "openvalle", "serve", "--ray", *map(str, options)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + PATIENCE
        while f"serving on {url}" not in (folder / "log").read_text():
            assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.5)
        yield url, process.pid
    finally:
        process.terminate()
        try:
            assert process.wait(120) == 0, (folder / "log").read_text()
        finally:
            process.kill()


def speak(url: str, seed: int) -> tuple[int, bytes]:
    """Return the status and the sound; status 0 for an answer that broke off."""
    body = {"input": TEXT, "response_format": "pcm", "seed": seed}
    try:
        with httpx.stream("POST", f"{url}/v1/audio/speech", json=body, timeout=PATIENCE) as answer:
            return answer.status_code, b"".join(answer.iter_bytes())
    except httpx.HTTPError:
        return 0, b""


def test_it_is_ready_and_streams_what_the_model_says(served, synthesizer, tiny_voice) -> None:
    url, process = served
    assert len(find_replicas(process)) == 2
    assert httpx.get(f"{url}/ready").json() == {"status": "ready"}
    pieces: list[bytes] = []
    body = {"input": TEXT, "response_format": "pcm"}
    with httpx.stream("POST", f"{url}/v1/audio/speech", json=body, timeout=PATIENCE) as answer:
        pieces.extend(answer.iter_raw())
    blocks = [block.audio.pcm() for block in synthesizer.stream(TEXT, tiny_voice)]
    assert b"".join(pieces) == b"".join(blocks) and len(pieces) > 2
    refused = httpx.post(f"{url}/v1/audio/speech", json={"input": "See.", "voice": "nobody"}, timeout=PATIENCE)
    assert refused.status_code == 404 and refused.json()["error"]["param"] == "voice"


def test_a_websocket_passes_through(served) -> None:
    async def run() -> bytes:
        sound = b""
        async with websockets.connect(served[0].replace("http", "ws") + "/v1/audio/speech/stream") as socket:
            for message in ({"type": "input.text", "text": "See the saw."}, {"type": "input.done"}):
                await socket.send(json.dumps(message))
            async for message in socket:
                if isinstance(message, bytes):
                    sound += message
                elif json.loads(message)["type"] == "session.done":
                    return sound
        return b""

    assert len(asyncio.run(run())) > 2000


def test_what_is_too_much_is_refused_with_a_time(served) -> None:
    """The queue's limits hold for every replica: 4 are spoken and 4 wait, in each of 2."""
    url, _ = served
    answers: list[httpx.Response] = []

    def ask() -> None:
        body = {"input": TEXT, "response_format": "pcm"}
        answers.append(httpx.post(f"{url}/v1/audio/speech", json=body, timeout=PATIENCE))

    threads = [threading.Thread(target=ask) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(answers) == 40 and 16 <= 40 - len(refused) < 40
    for answer in refused:
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["code"] == "queue_full"


def test_a_replica_that_is_killed_loses_no_request_silently(served) -> None:
    url, process = served
    alone = {}
    for seed in SEEDS:
        status, alone[seed] = speak(url, seed)
        assert status == 200
    answers: list[tuple[int, int, bytes]] = []
    is_over = threading.Event()

    def ask(seed: int) -> None:
        while not is_over.is_set():
            answers.append((seed, *speak(url, seed)))

    threads = [threading.Thread(target=ask, args=(number % len(SEEDS),)) for number in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(3)
    before = find_replicas(process)
    os.kill(min(before), signal.SIGKILL)
    until = time.monotonic() + PATIENCE
    while len(find_replicas(process)) < 2 or min(before) in find_replicas(process):
        assert time.monotonic() < until, "no new replica was started"
        time.sleep(0.5)
    count = len(answers)
    while len(answers) < count + 6:
        assert time.monotonic() < until, "nothing is spoken any more"
        time.sleep(0.1)
    is_over.set()
    for thread in threads:
        thread.join()
    whole = [sound == alone[seed] for seed, status, sound in answers if status == 200]
    assert all(whole) and len(whole) > 6, "an answer was cut off, and said that it was complete"
    broken = [status for _, status, _ in answers if status != 200]
    assert 0 < len(broken) <= 6 and set(broken) <= {0, 429, 500, 503}, "more failed than the replica had"


def test_at_the_end_what_was_begun_is_finished(served) -> None:
    """The last test: the command is asked to end while a request is under way; the fixture looks at its exit code."""
    url, process = served
    with httpx.stream(
        "POST", f"{url}/v1/audio/speech", json={"input": TEXT, "response_format": "pcm"}, timeout=PATIENCE
    ) as answer:
        pieces = answer.iter_bytes()
        first = next(pieces)
        os.kill(process, signal.SIGTERM)
        rest = b"".join(pieces)
    assert len(first + rest) > 100_000
