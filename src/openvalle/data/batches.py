"""Batches of utterances, each a pure function of (seed, number), from one prepared folder or several.

Nothing is remembered between steps, so a resumed run needs the step number only. Batches are numbered over all ranks:
any number of them draw the same ones, each its own. Still no row is met far more often than its weight says
(`openvalle.data.draws.even_point`).

A share of the batches of tokens may be of pairs: two utterances of a speaker in one row, the first as the prompt of the
second, as in zero-shot speaking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import Field

from openvalle.config import Config
from openvalle.data.draws import RowDraws, draw_generator, even_point
from openvalle.data.shards import JoinedShards, TokenShards
from openvalle.errors import ConfigError, ModelError
from openvalle.types import Utterance


def take_symbols(utterance: Utterance, first: int, last: int) -> Utterance:
    """Return the symbols [first, last) with their frames, as a piece of the whole recording."""
    assert utterance.durations is not None, "byte pairs cannot be cut"
    start, end = (int(utterance.durations[:symbol].sum()) for symbol in (first, last))
    return replace(
        utterance,
        text=utterance.text[first:last],
        codes=utterance.codes[start:end],
        durations=utterance.durations[first:last],
        speaker_codes=utterance.codes if utterance.speaker_codes is None else utterance.speaker_codes,
        speaker_start=(utterance.speaker_start or 0) + start,
    )


def crop(utterance: Utterance, max_frames: int, rng: np.random.Generator, merge: int = 2) -> Utterance:
    """Return a random stretch of whole symbols of at most `max_frames`, the whole utterance if it fits.

    Stretches begin and end on a multiple of `merge` frames, so that merged codes stay whole. A symbol that
    alone lasts longer than `max_frames` is never split: with no stretch that fits, the shortest symbol is kept.
    """
    if len(utterance.codes) <= max_frames:
        return utterance
    assert utterance.durations is not None, "byte pairs cannot be cut"
    edges = np.concatenate([[0], np.cumsum(utterance.durations)])  # (S + 1,)
    # Symbol borders at the edge of a merged code; marks last no time and stay with the symbol after them.
    usable = np.flatnonzero((edges % merge == 0) & (np.diff(edges, prepend=-1) > 0))
    ends = np.searchsorted(edges[usable], edges[usable] + max_frames, side="right") - 1
    starts = np.flatnonzero(ends > np.arange(len(usable)))
    # Only starts from which no more fits at the end are left out: the rest are about `max_frames` long.
    full = starts[edges[usable[starts]] + max_frames <= edges[-1]]
    choice = full if len(full) else starts
    if not len(choice):
        lasting = np.flatnonzero(utterance.durations)
        place = int(utterance.durations[lasting].argmin())
        return take_symbols(utterance, int(lasting[place - 1]) + 1 if place else 0, int(lasting[place]) + 1)
    start = int(rng.choice(choice))
    return take_symbols(utterance, int(usable[start]), int(usable[ends[start]]))


def join_utterances(first: Utterance, second: Utterance, merge: int) -> Utterance:
    """Return `second` after `first`, which prompts it, as `openvalle.decode.prompt.zero_shot` lays both out.

    A symbol that ends the one and begins the other (a pause) is cut from the first; the prompt is whole merged
    codes. Nothing is joined if nothing is left of the first.
    """
    assert first.durations is not None and second.durations is not None, "byte pairs cannot be joined"
    if len(first.text) > 1 and first.text[-1] == second.text[0]:
        first = take_symbols(first, 0, len(first.text) - 1)
    assert first.durations is not None
    frames = len(first.codes) // merge * merge
    if not frames:
        return second
    durations = np.diff(np.cumsum(first.durations).clip(max=frames), prepend=0)
    return replace(
        second,
        text=np.concatenate([first.text, second.text]),
        codes=np.concatenate([first.codes[:frames], second.codes]),
        durations=np.concatenate([durations, second.durations]),
        speaker_codes=None,
        speaker_start=None,
        prompt_frames=frames,
        prompt_symbols=len(first.text),
        prompt_language_name=first.language_name,
    )


class TokenBatches:
    """Batches of up to `frames_per_batch` frames, padding included, of rows of similar length.

    Rows are drawn by speaker ∝ hours ** `speaker_power` and evenly within a speaker. Rows longer than
    `max_seconds` are cropped at random symbol boundaries; without alignment they are left out. With `min_seconds` every
    batch is cropped to a length of its own between the two: VALL-E's crops of 10 to 20 s of recordings of 60 s (5.1),
    which keep the whole recording for the NAR model's prompt. `shares`: how much of
    the draws comes from each folder of the shards. In a share `pairs` of the batches every row is prompted with a
    piece, of between the two `prompt_seconds`, of another utterance of its speaker.
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
        min_seconds: float | None = None,
        shares: Sequence[float] | None = None,
        pairs: float = 0.0,
        prompt_seconds: tuple[float, float] = (2.0, 6.0),
    ) -> None:
        assert 0 <= rank < world, (rank, world)
        assert shards.is_aligned or not pairs, "byte pairs cannot be joined"
        self.shards = shards
        self.frames_per_batch = frames_per_batch
        self.seed, self.rank, self.world = seed, rank, world
        rate = shards.codec.frame_rate
        self.merge = shards.codec.merge
        self.max_frames = int(max_seconds * rate) if max_seconds else int(shards.frames.max())
        self.min_frames = min(self.max_frames, int(min_seconds * rate)) if min_seconds else self.max_frames
        assert shards.is_aligned or self.min_frames == self.max_frames, "byte pairs cannot be cut"
        if shares is not None:
            assert isinstance(shards, JoinedShards)
        self._draws = RowDraws(
            shards.index,
            frames_per_batch,
            speaker_power,
            self.max_frames,
            leave_out=not shards.is_aligned,
            part=shards.part if isinstance(shards, JoinedShards) else None,
            shares=shares,
        )
        if not len(self._draws):
            raise ConfigError(
                f"every utterance is longer than {max_seconds:g} s", "raise max_seconds: byte pairs cannot be cropped"
            )
        self.pairs = pairs
        self.prompt_frames = tuple(int(each * rate) // self.merge * self.merge for each in prompt_seconds)

    def rows(self, step: int) -> list[int]:
        """Return the rows of the batch of a step on this rank; the second ones, if it is of pairs."""
        return self._draw(step, *self._start(step))

    def batch(self, step: int) -> list[Utterance]:
        """Return the utterances of a step on this rank, cropped where they are too long."""
        rng, prompt = self._start(step)
        rows, longest, found = self._draw(step, rng, prompt), self.max_frames, []
        if self.min_frames < longest:
            longest = int(rng.integers(self.min_frames, longest + 1))
        for row in rows:
            utterance = crop(self.shards[row], longest, rng, self.merge)
            own = self.shards.of_speaker(row) if prompt else ()
            if len(own) > 1:
                place = int(rng.integers(len(own) - 1))  # among the others
                other = int(own[place + (place >= np.searchsorted(own, row))])
                piece = crop(self.shards[other], prompt, rng, self.merge)
                utterance = join_utterances(piece, utterance, self.merge)
            found.append(utterance)
        return found

    def _start(self, step: int) -> tuple[np.random.Generator, int]:
        """Return the generator of a step, and the most frames of its rows' prompts; 0 if it is not of pairs."""
        rng = draw_generator(self.seed, self._number(step), 0)
        if not self.pairs or rng.random() >= self.pairs:
            return rng, 0
        shortest, longest = self.prompt_frames
        return rng, int(rng.integers(shortest, longest + 1))

    def stage_uniform(self, step: int) -> float:
        """Return a number from [0, 1) that is even over steps and over those of any one row: what decides the stage."""
        return self._point(step)[1]

    def _point(self, step: int) -> tuple[float, float]:
        return even_point(self.seed, self._number(step))

    def _number(self, step: int) -> int:
        """Return the batch's number over all ranks: two ranks draw in a step what one draws in two."""
        return step * self.world + self.rank

    def _draw(self, step: int, rng: np.random.Generator, prompt: int) -> list[int]:
        return self._draws.draw(self._point(step)[0], rng, prompt)


def list_batches(shards: TokenShards, frames_per_batch: int) -> list[list[int]]:
    """Return every row exactly once, shortest first, in batches of up to `frames_per_batch`: for validation."""
    batches: list[list[int]] = []
    frames = shards.frames
    for row in np.argsort(frames, kind="stable").tolist():
        if batches and frames[row] * (len(batches[-1]) + 1) <= frames_per_batch:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


class DataFolder(Config):
    """One of several folders of a run."""

    folder: Path = Field(..., description="folder made by `openvalle prepare`")
    share: float | None = Field(
        None, gt=0, le=1, description="of the draws; without, its speakers count among all others by their hours"
    )


Data = Path | tuple[DataFolder, ...]


def list_shares(data: Data) -> list[float] | None:
    """Return how much is drawn from each folder, None if they count as one; `ConfigError` if only some say."""
    if isinstance(data, Path):
        return None
    said = [source.share for source in data if source.share is not None]
    if not data or 0 < len(said) < len(data):
        raise ConfigError("some folders of `data` have no share", "give a share to every folder, or to none")
    return said or None


def open_shards(data: Data, splits: tuple[str, ...], *, everywhere: bool) -> TokenShards:
    """Return the tokens of the splits in all folders; `ModelError` unless one of them, or `everywhere` each, holds one
    of the splits."""
    found, missing = [], None
    for folder in [data] if isinstance(data, Path) else [source.folder for source in data]:
        try:
            found.append(TokenShards.open(folder, splits))
        except ModelError as error:
            TokenShards.open(folder)  # it is the split that is missing, or this raises what is wrong
            missing = error
    if missing is not None and (everywhere or not found):
        raise missing
    return found[0] if isinstance(data, Path) else JoinedShards(found)
