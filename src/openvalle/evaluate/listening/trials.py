"""The trials of each kind of test: counted ones, training and catches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from openvalle.evaluate.listening.design import Design, TestKind
from openvalle.evaluate.listening.schedule import rotation
from openvalle.evaluate.listening.study import ANCHOR, REFERENCE, Role, Trial

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


def trainings(design: Design, items: Sequence[str], pair: KnownPair) -> tuple[Trial, ...]:
    """Return the first trials, whose answer is explained afterwards."""
    made = []
    for number in range(design.training):
        item = items[number % len(items)]
        good, other = pair(Role.TRAINING, item, number % 2 == 0)
        if design.kind is TestKind.CMOS:
            made.append(_cmos_training(item, good, other, number))
        elif design.kind is TestKind.MOS:
            made.append(_mos_training(item, good, other, number))
        elif design.kind is TestKind.SMOS:
            lesson = SMOS_LESSONS[number % 2]
            made.append(Trial(stage="training", item=item, clips=(other,), reference=good, lesson=lesson))
        else:
            hidden, _ = pair(Role.TRAINING, item, False)
            clips = (other, hidden) if number % 2 == 0 else (hidden, other)
            lesson = MUSHRA_LESSONS[number % 2]
            made.append(Trial(stage="training", item=item, clips=clips, reference=good, lesson=lesson))
    return tuple(made)


SMOS_LESSONS = (
    "This is one and the same recording, made dull and noisy. The voice is the same: the answer goes to the high end, "
    "because only the voice counts here, not the sound quality.",
    "This was the very same recording: certainly the same speaker.",
)
MUSHRA_LESSONS = (
    "One clip was the reference itself and belongs at 100. The other was made dull and noisy and belongs far below.",
    "Both clips were the reference itself and belong at 100. In every trial at least one clip is the reference.",
)


def _cmos_training(item: str, good: str, other: str, number: int) -> Trial:
    if number % 2 == 0:
        lesson = "B was made dull and noisy on purpose: most people answer that B is worse or much worse."
    else:
        lesson = "Both were the same recording: “about the same” is the right answer when you hear no difference."
    return Trial(stage="training", item=item, clips=(good, other), lesson=lesson)


def _mos_training(item: str, good: str, other: str, number: int) -> Trial:
    if number % 2 == 0:
        lesson = "This was made dull and noisy on purpose: most people answer “bad” or “poor”."
        return Trial(stage="training", item=item, clips=(other,), lesson=lesson)
    lesson = (
        "Judge the clip as a whole. The upper end of the scale is for speech that you would take for a person talking."
    )
    return Trial(stage="training", item=item, clips=(good,), lesson=lesson)


def catches(design: Design, items: Sequence[str], pair: KnownPair) -> tuple[Trial, ...]:
    """Return the trials whose answer is known; a mushra test has its hidden references instead."""
    made = []
    for number in range(0 if design.kind is TestKind.MUSHRA else design.catches):
        item = items[-1 - number % len(items)]
        good, other = pair(Role.CATCH, item, design.kind is not TestKind.SMOS)
        if design.kind is TestKind.CMOS:
            made.append(Trial(stage="test", item=item, clips=(good, other)))
        elif design.kind is TestKind.MOS:
            made.append(Trial(stage="test", item=item, clips=(other,)))
        else:
            made.append(Trial(stage="test", item=item, clips=(other,), reference=good))
    return tuple(made)
