"""The trials of each kind of test: counted ones, training and catches.

Which trials a rater gets, in which order: a function of the test and the rater's number alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import gcd

import numpy as np

from openvalle.listening_test.study import ANCHOR, REFERENCE, Design, Role, Study, TestKind, Trial


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


KnownPair = Callable[[Role, str, bool], tuple[str, str]]
"""(role, item, is the second one poor) -> the files of two clips of that item."""


def comparisons(
    design: Design, systems: Sequence[str], items: Sequence[str], names: Mapping[tuple[str, str], str]
) -> tuple[Trial, ...]:
    """Return every counted trial once, in the order of the rotation; `names[system, item]` are the files."""
    if design.kind is TestKind.MUSHRA:
        columns = ("hidden", ANCHOR, *systems)
        return tuple(
            Trial(
                stage="test",
                item=item,
                clips=tuple(names[name, item] for name in columns),
                reference=names[REFERENCE, item],
            )
            for item in items
        )
    judged = [name for name in systems if design.kind is not TestKind.CMOS or name != design.baseline]
    made = []
    for system, item in ((judged[s], items[i]) for s, i in rotation(len(judged), len(items))):
        first = (names[design.baseline, item],) if design.kind is TestKind.CMOS else ()
        reference = names[REFERENCE, item] if design.kind is TestKind.SMOS else ""
        made.append(Trial(stage="test", item=item, clips=(*first, names[system, item]), reference=reference))
    return tuple(made)


LESSONS = {  # after a training trial with a poor clip, and with a good one
    TestKind.CMOS: (
        "B was made dull and noisy on purpose: most people answer that B is worse or much worse.",
        "Both were the same recording: “about the same” is the right answer when you hear no difference.",
    ),
    TestKind.MOS: (
        "This was made dull and noisy on purpose: most people answer “bad” or “poor”.",
        "Judge the clip as a whole. The upper end of the scale is for speech that you would take for a person talking.",
    ),
    TestKind.SMOS: (
        "This is one and the same recording, made dull and noisy. The voice is the same: the answer goes to the high "
        "end, because only the voice counts here, not the sound quality.",
        "This was the very same recording: certainly the same speaker.",
    ),
    TestKind.MUSHRA: (
        "One clip was the reference itself and belongs at 100. The other was made dull and noisy and belongs far "
        "below.",
        "Both clips were the reference itself and belong at 100. In every trial at least one clip is the reference.",
    ),
}


def trainings(design: Design, items: Sequence[str], pair: KnownPair) -> tuple[Trial, ...]:
    """Return the first trials, whose answer is explained afterwards."""
    made = []
    for number in range(design.training):
        item, is_poor = items[number % len(items)], number % 2 == 0
        good, other = pair(Role.TRAINING, item, is_poor)
        trial = _known_trial(design.kind, item, good, other)
        if design.kind is TestKind.MUSHRA:
            hidden, _ = pair(Role.TRAINING, item, False)
            trial = trial.model_copy(update={"clips": (other, hidden) if is_poor else (hidden, other)})
        lesson = LESSONS[design.kind][number % 2]
        made.append(trial.model_copy(update={"stage": "training", "lesson": lesson}))
    return tuple(made)


def catches(design: Design, items: Sequence[str], pair: KnownPair) -> tuple[Trial, ...]:
    """Return the trials whose answer is known; a mushra test has its hidden references instead."""
    count = 0 if design.kind is TestKind.MUSHRA else design.catches
    chosen = [items[-1 - number % len(items)] for number in range(count)]
    return tuple(
        _known_trial(design.kind, item, *pair(Role.CATCH, item, design.kind is not TestKind.SMOS)) for item in chosen
    )


def _known_trial(kind: TestKind, item: str, good: str, other: str) -> Trial:
    """Return a trial about `other`, for which `good` is what it is compared with."""
    clips = (good, other) if kind is TestKind.CMOS else (other,)
    return Trial(
        stage="test", item=item, clips=clips, reference=good if kind in (TestKind.SMOS, TestKind.MUSHRA) else ""
    )
