"""`AudioCrops`: batches of random waveform crops, a pure function of (seed, step, rank)."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field

from openvalle.audio import RATE, Audio, at_speed
from openvalle.config import Config
from openvalle.data.sampling import draw_generator, row_weights
from openvalle.data.shards import AudioShards, TokenShards
from openvalle.errors import ModelError


class Augmentation(Config):
    """How a crop is varied before it is used; zeros leave it as it is."""

    gain_db: float = Field(default=0.0, ge=0, le=40, description="level changed by up to this much either way")
    speed: float = Field(default=0.0, ge=0, lt=0.5, description="speed and pitch changed by up to this share")


class AudioCrops:
    """Random crops of `seconds`, `batch` of them on each rank; rows drawn by speaker ∝ hours ** power."""

    def __init__(
        self,
        shards: AudioShards,
        seconds: float,
        batch: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        *,
        speaker_power: float = 1.0,
        augmentation: Augmentation | None = None,
    ) -> None:
        assert 0 <= rank < world, (rank, world)
        self.shards = shards
        self.samples = round(seconds * RATE)
        self.size = batch
        self.seed, self.rank = seed, rank
        self.augmentation = augmentation or Augmentation()
        # A long row has more crops to give, so rows count by length within their speaker.
        self._weights = row_weights(shards.speakers, shards.lengths, speaker_power, by_length=True)

    def batch(self, step: int) -> torch.Tensor:
        """Return the crops of a step, (B, N) float32; a row shorter than N lies in zeros."""
        rng = draw_generator(self.seed, step, self.rank)
        rows = rng.choice(len(self.shards), self.size, p=self._weights)
        return torch.from_numpy(np.stack([self._crop(int(row), rng) for row in rows]))  # (B, N)

    def _crop(self, row: int, rng: np.random.Generator) -> np.ndarray:
        options = self.augmentation
        speed = 1 + options.speed * rng.uniform(-1, 1)
        wanted = round(self.samples * speed)
        spare = self.shards.rows[row]["samples"] - wanted
        crop = self.shards.crop(row, int(rng.integers(spare + 1)) if spare > 0 else 0, wanted)
        if options.speed:
            crop = at_speed(Audio(crop, RATE), speed).samples[: self.samples]
        placed = np.zeros(self.samples, np.float32)
        start = int(rng.integers(self.samples - len(crop) + 1))
        placed[start : start + len(crop)] = crop
        return _gain(placed, options.gain_db * rng.uniform(-1, 1))


class CodedCrops:
    """Random crops of recordings with codes that go with them: (B, N) float32 samples and (B, T, Q) codes."""

    def __init__(
        self, audio: AudioShards, tokens: TokenShards, seconds: float, batch: int, seed: int, rank: int, world: int
    ) -> None:
        assert 0 <= rank < world, (rank, world)
        self.audio, self.tokens = audio, tokens
        self.hop = tokens.codec["hop"]
        self.frames = round(seconds * RATE) // self.hop
        self.size, self.seed, self.rank = batch, seed, rank
        sounds = {row["id"]: index for index, row in enumerate(audio.rows)}
        self.rows = [
            (sounds[row["id"]], index)
            for index, row in enumerate(tokens.rows)
            if row["id"] in sounds and row["frames"] >= self.frames
        ]
        if not self.rows:
            raise ModelError(f"{tokens.folder} holds no codes of these recordings", "predict codes of this data")

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the crops of a step."""
        rng = draw_generator(self.seed, step, self.rank)
        samples, codes = [], []
        for choice in rng.integers(len(self.rows), size=self.size):
            sound, row = self.rows[choice]
            start = int(rng.integers(self.tokens.rows[row]["frames"] - self.frames + 1))
            codes.append(self.tokens[row].codes[start : start + self.frames])
            samples.append(self.audio.crop(sound, start * self.hop, self.frames * self.hop))
        return torch.from_numpy(np.stack(samples)), torch.stack(codes)


def fixed_crops(shards: AudioShards, seconds: float, count: int) -> torch.Tensor:
    """Return up to `count` crops for validation, (B, N) float32: the middles of rows spread evenly over the shards."""
    samples = round(seconds * RATE)
    rows = np.linspace(0, len(shards) - 1, min(count, len(shards))).round().astype(int)
    crops = np.zeros((len(rows), samples), np.float32)
    for crop, row in zip(crops, rows, strict=True):
        start = max(0, (shards.rows[row]["samples"] - samples) // 2)
        found = shards.crop(int(row), start, samples)
        crop[: len(found)] = found
    return torch.from_numpy(crops)


def _gain(samples: np.ndarray, gain_db: float) -> np.ndarray:
    peak = float(np.abs(samples).max())
    gain = 10 ** (gain_db / 20)
    return samples * np.float32(min(gain, 0.99 / peak) if peak > 0 else 1.0)
