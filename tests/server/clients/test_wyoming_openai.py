"""wyoming_openai, a bridge from Home Assistant's protocol to OpenAI's: the real `openai` client, called as it does.

Read in roryeckel/wyoming_openai `src/wyoming_openai/compatibility.py` 371-471 (what kind of server is it?) and
`src/wyoming_openai/handler.py` 1082-1163: sound is asked for as wav and read in chunks of 2048 bytes, of which the
first is given to Python's `wave`; what follows the header there, and all other chunks, are samples. Three sentences
are asked for at a time.
"""

from __future__ import annotations

import asyncio
import io
import wave

import httpx
import numpy as np
import openai

CHUNK = 2048  # TTS_CHUNK_SIZE


def test_it_is_taken_for_a_plain_openai_server(served) -> None:
    """Others have to give voices as bare words, or their model's name as the only voice."""

    async def probe() -> tuple[int, str, int]:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="", _enforce_credentials=False) as client:
            inner: httpx.AsyncClient = client._client
            localai, speaches, kokoro = [await inner.get(path) for path in ("/readyz", "../../health", "/test")]
            return localai.status_code, speaches.text, kokoro.status_code

    localai, speaches, kokoro = asyncio.run(probe())
    assert localai == 404 and speaches != "OK" and kokoro == 404


def test_the_header_is_read_from_the_first_chunk(served, synthesizer, buzz) -> None:
    async def speak(client: openai.AsyncOpenAI, text: str) -> bytes:
        known = {"model": "tts-1", "voice": "alloy", "input": text, "response_format": "wav", "speed": openai.omit}
        async with client.audio.speech.with_streaming_response.create(**known) as response:
            samples = b""
            async for chunk in response.iter_bytes(chunk_size=CHUNK):
                if not samples:
                    head = io.BytesIO(chunk)
                    with wave.open(head, "rb") as file:
                        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
                        chunk = chunk[head.tell() :]
                samples += chunk
            return samples

    async def run(texts: list[str]) -> list[bytes]:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="any") as client:
            return await asyncio.gather(*(speak(client, text) for text in texts))

    texts = ["See the saw.", "So we see it.", "A seesaw sees."]
    for text, data in zip(texts, asyncio.run(run(texts)), strict=True):
        heard = np.frombuffer(data, "<i2").astype(int)
        blocks = [block.audio.samples for block in synthesizer.stream(text, buzz)]
        expected = np.round(np.clip(np.concatenate(blocks), -1, 1) * 32767).astype(int)
        assert len(heard) == len(expected) and np.abs(heard - expected).max() <= 4
