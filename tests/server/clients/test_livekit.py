"""LiveKit Agents: its OpenAI plugin, run as an agent runs it.

It asks for mp3 in server-sent events (`stream_format="sse"`) unless the model is `tts-1`, decodes it with PyAV, counts
tokens by `usage`, and gives up when nothing comes for thirty seconds.
"""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

pytest.importorskip("livekit.plugins.openai", reason="LiveKit's plugin is not installed")

from livekit.agents import APIConnectOptions, APIStatusError, tts
from livekit.plugins import openai

pytestmark = pytest.mark.slow
TEXT = "See the saw. So we see it."


def hear(served, key: str = "any", **options) -> tuple[np.ndarray, list]:
    """Return the samples, and what the plugin measured."""
    measured: list = []

    async def run() -> list:
        service = openai.TTS(base_url=f"{served.url}/v1", api_key=key, **options)
        service.on("metrics_collected", measured.append)
        async with service.synthesize(TEXT, conn_options=APIConnectOptions(max_retry=0, timeout=30)) as stream:
            frames = [event.frame async for event in stream]
        await service.aclose()
        return frames

    frames = asyncio.run(run())
    assert all((frame.sample_rate, frame.num_channels) == (24_000, 1) for frame in frames)
    return np.concatenate([np.frombuffer(frame.data, "<i2") for frame in frames]), measured


@pytest.mark.parametrize("model", ["gpt-4o-mini-tts", "tts-1", "openvalle"])
@pytest.mark.parametrize("file_format", ["mp3", "pcm", "wav", "opus", "flac", "aac"])
def test_an_agent_hears_all_of_it(served, synthesizer, buzz, model: str, file_format: str) -> None:
    heard, measured = hear(served, model=model, response_format=file_format, voice="ash")
    length = sum(len(block.audio.samples) for block in synthesizer.stream(TEXT, buzz))
    assert abs(len(heard) - length) < 5000 and np.abs(heard).max() > 32  # encoders fill their last frame
    (figures,) = [one for one in measured if isinstance(one, tts.tts.TTSMetrics)]
    assert figures.ttfb > 0 and figures.audio_duration > 0
    assert (figures.output_tokens > 0) == (model != "tts-1")  # events tell the usage


def test_an_error_is_a_status_that_it_knows(start) -> None:
    with pytest.raises(APIStatusError) as caught:
        hear(start(keys=("secret",)), key="wrong")
    assert caught.value.status_code == 401
