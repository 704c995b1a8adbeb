"""One decoder for many callers: whoever waits for steps takes them, for all.

Rows of all callers are decoded together and join and leave at every step (continuous batching), so a caller neither
waits for another to end nor hears anything of it: what its rows say is what they say alone.

There is no thread for it. The first caller that waits leads: it takes steps for every row until its own have come, and
hands over to another that waits. So a caller that is alone computes as it would without sharing, in one thread, and
its rows are not drawn ahead of the sound that it makes of them.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Generator, Sequence
from queue import SimpleQueue

from openvalle.decode.ar import ARResult, ARStep, Decoder, Draw, Row, collect
from openvalle.engines.base import AREngine
from openvalle.errors import UserError


class Cancelled(UserError):
    """What a caller that was cancelled gets when it asks for steps."""

    def __init__(self) -> None:
        super().__init__("the speech was cancelled")


class Caller:
    """Whoever has rows decoded. Nothing more is done for one that was cancelled."""

    is_cancelled = False


class RowRequest:
    """A row that a caller asked for. `arriving` gives lists of steps, the error that ended it, or None: lead now."""

    def __init__(self, draw: Draw, caller: Caller, is_live: bool) -> None:
        self.draw, self.caller, self.is_live = draw, caller, is_live
        self.arriving: SimpleQueue[list[ARStep] | BaseException | None] = SimpleQueue()
        self.is_gone = False  # its caller waits no more
        self.steps: list[ARStep] = []  # not handed over yet

    def give(self, step: ARStep) -> None:
        """Hand a step over at once if the caller listens, else all of them with the last."""
        self.steps.append(step)
        if self.is_live or step.stopped_by is not None:
            self.arriving.put(self.steps)
            self.steps = []

    def end(self, error: BaseException) -> None:
        """Tell the caller, should it wait, that no more steps come."""
        self.is_gone = True
        self.arriving.put(error)

    def cancel(self) -> None:
        """Tell the caller that it was cancelled, unless it is gone."""
        if not self.is_gone:
            self.end(Cancelled())


class SharedDecoder:
    """Decodes the rows of all callers, at most `rows` at once. The next row is that of the caller with the fewest rows
    being decoded and, among those, the one that came first."""

    def __init__(self, engine: AREngine, rows: int) -> None:
        self.rows = rows
        self._decoder = Decoder(engine)
        self._running: dict[Row, RowRequest] = {}  # being decoded
        self._waiting: list[RowRequest] = []
        self._lock = threading.Lock()
        self._leader: RowRequest | None = None  # whose caller takes the steps
        self._listening: dict[RowRequest, None] = {}  # whose callers wait, first come, first to lead
        self._is_closed = False

    @property
    def busy(self) -> int:
        """How many rows are being decoded."""
        return len(self._running)

    def generate(self, draws: Sequence[Draw], caller: Caller | None = None) -> list[ARResult]:
        """Return what each row says."""
        requests = self._submit(draws, caller or Caller(), is_live=False)
        try:
            return [collect(self._receive(request)) for request in requests]
        finally:
            self._leave(requests)

    def stream(self, draw: Draw, caller: Caller | None = None) -> Generator[ARStep]:
        """Yield the steps of a row; `close` ends it."""
        (request,) = self._submit([draw], caller or Caller(), is_live=True)
        try:
            while True:
                for step in self._receive(request):
                    yield step
                    if step.stopped_by is not None:
                        return
        finally:
            self._leave([request])

    def cancel(self, caller: Caller) -> None:
        """Let all rows of a caller leave before the next step. It gets `Cancelled`, now and whenever it asks again."""
        with self._lock:
            caller.is_cancelled = True
            for request in [*self._waiting, *self._running.values()]:
                if request.caller is caller:
                    request.cancel()
        self._tidy()

    def close(self) -> None:
        """End all rows, and take no more."""
        with self._lock:
            self._is_closed = True
            for request in [*self._waiting, *self._running.values()]:
                request.cancel()
        self._tidy()

    def _submit(self, draws: Sequence[Draw], caller: Caller, *, is_live: bool) -> list[RowRequest]:
        requests = [RowRequest(draw, caller, is_live) for draw in draws]
        with self._lock:
            if self._is_closed or caller.is_cancelled:
                raise Cancelled
            self._waiting += requests
        return requests

    def _leave(self, requests: Sequence[RowRequest]) -> None:
        for request in requests:  # seen before the next step
            request.is_gone = True
        self._tidy()

    def _receive(self, request: RowRequest) -> list[ARStep]:
        """Wait for the next steps of a request, and take them for all while it leads; what went wrong is raised."""
        with self._lock:
            if self._leader is None:
                self._leader = request
            self._listening[request] = None
        try:
            while True:
                if self._leader is request:
                    while request.arriving.empty():
                        self._advance()
                found = request.arriving.get()
                if isinstance(found, BaseException):
                    raise found
                if found is not None:
                    return found
        finally:
            with self._lock:
                del self._listening[request]
                if self._leader is request:
                    self._hand_over()
            self._tidy()

    def _hand_over(self) -> None:
        """Let another caller lead that waits, best one with nothing else to do; without any, the next that comes."""
        idle = (request for request in self._listening if request.arriving.empty())
        self._leader = next(idle, None) or next(iter(self._listening), None)
        if self._leader is not None:
            self._leader.arriving.put(None)

    def _tidy(self) -> None:
        """Let rows leave whose callers are gone, unless somebody leads, who does it before the next step.

        Never waits for the lock, as a caller may be gone in the middle of anything (the garbage collector closes its
        generator): whoever holds the lock comes here after it.
        """
        while self._has_gone() and self._lock.acquire(blocking=False):
            try:
                if self._leader is not None:
                    return
                self._waiting = [request for request in self._waiting if not request.is_gone]
                self._remove([row for row, request in self._running.items() if request.is_gone])
            finally:
                self._lock.release()

    def _has_gone(self) -> bool:
        return any(request.is_gone for request in [*self._waiting, *self._running.values()])

    def _advance(self) -> None:
        """Take a step with all rows, and let one that waits join."""
        with self._lock:
            self._remove([row for row, request in self._running.items() if request.is_gone])
        if self._is_scored():
            joining = self._choose()
            if joining is not None:
                self._join(joining)
            self._step()

    def _is_scored(self) -> bool:
        """Compute the scores of the next step. Should that fail (memory is short, say) the row that came last leaves,
        and the others go on: nothing has been drawn yet."""
        try:
            if self._running:
                self._decoder.score()
        except Exception as error:  # noqa: BLE001
            self._fail([next(reversed(self._running))], error)
            return False
        return True

    def _choose(self) -> RowRequest | None:
        """Return the request that joins next, if there is room: one a step, so that the others need not wait long."""
        with self._lock:
            self._waiting = [request for request in self._waiting if not request.is_gone]
            if not self._waiting or len(self._running) >= self.rows:
                return None
            counts = Counter(request.caller for request in self._running.values())
            chosen = min(self._waiting, key=lambda request: counts[request.caller])
            self._waiting.remove(chosen)
            return chosen

    def _join(self, request: RowRequest) -> None:
        try:
            (row,) = self._decoder.add([request.draw])
        except Exception as error:  # noqa: BLE001
            request.end(error)
            return
        with self._lock:
            self._running[row] = request
            if request.caller.is_cancelled or self._is_closed:  # while it joined
                request.cancel()

    def _step(self) -> None:
        try:
            steps = self._decoder.step()
        except Exception as error:  # noqa: BLE001
            self._fail(list(self._running), error)  # drawn for some rows, perhaps, and not for others
            return
        for row, step in steps:
            self._running[row].give(step)
        with self._lock:
            for row, step in steps:
                if step.stopped_by is not None:
                    del self._running[row]

    def _fail(self, rows: Sequence[Row], error: Exception) -> None:
        for row in rows:
            self._running[row].end(error)
        with self._lock:
            self._remove(rows)

    def _remove(self, rows: Sequence[Row]) -> None:
        """Let rows leave; whoever calls holds the lock."""
        self._decoder.remove(rows)
        for row in rows:
            del self._running[row]
