"""Work side by side: threads that compute and how they wait, units over processes, and what a person sees of it.

Nothing here imports torch: how threads wait is settled before torch is loaded. GNU OpenMP's threads, which compute for
torch, spin at the end of every parallel operation, of which a step of a small model has dozens. That is quickest while
every thread has a core of its own. As soon as any other program runs, a thread spins for a partner that is not
scheduled, and speech takes ten times as long.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from openvalle.errors import UserError
from openvalle.stop import serve_parent

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from rich.progress import Progress


SPINS = "1000"  # a few microseconds, then a thread sleeps until it is called; see `make bench-threads`
# Whoever set one of these has chosen how threads wait, for GNU, LLVM or Intel OpenMP.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
PLANS = "128"
PLANS_KEPT = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY")  # one name, and the one before


def wait_asleep() -> None:
    """Let threads that wait go to sleep soon, unless the environment says how they wait. Before torch is loaded."""
    if not any(name in os.environ for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = SPINS
        os.environ["KMP_BLOCKTIME"] = "0"


def keep_few_plans() -> None:
    """Let oneDNN keep fewer plans, unless the environment says how many. Before torch computes.

    A convolution of the built-in model makes one for each length that it meets, of 0.16 MB, and oneDNN keeps 1,024: a
    server that has met all lengths holds as much as a second model. Making one anew takes about 2 ms.
    """
    if not any(name in os.environ for name in PLANS_KEPT):
        os.environ[PLANS_KEPT[0]] = PLANS


def set_threads(count: int | None) -> None:
    """Compute with `count` threads, here and in processes that are started; None leaves it to the environment."""
    wait_asleep()
    if count is None:
        return
    os.environ |= {name: str(count) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def count_threads() -> int:
    """Return how many threads compute: what the environment says, else one for each core that this process may use."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdigit() and int(said):
        return int(said)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_noted: dict[str, int] = {}  # threads of torch when a model was last loaded: what `one_thread` goes back to


def note_threads() -> None:
    """Remember how many threads torch has: a model speaks with as many as there are when it is loaded."""
    count = sys.modules["torch"].get_num_threads()
    is_told = count > 1 or threading.current_thread() is threading.main_thread()
    if is_told or not _noted:  # a new thread has one if it began while another caller was in `one_thread`
        _noted["threads"] = count


def take_threads() -> None:
    """Let the thread that calls compute on as many as were noted. Without, what it computes could depend on what others
    did when it began: sums are split among threads, and each split rounds in its own way."""
    if _noted:
        sys.modules["torch"].set_num_threads(_noted["threads"])


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread, then on as many as before.

    Torch's number belongs in part to the process and a new thread begins with the last one set, so what is gone back to
    is the number that was noted, not the one found here: another caller may just be inside.
    """
    torch = sys.modules["torch"]
    whole = _noted.get("threads") or torch.get_num_threads()
    if whole == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(whole)


log = logging.getLogger(__name__)

Build = Callable[[], Callable[[Any], Any]]
CLUSTER = "RAY_ADDRESS"  # environment variable: a Ray cluster that is there; without it one is started on this machine


def run_units(
    build: Build, units: Sequence[Any], jobs: int = 1, name: Callable[[Any], str] = str
) -> Iterator[tuple[int, Any]]:
    """Yield the number of each unit with its result, as they are done; with one job in this process and in order.

    `build` makes the function that does a unit, once in each process, and may load models for it. Processes are
    spawned, so `build`, units and results must pickle. One that dies is replaced and its unit tried once more.
    `name`: what to call a unit that cannot be done. `UserError` as `build` or a unit raises it, or for a second death.
    """
    if jobs > 1 and len(units) > 1:
        yield from _Pool(build, units, min(jobs, len(units)), name).run()
    elif units:
        work = build()
        yield from ((number, work(unit)) for number, unit in enumerate(units))


def _serve(build: Build, connection: Connection) -> None:
    """Body of a worker process: do units, which come as tuples of one, until None comes."""
    serve_parent()
    try:
        work = build()
        connection.send(None)
        while (given := connection.recv()) is not None:
            connection.send(work(*given))
    except UserError as error:
        connection.send(UserError(error.what, error.hint))  # its subclasses may not unpickle
    except EOFError:
        pass  # the parent stopped; what is unfinished stays undone


class _Pool:
    """Worker processes, each with the number of the unit that it is at; None while it builds."""

    def __init__(self, build: Build, units: Sequence[Any], jobs: int, name: Callable[[Any], str]) -> None:
        from multiprocessing import get_context  # as the command line shows progress without

        self._build, self._units, self._jobs, self._name = build, units, jobs, name
        self._context = get_context("spawn")
        self._waiting = deque(range(len(units)))
        self._retried: set[int] = set()
        self._workers: dict[Connection, tuple[Any, int | None]] = {}

    def run(self) -> Iterator[tuple[int, Any]]:
        """Yield the numbers and results of the units."""
        from multiprocessing.connection import wait

        try:
            for _ in range(self._jobs):
                self._start()
            while self._workers:
                for connection in wait(list(self._workers)):
                    yield from self._answer(cast("Connection", connection))
        finally:
            for connection, (process, _) in self._workers.items():
                connection.close()
                process.terminate()
                process.join()

    def _start(self) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(self._build, theirs), daemon=True)
        process.start()
        theirs.close()
        self._workers[ours] = (process, None)

    def _answer(self, connection: Connection) -> Iterator[tuple[int, Any]]:
        """Yield what a worker has done, if that is a unit, and give it the next one."""
        process, number = self._workers[connection]
        try:
            result = connection.recv()
        except (EOFError, OSError):
            self._replace(connection)
            return
        if isinstance(result, UserError):
            raise result
        following = self._waiting.popleft() if self._waiting else None
        self._workers[connection] = (process, following)
        connection.send(None if following is None else (self._units[following],))
        if following is None:
            del self._workers[connection]
            process.join()
        if number is not None:
            yield number, result

    def _replace(self, connection: Connection) -> None:
        process, number = self._workers.pop(connection)
        process.join()
        if number is None or number in self._retried:
            what = "its models" if number is None else self._name(self._units[number])
            raise UserError(
                f"a worker process died with exit code {process.exitcode} while it was at {what}",
                "the log above may say why (out of memory?); run the same command again to go on",
            )
        log.warning("a worker died with exit code %s at unit %d; trying again", process.exitcode, number)
        self._retried.add(number)
        self._waiting.appendleft(number)
        self._start()


def set_up_ray() -> bool:
    """Set what Ray reads when it is imported; return whether there is no cluster yet, and one is to be started here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    is_own = not os.environ.get(CLUSTER)
    if is_own:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on the loopback address, as on desktops
        os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # on a machine that is busy
        os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")
    return is_own


def progress_bars(quiet: bool = False) -> Progress:
    """Return rich's bars on stderr, which show only on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), disable=quiet or not sys.stderr.isatty())


@contextmanager
def progress(quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function that shows how much is done of what: `show("speaking", 3, 10)`; a bar for each word."""
    with progress_bars(quiet) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what)
            bars.update(tasks[what], completed=done, total=total)

        yield show


@contextmanager
def status(quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows what is going on, on stderr and only on a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda message: None
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as shown:
        yield shown.update
