"""Work of fixed shapes as CUDA graphs, and the memory that it works on, lent to one user after another.

A step of decoding is some hundred small kernels, and on a GPU starting them takes longer than computing them. A CUDA
graph starts them as one. It is the same kernels on the same memory each time: its tensors stay where they are, what is
given is copied into them, and nothing in between asks the device or depends on a number that only Python knows.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from threading import Lock
from typing import Any, Generic, TypeVar
from weakref import finalize

import torch
from torch import Tensor

from openvalle.errors import find_choice

WARM_UPS = 3  # runs before a capture: libraries choose their kernels and take their memory
CHOICE = "OPENVALLE_TORCH"  # environment variable: a `Way`
SPARE_BYTES = 1 << 30  # of memory that nobody has and that is kept for the next

_log = logging.getLogger(__name__)
_capturing = Lock()  # a process captures one graph at a time

Lent = TypeVar("Lent")


class Way(StrEnum):
    """How torch takes the steps of the AR model and decodes blocks of the codec."""

    STATIC = "static"  # in memory of fixed shapes; on CUDA captured
    EAGER = "eager"  # as the networks are written


def choose_way() -> Way:
    """Return what $OPENVALLE_TORCH says, else eager: no GPU has captured yet. `UserError` names those there are."""
    if wanted := os.environ.get(CHOICE):
        return find_choice(Way, wanted, f"${CHOICE}")
    return Way.EAGER


class Capturer:
    """Captures work on a CUDA device; on others, work is done as it is written.

    Its graphs share the memory of what they compute in between, so they have to run one after the other, as all do that
    are run on one stream.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.captures = device.type == "cuda"
        if self.captures:
            self._stream = torch.cuda.Stream(device)
            self._pool = torch.cuda.graph_pool_handle()
            # The shared memory lives as long as a graph that uses it: this one, which does nothing, always does.
            nothing = torch.zeros((), device=device)
            self._anchor = self.capture(lambda: nothing.zero_())

    def capture(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Return what does the work of `run` and returns its output, each time the same tensor.

        `run` is called a few times for this: what it changes in its tensors must not matter yet. If the device refuses,
        work is done as it is written from then on, and a warning says so.
        """
        if not self.captures:
            return run
        assert not torch.is_grad_enabled() and not torch.cuda.is_current_stream_capturing()
        current = torch.cuda.current_stream(self.device)
        with _capturing, torch.cuda.stream(self._stream):
            self._stream.wait_stream(current)
            for _ in range(WARM_UPS):
                run()
            try:
                captured: Callable[[], Tensor] = Captured(run, self._pool, self._stream)
            except RuntimeError as error:
                self.captures, captured = False, run
                _log.warning("no CUDA graphs on %s: %s", self.device, str(error).strip().splitlines()[0])
        current.wait_stream(self._stream)
        return captured


class Captured:
    """A piece of work as a CUDA graph."""

    def __init__(self, run: Callable[[], Tensor], pool: Any, stream: torch.cuda.Stream) -> None:
        self._graph = torch.cuda.CUDAGraph()
        # Other threads go on meanwhile: what they do is neither captured nor forbidden.
        with torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            self._output = run()
        self._run = run  # holds the tensors that the graph works on

    def __call__(self) -> Tensor:
        self._graph.replay()
        return self._output


class Stock(Generic[Lent]):
    """What is made for a shape and takes long to make: lent to one after the other."""

    def __init__(self, make: Callable[..., Lent], measure: Callable[[Lent], int]) -> None:
        """`make` takes a shape; `measure` says how many bytes a thing holds."""
        self._make, self._measure = make, measure
        self._lock = Lock()
        self._returned: deque[tuple[tuple[int, ...], Lent]] = deque()  # at any moment, from any thread
        self._spare: list[tuple[tuple[int, ...], Lent]] = []  # what came back last is the last

    def take(self, shape: tuple[int, ...]) -> Lent:
        """Return something of that shape that nobody has. What has lain there longest goes, where it is too much."""
        with self._lock:
            while self._returned:
                self._spare.append(self._returned.popleft())
            fitting = [place for place, (own, _) in enumerate(self._spare) if own == shape]
            found = self._spare.pop(fitting[-1])[1] if fitting else None
            while sum(self._measure(each) for _, each in self._spare) > SPARE_BYTES:
                del self._spare[0]
        return self._make(*shape) if found is None else found

    def give_back(self, shape: tuple[int, ...], lent: Lent) -> None:
        """Take something back for the next. It may be called while anything else is done here."""
        self._returned.append((shape, lent))


class Lease(Generic[Lent]):
    """Something of a stock, which takes it back when this object is gone."""

    def __init__(self, stock: Stock[Lent], *shape: int) -> None:
        self.lent = stock.take(shape)
        finalize(self, stock.give_back, shape, self.lent).atexit = False
