"""What is being written beside its place has a name that tells whose it is; what killed processes left is removed.

Three things have to speak for it before something is removed: its name says that its process is none of the living, its
lock is free, and it lies in a folder that is written to anyway. A lock alone is not enough: some libraries put a file
of their own in place of the one that is locked, and many file systems that machines share keep locks for each machine
by itself. What another machine left is removed a day after it was last changed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import socket
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from openvalle.stop import remove, unfinished

try:
    import fcntl
except ImportError:  # Windows: unfinished files are not held, and none is taken for a dead process's
    fcntl = None  # type: ignore[assignment]

_NAME = re.compile(r"\.openvalle-(?:([0-9a-f]{8})([0-9a-f]{8})([0-9a-f]{16}))?[0-9a-f]{16}")  # machine, process, birth
FOREIGN_SECONDS = 86_400.0  # after which nobody on another machine is still at it
ENDED = -1
_swept: set[str] = set()  # folders that were cleared by this process


def name_unfinished(folder: Path) -> Path:
    """Return a new name for what this process is going to write in a folder."""
    pid = os.getpid()
    return folder / f".openvalle-{_machine()}{pid:08x}{max(0, find_birth(pid)):016x}{secrets.token_hex(8)}"


def is_unfinished(name: str) -> bool:
    """Whether a name is that of something that is being written, or was when its process was killed."""
    return _NAME.fullmatch(name) is not None


def find_birth(pid: int) -> int:
    """Return when a process began, in a number of this machine's own; `ENDED`, or 0 where nobody can tell when."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return ENDED if fields[0] in "ZX" else int(fields[19])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ENDED
    except (OSError, OverflowError):
        pass  # it is there, and somebody else's
    return 0


def sweep(folder: Path) -> None:
    """Remove what killed processes left unfinished in a folder; each process looks once."""
    key = os.path.abspath(folder)
    if key not in _swept:
        _swept.add(key)
        clear(folder)


def clear(folder: Path, prefix: str = "") -> None:
    """Remove what killed processes left unfinished in a folder, under names that begin with `prefix`."""
    if fcntl is None:
        return
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                if _is_left(entry, prefix):
                    _clear_one(Path(entry.path))


def hold(handle: int) -> bool:
    """Lock an open file until it is closed; False if somebody else does. File systems without locks hold nothing."""
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            os.lseek(handle, 1 << 20, os.SEEK_SET)  # beyond the text, which others read
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
            os.lseek(handle, 0, os.SEEK_SET)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)
    return True


@cache
def _machine() -> str:
    return hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()


def _is_left(entry: os.DirEntry[str], prefix: str) -> bool:
    """Whether no living process can be at it, by its name."""
    found = _NAME.fullmatch(entry.name.removeprefix(prefix)) if entry.name.startswith(prefix) else None
    if found is None or entry.path in unfinished:
        return False
    machine, process, birth = found.groups()
    if machine != _machine():  # or of a version that did not say whose it is
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > FOREIGN_SECONDS
    pid, there = int(process, 16), find_birth(int(process, 16))
    if pid == os.getpid():
        return there != int(birth, 16)  # a process of this number, before this one
    return there == ENDED or (there > 0 and there != int(birth, 16))


def _clear_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while the writer lives, and where nobody can tell
        remove(path)
    finally:
        os.close(handle)
