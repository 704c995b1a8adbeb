"""A listening test: its design (what it asks, of whom, which raters count), and the test on disk.

study/
  study.json        the design, the items and what every clip is; never given to raters
  audio/3fa9...flac  clips under names that say nothing
  answers.sqlite    what raters answered, once the test is served
"""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator

from openvalle.config import Config, Syntax, read_data
from openvalle.errors import ConfigError, UserError


class TestKind(StrEnum):
    """The question that every trial asks."""

    __test__ = False  # not something for pytest to collect

    CMOS = "cmos"  # two clips of one text: how much better is the second? (comparison category rating, ITU-T P.800)
    MOS = "mos"  # one clip: how good is it? (absolute category rating, ITU-T P.800)
    SMOS = "smos"  # a reference and a clip: how similar are the voices?
    MUSHRA = "mushra"  # a reference and all systems, one of them the reference again, and a poor anchor (BS.1534)


class Scale(Config):
    """The answers that a trial allows: numbers from `lowest` to `highest` in equal steps, with words for some."""

    lowest: float
    highest: float
    step: float = Field(gt=0)
    words: dict[str, str] = Field(description="number, as text -> its label")

    def allows(self, value: float) -> bool:
        """Return True if `value` can be an answer."""
        steps = (value - self.lowest) / self.step
        return self.lowest <= value <= self.highest and abs(steps - round(steps)) < 1e-6


MUSHRA_STEP = 1.0
SCALES = {
    TestKind.CMOS: {
        "-3": "much worse",
        "-2": "worse",
        "-1": "slightly worse",
        "0": "about the same",
        "1": "slightly better",
        "2": "better",
        "3": "much better",
    },
    TestKind.MOS: {"1": "bad", "2": "poor", "3": "fair", "4": "good", "5": "excellent"},
    TestKind.SMOS: {
        "1": "certainly different speakers",
        "2": "probably different",
        "3": "hard to tell",
        "4": "probably the same",
        "5": "certainly the same speaker",
    },
    TestKind.MUSHRA: {"0": "bad", "20": "poor", "40": "fair", "60": "good", "80": "excellent"},
}
QUESTIONS = {
    TestKind.CMOS: "How natural is B compared with A?",
    TestKind.MOS: "How natural does this clip sound?",
    TestKind.SMOS: "How similar is the voice of the clip to the reference voice?",
    TestKind.MUSHRA: "How good is each clip compared with the reference?",
}


class Design(Config):
    """A listening test, apart from its clips."""

    kind: TestKind = Field(description="cmos, mos, smos or mushra")
    title: str = Field("Listening test", min_length=1, max_length=120, description="what raters read first")
    question: str = Field("", max_length=300, description="what every trial asks; empty: the usual question")
    introduction: str = Field("", max_length=4000, description="more to tell the raters; a blank line parts paragraphs")
    consent: str = Field(
        "I am at least 18 years old and take part of my own free will. My ratings are kept without my name "
        "and may be published in summary.",
        max_length=2000,
        description="what a rater agrees to before the test; empty: nothing",
    )
    code: str = Field("", max_length=200, description="shown at the end, for platforms that pay raters by a code")
    baseline: str = Field("", description="cmos: the system that the others are compared with")
    step: float = Field(0.0, ge=0, description="mos, smos: distance of the answers, 0.5 or 1; 0: 1, smos 0.5")
    per_rater: int = Field(0, ge=0, description="trials that one rater answers; 0: all")
    training: int = Field(2, ge=0, le=3, description="first trials, with an explanation, not counted")
    catches: int = Field(2, ge=0, le=20, description="trials among the others whose answer is known")
    headphones: bool = Field(True, description="begin with a check that needs headphones (Woods et al. 2017)")
    must_hear: bool = Field(True, description="answers open when every clip was heard to its end")
    show_text: bool = Field(True, description="show what the clips say, where it is known")
    max_raters: int = Field(500, ge=1, le=100_000, description="more than these are turned away by the server")
    seed: int = Field(0, ge=0, description="decides the order of everything")

    @field_validator("step")
    @classmethod
    def _known_step(cls, step: float) -> float:
        if step not in (0.0, 0.5, 1.0):
            raise ValueError("must be 0.5 or 1")
        return step

    def asks(self) -> str:
        """Return the question of every trial."""
        return self.question or QUESTIONS[self.kind]

    def scale(self) -> Scale:
        """Return the answers that a trial allows."""
        numbers = [float(number) for number in SCALES[self.kind]]
        highest = 100.0 if self.kind is TestKind.MUSHRA else max(numbers)
        step = {TestKind.CMOS: 1.0, TestKind.MUSHRA: MUSHRA_STEP}.get(self.kind, self.step)
        # VALL-E's SMOS goes in half points
        step = step or (0.5 if self.kind is TestKind.SMOS else 1.0)
        return Scale(lowest=min(numbers), highest=highest, step=step, words=SCALES[self.kind])


class Exclusion(Config):
    """Which raters are left out of the results. Every one left out is named with the rule that did it."""

    max_failed_catches: float = Field(0.5, ge=0, le=1, description="leave out who fails more than this share")
    min_headphones: int = Field(5, ge=0, le=6, description="right answers of six; 0 accepts everybody")
    min_answers: float = Field(0.0, ge=0, le=1, description="leave out who answered less than this share")
    min_seconds: float = Field(0.0, ge=0, description="leave out whose median trial took less time")
    constant: bool = Field(True, description="leave out who gave one answer to everything (8 trials or more)")
    hidden_below: float = Field(90.0, ge=0, le=100, description="mushra: the hidden reference must not be under this")
    hidden_share: float = Field(0.15, ge=0, le=1, description="... in more than this share (BS.1534-3, post-screening)")


STUDY_FILE = "study.json"
AUDIO_FOLDER = "audio"
ANSWER_FILE = "answers.sqlite"
FORMAT = 1
REFERENCE = "(reference)"
ANCHOR = "(anchor)"
HEADPHONES = "headphones"


class Role(StrEnum):
    """What a clip is in the test for. A clip that plays two roles is there twice, under two names."""

    SYSTEM = "system"  # what is being judged
    OPEN = "open"  # the reference that raters are told about
    HIDDEN = "hidden"  # the same reference among the systems (mushra)
    ANCHOR = "anchor"  # its band-limited version (mushra)
    TRAINING = "training"  # in the first trials, not counted
    CATCH = "catch"  # in a trial whose answer is known
    TONES = "tones"  # a trial of the headphone check


class Stimulus(Config):
    """One file of the test."""

    role: Role
    system: str = Field(description="the system's name, (reference) or (anchor)")
    item: str
    poor: bool = Field(False, description="made worse on purpose")
    answer: int = Field(0, description="tones: which of the three is the quiet one, 1 to 3")


class StudyItem(Config):
    """One sentence of the test."""

    id: str
    text: str = ""


class Trial(Config):
    """One page of the test: the clips in the order in which they are shown, and what it is for."""

    stage: Literal["headphones", "training", "test"]
    item: str
    clips: tuple[str, ...]
    reference: str = ""
    lesson: str = Field("", description="training: what the rater is told afterwards")


class Study(Config):
    """A whole test. `clips` is the key: names of files -> what they are."""

    format: int = FORMAT
    id: str
    design: Design
    systems: tuple[str, ...]
    items: tuple[StudyItem, ...]
    clips: dict[str, Stimulus]
    comparisons: tuple[Trial, ...] = Field(description="every counted trial once, in the order of the rotation")
    training: tuple[Trial, ...] = ()
    catches: tuple[Trial, ...] = ()
    headphones: tuple[Trial, ...] = ()

    @cached_property
    def texts(self) -> dict[str, str]:
        """What each item says."""
        return {item.id: item.text for item in self.items}

    @property
    def per_rater(self) -> int:
        """Counted trials that one rater answers."""
        return min(self.design.per_rater or len(self.comparisons), len(self.comparisons))


def load_study(folder: Path) -> Study:
    """Return the test in `folder`; `UserError` if there is none or it was changed by hand."""
    path = folder / STUDY_FILE
    try:
        if not path.exists():
            raise UserError(f"there is no listening test in {folder}", "make one: openvalle listen new --help")
        study = Study.model_validate(read_data(path, Syntax.JSON))
    except (ConfigError, ValidationError) as error:
        first = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is damaged: {first}", "make the test again with `openvalle listen new`") from None
    lost = [name for name in study.clips if not (folder / AUDIO_FOLDER / name).is_file()]
    if lost:
        raise UserError(f"{len(lost)} clips of the test are missing, {lost[0]} for one", f"put {AUDIO_FOLDER}/ back")
    return study
