"""Keys and values of positions already seen, preallocated, with a length per row."""

from __future__ import annotations

import torch
from torch import Tensor


class KVCache:
    """Room for `room` positions in each of `rows` rows; row b holds `lens[b]` of them, without gaps."""

    def __init__(self, depth: int, rows: int, heads: int, room: int, head_width: int, *, like: Tensor) -> None:
        shape = (depth, rows, heads, room, head_width)
        self.keys = like.new_zeros(shape)
        self.values = like.new_zeros(shape)
        self.lens = [0] * rows

    @property
    def room(self) -> int:
        """Positions a row can hold."""
        return self.keys.shape[3]

    def fill(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Store the first positions of all rows (B, H, L, D / H); `begin` then says how many of them are real."""
        length = key.shape[2]
        self.keys[layer, :, :, :length] = key
        self.values[layer, :, :, :length] = value

    def begin(self, lens: Tensor) -> None:
        """Say how many of the filled positions each row has."""
        self.lens = [int(length) for length in lens]

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store one position (B, H, 1, D / H) per row; return all keys and values up to the longest row's."""
        longest = max(self.lens) + 1
        assert longest <= self.room, (longest, self.room)
        keys, values = self.keys[layer], self.values[layer]
        if min(self.lens) + 1 == longest:
            keys[:, :, longest - 1] = key[:, :, 0]
            values[:, :, longest - 1] = value[:, :, 0]
        else:
            rows = torch.arange(len(self.lens), device=keys.device)
            at = torch.tensor(self.lens, device=keys.device)
            keys[rows, :, at] = key[:, :, 0].to(keys.dtype)
            values[rows, :, at] = value[:, :, 0].to(values.dtype)
        return keys[:, :, :longest].to(key.dtype), values[:, :, :longest].to(value.dtype)

    def seen(self) -> Tensor | None:
        """Return what the next position sees, itself included, (B, 1, 1, L + 1) booleans; None: everything."""
        longest = max(self.lens) + 1
        if min(self.lens) + 1 == longest:
            return None
        lens = torch.tensor(self.lens, device=self.keys.device)
        return (torch.arange(longest, device=self.keys.device) <= lens[:, None])[:, None, None]

    def advance(self) -> None:
        """Count the appended position."""
        self.lens = [length + 1 for length in self.lens]

    def fork(self, rows: Tensor) -> KVCache:
        """Return an independent cache with the given rows, in that order; a row may occur several times."""
        copy = object.__new__(KVCache)
        copy.keys = self.keys.index_select(1, rows)
        copy.values = self.values.index_select(1, rows)
        copy.lens = [self.lens[int(row)] for row in rows]
        return copy
