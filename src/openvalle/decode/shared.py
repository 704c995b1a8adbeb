"""One decoder for many callers: a thread takes the steps, and every caller waits for those of its own rows.

Rows of all callers are decoded together and join and leave at every step (continuous batching), so a caller neither
waits for another to end nor hears anything of it: what its rows say is what they say alone.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Generator, Sequence
from queue import SimpleQueue

from openvalle.decode.ar import ARResult, ARStep, Decoder, Draw, Row, collect
from openvalle.engines.base import AREngine
from openvalle.errors import UserError
from openvalle.parallel import take_threads


class Cancelled(UserError):
    """Nobody wants to hear it any more."""

    def __init__(self) -> None:
        super().__init__("the speech was cancelled")


class Caller:
    """Whoever has rows decoded. Nothing more is done for one that was cancelled."""

    is_cancelled = False


AHEAD = 1  # steps that a row is drawn ahead before its caller has made sound of the first ones


class Line:
    """A row as its caller sees it. What arrives are lists of steps, or the error that ended it."""

    def __init__(self, draw: Draw, caller: Caller, is_live: bool) -> None:
        self.draw, self.caller, self.is_live = draw, caller, is_live
        self.arriving: SimpleQueue[list[ARStep] | BaseException] = SimpleQueue()
        self.is_gone = False  # its caller waits no more
        self.steps: list[ARStep] = []  # not handed over yet
        self.given = self.taken = 0  # steps
        self.is_heard = False  # its caller has made sound of the first steps

    @property
    def is_ahead(self) -> bool:
        """Whether its caller makes its first sound, which should not have to share the processor with later steps."""
        return self.is_live and not self.is_heard and self.given - self.taken > AHEAD

    def come_back(self) -> None:
        """Note that its caller wants more: if more is there, it was busy with what it had."""
        self.is_heard = self.is_heard or self.is_ahead

    def give(self, step: ARStep) -> None:
        """Hand a step over at once if the caller listens, else all of them with the last."""
        self.steps.append(step)
        self.given += 1
        if self.is_live or step.stopped_by is not None:
            self.arriving.put(self.steps)
            self.steps = []

    def receive(self) -> list[ARStep]:
        """Wait for the next steps; what went wrong is raised."""
        found = self.arriving.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def end(self, error: BaseException) -> None:
        """Tell the caller, should it wait, that no more steps come."""
        self.is_gone = True
        self.arriving.put(error)


class SharedDecoder:
    """Decodes the rows of all callers, at most `rows` at once. The next row is that of the caller with the fewest rows
    being decoded and, among those, the one that came first."""

    def __init__(self, engine: AREngine, rows: int) -> None:
        self.rows = rows
        self._decoder = Decoder(engine)
        self._lines: dict[Row, Line] = {}  # being decoded
        self._waiting: list[Line] = []
        self._changed = threading.Condition()
        self._is_closed = False
        threading.Thread(target=self._run, name="openvalle-decoder", daemon=True).start()

    @property
    def busy(self) -> int:
        """How many rows are being decoded."""
        return len(self._lines)

    def generate(self, draws: Sequence[Draw], caller: Caller | None = None) -> list[ARResult]:
        """Return what each row says."""
        lines = self._submit(draws, caller or Caller(), is_live=False)
        try:
            return [collect(line.receive()) for line in lines]
        finally:
            self._leave(lines)

    def stream(self, draw: Draw, caller: Caller | None = None) -> Generator[ARStep]:
        """Yield the steps of a row; `close` ends it."""
        (line,) = self._submit([draw], caller or Caller(), is_live=True)
        try:
            while True:
                with self._changed:
                    line.come_back()
                    self._changed.notify()
                for step in line.receive():
                    line.taken += 1
                    yield step
                    if step.stopped_by is not None:
                        return
        finally:
            self._leave([line])

    def cancel(self, caller: Caller) -> None:
        """Let all rows of a caller leave before the next step. It gets `Cancelled`, now and whenever it asks again."""
        with self._changed:
            caller.is_cancelled = True
            for line in [*self._waiting, *self._lines.values()]:
                if line.caller is caller and not line.is_gone:
                    line.end(Cancelled())
            self._changed.notify()

    def close(self) -> None:
        """End the thread, and with it all rows."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _submit(self, draws: Sequence[Draw], caller: Caller, *, is_live: bool) -> list[Line]:
        lines = [Line(draw, caller, is_live) for draw in draws]
        with self._changed:
            if self._is_closed or caller.is_cancelled:
                raise Cancelled
            self._waiting += lines
            self._changed.notify()
        return lines

    def _leave(self, lines: Sequence[Line]) -> None:
        with self._changed:
            for line in lines:  # seen before the next step
                line.is_gone = True
            self._changed.notify()

    def _run(self) -> None:
        take_threads()
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work)
                if self._is_closed:
                    for line in [*self._waiting, *self._lines.values()]:
                        line.end(Cancelled())
                    return
            self._remove([row for row, line in self._lines.items() if line.is_gone])
            if self._is_scored():
                joining = self._choose()
                if joining is not None:
                    self._join(joining)
                self._step()

    def _has_work(self) -> bool:
        """Whether a row can join, should leave, or is waited for."""
        joins = bool(self._waiting) and len(self._lines) < self.rows
        return self._is_closed or joins or any(line.is_gone or not line.is_ahead for line in self._lines.values())

    def _is_scored(self) -> bool:
        """Compute the scores of the next step. Should that fail (memory is short, say) the row that came last leaves,
        and the others go on: nothing has been drawn yet."""
        try:
            if self._lines:
                self._decoder.score()
        except Exception as error:  # noqa: BLE001
            self._fail([next(reversed(self._lines))], error)
            return False
        return True

    def _choose(self) -> Line | None:
        """Return the line that joins next, if there is room: one a step, so that the others need not wait long."""
        with self._changed:
            self._waiting = [line for line in self._waiting if not line.is_gone]
            if not self._waiting or len(self._lines) >= self.rows:
                return None
            counts = Counter(line.caller for line in self._lines.values())
            chosen = min(self._waiting, key=lambda line: counts[line.caller])
            self._waiting.remove(chosen)
            return chosen

    def _join(self, line: Line) -> None:
        try:
            (row,) = self._decoder.add([line.draw])
        except Exception as error:  # noqa: BLE001
            line.end(error)
            return
        with self._changed:
            self._lines[row] = line

    def _step(self) -> None:
        try:
            steps = self._decoder.step()
        except Exception as error:  # noqa: BLE001
            self._fail(list(self._lines), error)  # drawn for some rows, perhaps, and not for others
            return
        for row, step in steps:
            self._lines[row].give(step)
        self._forget([row for row, step in steps if step.stopped_by is not None])

    def _fail(self, rows: Sequence[Row], error: Exception) -> None:
        for row in rows:
            self._lines[row].end(error)
        self._remove(rows)

    def _remove(self, rows: Sequence[Row]) -> None:
        self._decoder.remove(rows)
        self._forget(rows)

    def _forget(self, rows: Sequence[Row]) -> None:
        with self._changed:
            for row in rows:
                del self._lines[row]
