"""Batches made ahead of their turn, by other processes, and moved to the device while it computes.

Batch `index` is a pure function of `index`, so who makes it and when changes nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import torch
from torch.utils.data import DataLoader, Dataset

AHEAD = 4  # batches that each process makes ahead


class _Made(Dataset[Any]):
    """Batches by their index."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        self.make = make

    def __getitem__(self, index: int) -> Any:
        return self.make(index)


class Prefetch:
    """The batches `first`, `first + 1`, ... that `make` makes, on `device`; by `workers` processes, or by this one
    alone, when each is asked for.

    The processes are forked: they share what `make` holds, and must not touch the device.
    """

    def __init__(self, make: Callable[[int], Any], first: int, workers: int, device: torch.device) -> None:
        self.make, self.first, self.workers, self.device = make, first, workers, device
        self._source: Iterator[Any] = iter(())

    def __enter__(self) -> Self:
        indices = itertools.count(self.first)
        if not self.workers:
            self._source = map(self.make, indices)
            return self
        loader = DataLoader(
            _Made(self.make),
            batch_size=None,
            sampler=indices,  # type: ignore[arg-type]  # endless, so without a length
            num_workers=self.workers,
            prefetch_factor=AHEAD,
            pin_memory=self.device.type == "cuda",
            multiprocessing_context="fork",
        )
        self._source = iter(loader)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source = iter(())  # ends the processes

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return next(self._source).to(self.device)
