"""Files appear whole or not at all, through links and never in place of a device; names are taken once; locks name."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from openvalle import leftovers
from openvalle.config import BadLine, append_line, json_lines, write_json_lines
from openvalle.errors import UserError
from openvalle.files import FreeName, atomic_folder, atomic_path, expand_home, final_path, lock_folder, write_text
from openvalle.pipes import is_special, is_stdout
from openvalle.stop import unfinished

posix = pytest.mark.skipif(sys.platform == "win32", reason="links, pipes and locks of POSIX")


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path):
    yield
    assert not unfinished
    assert not [path for path in tmp_path.rglob(".openvalle-*")]


def python(code: str, *arguments: object, **named) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **named)


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "a") as part:
        part.write_text("new")
        raise KeyboardInterrupt
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "new" / "er" / "a"):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == ["a"], "folders that were made for it go, too"


@posix
def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("second")
    (tmp_path / "second").symlink_to(tmp_path / "there" / "file")
    for text in ("one", "two"):  # first the target is not there
        write_text(tmp_path / "link", text)
        assert (tmp_path / "there" / "file").read_text() == text
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "second").is_symlink()


@posix
def test_permissions_are_those_of_an_ordinary_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "new", "x")
        with atomic_folder(tmp_path / "folder") as part:
            (part / "file").write_text("x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750
    (tmp_path / "new").chmod(0o604)
    write_text(tmp_path / "new", "y")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o604, "as when it is written in place"


@posix
def test_a_pipe_is_written_and_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    heard: list[str] = []
    for name in ("pipe", "link"):
        reader = threading.Thread(target=lambda: heard.append((tmp_path / "pipe").read_text()))
        reader.start()
        write_text(tmp_path / name, f"by {name}")
        reader.join(10)
        assert (tmp_path / "pipe").is_fifo()
    assert heard == ["by pipe", "by link"]


@posix
def test_a_device_is_written_and_never_replaced(tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        device.write_text("")
    except OSError:
        pytest.skip("needs the right to make a device")
    write_text(device, "into nothing")
    assert stat.S_ISCHR(device.stat().st_mode)
    full = tmp_path / "full"
    os.mknod(full, 0o666 | stat.S_IFCHR, os.makedev(1, 7))
    with pytest.raises(OSError, match="No space"):
        write_text(full, "x")


@posix
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/proc/thread-self/fd/1", "-"])
def test_standard_output_is_written_where_it_stands(tmp_path: Path, name: str) -> None:
    if name.startswith("/proc") and not Path("/proc/self/fd").exists():
        pytest.skip("no /proc here")
    code = "import sys; from openvalle.files import *; print('first'); write_text(sys.argv[1], 'second\\n'); print('3')"
    with (tmp_path / "out").open("w") as out:
        out.write("before\n")
        out.flush()
        subprocess.run([sys.executable, "-c", code, name], stdout=out, check=True, timeout=60)
    assert (tmp_path / "out").read_text() == "before\nfirst\nsecond\n3\n"


@posix
def test_an_open_descriptor_and_a_socket(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as opened:
        opened.write("before ")
        opened.flush()
        place = f"/dev/fd/{opened.fileno()}"
        assert is_special(place)
        assert not is_stdout(place)
        write_text(place, "after")
        inode = os.fstat(opened.fileno()).st_ino
    assert (tmp_path / "a").read_text() == "before after"
    assert (tmp_path / "a").stat().st_ino == inode
    import socket

    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(tmp_path)  # the names of sockets are short
        try:
            listening.bind("socket")
        finally:
            os.chdir(here)
        with pytest.raises(OSError) as refused:
            write_text(tmp_path / "socket", "x")
        assert refused.value.errno == errno.ENXIO
        assert stat.S_ISSOCK((tmp_path / "socket").stat().st_mode)


@posix
def test_names_that_the_system_refuses(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name, number in (("loop", errno.ELOOP), ("x" * 300, errno.ENAMETOOLONG), (".", errno.EISDIR)):
        with pytest.raises(OSError) as refused:
            write_text(tmp_path / name, "x")
        assert refused.value.errno == number
    longest = tmp_path / ("x" * 251 + ".wav")
    write_text(longest, "as long as names may be")
    assert longest.read_text()
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"), os.fsdecode(b"\xfe.txt"))
    write_text(odd, "no UTF-8")
    assert odd.read_text() == "no UTF-8"


def test_a_free_name_is_chosen_when_the_file_is_complete(tmp_path: Path) -> None:
    one, other = FreeName(tmp_path / "a.txt"), FreeName(tmp_path / "a.txt")
    with atomic_path(one) as first, atomic_path(other) as second:
        first.write_text("one")
        second.write_text("other")
        (tmp_path / "a.txt").write_text("somebody else's")
    assert (tmp_path / "a.txt").read_text() == "somebody else's"
    assert (final_path(other), final_path(one)) == (tmp_path / "a-2.txt", tmp_path / "a-3.txt")
    assert final_path(one).read_text() == "one"
    beside = FreeName(tmp_path / "b.txt", lambda: final_path(one).with_suffix(".log"))
    assert write_text(beside, "x") == tmp_path / "a-3.log"


@pytest.mark.parametrize("has_links", [True, False])
def test_what_is_there_is_not_replaced_if_not_wanted(tmp_path: Path, monkeypatch, has_links: bool) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    with atomic_path(tmp_path / "a", replace=False) as part:
        part.write_text("one")
    assert (tmp_path / "a").read_text() == "one"
    with pytest.raises(FileExistsError), atomic_path(tmp_path / "a", replace=False) as part:
        raise AssertionError("refused before the work")
    with pytest.raises(FileExistsError), atomic_path(tmp_path / "b", replace=False) as part:
        part.write_text("one")
        (tmp_path / "b").write_text("other")
    assert (tmp_path / "b").read_text() == "other"


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "a" / "b") as part:
        (part / "x").write_text("x")
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        with atomic_folder(tmp_path / name) as part:
            (part / "x").write_text("x")
            assert not (tmp_path / name / "x").exists()
        assert os.listdir(tmp_path / name) == ["x"]
    with pytest.raises(FileExistsError), atomic_folder(tmp_path / "new") as part:
        raise AssertionError("refused before the work")
    with pytest.raises(FileExistsError), atomic_folder(tmp_path / "late") as part:
        (tmp_path / "late").mkdir()
        (tmp_path / "late" / "other").touch()
    assert os.listdir(tmp_path / "late") == ["other"]


HANGING = """
import sys, time
from pathlib import Path
from openvalle.files import atomic_folder, atomic_path, lock_folder
folder = Path(sys.argv[1])
with lock_folder(folder / "book"), atomic_path(folder / "a") as part, atomic_folder(folder / "b") as other:
    part.write_text("half")
    (other / "x").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


@posix
def test_what_a_killed_process_left_is_removed_by_the_next_writer(tmp_path: Path) -> None:
    living, dying = (python(HANGING, tmp_path / name) for name in ("living", "dying"))
    try:
        for process in (living, dying):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        dying.kill()
        dying.wait()
        for name, left in (("living", 2), ("dying", 0)):
            leftovers._swept.clear()
            write_text(tmp_path / name / "other", "x")
            assert len(list((tmp_path / name).glob(".openvalle-*"))) == left, name
        with lock_folder(tmp_path / "dying" / "book"):
            pass
        with (
            pytest.raises(UserError, match=rf"book is in use by process {living.pid} on .*; wait until"),
            lock_folder(tmp_path / "living" / "book"),
        ):
            pass
    finally:
        living.kill()
        living.wait()
    leftovers._swept.clear()
    write_text(tmp_path / "living" / "other", "x")
    with lock_folder(tmp_path / "living" / "book"):
        pass


REPLACING = """
import os, sys
from pathlib import Path
from openvalle.files import atomic_folder, atomic_path
folder = Path(sys.argv[1])
with atomic_path(folder / "a") as part, atomic_folder(folder / "b") as other:
    own = folder / "own"  # as some libraries do: a file of their own takes the place of the one that is locked
    own.write_text("whole")
    os.replace(own, part)
    (other / "x").write_text("whole")
    print("ready", flush=True)
    sys.stdin.readline()
"""


@posix
@pytest.mark.parametrize("shared", [False, True], ids=["locks", "locks of each machine by itself"])
def test_what_a_living_process_writes_is_never_swept_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """Two processes write into one folder: the second one takes nothing of the first one's for a leftover."""
    if shared:
        monkeypatch.setattr("openvalle.leftovers.fcntl.flock", lambda *_: None)  # nobody sees the other's
    writer = python(REPLACING, tmp_path, stdin=subprocess.PIPE)
    assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    leftovers._swept.clear()
    write_text(tmp_path / "other", "x")
    _, errors = writer.communicate("go on\n")
    assert writer.returncode == 0, errors
    assert (tmp_path / "a").read_text() == (tmp_path / "b" / "x").read_text() == "whole"


SWAPPING = """
import os, sys
from pathlib import Path
from openvalle.files import atomic_folder
rename, done = Path.rename, []
def once(path, target):
    done.append(target)
    if len(done) == 2:  # the one before lies aside, the new one is not in its place yet
        os.kill(os.getpid(), 9)
    return rename(path, target)
Path.rename = once
with atomic_folder(Path(sys.argv[1]) / "b", replace=True) as part:
    (part / "x").write_text("new")
"""


@posix
def test_a_folder_that_was_set_aside_by_a_killed_process_goes_with_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_text("old")
    killed = python(SWAPPING, tmp_path)
    killed.wait()
    assert killed.returncode == -9 and not (tmp_path / "b").exists()
    (aside,) = tmp_path.glob(".b-old*")
    assert (aside / "b" / "x").read_text() == "old"
    leftovers._swept.clear()
    write_text(tmp_path / "other", "x")
    assert aside.exists(), "it is the only one there is"
    with atomic_folder(tmp_path / "b", replace=True) as part:
        (part / "x").write_text("newer")
    assert sorted(os.listdir(tmp_path)) == ["b", "other"] and (tmp_path / "b" / "x").read_text() == "newer"


@posix
def test_what_another_machine_left_goes_after_a_day(tmp_path: Path) -> None:
    names = [f".openvalle-{'0' * 8}{os.getpid():08x}{'0' * 16}{'1' * 16}", f".openvalle-{'2' * 16}"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "audio.npy").write_text("half")
    leftovers.clear(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(names), "somebody may still be at it"
    for name in names:
        os.utime(tmp_path / name, (0, 0))
    leftovers.clear(tmp_path)
    assert os.listdir(tmp_path) == []


@posix
def test_the_number_of_a_process_that_ended_may_be_anothers(tmp_path: Path) -> None:
    born = leftovers.find_birth(os.getpid())
    before, ended = (tmp_path / leftovers.name_unfinished(tmp_path).name for _ in range(2))
    before = tmp_path / before.name.replace(f"{os.getpid():08x}{born:016x}", f"{os.getpid():08x}{born + 1:016x}")
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    ended = tmp_path / ended.name.replace(f"{os.getpid():08x}", f"{child.pid:08x}")
    own = leftovers.name_unfinished(tmp_path)
    for path in (before, ended, own):
        path.touch()
    leftovers.clear(tmp_path)
    assert os.listdir(tmp_path) == [own.name]
    own.unlink()
    assert leftovers.find_birth(child.pid) == leftovers.ENDED


def test_a_lock_makes_its_folder_and_takes_it_away_if_nothing_came_of_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock_folder(tmp_path / "a" / "b"):
        with pytest.raises(UserError, match=f"is in use by process {os.getpid()}"), lock_folder(tmp_path / "a" / "b"):
            pass
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []
    with lock_folder(tmp_path / "a"):
        (tmp_path / "a" / "x").touch()
    assert os.listdir(tmp_path / "a") == ["x"]


def test_lines_of_json(tmp_path: Path) -> None:
    values = [{"text": "one\u2028two\x85three\x0cfour"}, [1], "ä"]
    path = write_json_lines(tmp_path / "a.jsonl", values)
    append_line(path, {"last": 1})
    assert [value for _, value in json_lines(path.read_text(encoding="utf-8"))] == [*values, {"last": 1}]
    with path.open(encoding="utf-8") as opened:
        assert [number for number, _ in json_lines(opened)] == [1, 2, 3, 4]
    for bad in ("{", "[" * 100_000, "1" * 5000, json.dumps("x")[:-1]):
        with pytest.raises(BadLine) as refused:
            list(json_lines(f"1\n\n{bad}\n"))
        assert refused.value.number == 3


def test_a_home_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="home folder in ~nobody-here/x is"):
        expand_home("~nobody-here/x")
