"""Home Assistant's own OpenAI integration: the real `openai` client, called as it does.

Read in home-assistant/core `homeassistant/components/openai_conversation/tts.py`, `async_get_tts_audio`: streamed with
the async client; `instructions=str(options.get(CONF_PROMPT))` is the word "None" where nothing was written; `ogg` is
asked for as opus, `raw` as pcm; voices are OpenAI's, in lower case.
"""

from __future__ import annotations

import asyncio

import numpy as np
import openai
import pytest
from client_answers import decode

VOICES = ("Marin", "Cedar", "Alloy", "Ash", "Ballad", "Coral", "Echo", "Fable", "Nova", "Onyx", "Sage", "Shimmer")


def speak(served, key: str = "sk-any", **options) -> bytes:
    """Return what the integration hands to the media player."""
    known = {"model": "gpt-4o-mini-tts", "voice": "marin", "input": "See the saw.", "speed": 1.0}
    known |= {"instructions": str(None), "response_format": "mp3"}

    async def run() -> bytes:
        client = openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key=key, max_retries=0)
        async with client, client.audio.speech.with_streaming_response.create(**known | options) as response:
            assert "warning" not in response.headers, "the word None was taken for a wish"
            return b"".join([chunk async for chunk in response.iter_bytes()])

    return asyncio.run(run())


@pytest.mark.parametrize("file_format", ["mp3", "opus", "flac", "wav"])
def test_every_format_that_a_player_may_prefer_can_be_played(served, file_format: str) -> None:
    assert len(decode(speak(served, response_format=file_format)))


def test_raw_is_what_a_satellite_plays(served) -> None:
    samples = np.frombuffer(speak(served, response_format="pcm"), "<i2")
    assert len(samples) > 1000 and np.abs(samples).max() > 32


@pytest.mark.parametrize("voice", VOICES)
def test_every_voice_of_its_list_speaks(served, voice: str) -> None:
    assert speak(served, voice=voice.lower(), input="See.", response_format="pcm")


def test_a_wrong_key_is_the_error_that_it_waits_for(start) -> None:
    locked = start(keys=("secret",))
    with pytest.raises(openai.OpenAIError, match="API key"):
        speak(locked)
    assert speak(locked, key="secret")
