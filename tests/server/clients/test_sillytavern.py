"""SillyTavern's "OpenAI Compatible" provider: requests as its server sends them.

Read in SillyTavern/SillyTavern `src/endpoints/openai.js` 295-333 and
`public/scripts/extensions/tts/openai-compatible.js` 173-184: the user types the whole address; without a key the
header is `Authorization: Bearer ` with nothing after it; the body is read to its end and handed on as audio/mpeg,
whatever it is; an error's text is shown as it is.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest
from client_answers import decode, is_mp3

BODY = {"input": "See the saw.", "response_format": "mp3", "voice": "alloy", "speed": 1, "model": "tts-1"}


def post(url: str, key: str, body: dict) -> tuple[int, bytes]:
    """Send it as node's fetch does; httpx would refuse or change the empty key."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}", "Accept": "*/*"}
    headers |= {"Accept-Encoding": "gzip, deflate", "User-Agent": "node-fetch", "Sec-Fetch-Mode": "cors"}
    request = urllib.request.Request(f"{url}/v1/audio/speech", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.parametrize("key", ["", "anything"])
def test_what_it_sends_becomes_an_mp3(served, key: str) -> None:
    status, data = post(served.url, key, BODY)
    assert status == 200 and is_mp3(data) and len(decode(data))


def test_an_empty_key_is_none_and_a_right_one_opens(start) -> None:
    locked = start(keys=("secret",))
    status, data = post(locked.url, "", BODY)
    assert status == 401 and "API key" in json.loads(data)["error"]["message"]
    assert post(locked.url, "secret", BODY)[0] == 200


@pytest.mark.parametrize("speed", [0.25, 4])
def test_the_ends_of_its_speed_slider_are_accepted(served, speed: float) -> None:
    status, data = post(served.url, "", BODY | {"speed": speed})
    assert status == 200 and len(decode(data))


def test_an_empty_line_of_a_story_is_an_error_in_words(served) -> None:
    status, data = post(served.url, "", BODY | {"input": ""})
    assert status == 400 and "input" in json.loads(data)["error"]["message"]
