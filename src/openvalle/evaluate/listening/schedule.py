"""Which trials a rater gets, in which order: a function of the test and the rater's number alone."""

from __future__ import annotations

from math import gcd

import numpy as np

from openvalle.evaluate.listening.design import TestKind
from openvalle.evaluate.listening.study import Study, Trial


def rotation(systems: int, items: int) -> list[tuple[int, int]]:
    """Return every (system, item) once, so that neighbours differ in both.

    Any run of consecutive places holds the systems equally often, give or take one, and few items twice: raters
    who each take the next run of it share the work evenly.
    """
    period = systems * items // gcd(systems, items)
    return [(place % systems, (place + place // period) % items) for place in range(systems * items)]


def schedule(study: Study, number: int) -> tuple[Trial, ...]:
    """Return the trials of rater `number` (0, 1, ...) in order: headphones, training, test with catches.

    Over raters every comparison is heard equally often (give or take one) and in either order equally often;
    within a rater either order is as frequent for every system (give or take one).
    """
    rng = np.random.default_rng([study.design.seed, number])
    count, all_ = study.per_rater, study.comparisons
    turns = [number * count + place for place in range(count)]
    test = [_turned(study, all_[turn % len(all_)], turn, rng) for turn in turns]
    test = [test[place] for place in rng.permutation(count)]
    return (
        *(study.headphones[place] for place in rng.permutation(len(study.headphones))),
        *study.training,
        *_with_catches(study, test, rng),
    )


def _turned(study: Study, trial: Trial, turn: int, rng: np.random.Generator) -> Trial:
    """Return the trial with its clips in the order for this place in the rotation."""
    clips = trial.clips
    if study.design.kind is TestKind.MUSHRA:
        clips = tuple(clips[place] for place in rng.permutation(len(clips)))
    elif study.design.kind is TestKind.CMOS:
        pairs = len(study.systems) - 1
        round_, place = divmod(turn, len(study.comparisons))
        clips = clips[::-1] if (round_ + place // pairs) % 2 else clips
    return trial.model_copy(update={"clips": clips})


def _with_catches(study: Study, test: list[Trial], rng: np.random.Generator) -> list[Trial]:
    """Return the test with the catch trials spread over it, none of them first."""
    catches = [study.catches[place] for place in rng.permutation(len(study.catches))]
    mixed = list(test)
    for index, catch in enumerate(catches):
        if study.design.kind is TestKind.CMOS and rng.random() < 0.5:
            catch = catch.model_copy(update={"clips": catch.clips[::-1]})
        start, end = (len(test) * (index + part) / len(catches) for part in (0, 1))
        where = int(rng.integers(max(1, int(start)), max(1, int(end)) + 1)) + index
        mixed.insert(min(where, len(mixed)), catch)
    return mixed
