"""The plain way to more than one process: servers behind nginx, with the settings of `deploy/nginx.conf.template`."""

from __future__ import annotations

import asyncio
import json
import shutil
import string
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.slow

import websockets

from openvalle.server.run import listen

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
if NGINX is None:
    pytest.skip("nginx is not installed", allow_module_level=True)

TEMPLATE = Path(__file__).parents[2] / "deploy" / "nginx.conf.template"
FRAME = """
daemon off; pid {folder}/pid; error_log stderr; worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/1;
    uwsgi_temp_path {folder}/2; scgi_temp_path {folder}/3;
    include {folder}/site.conf;
}}
"""
PATIENCE = 60.0
TEXT = "See the saw. So we see it. " * 3


@pytest.fixture
def balance(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """A function that puts nginx before servers and returns its address."""
    started: list[subprocess.Popen] = []

    def begin(*ports: int) -> str:
        with listen("127.0.0.1", 0) as free:
            port = free.getsockname()[1]
        upstream = "\n".join(f"server 127.0.0.1:{number} max_fails=0;" for number in ports)
        site = string.Template(TEMPLATE.read_text())
        (tmp_path / "site.conf").write_text(site.safe_substitute(UPSTREAM=upstream, LISTEN=f"127.0.0.1:{port}"))
        (tmp_path / "nginx.conf").write_text(FRAME.format(folder=tmp_path))
        command = [str(NGINX), "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", "stderr"]
        started.append(subprocess.Popen(command))
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + PATIENCE
        while True:
            try:
                assert httpx.get(f"{url}/ready").status_code == 200
                return url
            except httpx.ConnectError:
                assert time.monotonic() < until and started[-1].poll() is None, "nginx does not start"
                time.sleep(0.05)

    yield begin
    for process in started:
        process.terminate()
        process.wait(10)


def speak(url: str, seed: int = 0) -> httpx.Response:
    body = {"input": TEXT, "response_format": "pcm", "seed": seed}
    return httpx.post(f"{url}/v1/audio/speech", json=body, timeout=PATIENCE)


def test_sound_passes_while_it_is_made_and_all_servers_speak(start, balance, tmp_path: Path) -> None:
    servers = [start(folder=tmp_path / "voices") for _ in range(2)]
    url = balance(*(server.port for server in servers))
    with httpx.stream(
        "POST", f"{url}/v1/audio/speech", json={"input": TEXT, "response_format": "pcm"}, timeout=PATIENCE
    ) as answer:
        pieces = list(answer.iter_raw())
    direct = speak(servers[0].url).content
    assert b"".join(pieces) == direct and len(pieces) > 2
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: speak(url), range(6)))
    assert [answer.content == direct for answer in answers] == [True] * 6
    assert all(server.server.queue.batcher.load.served > 1 for server in servers)  # one is the warm-up
    assert httpx.get(f"{url}/metrics").status_code == 404


def test_a_websocket_passes_through(start, balance) -> None:
    url = balance(start().port)

    async def run() -> int:
        count = 0
        async with websockets.connect(url.replace("http", "ws") + "/v1/audio/speech/stream") as socket:
            await socket.send(json.dumps({"type": "input.text", "text": "See the saw."}))
            await socket.send(json.dumps({"type": "input.done"}))
            async for message in socket:
                if isinstance(message, bytes):
                    count += len(message)
                elif json.loads(message)["type"] == "session.done":
                    break
        return count

    assert asyncio.run(run()) > 2000


def test_a_server_that_is_full_or_gone_hands_over_to_the_next(start, balance) -> None:
    small = [start(rows=1, waiting=0) for _ in range(2)]
    with listen("127.0.0.1", 0) as nobody:
        gone = nobody.getsockname()[1]
    url = balance(gone, *(server.port for server in small))
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: speak(url), range(2)))
    assert [answer.status_code for answer in both] == [200, 200], "one was refused while another was idle"
    with ThreadPoolExecutor(8) as pool:
        many = list(pool.map(lambda _: speak(url), range(8)))
    assert {answer.status_code for answer in many} == {200, 429}
    for answer in many:
        if answer.status_code == 429:
            assert answer.json()["error"]["code"] == "queue_full" and int(answer.headers["retry-after"]) >= 1
