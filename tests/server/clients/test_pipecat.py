"""Pipecat: its OpenAI service, run as a pipeline runs it.

It knows OpenAI's voice names alone, asks for pcm and takes the bytes as samples at 24 kHz. An interruption closes the
stream in the middle.
"""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

pytest.importorskip("pipecat", reason="Pipecat is not installed")

from pipecat.frames.frames import EndFrame, ErrorFrame, TTSAudioRawFrame, TTSSpeakFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.openai.tts import VALID_VOICES, OpenAITTSService

pytestmark = pytest.mark.slow
TEXT = "See the saw. So we see it."


def make_service(served, **settings) -> OpenAITTSService:
    known = OpenAITTSService.Settings(model="openvalle", **{"voice": "alloy"} | settings)
    return OpenAITTSService(api_key="any", base_url=f"{served.url}/v1", settings=known)


class Ear(FrameProcessor):
    """Keeps what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list = []

    async def process_frame(self, frame, direction) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame | ErrorFrame):
            self.frames.append(frame)
        await self.push_frame(frame, direction)


def hear(service: OpenAITTSService, text: str) -> list:
    """Return the sound and the errors that come out of a pipeline."""
    ear = Ear()

    async def run() -> None:
        params = PipelineParams(audio_out_sample_rate=24_000)
        task = PipelineTask(Pipeline([service, ear]), params=params)
        await task.queue_frames([TTSSpeakFrame(text), EndFrame()])
        await asyncio.wait_for(PipelineRunner(handle_sigint=False).run(task), 120)

    asyncio.run(run())
    return ear.frames


def test_a_pipeline_speaks_what_the_model_says(served, synthesizer, buzz) -> None:
    frames = hear(make_service(served), TEXT)
    assert all(isinstance(frame, TTSAudioRawFrame) and frame.sample_rate == 24_000 for frame in frames)
    heard = np.frombuffer(b"".join(frame.audio for frame in frames), "<i2").astype(int)
    blocks = [block.audio.samples for block in synthesizer.stream(TEXT, buzz)]
    expected = np.round(np.clip(np.concatenate(blocks), -1, 1) * 32767).astype(int)
    assert len(heard) >= len(expected) and np.abs(heard[: len(expected)] - expected).max() <= 4
    assert not heard[len(expected) :].any()  # it may end with silence of its own


def test_every_voice_that_it_knows_is_one(served) -> None:
    for voice in VALID_VOICES:
        assert all(isinstance(frame, TTSAudioRawFrame) for frame in hear(make_service(served, voice=voice), "See."))


def test_an_interruption_frees_the_place(served) -> None:
    service, batcher = make_service(served), served.server.queue.batcher

    async def run() -> None:
        stream = service._client.audio.speech.with_streaming_response
        async with stream.create(input="See the saw. " * 60, model="x", voice="ash", response_format="pcm") as answer:
            async for _ in answer.iter_bytes(1024):
                break

    asyncio.run(run())
    until = time.monotonic() + 30
    while batcher.load.running:
        assert time.monotonic() < until, "it is spoken to its end for nobody"
        time.sleep(0.02)
