"""Clips and raters for the tests of listening tests: short tones, and people with known preferences."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from openvalle.audio import Audio
from openvalle.listening_test.answers import Answer, Submission
from openvalle.listening_test.build import Sources, build_study
from openvalle.listening_test.schedule import schedule
from openvalle.listening_test.study import Design, Role, Study, TestKind, Trial
from openvalle.media import write

REFERENCE = "recorded"
QUALITY = {REFERENCE: 2.0, "ours": 1.0, "base": 0.0, "third": -1.0}  # what the simulated raters hear
RATE = 8000


def tone(hertz: float, seconds: float = 0.06) -> Audio:
    times = np.arange(round(seconds * RATE)) / RATE
    return Audio((0.3 * np.sin(2 * np.pi * hertz * times)).astype(np.float32), RATE)


def folders(root: Path, names: tuple[str, ...], items: int = 6, seconds: float = 0.06) -> dict[str, Path]:
    """Write one folder of tones per name."""
    for place, name in enumerate(names):
        for item in range(items):
            write(root / name / f"utt{item}.wav", tone(300 + 100 * place + 10 * item, seconds))
    return {name: root / name for name in names}


def study_in(
    root: Path, kind: TestKind, items: int = 6, systems: tuple[str, ...] = ("ours", "base"), **more: object
) -> Study:
    """Make a test of tones in `root/study`."""
    clips = folders(root / "clips", (*systems, REFERENCE), items)
    needs = kind in (TestKind.SMOS, TestKind.MUSHRA)
    sources = Sources({name: clips[name] for name in systems}, clips[REFERENCE] if needs else None)
    values = {"kind": kind, "headphones": False} | ({"baseline": "base"} if kind is TestKind.CMOS else {}) | more
    return build_study(root / "study", Design.parse(values), sources)


def heard(study: Study, name: str) -> float:
    """What a simulated rater hears in a clip."""
    clip = study.clips[name]
    return -4.0 if clip.poor else QUALITY.get(clip.system, QUALITY[REFERENCE])


def honest_values(study: Study, trial: Trial, error: float = 0.0) -> tuple[float, ...]:
    """Return the answer of a rater who hears `QUALITY`, off by `error` points of the scale."""
    if trial.stage == "headphones":
        return (float(study.clips[trial.clips[0]].answer),)
    qualities = [heard(study, name) for name in trial.clips]
    if study.design.kind is TestKind.CMOS:
        return (float(np.clip(round(qualities[1] - qualities[0] + error), -3, 3)),)
    if study.design.kind is TestKind.MUSHRA:
        hidden = [study.clips[name].role is Role.HIDDEN for name in trial.clips]
        given = np.clip([round(50 + 15 * quality + 5 * error) for quality in qualities], 0, 100)
        return tuple(100.0 if is_hidden else float(value) for is_hidden, value in zip(hidden, given, strict=True))
    return (float(np.clip(round(3 + qualities[0] + error), 1, 5)),)


def submission(study: Study, number: int, errors: float = 0.0, seed: int = 0) -> Submission:
    """Return everything that a simulated rater answers; `errors` is the spread of single answers."""
    rng = np.random.default_rng([seed, number])
    answers = [
        Answer(
            trial=place,
            clips=trial.clips,
            reference=trial.reference,
            values=honest_values(study, trial, errors * rng.standard_normal()),
            seconds=5.0,
            time=float(place + 1),
        )
        for place, trial in enumerate(schedule(study, number))
    ]
    return Submission(study=study.id, rater=f"r{number}", number=number, finished=True, answers=tuple(answers))
