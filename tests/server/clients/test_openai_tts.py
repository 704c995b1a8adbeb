"""The custom integration openai_tts for Home Assistant: requests as its engine sends them.

Read in sfortis/openai_tts `custom_components/openai_tts/openaitts_engine.py` 88-142 and 193-270 and
`voice_listing.py` (`voices_url_for`, `voice_options_from_payload`): the user types the whole address; without a key
there is no header; `voice` may be null; the user's own JSON is laid over the body; voices are asked for beside the
speech address with `?limit=100` and read from `data` or `voices`, and one that is gone is reported to the user.
"""

from __future__ import annotations

import httpx
import pytest
from client_answers import decode, is_mp3

HEADERS = {"Content-Type": "application/json", "User-Agent": "HomeAssistant-OpenAI-TTS"}
PAYLOAD = {"model": "tts-1", "input": "See the saw.", "voice": None, "response_format": "mp3", "speed": 1.0}


def post(served, more: dict) -> httpx.Response:
    return httpx.post(f"{served.url}/v1/audio/speech", json=PAYLOAD | more, headers=HEADERS, timeout=60)


@pytest.mark.parametrize("more", [{}, {"voice": "buzz"}, {"instructions": "Whisper."}], ids=str)
def test_what_it_sends_becomes_an_mp3(served, more: dict) -> None:
    answer = post(served, more)
    assert answer.status_code == 200 and is_mp3(answer.content) and len(decode(answer.content))


def test_a_body_without_the_key_voice_is_spoken_by_the_default_one(served) -> None:
    payload = {key: value for key, value in PAYLOAD.items() if key != "voice"}
    assert httpx.post(f"{served.url}/v1/audio/speech", json=payload, headers=HEADERS, timeout=60).status_code == 200


def test_json_of_the_user_changes_the_request_or_is_left_alone(served) -> None:
    answer = post(served, {"chunk_size": 200, "exaggeration": 0.5, "seed": 7, "response_format": "wav"})
    assert answer.headers["content-type"] == "audio/wav" and "exaggeration" in answer.headers["warning"]
    assert len(decode(answer.content))


def test_opus_begins_with_its_heads(served) -> None:
    """Its stream is handed on once a kilobyte has come: a player needs both heads of the file in it."""
    with httpx.stream(
        "POST",
        f"{served.url}/v1/audio/speech",
        json=PAYLOAD | {"response_format": "opus"},
        headers=HEADERS,
        timeout=60,
    ) as answer:
        data = b"".join(answer.iter_bytes())
    assert data[:4] == b"OggS" and b"OpusHead" in data[:1024] and b"OpusTags" in data[:1024]


def test_voices_are_found_beside_the_address(served) -> None:
    speech = f"{served.url}/v1/audio/speech"
    address = speech.rsplit("/", 1)[0] + "/voices"
    payload = httpx.get(address, headers=HEADERS, params={"limit": 100}).json()
    items = payload.get("items") or payload.get("data") or payload.get("voices")
    assert [(voice["id"], voice["name"]) for voice in items] == [("buzz", "buzz")]
