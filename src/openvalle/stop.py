"""Ending when a signal asks for it: nothing half-written is left, one line is shown, the exit code tells the signal.

Where nothing is begun (while modules are imported, a model is loaded) the process ends at once: an exception raised in
the middle of somebody's import can be lost, or shown as a traceback. Where files or processes have been begun
(`unfinished`), `Stopped` is raised, so that everything is unwound as on any error. Only the command line listens; a
program that imports openvalle keeps its own handlers.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C; `docker stop`, systemd, `timeout`; a terminal that is closed
LEFT_NOTHING = "stopped; nothing half-written was left behind"

unfinished: set[str] = set()  # files and folders that must not outlive this process; "" holds the place of others
_received: list[int] = []  # signals, in the order in which they came
_listening: list[int] = []  # the process that listens: a fork of it must not remove what is not its own


class Stopped(KeyboardInterrupt):
    """The process was asked to end. `code`: the exit code that tells by which signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number


def listen() -> None:
    """From now on end as this module says. Signals that the caller of the process ignores (`nohup`) stay ignored."""
    for name in SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, _handle)
    sys.unraisablehook = _unraisable
    _listening[:] = [os.getpid()]


def exit_code() -> int | None:
    """Return the exit code of a process that was asked to end; None while nobody has."""
    return 128 + _received[0] if _received else None


@contextmanager
def unwind_on_signal() -> Iterator[None]:
    """Ending by a signal inside is an exception, although no file was begun: other processes have to be told."""
    is_first = "" not in unfinished
    unfinished.add("")
    try:
        yield
    finally:
        if is_first:
            unfinished.discard("")


def serve_parent() -> None:
    """In a worker process: leave Ctrl-C to the parent, end cleanly when it says so, and when it is gone."""
    from multiprocessing import parent_process

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: leave(128 + number))
    parent = parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            leave(1)

        threading.Thread(target=watch, daemon=True).start()


def leave(code: int) -> NoReturn:
    """End the process now, without the interpreter's own end; remove what is unfinished."""
    discard()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def discard() -> None:
    """Remove what is unfinished."""
    for path in sorted(unfinished - {""}, reverse=True):  # what is in a folder before the folder
        remove(path)
    unfinished.clear()


def remove(path: str | Path) -> None:
    """Remove a file or a folder with all that is in it; whatever cannot be removed stays."""
    with suppress(OSError):
        os.unlink(path)
        return
    shutil.rmtree(path, ignore_errors=True)


def _handle(number: int, frame: FrameType | None) -> None:
    if os.getpid() not in _listening:
        os._exit(128 + number)
    _received.append(number)
    if unfinished and len(_received) == 1:
        raise Stopped(number)
    _end()


def _end() -> NoReturn:
    """Show the line and end at once."""
    is_terminal = False
    with suppress(OSError):
        is_terminal = os.isatty(2)
    clear = "\r\x1b[2K\x1b[?25h" if is_terminal else ""  # the line of progress goes, the cursor comes back
    with suppress(OSError):
        os.write(2, f"{clear}{LEFT_NOTHING}\n".encode())
    leave(128 + _received[0])


def _unraisable(lost: Any) -> None:
    """A `Stopped` that was raised where nobody can catch it ends the process all the same."""
    if isinstance(lost.exc_value, Stopped):
        _end()
    sys.__unraisablehook__(lost)
