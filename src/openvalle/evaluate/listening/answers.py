"""What raters answered: checked against the test, whether it came over the network or as a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from openvalle.config import Config, Syntax, read_data
from openvalle.errors import ConfigError, UserError
from openvalle.evaluate.listening.design import TestKind
from openvalle.evaluate.listening.schedule import schedule
from openvalle.evaluate.listening.study import Study, Trial

MAX_FILE_BYTES = 4_000_000  # a rater's file has a few hundred bytes per trial
TONES = (1.0, 2.0, 3.0)  # the answers of the headphone check

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Answer(Config):
    """One trial answered. `values`: one number, or one per clip in the order shown (mushra)."""

    trial: int = Field(ge=0, le=100_000, description="place in the rater's schedule")
    clips: tuple[str, ...] = Field(max_length=16)
    reference: str = ""
    values: tuple[Finite, ...] = Field(min_length=1, max_length=16)
    plays: tuple[Annotated[int, Field(ge=0, le=100_000)], ...] = Field(
        (), max_length=17, description="times each was played"
    )
    seconds: Finite = Field(0.0, ge=0, le=1e7, description="from the page's appearance to the answer")
    time: Finite = Field(0.0, ge=0, description="when, in seconds since 1970")


class Ballot(Config):
    """Everything one rater answered."""

    study: str = Field(max_length=64)
    rater: str = Field(pattern=r"^[#A-Za-z0-9][A-Za-z0-9._@-]{0,63}$", description="no formula for a spreadsheet")
    number: int = Field(ge=0, le=1_000_000, description="which schedule the rater had")
    finished: bool = False
    comment: str = Field("", max_length=4000)
    repeats: int = Field(0, ge=0, description="answers that came again and were not counted")
    answers: tuple[Answer, ...] = Field((), max_length=100_000)


def check_answer(study: Study, trial: Trial, answer: Answer) -> None:
    """Raise `UserError` if the answer does not belong to the trial or is none of those allowed."""
    if answer.clips != trial.clips or answer.reference != trial.reference:
        raise UserError("the answer belongs to another trial", "reload the page")
    wanted = len(trial.clips) if study.design.kind is TestKind.MUSHRA and trial.stage != "headphones" else 1
    if len(answer.values) != wanted:
        raise UserError(f"the trial takes {wanted} values, not {len(answer.values)}", "reload the page")
    for value in answer.values:
        allowed = value in TONES if trial.stage == "headphones" else study.design.scale().allows(value)
        if not allowed:
            raise UserError(f"{value:g} is not an answer of this trial", "choose one of those on the page")


def read_ballot(study: Study, path: Path) -> Ballot:
    """Return the answers in a file that a rater sent; `UserError` if it is damaged or of another test."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{path} is too large for one rater's answers", "give the file that the page made")
        ballot = Ballot.model_validate(read_data(path, Syntax.JSON))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "check the path") from None
    except (ConfigError, ValidationError) as error:
        first = " ".join(str(error).split())[:160]
        raise UserError(f"{path} does not hold answers: {first}", "ask the rater for the file again") from None
    if ballot.study != study.id:
        raise UserError(f"{path} belongs to another listening test", f"this one is {study.id}")
    trials = schedule(study, ballot.number)
    for answer in ballot.answers:
        if answer.trial >= len(trials):
            raise UserError(f"{path}: there is no trial {answer.trial}", "leave the file out")
        try:
            check_answer(study, trials[answer.trial], answer)
        except UserError as error:
            raise UserError(f"{path}, trial {answer.trial}: {error.what}", "leave the file out") from None
    return merged([ballot])[0]


def merged(ballots: Iterable[Ballot]) -> list[Ballot]:
    """Return one ballot per rater; of a trial answered again, the first answer counts.

    The same file twice, or one saved in the middle and one at the end, adds nothing.
    """
    groups: dict[str, list[Ballot]] = {}
    for ballot in ballots:
        groups.setdefault(ballot.rater, []).append(ballot)
    return [_joined(group) for group in groups.values()]


def _joined(group: Sequence[Ballot]) -> Ballot:
    first: dict[int, Answer] = {}
    repeats = sum(ballot.repeats for ballot in group)
    for answer in sorted((a for ballot in group for a in ballot.answers), key=lambda answer: answer.time):
        kept = first.setdefault(answer.trial, answer)
        repeats += kept is not answer and kept.values != answer.values
    values: dict[str, Any] = {
        "answers": tuple(first[trial] for trial in sorted(first)),
        "finished": any(ballot.finished for ballot in group),
        "comment": max((ballot.comment for ballot in group), key=len),
        "repeats": repeats,
    }
    return group[0].model_copy(update=values)
