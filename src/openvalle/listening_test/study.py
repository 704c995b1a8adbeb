"""A listening test on disk: `study.json`, which holds the key to the blinding, and a folder of clips.

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

from pydantic import Field, ValidationError

from openvalle.config import Config, Syntax, read_data
from openvalle.errors import ConfigError, UserError
from openvalle.listening_test.design import Design

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
