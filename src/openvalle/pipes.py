"""Files, pipes, devices and open descriptors: read, never without end, and written into where they are not replaced."""

from __future__ import annotations

import os
import re
import select
import shutil
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

from openvalle.errors import TextError, UserError

STDOUT = "-"  # standard output, wherever a path is asked for
MOST_BYTES = 64_000_000  # of what a person gives to read: ten times the longest novel, and no stream without end
PATIENCE = 3.0  # seconds in which somebody must begin to write into a pipe that is to be read
_DESCRIPTORS = re.compile(r"/proc/(?P<process>\d+)(/task/\d+)?/fd|/dev/fd")


def is_special(path: str | Path) -> bool:
    """Return True for what is written into and never replaced: a device, pipe, socket or open descriptor."""
    if is_stdout(path) or find_descriptor(path) is not None:
        return True
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def is_stdout(path: str | Path) -> bool:
    """Return True for `-`, `/dev/stdout` and its other names."""
    return str(path) == STDOUT or find_descriptor(path) == 1


def find_descriptor(path: str | Path) -> int | None:
    """Return the number of the open file that a path such as /dev/stdout stands for; -1 for another process's."""
    place = os.fspath(path)
    for _ in range(40):  # links to links
        folder, name = os.path.split(os.path.abspath(place))
        match = _DESCRIPTORS.fullmatch(os.path.realpath(folder)) if name.isdigit() else None
        if match:
            return int(name) if match["process"] in (None, str(os.getpid())) else -1
        if not os.path.islink(place):
            return None
        place = os.path.join(folder, os.readlink(place))
    return None


def pour(part: Path, path: Path) -> None:
    """Write a complete file into what is there."""
    if is_stdout(path):
        with part.open("rb") as source:
            shutil.copyfileobj(source, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    number = find_descriptor(path)
    if number is not None and number >= 0:
        handle = os.dup(number)  # opened anew, a file that output was sent to would begin from its start
    else:
        is_file = stat.S_ISREG(os.stat(path).st_mode)
        handle = os.open(path, os.O_WRONLY | getattr(os, "O_NOCTTY", 0) | (os.O_TRUNC if is_file else 0))
    with part.open("rb") as source, os.fdopen(handle, "wb") as sink:
        shutil.copyfileobj(source, sink)


def check_regular(path: Path) -> Path:
    """Return the path of a file that libraries read by themselves; what is not there is not looked at.

    `UserError` for a pipe, a device or a socket, by which reading could wait for ever.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # the reader says what is wrong
        return path
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UserError(f"{path} is a pipe or a device, not a file", "give a file")
    return path


def read_bytes(path: str | Path, most: int | None = MOST_BYTES) -> bytes:
    """Return what is in a file that a person gave; `OSError` if it cannot be opened.

    A pipe is read to its end: the open one of a shell's `<(...)`, `/dev/stdin`, and one that has a name, into which
    somebody must begin to write within `PATIENCE` seconds. `UserError` for a pipe that nobody writes into, for devices
    and sockets, and for more than `most` bytes (None: any number, of a regular file).
    """
    number = find_descriptor(path)
    if number is not None and number >= 0:
        with os.fdopen(os.dup(number), "rb") as file:  # opened anew, a file would begin from its start
            return _read_up_to(file.read, path, most)
    mode = os.stat(path).st_mode
    if stat.S_ISFIFO(mode):
        return _read_pipe(path, MOST_BYTES if most is None else most)
    if not os.path.samefile(path, os.devnull):
        check_regular(Path(path))
    with open(path, "rb") as file:
        return _read_up_to(file.read, path, most)


def read_text(path: str | Path, most: int | None = MOST_BYTES) -> str:
    """Return a UTF-8 text, with or without a byte order mark, and with one kind of line end; see `read_bytes`.

    `UnicodeDecodeError` if it is no UTF-8.
    """
    return read_bytes(path, most).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def read_given_text(path: str | Path, what: str = "") -> str:
    """Return the text of a file that a person gave; `TextError` if it cannot be read, which says `what` it is."""
    named = f"{what} {path}".strip()
    try:
        return read_text(path)
    except OSError as error:
        raise TextError(f"cannot read {named}: {error.strerror}", "check the path") from None
    except UnicodeDecodeError:
        raise TextError(f"{named} is not UTF-8", "save it as UTF-8 first") from None


def read_stdin() -> bytes:
    """Return all of standard input; `UserError` for more than `MOST_BYTES`."""
    return _read_up_to(sys.stdin.buffer.read, "standard input", MOST_BYTES)


def _read_up_to(read: Callable[[int], bytes], path: str | Path, most: int | None) -> bytes:
    data = read(-1 if most is None else most + 1)
    if most is not None and len(data) > most:
        raise UserError(f"{path} holds more than {most // 1_000_000} MB", "give a shorter one, or parts of it")
    return data


def _read_pipe(path: str | Path, most: int) -> bytes:
    """Return what comes out of a named pipe. Opened without waiting, it tells apart that nobody has it open for
    writing (it is at its end) and that the writer has not written yet (which may take long)."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    until = time.monotonic() + PATIENCE
    blocks: list[bytes] = []
    size, is_written = 0, False
    try:
        while size <= most:
            try:
                block = os.read(handle, 1 << 20)
            except BlockingIOError:
                is_written = True
                select.select([handle], [], [])
                continue
            if block:
                blocks.append(block)
                size += len(block)
            elif blocks or is_written:
                break
            elif time.monotonic() > until:
                raise UserError(f"nobody writes into the pipe {path}", "start its writer first, or give a file")
            else:
                time.sleep(0.01)
    finally:
        os.close(handle)
    return _read_up_to(lambda _: b"".join(blocks), path, most)
