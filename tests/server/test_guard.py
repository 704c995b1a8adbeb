"""What stands before the routes: keys, foreign pages, large and slow bodies, connections that say nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import openai
import pytest

from openvalle.server import guard, run

SAY = {"input": "Saw.", "response_format": "pcm"}
HEAD = b"POST /v1/audio/speech HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


@contextlib.contextmanager
def plug(port: int) -> Iterator[socket.socket]:
    """A bare connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as bare:
        yield bare


def read_answer(bare: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := bare.recv(65536):
            data += piece
    return data


def test_a_key_opens_the_server_and_no_key_shows_what_is_built_in(start) -> None:
    one = start(keys=("secret", "other"))
    assert one.http("secret").post("/v1/audio/speech", json=SAY).status_code == 200
    assert one.http("other").post("/v1/audio/speech", json=SAY).status_code == 200
    with pytest.raises(openai.AuthenticationError) as raised:
        one.client("wrong").audio.speech.create(model="tts-1", voice="alloy", input="Saw.")
    assert raised.value.code == "invalid_api_key"
    for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Basic c2VjcmV0"}):
        with httpx.Client(base_url=one.url, headers=headers) as http:
            for path in ("/v1/models", "/v1/audio/models", "/v1/audio/voices", "/health", "/ready", "/openapi.json"):
                assert http.get(path).status_code == 200, (headers, path)
            assert "buzz" not in http.get("/v1/audio/voices").text
            assert http.post("/v1/audio/speech", json=SAY).status_code == 401
            for path in ("/metrics", "/v1/audio/voice_consents", "/v1/audio/voices/buzz"):
                assert http.get(path).status_code == 401, path
            assert http.delete("/v1/audio/voices/buzz").status_code == 401
    assert "buzz" in one.http("secret").get("/v1/audio/voices").text
    assert one.http("wrong").get("/v1/audio/voices").status_code == 401
    assert one.http("wrong").get("/health").status_code == 200


def test_an_empty_key_counts_as_none_where_none_is_asked_for(served) -> None:
    with plug(served.port) as bare:  # SillyTavern sends the blank, too
        body = b'{"input": "Saw."}'
        length = f"Content-Length: {len(body)}\r\n".encode()
        bare.sendall(HEAD + b"Authorization: Bearer \r\nConnection: close\r\n" + length + b"\r\n" + body)
        assert read_answer(bare).startswith(b"HTTP/1.1 200 ")
    answer = served.http().post("/v1/audio/speech", json=SAY, headers={"Authorization": "Bearer anything"})
    assert answer.status_code == 200


def test_foreign_pages_may_not_ask(served, start) -> None:
    def ask(one, origin: str, **more: str) -> httpx.Response:
        return one.http().post("/v1/audio/speech", json=SAY, headers={"Origin": origin, **more})

    assert ask(served, f"http://127.0.0.1:{served.port}").status_code == 200
    for origin in ("https://evil.site", "null", "http://localhost:1", f"http://127.0.0.1:{served.port + 1}"):
        answer = ask(served, origin)
        assert answer.status_code == 403 and answer.json()["error"]["code"] == "foreign_origin"
    rebound = ask(served, "http://evil.site", Host="evil.site")  # a name of theirs that leads here
    assert rebound.status_code == 403
    assert "access-control-allow-origin" not in served.http().get("/health").headers

    open_to = start(origins=("https://my.site",))
    answer = ask(open_to, "https://my.site")
    assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == "https://my.site"
    asked = {"Origin": "https://my.site", "Access-Control-Request-Method": "POST"}
    assert open_to.http().options("/v1/audio/speech", headers=asked).status_code == 200
    assert ask(open_to, "https://evil.site").status_code == 403


@pytest.mark.parametrize("kind", ["told", "chunked"])
def test_a_body_of_100_megabytes_is_refused_before_it_is_read(served, kind: str) -> None:
    size, sent = 100 << 20, 0
    with plug(served.port) as bare:
        if kind == "told":
            bare.sendall(HEAD + f"Content-Length: {size}\r\n\r\n".encode())
        else:
            bare.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        block = b"10000\r\n" + b"a" * 65536 + b"\r\n" if kind == "chunked" else b"a" * 65536
        with contextlib.suppress(ConnectionError):
            while sent < size:
                bare.sendall(block)
                sent += 65536
        answer = read_answer(bare)
    assert sent < 40 << 20, "it went on reading"
    if answer:  # a connection that is closed while data come is reset, and may lose the answer
        assert answer.startswith(b"HTTP/1.1 413 ") and b'"too_large"' in answer
    assert served.http().get("/health").status_code == 200


def test_a_slow_body_is_given_up(served, monkeypatch) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.5)
    with plug(served.port) as bare:
        bare.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        started = time.monotonic()
        answer = read_answer(bare)
    assert answer.startswith(b"HTTP/1.1 408 ") and time.monotonic() - started < 10


@pytest.mark.parametrize(
    "said", [b"", b"POST /v1/audio/speech HTTP/1.1\r\nHost: a\r\n", b"GET /health HTTP/1.1\r\nHost: a\r\n\r\nGET /"]
)
def test_half_a_head_is_given_up(served, monkeypatch, said: bytes) -> None:
    monkeypatch.setattr(run, "HEAD_SECONDS", 0.5)
    with plug(served.port) as bare:
        bare.sendall(said)
        started = time.monotonic()
        read_answer(bare)
    assert time.monotonic() - started < 10
    assert served.http().get("/health").status_code == 200


def test_what_is_no_http_is_refused(served) -> None:
    for junk in (b"\x16\x03\x01\x02\x00" * 10, b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a: " + b"b" * 200_000):
        with plug(served.port) as bare:
            with contextlib.suppress(ConnectionError):
                bare.sendall(junk + b"\r\n\r\n")
            answer = read_answer(bare)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert served.http().get("/health").status_code == 200


def test_a_thousand_connections_that_say_nothing_do_no_harm(served) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("not enough open files are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    silent: list[socket.socket] = []
    try:
        for _ in range(1000):
            silent.append(socket.create_connection(("127.0.0.1", served.port), timeout=20))
        assert served.http().post("/v1/audio/speech", json=SAY).status_code == 200
        for bare in silent:
            bare.settimeout(0)
        closed = 0
        for bare in silent:
            with contextlib.suppress(BlockingIOError, ConnectionError):
                closed += bare.recv(1) == b""
        assert closed >= 1000 - run.MOST_CONNECTIONS - 2, "all of them are kept"
    finally:
        for bare in silent:
            bare.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_connection_is_used_again_and_half_a_close_is_no_end(served) -> None:
    with httpx.Client(base_url=served.url) as http:
        assert {http.post("/v1/audio/speech", json=SAY).status_code for _ in range(3)} == {200}
    threads = threading.active_count()
    for _ in range(5):
        served.http().get("/health")
    assert threading.active_count() <= threads + 1
