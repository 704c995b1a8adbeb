"""`TokenBatches`: which utterances make up a batch, a pure function of (seed, step, rank).

Nothing is remembered between steps, so a resumed run needs the step number only, and any number of ranks draw
different batches from the same recipe. Still no row is met far more often than its weight says: `even_point`.
"""

from __future__ import annotations

import numpy as np

from openvalle.data.sampling import draw_generator, even_point, row_weights
from openvalle.data.shards import TokenShards
from openvalle.data.utterance import Utterance, crop
from openvalle.errors import ConfigError

SPREAD = 1.08  # longest to anchor, and anchor to shortest: keeps padding near 5 %


class TokenBatches:
    """Batches of up to `frames_per_batch` frames, padding included, of rows of similar length.

    Rows are drawn by speaker ∝ hours ** `speaker_power` and evenly within a speaker. Rows longer than
    `max_seconds` are cropped at random symbol boundaries; without alignment they are left out.
    """

    def __init__(
        self,
        shards: TokenShards,
        frames_per_batch: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        *,
        speaker_power: float = 0.5,
        max_seconds: float | None = None,
        spread: float = SPREAD,
    ) -> None:
        assert 0 <= rank < world, (rank, world)
        self.shards = shards
        self.frames_per_batch = frames_per_batch
        self.seed, self.rank, self.world, self.spread = seed, rank, world, spread
        rate = shards.codec["rate"] / shards.codec["hop"]
        self.block = shards.codec["merge"]
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
        weights = row_weights([speakers[row] for row in usable], every[usable], speaker_power)[order]
        self._log_weights = np.log(weights)
        # A batch around a long row has fewer rows, so long rows start batches more often: every row is then
        # drawn as often as its weight says.
        self._anchors = np.cumsum(weights / np.clip(frames_per_batch // self._frames, 1, len(order)))
        self._anchors /= self._anchors[-1]

    def rows(self, step: int) -> list[int]:
        """Return the rows of the batch of a step on this rank."""
        return self._draw(step, draw_generator(self.seed, step, self.rank))

    def batch(self, step: int) -> list[Utterance]:
        """Return the utterances of a step on this rank, cropped where they are too long."""
        rng = draw_generator(self.seed, step, self.rank)
        rows = self._draw(step, rng)
        return [crop(self.shards[row], self.max_frames, rng, self.block) for row in rows]

    def share(self, step: int) -> float:
        """Return a number from [0, 1) that is even over steps and over those of any one row: what decides the stage."""
        return self._point(step)[1]

    def _point(self, step: int) -> tuple[float, float]:
        return even_point(self.seed, step * self.world + self.rank)

    def _draw(self, step: int, rng: np.random.Generator) -> list[int]:
        anchor = min(int(np.searchsorted(self._anchors, self._point(step)[0])), len(self._order) - 1)
        low, high = self._window(anchor)
        # The k largest of log weight + Gumbel noise are a draw of k without replacement.
        keys = self._log_weights[low:high] + rng.gumbel(size=high - low)
        keys[anchor - low] = np.inf
        drawn = low + np.argsort(-keys)
        longest = np.maximum.accumulate(self._frames[drawn])
        fits = longest * np.arange(1, len(drawn) + 1) <= self.frames_per_batch
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


def fixed_batches(shards: TokenShards, frames_per_batch: int) -> list[list[int]]:
    """Return every row exactly once, shortest first, in batches of up to `frames_per_batch`: for validation."""
    batches: list[list[int]] = []
    frames = shards.frames
    for row in np.argsort(frames, kind="stable").tolist():
        if batches and frames[row] * (len(batches[-1]) + 1) <= frames_per_batch:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
