"""How many threads compute, and how they wait for each other. Nothing here imports torch: it works before torch does.

GNU OpenMP's threads, which compute for torch, spin at the end of every parallel operation, of which a step of a small
model has dozens. That is quickest while every thread has a core of its own. As soon as any other program runs, a thread
spins for a partner that is not scheduled, and speech takes ten times as long.
"""

from __future__ import annotations

import os
import sys

SPINS = "30000"  # about 0.1 ms, then a thread sleeps until it is called; see `make bench-threads`
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
