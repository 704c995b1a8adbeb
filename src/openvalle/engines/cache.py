"""Keys and values of positions already seen, in memory that onnxruntime reads and writes in place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SPARE_ROWS, SPARE_ROOM = 4, 256  # by which a cache grows at least


class KVCache:
    """Keys and values of all layers, with room to spare for rows and positions; row b holds `lens[b]` positions.

    What lies beyond a row's length is never read.
    """

    def __init__(self, depth: int, rows: int, heads: int, room: int, head_width: int) -> None:
        self.tensors = [np.zeros((rows, heads, room, head_width), np.float32) for _ in range(2 * depth)]
        self.lens: list[int] = [0] * rows

    def views(self, start: int, end: int) -> list[np.ndarray]:
        """Return keys and values of these rows, layer by layer, (end - start, H, room, D / H): the memory itself."""
        return [tensor[start:end] for tensor in self.tensors]

    @property
    def room(self) -> int:
        """Positions that a row has room for."""
        return self.tensors[0].shape[2]

    def fork(self, rows: Sequence[int]) -> KVCache:
        """Return an independent cache of these rows; a row may occur several times."""
        copy = object.__new__(KVCache)
        copy.tensors = [tensor[list(rows)] for tensor in self.tensors]
        copy.lens = [self.lens[row] for row in rows]
        return copy

    def join(self, other: KVCache) -> None:
        """Take the other's rows after the own ones."""
        count, length = len(self.lens), max(other.lens)
        self.reserve(count + len(other.lens), length)
        for mine, theirs in zip(self.tensors, other.tensors, strict=True):
            mine[count : count + len(other.lens), :, :length] = theirs[: len(other.lens), :, :length]
        self.lens = [*self.lens, *other.lens]

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, each once, in that order. Only those that change their place are copied."""
        to = [place for place, row in enumerate(rows) if place != row]
        length = max(self.lens)
        self.lens = [self.lens[row] for row in rows]
        if to:
            for tensor in self.tensors:
                tensor[to, :, :length] = tensor[[rows[place] for place in to], :, :length]

    def reserve(self, rows: int, room: int) -> None:
        """Make room for so many rows of so many positions, and for some more, so that it is not done often."""
        had_rows, heads, had_room, width = self.tensors[0].shape
        if rows <= had_rows and room <= had_room:
            return
        rows = had_rows if rows <= had_rows else max(rows, had_rows + SPARE_ROWS)
        room = had_room if room <= had_room else max(room, had_room + SPARE_ROOM)
        count, length = len(self.lens), max(self.lens)
        for index, tensor in enumerate(self.tensors):
            larger = np.zeros((rows, heads, room, width), np.float32)
            larger[:count, :, :length] = tensor[:count, :, :length]
            self.tensors[index] = larger
