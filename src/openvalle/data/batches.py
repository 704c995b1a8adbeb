"""Batches of utterances and of crops of sound, each a pure function of (seed, step, rank).

Nothing is remembered between steps, so a resumed run needs the step number only, and any number of ranks draw
different batches from the same recipe. Still no row is met far more often than its weight says: `even_point`.

A share of the batches of tokens may be of pairs: two utterances of a speaker in one row, the first as the prompt of the
second, as in zero-shot speaking.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from openvalle.audio import RATE, Audio, change_gain, change_speed
from openvalle.config import Config
from openvalle.data.shards import AudioShards, JoinedShards, Shards, TokenShards, crop, join_utterances
from openvalle.errors import ConfigError, ModelError
from openvalle.types import Utterance

PLASTIC = 1.324717957244746  # the real root of x**3 = x + 1


def draw_generator(seed: int, step: int, rank: int) -> np.random.Generator:
    """Return the generator of one step on one rank: resuming needs the step number and nothing else."""
    return np.random.default_rng([seed, step, rank])


def even_point(seed: int, index: int) -> tuple[float, float]:
    """Return point `index` of a sequence of which any stretch covers the unit square evenly, shifted by the seed.

    Each coordinate goes on by a fixed step, modulo 1 (Roberts' R2). What two independent draws would meet by chance,
    some twice as often and some not at all, meets equally often, and still the point follows from its index alone.
    """
    first, second = draw_generator(seed, 0, 0).random(2)
    return float((first + index / PLASTIC) % 1), float((second + index / PLASTIC**2) % 1)


def row_weights(speakers: Sequence[str], lengths: np.ndarray, power: float, *, by_length: bool = False) -> np.ndarray:
    """Return the probability of each row, (rows,) float64: speakers count by length ** power.

    `power` 1 draws by hours, 0 gives every speaker the same share. Within a speaker rows are equally likely,
    or likely by their length.
    """
    _, speaker = np.unique(np.asarray(speakers), return_inverse=True)  # (rows,)
    total = np.bincount(speaker, lengths)  # (speakers,)
    share = total**power / np.sum(total**power)
    within = lengths / total[speaker] if by_length else 1 / np.bincount(speaker)[speaker]
    weights = share[speaker] * within
    return weights / weights.sum()


def scale_to_shares(weights: np.ndarray, part: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Return `weights` (rows,) scaled so that the rows of each `part` (rows,) together have its share."""
    total = np.bincount(part, weights, len(shares))  # (parts,)
    scales = np.divide(shares, total, out=np.zeros(len(shares)), where=total > 0)
    scaled = weights * scales[part]
    return scaled / scaled.sum()


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

    def batch(self, step: int) -> np.ndarray:
        """Return the crops of a step, (B, N) float32; a row shorter than N lies in zeros."""
        rng = draw_generator(self.seed, step, self.rank)
        rows = rng.choice(len(self.shards), self.size, p=self._weights)
        return np.stack([self._crop(int(row), rng) for row in rows])

    def _crop(self, row: int, rng: np.random.Generator) -> np.ndarray:
        options = self.augmentation
        speed = 1 + options.speed * rng.uniform(-1, 1)
        wanted = round(self.samples * speed)
        spare = self.shards.rows[row]["samples"] - wanted
        crop = self.shards.crop(row, int(rng.integers(spare + 1)) if spare > 0 else 0, wanted)
        if options.speed:
            crop = change_speed(Audio(crop, RATE), speed).samples[: self.samples]
        placed = np.zeros(self.samples, np.float32)
        start = int(rng.integers(self.samples - len(crop) + 1))
        placed[start : start + len(crop)] = crop
        return change_gain(placed, options.gain_db * rng.uniform(-1, 1))


class CodedCrops:
    """Random crops of recordings with codes that go with them: (B, N) float32 samples and (B, T, Q) codes."""

    def __init__(
        self, audio: AudioShards, tokens: TokenShards, seconds: float, batch: int, seed: int, rank: int, world: int
    ) -> None:
        assert 0 <= rank < world, (rank, world)
        self.audio, self.tokens = audio, tokens
        self.hop = tokens.codec.hop
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

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the crops of a step."""
        rng = draw_generator(self.seed, step, self.rank)
        samples, codes = [], []
        for choice in rng.integers(len(self.rows), size=self.size):
            sound, row = self.rows[choice]
            start = int(rng.integers(self.tokens.rows[row]["frames"] - self.frames + 1))
            codes.append(self.tokens[row].codes[start : start + self.frames])
            samples.append(self.audio.crop(sound, start * self.hop, self.frames * self.hop))
        return np.stack(samples), np.stack(codes)


def fixed_crops(shards: AudioShards, seconds: float, count: int) -> np.ndarray:
    """Return up to `count` crops for validation, (B, N) float32: the middles of rows spread evenly over the shards."""
    samples = round(seconds * RATE)
    rows = np.linspace(0, len(shards) - 1, min(count, len(shards))).round().astype(int)
    crops = np.zeros((len(rows), samples), np.float32)
    for piece, row in zip(crops, rows, strict=True):
        start = max(0, (shards.rows[row]["samples"] - samples) // 2)
        found = shards.crop(int(row), start, samples)
        piece[: len(found)] = found
    return crops


SPREAD = 1.08  # longest to anchor, and anchor to shortest: keeps padding near 5 %


class TokenBatches:
    """Batches of up to `frames_per_batch` frames, padding included, of rows of similar length.

    Rows are drawn by speaker ∝ hours ** `speaker_power` and evenly within a speaker. Rows longer than
    `max_seconds` are cropped at random symbol boundaries; without alignment they are left out. `shares`: how much of
    the draws comes from each folder of the shards. In a share `pairs` of the batches every row is prompted with a
    piece, of between the two `prompt_seconds`, of another utterance of its speaker.
    """

    def __init__(
        self,
        shards: Shards,
        frames_per_batch: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        *,
        speaker_power: float = 0.5,
        max_seconds: float | None = None,
        shares: Sequence[float] | None = None,
        pairs: float = 0.0,
        prompt_seconds: tuple[float, float] = (2.0, 6.0),
        spread: float = SPREAD,
    ) -> None:
        assert 0 <= rank < world, (rank, world)
        assert shards.is_aligned or not pairs, "byte pairs cannot be joined"
        self.shards = shards
        self.frames_per_batch = frames_per_batch
        self.seed, self.rank, self.world, self.spread = seed, rank, world, spread
        rate = shards.codec.frame_rate
        self.block = shards.codec.merge
        every, speakers = shards.frames, shards.speakers  # each is made of all rows: read once
        self.max_frames = int(max_seconds * rate) if max_seconds else int(every.max())
        usable = np.flatnonzero(shards.is_aligned | (every <= self.max_frames))
        if not len(usable):
            raise ConfigError(
                f"every utterance is longer than {max_seconds:g} s", "raise max_seconds: byte pairs cannot be cropped"
            )
        frames = np.minimum(every[usable], self.max_frames)
        order = np.argsort(frames, kind="stable")  # (rows,)
        self._order, self._frames = usable[order], frames[order]
        weights = row_weights([speakers[row] for row in usable], every[usable], speaker_power)
        if shares is not None:
            assert isinstance(shards, JoinedShards)
            weights = scale_to_shares(weights, shards.part[usable], shares)
        weights = weights[order]
        self.pairs = pairs
        self.prompt_frames = tuple(int(each * rate) // self.block * self.block for each in prompt_seconds)
        _, self._speaker = np.unique(speakers, return_inverse=True)  # (rows,)
        by_speaker = np.argsort(self._speaker, kind="stable")
        self._of_speaker = np.split(by_speaker, np.cumsum(np.bincount(self._speaker))[:-1])
        self._log_weights = np.log(weights)
        # A batch around a long row has fewer rows, so long rows start batches more often: every row is then
        # drawn as often as its weight says.
        self._anchors = np.cumsum(weights / np.clip(frames_per_batch // self._frames, 1, len(order)))
        self._anchors /= self._anchors[-1]

    def rows(self, step: int) -> list[int]:
        """Return the rows of the batch of a step on this rank; the second ones, if it is of pairs."""
        return self._draw(step, *self._start(step))

    def batch(self, step: int) -> list[Utterance]:
        """Return the utterances of a step on this rank, cropped where they are too long."""
        rng, prompt = self._start(step)
        found = []
        for row in self._draw(step, rng, prompt):
            utterance = crop(self.shards[row], self.max_frames, rng, self.block)
            own = self._of_speaker[self._speaker[row]] if prompt else ()
            if len(own) > 1:
                other = int(rng.choice(own[own != row]))
                piece = crop(self.shards[other], prompt, rng, self.block)
                utterance = join_utterances(piece, utterance, self.block)
            found.append(utterance)
        return found

    def _start(self, step: int) -> tuple[np.random.Generator, int]:
        """Return the generator of a step, and the most frames of its rows' prompts; 0 if it is not of pairs."""
        rng = draw_generator(self.seed, step, self.rank)
        if not self.pairs or rng.random() >= self.pairs:
            return rng, 0
        shortest, longest = self.prompt_frames
        return rng, int(rng.integers(shortest, longest + 1))

    def stage_uniform(self, step: int) -> float:
        """Return a number from [0, 1) that is even over steps and over those of any one row: what decides the stage."""
        return self._point(step)[1]

    def _point(self, step: int) -> tuple[float, float]:
        return even_point(self.seed, step * self.world + self.rank)

    def _draw(self, step: int, rng: np.random.Generator, prompt: int) -> list[int]:
        anchor = min(int(np.searchsorted(self._anchors, self._point(step)[0])), len(self._order) - 1)
        low, high = self._window(anchor)
        # The k largest of log weight + Gumbel noise are a draw of k without replacement.
        keys = self._log_weights[low:high] + rng.gumbel(size=high - low)
        keys[anchor - low] = np.inf
        drawn = low + np.argsort(-keys)
        longest = np.maximum.accumulate(self._frames[drawn])
        fits = (longest + prompt) * np.arange(1, len(drawn) + 1) <= self.frames_per_batch
        count = max(1, len(drawn) if fits.all() else int(np.argmin(fits)))
        return self._order[drawn[:count]].tolist()

    def _window(self, anchor: int) -> tuple[int, int]:
        """Return the range of sorted rows near the anchor's length; wider where a batch needs more rows."""
        frames = self._frames[anchor]
        low = int(np.searchsorted(self._frames, frames / self.spread))
        high = int(np.searchsorted(self._frames, frames * self.spread, side="right"))
        needed = min(len(self._order), self.frames_per_batch // int(frames))
        while high - low < needed:
            low, high = max(0, low - 1), min(len(self._order), high + 1)
        return low, high


def fixed_batches(shards: Shards, frames_per_batch: int) -> list[list[int]]:
    """Return every row exactly once, shortest first, in batches of up to `frames_per_batch`: for validation."""
    batches: list[list[int]] = []
    frames = shards.frames
    for row in np.argsort(frames, kind="stable").tolist():
        if batches and frames[row] * (len(batches[-1]) + 1) <= frames_per_batch:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
