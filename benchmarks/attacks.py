"""What may happen to a recording on its way: each attack takes and gives sound of the same rate."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np

from openvalle.audio import Audio, resample
from openvalle.codec.base import Codec

Attack = Callable[[Audio, np.random.Generator], Audio]
# libsndfile turns a level into a bit rate: from 160 kb/s at 0 down to 8 kb/s at 1, for 24 kHz
MP3_LEVELS = {64: (160 - 64) / 152, 32: (160 - 32) / 152}


def mp3(audio: Audio, kilobits: int) -> Audio:
    """Return what is left after MP3 of a constant bit rate."""
    return through_file(audio, "MP3", "MPEG_LAYER_III", bitrate_mode="CONSTANT", compression_level=MP3_LEVELS[kilobits])


def through_file(audio: Audio, container: str, coding: str, **how: object) -> Audio:
    """Return what is left after writing and reading a file."""
    import soundfile

    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", audio.rate, 1, coding, format=container, **how) as out:
        out.write(np.clip(audio.samples, -1, 1))
    file.seek(0)
    return Audio(soundfile.read(file, dtype="float32")[0], audio.rate)


def resampled(audio: Audio, rate: int) -> Audio:
    """Return what is left after going through `rate` hertz."""
    return resample(resample(audio, rate), audio.rate)


def cut(audio: Audio, seconds: float, rng: np.random.Generator) -> Audio:
    """Return a stretch of the recording from anywhere in it."""
    size = min(round(seconds * audio.rate), len(audio.samples))
    start = int(rng.integers(0, len(audio.samples) - size + 1))
    return Audio(audio.samples[start : start + size], audio.rate)


def gained(audio: Audio, decibels: float) -> Audio:
    """Return it louder or quieter; what is too loud is clipped, as 16-bit files do."""
    samples = np.clip(audio.samples * 10 ** (decibels / 20), -1, 1)
    return Audio((np.round(samples * 32767) / 32767).astype(np.float32), audio.rate)


def noisy(audio: Audio, decibels: float, rng: np.random.Generator) -> Audio:
    """Return it with white noise so many decibels below it."""
    level = np.sqrt(np.mean(audio.samples**2)) * 10 ** (-decibels / 20)
    return Audio((audio.samples + level * rng.standard_normal(len(audio.samples))).astype(np.float32), audio.rate)


def faster(audio: Audio, factor: float) -> Audio:
    """Return it played so many times as fast, pitch and all."""
    sped = resample(Audio(audio.samples, audio.rate), round(audio.rate / factor))
    return Audio(sped.samples, audio.rate)


def recoded(audio: Audio, codec: Codec) -> Audio:
    """Return what is left after a neural codec."""
    import torch

    with torch.inference_mode():
        samples = codec.decode(codec.encode(torch.from_numpy(audio.samples)[None]))[0]
    return Audio(samples.float().numpy()[: len(audio.samples)].astype(np.float32), audio.rate)


NEURAL = "neural codec"
ATTACKS: dict[str, Attack] = {
    "none": lambda audio, rng: audio,
    "MP3 64 kb/s": lambda audio, rng: mp3(audio, 64),
    "MP3 32 kb/s": lambda audio, rng: mp3(audio, 32),
    "Opus": lambda audio, rng: through_file(audio, "OGG", "OPUS"),
    "through 16 kHz": lambda audio, rng: resampled(audio, 16_000),
    "through 8 kHz": lambda audio, rng: resampled(audio, 8000),
    "cut to 3 s": lambda audio, rng: cut(audio, 3.0, rng),
    "cut to 1 s": lambda audio, rng: cut(audio, 1.0, rng),
    "20 dB quieter": lambda audio, rng: gained(audio, -20),
    "12 dB louder, clipped": lambda audio, rng: gained(audio, 12),
    "noise 20 dB below": lambda audio, rng: noisy(audio, 20, rng),
    "10 % faster": lambda audio, rng: faster(audio, 1.1),
}


def attacks(codec: Codec) -> dict[str, Attack]:
    """Return the attacks by name, the harmless one first."""
    return {**ATTACKS, NEURAL: lambda audio, rng: recoded(audio, codec)}
