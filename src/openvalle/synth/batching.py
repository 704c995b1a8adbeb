"""Many listeners, one model (continuous batching): jobs that speak at the same time and are decoded together.

Each job has a thread, in which it does what a caller of `Synthesizer` does: text, attempts, codebooks 2 to Q, codec,
joints, watermark. Codebook 1 of all of them comes from one `SharedDecoder`. So whatever a `Synthesizer` can do a job
can do, and says what it says alone.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from openvalle.decode.ar import ARResult, ARStep, Draw
from openvalle.decode.shared import Caller, Cancelled, SharedDecoder
from openvalle.errors import UserError
from openvalle.parallel import take_threads
from openvalle.synth.generate import SpeechGenerator

if TYPE_CHECKING:
    from openvalle.synth.synthesizer import Synthesizer

T = TypeVar("T")
USUAL_SECONDS = 2.0  # that a job takes, as long as none has ended
MOST_ASIDE = 256  # jobs that wait for somebody outside and keep nobody from running: each has a thread


class QueueFull(UserError):
    """Too many jobs wait. `retry_after`: seconds after which a place is likely."""

    def __init__(self, waiting: int, retry_after: float) -> None:
        super().__init__(f"{waiting} others wait already", f"try again in {retry_after:.0f} s")
        self.retry_after = retry_after


class BatcherClosed(UserError):
    """No more jobs are taken."""

    def __init__(self) -> None:
        super().__init__("no more speech is made here", "try again later")


@dataclass(frozen=True)
class SharedGenerator(SpeechGenerator):
    """Speaks with the rows of all jobs decoded together."""

    decoder: SharedDecoder = field(kw_only=True)
    running: threading.local = field(kw_only=True)  # `caller`: of the job that the thread runs

    def draw(self, draws: Sequence[Draw]) -> list[ARResult]:
        return self.decoder.generate(draws, self._find_caller())

    def draw_live(self, draw: Draw) -> Generator[ARStep]:
        return self.decoder.stream(draw, self._find_caller())

    def _find_caller(self) -> Caller | None:
        return getattr(self.running, "caller", None)


@dataclass(frozen=True)
class Load:
    """How busy a `Batcher` is: rows being decoded, jobs that run and that wait, and those that ended so far."""

    rows: int
    running: int
    waiting: int
    served: int
    failed: int
    cancelled: int


class Batcher:
    """Runs jobs, first come, first served."""

    def __init__(self, synthesizer: Synthesizer, rows: int = 16, jobs: int | None = None, waiting: int = 64) -> None:
        """`rows`: of codebook 1 decoded at once, at most; `jobs`: that run at once, at most, by default as many;
        `waiting`: that wait for their turn, at most."""
        self._decoder, self._running = SharedDecoder(synthesizer.generator.ar, rows), threading.local()
        generator = SharedGenerator(**vars(synthesizer.generator), decoder=self._decoder, running=self._running)
        self.synthesizer = replace(synthesizer, generator=generator)
        self.jobs, self.most_waiting = jobs or rows, waiting
        self._changed = threading.Condition()
        self._jobs: set[Job] = set()  # running
        self._ready: SimpleQueue[Job | None] = SimpleQueue()  # of them those that no thread has taken yet
        self._threads = 0
        self._aside = 0  # of the jobs those that wait for somebody outside
        self._waiting: deque[Job] = deque()
        self._counts = {"served": 0, "failed": 0, "cancelled": 0}
        self._seconds = USUAL_SECONDS  # that a job takes, of late
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def load(self) -> Load:
        """How busy it is."""
        with self._changed:
            return Load(self._decoder.busy, self._running_jobs, len(self._waiting), **self._counts)

    def submit(self, work: Callable[[Synthesizer], Iterable[T]], buffer: int = 64) -> Job[T]:
        """Return the job that runs `work` with the shared synthesizer, in a thread, as soon as it is its turn.

        What the work yields comes out of the job; when `buffer` items wait to be read, the work waits, too. Raises
        `QueueFull`, or `BatcherClosed` after `close`; what the work raises comes out of the job.
        """
        job = Job(work, buffer, self._withdraw, self.aside)
        with self._changed:
            if self._is_closed:
                raise BatcherClosed
            if self._running_jobs < self.jobs:
                self._start(job)
            elif len(self._waiting) < self.most_waiting:
                self._waiting.append(job)
            else:
                turns = (len(self._waiting) + 1) / self.jobs
                raise QueueFull(len(self._waiting), max(1.0, turns * self._seconds))
        return job

    def close(self, *, drain: bool = True, timeout: float | None = None) -> bool:
        """Take no more jobs, wait for those that there are for `timeout` seconds at most (None: to their end, 0 without
        `drain`) and cancel the others. Return whether all came to their end."""
        with self._changed:
            self._is_closed = True
            is_over = self._changed.wait_for(lambda: not self._jobs, timeout if drain else 0.0)
            rest = [*self._waiting, *self._jobs]
        for job in rest:
            job.cancel()
        for _ in range(self._threads):
            self._ready.put(None)
        self._decoder.close()
        return is_over

    @contextmanager
    def aside(self) -> Iterator[None]:
        """The job of the thread that calls waits for somebody outside, for the rest of its text or for a reader to take
        what is made: another one may run meanwhile. Afterwards it goes on at once."""
        with self._changed:
            is_aside = self._aside < MOST_ASIDE
            self._aside += is_aside
            self._start_waiting()
        try:
            yield
        finally:
            with self._changed:
                self._aside -= is_aside

    @property
    def _running_jobs(self) -> int:
        return len(self._jobs) - self._aside

    def _start_waiting(self) -> None:
        while self._waiting and self._running_jobs < self.jobs:
            self._start(self._waiting.popleft())

    def _start(self, job: Job) -> None:
        """Give a job to a thread. Threads stay: what libraries keep for each would add up."""
        if self._threads == len(self._jobs):
            threading.Thread(target=self._work, name="openvalle-job", daemon=True).start()
            self._threads += 1
        self._jobs.add(job)
        self._ready.put(job)

    def _work(self) -> None:
        take_threads()
        while self._run_next():
            pass

    def _run_next(self) -> bool:
        """Run a job when there is one, and start one of those that wait; return False when there will be none."""
        job = self._ready.get()
        if job is None:
            return False
        started = time.monotonic()
        self._running.caller = job.caller
        job.run(self.synthesizer)
        with self._changed:
            self._seconds += 0.1 * (time.monotonic() - started - self._seconds)
            self._count(job)
            self._jobs.remove(job)
            self._start_waiting()
            self._changed.notify_all()
        return True

    def _withdraw(self, job: Job) -> None:
        """Take a job that was cancelled out of the queue, and its rows out of the decoder."""
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                job.end(Cancelled())
                self._count(job)
        self._decoder.cancel(job.caller)

    def _count(self, job: Job) -> None:
        kinds = {type(None): "served", Cancelled: "cancelled"}
        self._counts[kinds.get(type(job.error), "failed")] += 1


class Job(Generic[T]):
    """Something to be spoken, and what has come of it so far. One reader, who iterates with `for` or `async for`."""

    def __init__(
        self,
        work: Callable[[Synthesizer], Iterable[T]],
        buffer: int,
        withdraw: Callable[[Job], None],
        aside: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._work, self._buffer, self._withdraw, self._aside = work, buffer, withdraw, aside
        self._changed = threading.Condition()
        self._items: deque[T] = deque()
        self._wake: Callable[[], object] | None = None  # of a reader in an event loop
        self._is_cancelled = False
        self.caller = Caller()  # as the decoder knows it
        self.is_done = False
        self.error: BaseException | None = None  # what ended it

    def __iter__(self) -> Iterator[T]:
        while (items := self._take(wait=True)) is not None:
            yield from items

    async def __aiter__(self) -> AsyncIterator[T]:
        loop = asyncio.get_running_loop()
        while True:
            changed = asyncio.Event()
            self._wake = lambda changed=changed: loop.call_soon_threadsafe(changed.set)  # type: ignore[misc]
            items = self._take(wait=False)
            if items is None:
                return
            for item in items:
                yield item
            if not items:
                await changed.wait()

    def result(self) -> T:
        """Return the last item, or the only one; wait for it."""
        return list(self)[-1]

    async def wait(self) -> T:
        """Return the same, in an event loop."""
        return [item async for item in self][-1]

    def cancel(self) -> None:
        """End it: nobody listens any more. Its rows leave the decoder before the next step, and who reads it gets
        `Cancelled` at once; its work is closed where it yields next. Does nothing once it is over."""
        with self._changed:
            if self.is_done:
                return
            self._is_cancelled = True
            self._notify()
        self._withdraw(self)

    def run(self, synthesizer: Synthesizer) -> None:
        """Do the work; it is what a thread of the `Batcher` does."""
        error: BaseException | None = None
        items: Iterable[T] = ()
        try:
            self._check()
            items = self._work(synthesizer)
            for item in items:
                self._give(item)
        except BaseException as caught:  # noqa: BLE001 - the reader is to know it, and the thread goes on
            error = caught
        finally:
            if isinstance(items, Generator):
                items.close()
        self.end(error)

    def end(self, error: BaseException | None) -> None:
        """Note that it is over, and why."""
        with self._changed:
            self.error, self.is_done = error, True
            self._notify()

    def _give(self, item: T) -> None:
        is_full = len(self._items) >= self._buffer  # nobody else adds any
        with self._aside() if is_full else nullcontext(), self._changed:
            self._changed.wait_for(lambda: self._is_cancelled or len(self._items) < self._buffer)
            self._check()
            self._items.append(item)
            self._notify()

    def _take(self, *, wait: bool) -> list[T] | None:
        """Return what has come since the last time, None at the end; what went wrong is raised after all items."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._items or self.is_done or self._is_cancelled)
            if self.error is None:
                self._check()
            items = list(self._items)
            self._items.clear()
            self._changed.notify_all()
            if items or not self.is_done:
                return items
            if self.error is not None:
                raise self.error
            return None

    def _check(self) -> None:
        if self._is_cancelled:
            raise Cancelled

    def _notify(self) -> None:
        self._changed.notify_all()
        if self._wake is not None:
            with suppress(RuntimeError):  # the reader's event loop is over, and so is the reader
                self._wake()
