"""Files and folders that appear whole or not at all, names that nobody else takes, locks, digests.

Everything that the package writes for a person goes through here. A regular file is written beside its place, brought
to the disk and then renamed, through symbolic links; a device, a pipe or an open descriptor (`/dev/stdout`) is written
once all is complete, and never replaced. What a killed process left is removed by the next one that writes there
(`openvalle.leftovers`): the writer holds a lock on its unfinished file, which ends with the process whatever ends it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from openvalle.errors import UserError
from openvalle.leftovers import clear, hold, name_unfinished, sweep
from openvalle.pipes import is_special, pour
from openvalle.stop import remove, unfinished

try:
    import fcntl
except ImportError:  # Windows: unfinished files are not held
    fcntl = None  # type: ignore[assignment]

LOCK = ".openvalle-lock"
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES, errno.EINVAL}


class FreeName:
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


Place = str | Path | FreeName


def likely_path(place: Place) -> Path:
    """Return the path of a place, or the one that a free name will most likely get."""
    return place.first if isinstance(place, FreeName) else Path(place)


def final_path(place: Place) -> Path:
    """Return the path of a place that was written."""
    return (place.path or place.first) if isinstance(place, FreeName) else Path(place)


@contextmanager
def atomic_path(place: Place, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary path; what is written there is at `place` when the block succeeds, whole and on the disk.

    With `replace` False a file that is there is never touched: `FileExistsError`, before the block or, where another
    process was quicker, after it. `OSError` where the place cannot be written.
    """
    path = likely_path(place)
    is_free = isinstance(place, FreeName)
    replace = replace and not is_free
    if not replace and not is_free and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "File exists", str(path))
    if replace and is_special(path):
        with _part(Path(tempfile.gettempdir()), 0o600) as part:  # nobody else is to hear it meanwhile
            yield part
            pour(part, path)
        return
    target = Path(os.path.realpath(path)) if replace else path  # a link stays a link
    before = _present(target)
    with make_folder(target.parent):
        is_closed = before is not None and not os.access(target.parent, os.W_OK)  # one file of a folder not ours
        with _part(Path(tempfile.gettempdir()) if is_closed else target.parent, 0o600 if is_closed else 0o666) as part:
            mode = stat.S_IMODE(part.stat().st_mode)  # as the umask wants it
            yield part
            if is_closed:
                pour(part, target)
                return
            part.chmod(mode)  # some libraries write a file of their own there
            _to_disk(part)
            if isinstance(place, FreeName):
                place.path = _give_name(part, place.names())
            elif not replace:
                _link(part, target)
            else:
                _replace(part, target, before)
            _folder_to_disk(target.parent)


@contextmanager
def atomic_folder(folder: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder`, whole and on the disk, when the block succeeds.

    With `replace` it takes the place of a folder that is there. Else `FileExistsError` if something else than an empty
    folder is there, before the block or after it.
    """
    folder = Path(os.path.realpath(folder))
    if not replace and folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise FileExistsError(errno.EEXIST, "File exists", str(folder))
    with make_folder(folder.parent), _part(folder.parent, 0o777, is_folder=True) as part:
        yield part
        for place, _, names in os.walk(part):
            for name in names:
                _to_disk(Path(place, name))
            _folder_to_disk(Path(place))
        prefix = f".{folder.name}-old"
        old = folder.parent / f"{prefix}{name_unfinished(folder.parent).name}" if replace else None
        if old:
            old.mkdir(0o700)
        try:
            if old and folder.exists():
                folder.rename(old / folder.name)
            part.rename(folder)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise FileExistsError(errno.EEXIST, "File exists", str(folder)) from None
            raise
        finally:
            if old and folder.exists():
                shutil.rmtree(old, ignore_errors=True)
        if replace:  # whoever was killed between the two renames left the one before; now there is a newer one
            clear(folder.parent, prefix)
        _folder_to_disk(folder.parent)


@contextmanager
def make_folder(folder: Path, keep: bool = True) -> Iterator[None]:
    """Make a folder with its parents; those that were made here go again if they are empty and the block fails.

    `keep` False: they go if they are empty, however the block ends.
    """
    new = [place for place in (folder, *folder.parents) if not place.exists()]  # the innermost first
    folder.mkdir(parents=True, exist_ok=True)
    is_done = False
    try:
        yield
        is_done = True
    finally:
        for place in () if is_done and keep else new:
            with suppress(OSError):
                place.rmdir()


@contextmanager
def lock_folder(folder: Path, name: str = LOCK, what: str = "") -> Iterator[None]:
    """Keep other processes (and threads) from working in a folder; `UserError` names the one that does already.

    The folder is made, and goes again if it is empty at the end. The lock ends with its process, however that ends.
    `what`: what is locked, for the message; by default the folder.
    """
    path = folder / name
    with make_folder(folder, keep=False), ExitStack() as stack:
        handle = _take_lock(path, what or str(folder))
        stack.callback(os.close, handle)
        stack.callback(unfinished.discard, str(path))
        stack.callback(path.unlink, missing_ok=True)
        unfinished.add(str(path))
        yield


def _take_lock(path: Path, what: str) -> int:
    """Return an open file that holds the lock at `path`."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if not hold(handle):
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


@contextmanager
def _part(folder: Path, mode: int, is_folder: bool = False) -> Iterator[Path]:
    """Yield a new file or folder that is gone at the end, and that the next process removes if this one is killed."""
    sweep(folder)
    handle = -1
    try:
        while True:
            path = name_unfinished(folder)
            unfinished.add(str(path))  # before it is there: a signal may come at any moment
            if is_folder:
                path.mkdir(mode)
                handle = os.open(path, os.O_RDONLY) if fcntl else -1
            else:
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
            if fcntl is None or (hold(handle) and _is_at(handle, path)):
                break
            os.close(handle)  # another process took it for a leftover before it was held
            handle = -1
            unfinished.discard(str(path))
        if fcntl is None and handle >= 0:
            os.close(handle)  # Windows does not rename open files
            handle = -1
        yield path
    finally:
        remove(path)
        if handle >= 0:
            os.close(handle)
        unfinished.discard(str(path))


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
        pour(part, target)  # a file that is mounted by itself, as into a container


def _give_name(part: Path, names: Iterable[Path]) -> Path:
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
    except OSError as error:
        if error.errno not in _NO_LINKS:  # nor is a name that is taken
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


def sha256(path: str | Path) -> str:
    """Return a file's SHA-256 as hex digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
