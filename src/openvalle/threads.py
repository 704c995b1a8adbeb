"""How many threads compute, and how they wait for each other. Nothing here imports torch: it works before torch does.

GNU OpenMP's threads, which compute for torch, spin at the end of every parallel operation, of which a step of a small
model has dozens. That is quickest while every thread has a core of its own. As soon as any other program runs, a thread
spins for a partner that is not scheduled, and speech takes ten times as long.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SPINS = "1000"  # a few microseconds, then a thread sleeps until it is called; see `make bench-threads`
# Whoever set one of these has chosen how threads wait, for GNU, LLVM or Intel OpenMP.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")


def wait_asleep() -> None:
    """Let threads that wait go to sleep soon, unless the environment says how they wait. Before torch is loaded."""
    if not any(name in os.environ for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = SPINS
        os.environ["KMP_BLOCKTIME"] = "0"


def set_threads(count: int | None) -> None:
    """Compute with `count` threads, here and in processes that are started; None leaves it to the environment."""
    wait_asleep()
    if count is None:
        return
    os.environ |= {name: str(count) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


_noted: dict[str, int] = {}  # threads of torch when a model was last loaded: what `one_thread` goes back to


def note_threads() -> None:
    """Remember how many threads torch has: a model speaks with as many as there are when it is loaded."""
    count = sys.modules["torch"].get_num_threads()
    is_told = count > 1 or threading.current_thread() is threading.main_thread()
    if is_told or not _noted:  # a new thread has one if it began while another caller was in `one_thread`
        _noted["threads"] = count


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
