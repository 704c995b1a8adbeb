"""Files and folders that appear whole or not at all, names that nobody else takes, locks, JSON lines, digests.

Everything that the package writes for a person goes through here. A regular file is written beside its place, brought
to the disk and then renamed, through symbolic links; a device, a pipe or an open descriptor (`/dev/stdout`) is written
once all is complete, and never replaced. What a killed process left is removed by the next one that writes there: the
writer holds a lock on its unfinished file, which ends with the process whatever ends it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import secrets
import select
import shutil
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from openvalle.errors import UserError
from openvalle.stop import unfinished

try:
    import fcntl
except ImportError:  # Windows: unfinished files are not held, and none is taken for a dead process's
    fcntl = None  # type: ignore[assignment]

LOCK = ".openvalle-lock"
MOST_BYTES = 64_000_000  # of what a person gives to read: ten times the longest novel, and no stream without end
PATIENCE = 3.0  # seconds in which somebody must begin to write into a pipe that is to be read
DEEPEST = 40  # groups inside each other, in JSON
STDOUT = "-"  # standard output, wherever a path is asked for
_PART = re.compile(r"\.openvalle-[0-9a-f]{16}")
_DESCRIPTORS = re.compile(r"/proc/(?P<process>\d+)(/task/\d+)?/fd|/dev/fd")
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES, errno.EINVAL}
_swept: set[str] = set()  # folders that were cleared of leftovers by this process


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
    number = _descriptor(path)
    if number is not None and number >= 0:
        with os.fdopen(os.dup(number), "rb") as file:  # opened anew, a file would begin from its start
            return _limited(file.read, path, most)
    mode = os.stat(path).st_mode
    if stat.S_ISFIFO(mode):
        return _from_pipe(path, MOST_BYTES if most is None else most)
    if not os.path.samefile(path, os.devnull):
        check_regular(Path(path))
    with open(path, "rb") as file:
        return _limited(file.read, path, most)


def read_text(path: str | Path, most: int | None = MOST_BYTES) -> str:
    """Return a UTF-8 text, with or without a byte order mark, and with one kind of line end; see `read_bytes`.

    `UnicodeDecodeError` if it is no UTF-8.
    """
    return read_bytes(path, most).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def read_stdin(most: int = MOST_BYTES) -> bytes:
    """Return all of standard input; `UserError` for more than `most` bytes."""
    return _limited(sys.stdin.buffer.read, "standard input", most)


def _limited(read: Callable[[int], bytes], path: str | Path, most: int | None) -> bytes:
    data = read(-1 if most is None else most + 1)
    if most is not None and len(data) > most:
        raise UserError(f"{path} holds more than {most // 1_000_000} MB", "give a shorter one, or parts of it")
    return data


def _from_pipe(path: str | Path, most: int) -> bytes:
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
    return _limited(lambda _: b"".join(blocks), path, most)


class Free:
    """A name that nobody has when the file is complete: `first`, or else `first-2`, `first-3` ...

    `path` is the name that was taken, once it was. `base`: asked then, instead of `first`, for a name that depends on
    another one that was free. The name is chosen as late as that because other programs choose names, too.
    """

    def __init__(self, first: Path, base: Callable[[], Path] | None = None) -> None:
        self.first = first
        self.path: Path | None = None
        self._base = base

    def names(self) -> Iterator[Path]:
        """Yield the names in the order in which they are tried."""
        base = self._base() if self._base else self.first
        yield base
        yield from (base.with_name(f"{base.stem}-{number}{base.suffix}") for number in range(2, 100_000))


Place = str | Path | Free


def likely_path(place: Place) -> Path:
    """Return the path of a place, or the one that a free name will most likely get."""
    return place.first if isinstance(place, Free) else Path(place)


def final_path(place: Place) -> Path:
    """Return the path of a place that was written."""
    return (place.path or place.first) if isinstance(place, Free) else Path(place)


@contextmanager
def atomic_path(place: Place, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary path; what is written there is at `place` when the block succeeds, whole and on the disk.

    With `replace` False a file that is there is never touched: `FileExistsError`, before the block or, where another
    process was quicker, after it. `OSError` where the place cannot be written.
    """
    path = likely_path(place)
    is_free = isinstance(place, Free)
    if not replace and not is_free and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "File exists", str(path))
    if replace and not is_free and is_special(path):
        with _part(Path(tempfile.gettempdir()), 0o600) as part:  # nobody else is to hear it meanwhile
            yield part
            _pour(part, path)
        return
    target = Path(os.path.realpath(path)) if replace and not is_free else path  # a link stays a link
    before = _present(target)
    with make_folder(target.parent):
        is_closed = before is not None and not os.access(target.parent, os.W_OK)  # one file of a folder not ours
        with _part(Path(tempfile.gettempdir()) if is_closed else target.parent, 0o600 if is_closed else 0o666) as part:
            mode = stat.S_IMODE(part.stat().st_mode)  # as the umask wants it
            yield part
            if is_closed:
                _pour(part, target)
                return
            part.chmod(mode)  # some libraries write a file of their own there
            _to_disk(part)
            if isinstance(place, Free):
                place.path = _named(part, place.names())
            elif not replace:
                _link(part, target)
            else:
                _replace(part, target, before)
            _folder_to_disk(target.parent)


@contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder`, whole and on the disk, when the block succeeds.

    `FileExistsError` if something else than an empty folder is there, before the block or after it.
    """
    folder = Path(os.path.realpath(folder))
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise FileExistsError(errno.EEXIST, "File exists", str(folder))
    with make_folder(folder.parent), _part(folder.parent, 0o777, is_folder=True) as part:
        yield part
        tree_to_disk(part)
        try:
            part.rename(folder)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise FileExistsError(errno.EEXIST, "File exists", str(folder)) from None
            raise
        _folder_to_disk(folder.parent)


@contextmanager
def make_folder(folder: Path) -> Iterator[None]:
    """Make a folder with its parents; those that were made here go again if the block fails and they are empty."""
    new = _make(folder)
    try:
        yield
    except BaseException:
        for place in new:
            _remove_empty(place)
        raise


@contextmanager
def lock_folder(folder: Path, name: str = LOCK, what: str = "") -> Iterator[None]:
    """Keep other processes (and threads) from working in a folder; `UserError` names the one that does already.

    The folder is made, and goes again if it is empty at the end. The lock ends with its process, however that ends.
    `what`: what is locked, for the message; by default the folder.
    """
    new, path = _make(folder), folder / name
    with ExitStack() as stack:
        for place in reversed(new):  # callbacks run from the last to the first: the innermost goes first
            stack.callback(_remove_empty, place)
        handle = _locked(path, what or str(folder))
        stack.callback(os.close, handle)
        stack.callback(unfinished.discard, str(path))
        stack.callback(path.unlink, missing_ok=True)
        unfinished.add(str(path))
        yield


def _locked(path: Path, what: str) -> int:
    """Return an open file that holds the lock at `path`."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if not _hold(handle):
            holder = os.read(handle, 1000).decode("utf-8", "replace").strip()
            os.close(handle)
            raise UserError(
                f"{what} is in use by {holder or 'another process'}", "wait until it is done, or end it and try again"
            )
        if _is_at(handle, path):
            break
        os.close(handle)  # its holder ended and removed it in between
    os.ftruncate(handle, 0)
    os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return handle


def _make(folder: Path) -> list[Path]:
    """Make a folder with its parents; return those that were not there, the innermost first."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def is_special(path: str | Path) -> bool:
    """Return True for what is written into and never replaced: a device, pipe, socket or open descriptor."""
    if is_stdout(path) or _descriptor(path) is not None:
        return True
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def is_stdout(path: str | Path) -> bool:
    """Return True for `-`, `/dev/stdout` and its other names."""
    return str(path) == STDOUT or _descriptor(path) == 1


def _descriptor(path: str | Path) -> int | None:
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


def _pour(part: Path, path: Path) -> None:
    """Write a complete file into what is there."""
    if is_stdout(path):
        with part.open("rb") as source:
            shutil.copyfileobj(source, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    number = _descriptor(path)
    if number is not None and number >= 0:
        handle = os.dup(number)  # opened anew, a file that output was sent to would begin from its start
    else:
        is_file = stat.S_ISREG(os.stat(path).st_mode)
        handle = os.open(path, os.O_WRONLY | getattr(os, "O_NOCTTY", 0) | (os.O_TRUNC if is_file else 0))
    with part.open("rb") as source, os.fdopen(handle, "wb") as sink:
        shutil.copyfileobj(source, sink)


@contextmanager
def _part(folder: Path, mode: int, is_folder: bool = False) -> Iterator[Path]:
    """Yield a new file or folder that is gone at the end, and that the next process removes if this one is killed."""
    sweep(folder)
    handle = -1
    try:
        while True:
            path = folder / f".openvalle-{secrets.token_hex(8)}"
            unfinished.add(str(path))  # before it is there: a signal may come at any moment
            if is_folder:
                path.mkdir(mode)
                handle = os.open(path, os.O_RDONLY) if fcntl else -1
            else:
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
            if fcntl is None or (_hold(handle) and _is_at(handle, path)):
                break
            os.close(handle)  # another process took it for a leftover before it was held
            handle = -1
            unfinished.discard(str(path))
        if fcntl is None and handle >= 0:
            os.close(handle)  # Windows does not rename open files
            handle = -1
        yield path
    finally:
        if is_folder:
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        if handle >= 0:
            os.close(handle)
        unfinished.discard(str(path))


def sweep(folder: Path) -> None:
    """Remove what killed processes left unfinished in a folder; each process looks once."""
    key = os.path.abspath(folder)
    if fcntl is None or key in _swept:
        return
    _swept.add(key)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _PART.fullmatch(entry.name):
                with suppress(OSError):
                    _sweep_one(Path(entry.path))


def _sweep_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while the writer lives, and where nobody can tell
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    finally:
        os.close(handle)


def _hold(handle: int) -> bool:
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


def _is_at(handle: int, path: Path) -> bool:
    """Return True if the open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _present(target: Path) -> os.stat_result | None:
    """Return what is at a place that is to be replaced; `OSError` where writing into it would be refused, too."""
    try:
        before = os.stat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(before.st_mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory", str(target))
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "Permission denied", str(target))
    return before


def _replace(part: Path, target: Path, before: os.stat_result | None) -> None:
    """Put a complete file where another one may be; that one's permissions, and owner if we may, stay."""
    if before is not None:
        if hasattr(os, "chown"):
            with suppress(OSError):
                os.chown(part, before.st_uid, before.st_gid)
        part.chmod(stat.S_IMODE(before.st_mode))
    try:
        os.replace(part, target)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        _pour(part, target)  # a file that is mounted by itself, as into a container


def _named(part: Path, names: Iterable[Path]) -> Path:
    """Give a complete file the first of the names that is free."""
    for path in names:
        with suppress(FileExistsError):
            _link(part, path)
            return path
    raise FileExistsError(errno.EEXIST, "all names are taken", str(part))


def _link(part: Path, path: Path) -> None:
    """Give a complete file a name; `FileExistsError` if it is taken."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))  # file systems without hard links
        os.replace(part, path)


def _to_disk(path: Path) -> None:
    with path.open("rb" if fcntl else "rb+") as written:  # Windows wants to be allowed to write
        os.fsync(written.fileno())


def _folder_to_disk(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def tree_to_disk(folder: Path) -> None:
    """Bring a folder with all that is in it to the disk."""
    for place, _, names in os.walk(folder):
        for name in names:
            _to_disk(Path(place, name))
        _folder_to_disk(Path(place))


def expand_home(path: str | Path) -> Path:
    """Return the path with `~` filled in; `UserError` if nobody knows whose home that is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"nobody knows where the home folder in {path} is", "write the whole path") from None


def write_text(place: Place, text: str) -> Path:
    """Write a UTF-8 text, atomically; return its path."""
    with atomic_path(place) as part:
        part.write_text(text, encoding="utf-8")
    return final_path(place)


class BadLine(ValueError):
    """A line that is not JSON."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"line {number} is not JSON ({reason})")
        self.number, self.reason = number, reason


def json_lines(text: str | Iterable[str]) -> Iterator[tuple[int, Any]]:
    """Yield the number and the value of every line that is not blank; `BadLine` names one that cannot be read.

    `text`: as a whole, or an open file. Values are finite and not nested without end, as `config.parse_data` has them.

    Lines end in a line feed alone: text may hold the other characters that `str.splitlines` cuts at.
    """
    for number, line in enumerate(text.split("\n") if isinstance(text, str) else text, 1):
        if line.strip():
            try:
                value = _JSON.decode(line)
            except json.JSONDecodeError as error:
                raise BadLine(number, error.msg) from None
            except RecursionError:
                raise BadLine(number, f"nested more than {DEEPEST} deep") from None
            except ValueError as error:
                raise BadLine(number, str(error)) from None
            if line.count("[") + line.count("{") > DEEPEST and _depth(value) > DEEPEST:
                raise BadLine(number, f"nested more than {DEEPEST} deep")
            yield number, value


def _depth(value: Any) -> int:
    """Return how many groups are inside each other."""
    deepest, waiting = 0, [(value, 0)]
    while waiting:
        value, depth = waiting.pop()
        deepest = max(deepest, depth)
        if isinstance(value, dict | list):
            inner = value.values() if isinstance(value, dict) else value
            waiting += [(each, depth + 1) for each in inner]
    return deepest


def _whole(figures: str) -> int:
    if len(figures) > 19 or abs(int(figures)) >= 1 << 63:
        raise ValueError(f"{figures[:20]}... is too large a number")
    return int(figures)


def _finite(figures: str) -> float:
    if not math.isfinite(value := float(figures)):
        raise ValueError(f"{figures[:20]} is not a finite number")
    return value


_JSON = json.JSONDecoder(parse_int=_whole, parse_float=_finite, parse_constant=_finite)


def json_line(value: Any) -> str:
    """Return a value as a line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def write_json_lines(place: Place, values: Iterable[Any]) -> Path:
    """Write one value a line, atomically; return the path."""
    with atomic_path(place) as part, part.open("w", encoding="utf-8") as file:
        for value in values:
            file.write(json_line(value))
    return final_path(place)


def append_line(path: Path, value: Any) -> None:
    """Add a line at the end of a file; it is on the disk when this returns."""
    with path.open("ab") as file:
        file.write(json_line(value).encode())
        file.flush()
        os.fsync(file.fileno())


def sha256(path: str | Path) -> str:
    """Return a file's SHA-256 as hex digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
