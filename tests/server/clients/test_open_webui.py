"""Open WebUI: requests as its back end sends them.

Read in open-webui/open-webui `backend/open_webui/routers/audio.py`: `speech` posts `{model, input, voice}` (and what
the administrator wrote into OPENAI_PARAMS) with `Authorization: Bearer <key>` and, if so set, `X-OpenWebUI-User-*`;
the file is kept as `.mp3`, of an error `res["error"]` is shown. `get_available_voices` and `get_available_models` ask
without a key and read `voices[].id`, `voices[].name` and `models[].id`. The text of a chat is sent sentence by
sentence, all at once.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from client_answers import decode, is_mp3

PAYLOAD = {"input": "See the saw.", "voice": "alloy", "model": "tts-1"}
USER = {"X-OpenWebUI-User-Name": "Ann", "X-OpenWebUI-User-Id": "1", "X-OpenWebUI-User-Email": "a@b.c"}


def test_what_it_sends_becomes_an_mp3(served) -> None:
    headers = {"Authorization": "Bearer sk-any", "X-OpenWebUI-User-Role": "admin", **USER}
    with served.http() as client:
        answer = client.post("/v1/audio/speech", json=PAYLOAD, headers=headers)
    assert answer.status_code == 200 and answer.headers["content-type"] == "audio/mpeg"
    assert is_mp3(answer.content) and len(decode(answer.content))


def test_parameters_of_the_administrator_are_taken_or_left_alone(served) -> None:
    with served.http() as client:
        plain, fast = (
            client.post("/v1/audio/speech", json=PAYLOAD | more)
            for more in ({}, {"speed": 1.5, "lang_code": "a", "normalization_options": {"normalize": True}})
        )
    assert fast.status_code == 200 and "normalization_options" in fast.headers["warning"]
    assert len(decode(fast.content)) < len(decode(plain.content))


@pytest.mark.parametrize("key", ["", "secret"])
def test_voices_and_models_are_listed_without_a_key(served, start, key: str) -> None:
    running = start(keys=(key,)) if key else served
    with running.http() as client:
        voices = client.get("/v1/audio/voices").json()["voices"]
        models = client.get("/v1/audio/models").json()["models"]
    shown = {voice["id"]: voice["name"] for voice in voices}
    assert shown == ({} if key else {"buzz": "buzz"})  # this server's only voice is its operator's own
    assert [model["id"] for model in models] == ["openvalle"]


def test_an_error_is_where_it_looks_for_one(served, start) -> None:
    with served.http() as client:
        answer = client.post("/v1/audio/speech", json=PAYLOAD | {"voice": "nobody"})
    assert answer.status_code == 404 and "nobody" in answer.json()["error"]["message"]
    with start(keys=("secret",)).http("wrong") as client:
        answer = client.post("/v1/audio/speech", json=PAYLOAD)
    assert answer.status_code == 401 and answer.json()["error"]["message"]


def test_all_sentences_of_a_chat_at_once_are_spoken(served) -> None:
    with served.http() as client, ThreadPoolExecutor(24) as pool:
        sentences = [f"See saw number {index}." for index in range(24)]
        answers = list(
            pool.map(lambda text: client.post("/v1/audio/speech", json=PAYLOAD | {"input": text}), sentences)
        )
    assert [answer.status_code for answer in answers] == [200] * 24
    assert all(len(decode(answer.content)) for answer in answers)
