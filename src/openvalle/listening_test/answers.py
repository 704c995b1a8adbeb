"""Raters and their answers in SQLite: each answer is on disk before the rater's browser hears that it was taken.

What raters answered: checked against the test, whether it came over the network or as a file.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from openvalle.config import Config, Syntax, read_data
from openvalle.errors import ConfigError, UserError
from openvalle.listening_test.schedule import schedule
from openvalle.listening_test.study import ANSWER_FILE, Study, TestKind, Trial

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


class Submission(Config):
    """Everything one rater answered."""

    study: str = Field(max_length=64)
    rater: str = Field(pattern=r"^[#A-Za-z0-9][A-Za-z0-9._@-]{0,63}$", description="no formula for a spreadsheet")
    number: int = Field(ge=0, le=1_000_000, description="which schedule the rater had")
    finished: bool = False
    comment: str = Field("", max_length=4000)
    repeats: int = Field(0, ge=0, description="answers that came again and were not counted")
    answers: tuple[Answer, ...] = Field((), max_length=100_000)


def check_answer(study: Study, trials: Sequence[Trial], answer: Answer) -> None:
    """Raise `UserError` if the answer belongs to none of a rater's trials, or is none of those allowed."""
    if answer.trial >= len(trials):
        raise UserError(f"there is no trial {answer.trial}", "reload the page")
    trial = trials[answer.trial]
    if answer.clips != trial.clips or answer.reference != trial.reference:
        raise UserError("the answer belongs to another trial", "reload the page")
    wanted = len(trial.clips) if study.design.kind is TestKind.MUSHRA and trial.stage != "headphones" else 1
    if len(answer.values) != wanted:
        raise UserError(f"the trial takes {wanted} values, not {len(answer.values)}", "reload the page")
    for value in answer.values:
        allowed = value in TONES if trial.stage == "headphones" else study.design.scale().allows(value)
        if not allowed:
            raise UserError(f"{value:g} is not an answer of this trial", "choose one of those on the page")


def read_submission(study: Study, path: Path) -> Submission:
    """Return the answers in a file that a rater sent; `UserError` if it is damaged or of another test."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{path} is too large for one rater's answers", "give the file that the page made")
        submission = Submission.model_validate(read_data(path, Syntax.JSON))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "check the path") from None
    except (ConfigError, ValidationError) as error:
        first = " ".join(str(error).split())[:160]
        raise UserError(f"{path} does not hold answers: {first}", "ask the rater for the file again") from None
    if submission.study != study.id:
        raise UserError(f"{path} belongs to another listening test", f"this one is {study.id}")
    trials = schedule(study, submission.number)
    for answer in submission.answers:
        try:
            check_answer(study, trials, answer)
        except UserError as error:
            raise UserError(f"{path}, trial {answer.trial}: {error.what}", "leave the file out") from None
    return merge([submission])[0]


def merge(submissions: Iterable[Submission]) -> list[Submission]:
    """Return one ballot per rater; of a trial answered again, the first answer counts.

    The same file twice, or one saved in the middle and one at the end, adds nothing.
    """
    groups: dict[str, list[Submission]] = {}
    for submission in submissions:
        groups.setdefault(submission.rater, []).append(submission)
    return [_join(group) for group in groups.values()]


def _join(group: Sequence[Submission]) -> Submission:
    first: dict[int, Answer] = {}
    repeats = sum(submission.repeats for submission in group)
    for answer in sorted((a for submission in group for a in submission.answers), key=lambda answer: answer.time):
        kept = first.setdefault(answer.trial, answer)
        repeats += kept is not answer and kept.values != answer.values
    values: dict[str, Any] = {
        "answers": tuple(first[trial] for trial in sorted(first)),
        "finished": any(submission.finished for submission in group),
        "comment": max((submission.comment for submission in group), key=len),
        "repeats": repeats,
    }
    return group[0].model_copy(update=values)


# A rater who has answered nothing after this long has gone; the next one gets the same trials.
IDLE_SECONDS = 3600.0
TABLES = """
CREATE TABLE IF NOT EXISTS study (id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS raters (
    id INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, name TEXT UNIQUE, number INTEGER NOT NULL,
    joined REAL NOT NULL, finished REAL, comment TEXT NOT NULL DEFAULT '', repeats INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS answers (
    rater INTEGER NOT NULL REFERENCES raters(id), trial INTEGER NOT NULL, answer TEXT NOT NULL,
    PRIMARY KEY (rater, trial)
);
"""


class RequestRefused(UserError):
    """A request that the test turns down, with the HTTP status that says why."""

    def __init__(self, status: int, what: str, hint: str = "") -> None:
        super().__init__(what, hint)
        self.status = status


@dataclass(frozen=True)
class Rater:
    """One rater of a served test. `token` is the secret that the rater's browser keeps."""

    id: int
    token: str
    number: int
    finished: bool


class Store:
    """The answers of one test. Threads may share it."""

    def __init__(self, study: Study, folder: Path) -> None:
        self._study = study
        self._lock = threading.Lock()
        path = folder / ANSWER_FILE
        try:
            self._base = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=FULL")  # an answer that was acknowledged survives a power cut
            self._base.executescript(TABLES)
            path.chmod(0o600)
        except (sqlite3.Error, OSError) as error:
            raise UserError(f"cannot use {path} ({error})", "check the folder, its permissions and the space") from None
        self._base.execute("INSERT OR IGNORE INTO study VALUES (?)", (study.id,))
        if self._base.execute("SELECT count(*) FROM study").fetchone()[0] != 1:
            self._base.close()
            raise UserError(f"{path} holds answers of another test", "move it away")

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._base.close()

    def join(self, name: str = "", token: str = "") -> Rater:
        """Return the rater with this token, or a new one, who may have a name that nobody else used."""
        with self._transaction() as base:
            if token and (rater := self._by_token(token)):
                return rater
            if name and base.execute("SELECT 1 FROM raters WHERE name = ?", (name,)).fetchone():
                raise RequestRefused(
                    409, f"{name!r} has begun this test before", "go on in the browser it was begun in"
                )
            if base.execute("SELECT count(*) FROM raters").fetchone()[0] >= self._study.design.max_raters:
                raise RequestRefused(403, "this test has all the raters it needs", "thank you for coming")
            number, token = self._free_number(), secrets.token_urlsafe(24)
            row = (token, name or None, number, time.time())
            cursor = base.execute("INSERT INTO raters (token, name, number, joined) VALUES (?, ?, ?, ?)", row)
            return Rater(int(cursor.lastrowid or 0), token, number, False)

    def answer(self, token: str, answer: Answer) -> None:
        """Keep an answer. One given before stays as it was, and the repetition is counted."""
        with self._transaction() as base:
            rater = self._known(token)
            check_answer(self._study, schedule(self._study, rater.number), answer)
            key = (rater.id, answer.trial)
            before = base.execute("SELECT answer FROM answers WHERE rater = ? AND trial = ?", key).fetchone()
            if before is None and rater.finished:
                raise RequestRefused(409, "this test was finished before", "thank you; there is nothing more to do")
            if before is None:
                text = answer.model_copy(update={"time": time.time()}).model_dump_json()
                base.execute("INSERT INTO answers VALUES (?, ?, ?)", (*key, text))
            elif tuple(json.loads(before[0])["values"]) != answer.values:
                base.execute("UPDATE raters SET repeats = repeats + 1 WHERE id = ?", (rater.id,))

    def finish(self, token: str, comment: str = "") -> None:
        """Close a rater's test; `RequestRefused` if trials are open. Doing it again changes nothing."""
        with self._transaction() as base:
            rater = self._known(token)
            left = len(schedule(self._study, rater.number)) - len(self._answered(rater))
            if left:
                raise RequestRefused(409, f"{left} trials are open", "reload the page")
            if not rater.finished:
                base.execute(
                    "UPDATE raters SET finished = ?, comment = ? WHERE id = ?", (time.time(), comment, rater.id)
                )

    def list_answered(self, rater: Rater) -> list[int]:
        """Return the trials that the rater has answered."""
        with self._lock:
            return self._answered(rater)

    def submissions(self) -> list[Submission]:
        """Return every rater's answers; raters without any are left out."""
        with self._lock:
            rows = self._base.execute("SELECT id, name, number, finished, comment, repeats FROM raters ORDER BY id")
            return [submission for row in rows.fetchall() if (submission := self._submission(*row)).answers]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield self._base
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")

    def _by_token(self, token: str) -> Rater | None:
        row = self._base.execute("SELECT id, number, finished FROM raters WHERE token = ?", (token,)).fetchone()
        return Rater(row[0], token, row[1], row[2] is not None) if row else None

    def _known(self, token: str) -> Rater:
        rater = self._by_token(token)
        if rater is None:
            raise RequestRefused(403, "nobody with this key takes part", "open the address of the test again")
        return rater

    def _answered(self, rater: Rater) -> list[int]:
        rows = self._base.execute("SELECT trial FROM answers WHERE rater = ? ORDER BY trial", (rater.id,))
        return [row[0] for row in rows.fetchall()]

    def _free_number(self) -> int:
        held = "SELECT number FROM raters WHERE joined > ? OR id IN (SELECT rater FROM answers)"
        taken = {row[0] for row in self._base.execute(held, (time.time() - IDLE_SECONDS,))}
        return next(number for number in range(len(taken) + 1) if number not in taken)

    def _submission(
        self, key: int, name: str | None, number: int, finished: float | None, comment: str, repeats: int
    ) -> Submission:
        rows = self._base.execute("SELECT answer FROM answers WHERE rater = ? ORDER BY trial", (key,)).fetchall()
        return Submission(
            study=self._study.id,
            rater=name or f"#{key}",
            number=number,
            finished=finished is not None,
            comment=comment,
            repeats=repeats,
            answers=tuple(Answer.model_validate_json(row[0]) for row in rows),
        )
