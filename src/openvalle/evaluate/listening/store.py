"""Raters and their answers in SQLite: each answer is on disk before the rater's browser hears that it was taken."""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from openvalle.errors import UserError
from openvalle.evaluate.listening.answers import Answer, Ballot, check_answer
from openvalle.evaluate.listening.schedule import schedule
from openvalle.evaluate.listening.study import ANSWER_FILE, Study

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


class Refused(UserError):
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
                raise Refused(409, f"{name!r} has begun this test before", "go on in the browser it was begun in")
            if base.execute("SELECT count(*) FROM raters").fetchone()[0] >= self._study.design.max_raters:
                raise Refused(403, "this test has all the raters it needs", "thank you for coming")
            number, token = self._free_number(), secrets.token_urlsafe(24)
            row = (token, name or None, number, time.time())
            cursor = base.execute("INSERT INTO raters (token, name, number, joined) VALUES (?, ?, ?, ?)", row)
            return Rater(int(cursor.lastrowid or 0), token, number, False)

    def answer(self, token: str, answer: Answer) -> None:
        """Keep an answer. One given before stays as it was, and the repetition is counted."""
        with self._transaction() as base:
            rater = self._known(token)
            trials = schedule(self._study, rater.number)
            if answer.trial >= len(trials):
                raise Refused(400, f"there is no trial {answer.trial}", "reload the page")
            check_answer(self._study, trials[answer.trial], answer)
            key = (rater.id, answer.trial)
            before = base.execute("SELECT answer FROM answers WHERE rater = ? AND trial = ?", key).fetchone()
            if before is None and rater.finished:
                raise Refused(409, "this test was finished before", "thank you; there is nothing more to do")
            if before is None:
                text = answer.model_copy(update={"time": time.time()}).model_dump_json()
                base.execute("INSERT INTO answers VALUES (?, ?, ?)", (*key, text))
            elif tuple(json.loads(before[0])["values"]) != answer.values:
                base.execute("UPDATE raters SET repeats = repeats + 1 WHERE id = ?", (rater.id,))

    def finish(self, token: str, comment: str = "") -> None:
        """Close a rater's test; `Refused` if trials are open. Doing it again changes nothing."""
        with self._transaction() as base:
            rater = self._known(token)
            left = len(schedule(self._study, rater.number)) - len(self._answered(rater))
            if left:
                raise Refused(409, f"{left} trials are open", "reload the page")
            if not rater.finished:
                base.execute(
                    "UPDATE raters SET finished = ?, comment = ? WHERE id = ?", (time.time(), comment, rater.id)
                )

    def answered(self, rater: Rater) -> list[int]:
        """Return the trials that the rater has answered."""
        with self._lock:
            return self._answered(rater)

    def ballots(self) -> list[Ballot]:
        """Return every rater's answers; raters without any are left out."""
        with self._lock:
            rows = self._base.execute("SELECT id, name, number, finished, comment, repeats FROM raters ORDER BY id")
            return [ballot for row in rows.fetchall() if (ballot := self._ballot(*row)).answers]

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
            raise Refused(403, "nobody with this key takes part", "open the address of the test again")
        return rater

    def _answered(self, rater: Rater) -> list[int]:
        rows = self._base.execute("SELECT trial FROM answers WHERE rater = ? ORDER BY trial", (rater.id,))
        return [row[0] for row in rows.fetchall()]

    def _free_number(self) -> int:
        held = "SELECT number FROM raters WHERE joined > ? OR id IN (SELECT rater FROM answers)"
        taken = {row[0] for row in self._base.execute(held, (time.time() - IDLE_SECONDS,))}
        return next(number for number in range(len(taken) + 1) if number not in taken)

    def _ballot(
        self, key: int, name: str | None, number: int, finished: float | None, comment: str, repeats: int
    ) -> Ballot:
        rows = self._base.execute("SELECT answer FROM answers WHERE rater = ? ORDER BY trial", (key,)).fetchall()
        return Ballot(
            study=self._study.id,
            rater=name or f"#{key}",
            number=number,
            finished=finished is not None,
            comment=comment,
            repeats=repeats,
            answers=tuple(Answer.model_validate_json(row[0]) for row in rows),
        )
