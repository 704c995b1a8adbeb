"""From answers to scores of systems: the blinding undone, catches checked, raters left out by rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openvalle.evaluate.listening.answers import Answer, Ballot
from openvalle.evaluate.listening.design import Exclusion, TestKind
from openvalle.evaluate.listening.schedule import schedule
from openvalle.evaluate.listening.study import Clip, Role, Study

SAME_VOICE = 4.0  # smos catch: the reference itself must get this much
POOR_BELOW = 3.0  # mos catch: a spoilt clip must get less than this
CONSTANT_TRIALS = 8  # the same answer to so many trials is no judgement


@dataclass(frozen=True)
class Score:
    """What one rater gave one system on one item; `shown` is the answer as it was given."""

    rater: str
    system: str
    item: str
    value: float
    shown: float
    seconds: float


def clips_of(study: Study, answer: Answer) -> list[Clip]:
    """Return what the clips of an answer are, in the order in which they were shown."""
    return [study.clips[name] for name in answer.clips]


def role_of(study: Study, answer: Answer) -> Role:
    """Return what the answer's trial was for: tones, training, catch, or else a counted one."""
    role = study.clips[answer.clips[0]].role
    return role if role in (Role.TONES, Role.TRAINING, Role.CATCH) else Role.SYSTEM


def scores(study: Study, ballot: Ballot) -> list[Score]:
    """Return the scores of a rater's counted trials.

    CMOS is turned to "system compared with the baseline": positive, the system is better.
    """
    made = []
    for answer in ballot.answers:
        if role_of(study, answer) is not Role.SYSTEM:
            continue
        clips = clips_of(study, answer)
        if study.design.kind is TestKind.CMOS:
            is_second = clips[1].system != study.design.baseline
            system, value = clips[is_second], answer.values[0] * (1 if is_second else -1)
            made.append(Score(ballot.rater, system.system, system.item, value, answer.values[0], answer.seconds))
            continue
        for clip, value in zip(clips, answer.values, strict=True):
            made.append(Score(ballot.rater, clip.system, clip.item, value, value, answer.seconds))
    return made


def is_caught(study: Study, answer: Answer) -> bool:
    """Return True if the answer to a catch trial is wrong."""
    value = answer.values[0]
    if study.design.kind is TestKind.CMOS:
        return bool(value >= 0 if clips_of(study, answer)[1].poor else value <= 0)
    return value >= POOR_BELOW if study.design.kind is TestKind.MOS else value < SAME_VOICE


def reasons(study: Study, ballot: Ballot, rules: Exclusion) -> list[str]:
    """Return why a rater is left out; empty for one who counts."""
    checks = (_catches, _headphones, _share, _speed, _sameness, _hidden)
    return [why for check in checks if (why := check(study, ballot, rules))]


def _catches(study: Study, ballot: Ballot, rules: Exclusion) -> str:
    wrong = [is_caught(study, answer) for answer in ballot.answers if role_of(study, answer) is Role.CATCH]
    if wrong and np.mean(wrong) > rules.max_failed_catches:
        return f"{sum(wrong)} of {len(wrong)} catch trials wrong"
    return ""


def _headphones(study: Study, ballot: Ballot, rules: Exclusion) -> str:
    given = [answer for answer in ballot.answers if role_of(study, answer) is Role.TONES]
    right = sum(answer.values[0] == study.clips[answer.clips[0]].answer for answer in given)
    # a check left in the middle says nothing
    if len(given) == len(study.headphones) > 0 and right < rules.min_headphones:
        return f"{right} of {len(given)} right in the headphone check"
    return ""


def _share(study: Study, ballot: Ballot, rules: Exclusion) -> str:
    share = len(ballot.answers) / len(schedule(study, ballot.number))
    return f"answered {share:.0%} of the trials" if share < rules.min_answers else ""


def _speed(study: Study, ballot: Ballot, rules: Exclusion) -> str:
    seconds = [answer.seconds for answer in ballot.answers if role_of(study, answer) is Role.SYSTEM]
    if seconds and np.median(seconds) < rules.min_seconds:
        return f"{np.median(seconds):.1f} s for a trial"
    return ""


def _sameness(study: Study, ballot: Ballot, rules: Exclusion) -> str:
    counted = [answer for answer in ballot.answers if role_of(study, answer) is Role.SYSTEM]
    if rules.constant and len(counted) >= CONSTANT_TRIALS and len({v for a in counted for v in a.values}) == 1:
        return f"the same answer to {len(counted)} trials"
    return ""


def _hidden(study: Study, ballot: Ballot, rules: Exclusion) -> str:
    if study.design.kind is not TestKind.MUSHRA:
        return ""
    given = [
        value
        for answer in ballot.answers
        if role_of(study, answer) is Role.SYSTEM
        for clip, value in zip(clips_of(study, answer), answer.values, strict=True)
        if clip.role is Role.HIDDEN
    ]
    low = [value < rules.hidden_below for value in given]
    if low and np.mean(low) > rules.hidden_share:
        return f"the hidden reference under {rules.hidden_below:g} in {sum(low)} of {len(low)} trials"
    return ""
