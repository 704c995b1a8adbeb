"""Players in Safari and WKWebView: the requests with which they look at a file before they play it.

They ask for an address with `HEAD`, or for `Range: bytes=0-1`, and play it only if the answer is 206 with a
`Content-Range` that tells the whole length (elevenlabs/elevenlabs-python#113 shows what happens else). Speech that is
being made has no length; a file that was asked for with `return_download_link` has.
"""

from __future__ import annotations

import pytest
from client_answers import decode

AGENT = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/19.0 Safari/605.1.15"
HEADERS = {"User-Agent": AGENT, "Accept": "*/*", "Accept-Encoding": "identity", "X-Playback-Session-Id": "1"}


@pytest.fixture(scope="module")
def link(served) -> str:
    with served.http() as client:
        body = {"input": "See the saw. So we see it.", "return_download_link": True, "stream": False}
        return client.post("/v1/audio/speech", json=body).headers["x-download-path"]


def test_a_file_is_looked_at_in_two_bytes_and_then_read_in_parts(served, link: str) -> None:
    with served.http() as client:
        first = client.get(link, headers=HEADERS | {"Range": "bytes=0-1"})
        assert first.status_code == 206 and len(first.content) == 2 and first.headers["accept-ranges"] == "bytes"
        part, _, length = first.headers["content-range"].removeprefix("bytes ").partition("/")
        assert part == "0-1" and first.headers["content-type"] == "audio/mpeg"
        rest = client.get(link, headers=HEADERS | {"Range": f"bytes=0-{int(length) - 1}"})
        assert rest.status_code == 206 and len(rest.content) == int(length) == int(rest.headers["content-length"])
        middle = client.get(link, headers=HEADERS | {"Range": "bytes=100-"})
        assert middle.content == rest.content[100:]
        beyond = client.get(link, headers=HEADERS | {"Range": f"bytes={length}-"})
        assert beyond.status_code == 416 and beyond.headers["content-range"] == f"bytes */{length}"
    assert len(decode(rest.content))


def test_head_tells_what_get_would(served, link: str) -> None:
    with served.http() as client:
        head, got = client.head(link, headers=HEADERS), client.get(link, headers=HEADERS)
    assert head.status_code == 200 and head.content == b""
    for name in ("content-type", "content-length", "accept-ranges"):
        assert head.headers[name] == got.headers[name]


@pytest.mark.parametrize("path", ["/", "/openapi.json", "/health", "/v1/models", "/v1/audio/voices"])
def test_head_is_answered_wherever_get_is(served, path: str) -> None:
    with served.http() as client:
        assert client.head(path, headers=HEADERS).status_code == client.get(path).status_code == 200


def test_a_range_of_speech_that_is_being_made_is_the_whole_of_it(served) -> None:
    with served.http() as client:
        answer = client.post("/v1/audio/speech", json={"input": "See."}, headers=HEADERS | {"Range": "bytes=0-1"})
    assert answer.status_code == 200 and len(decode(answer.content))
