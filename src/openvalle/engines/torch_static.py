"""The AR model's steps by torch in memory of fixed shapes, so that CUDA graphs can take them (`captured`).

Rows have slots: 1, 2, 4, 8, 16 or more of them together, with room for 256, 512, 1024 or more positions each. Rows that
leave free theirs, rows that join take one, and all move to other slots where there are too few, twice as many as are
needed, or too little room. Free slots are computed along, and nobody looks at them. A step is then the same work for
the same number of slots and room, whichever rows hold them: keys and values are written at each row's own length, and
what lies beyond it is masked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from openvalle.engines.base import ARRows, ARScores, EngineState
from openvalle.engines.captured import Capturer, Lease, Stock
from openvalle.engines.torch import TorchAR, TorchState
from openvalle.model.ar import AR
from openvalle.model.config import ARConfig
from openvalle.model.kinds import Alignment
from openvalle.model.transformer import Mask

LEAST_ROOM = 256  # positions


@dataclass(frozen=True, eq=False)
class Memory:
    """What steps need of the positions before, row by row."""

    keys: Tensor  # (depth, rows, H, room, D / H)
    values: Tensor
    symbols: Tensor  # (rows, S, D) vectors that frames gather; S = 0 without alignment

    @classmethod
    def empty(cls, config: ARConfig, rows: int, room: int, device: torch.device) -> Memory:
        """Return room for so many rows and positions."""
        shape, symbols = config.transformer, room if config.alignment == Alignment.PHONEME else 0
        keys = torch.zeros(shape.depth, rows, shape.heads, room, shape.width // shape.heads, device=device)
        return cls(keys, torch.zeros_like(keys), keys.new_zeros(rows, symbols, shape.width))

    def copy(self, rows: Sequence[SlotPlace], to: Sequence[int]) -> None:
        """Take over rows from where they lie."""
        for memory in {id(row.memory): row.memory for row in rows}.values():
            own = [(row, place) for row, place in zip(rows, to, strict=True) if row.memory is memory]
            at = torch.tensor([row.index for row, _ in own], device=self.keys.device)
            here = torch.tensor([place for _, place in own], device=self.keys.device)
            length = max(row.length for row, _ in own)
            self.keys[:, here, :, :length] = memory.keys[:, at, :, :length]
            self.values[:, here, :, :length] = memory.values[:, at, :, :length]
            count = min(
                memory.symbols.shape[1], self.symbols.shape[1]
            )  # a text is no longer than the row that it is in
            self.symbols[here, :count] = memory.symbols[at, :count]


@dataclass(frozen=True, eq=False)
class SlotPlace:
    """Where a row lies: among those that were read, whose memory nobody changes, or in a slot."""

    memory: Memory
    index: int
    length: int  # positions
    position: int  # of the next audio input
    room: int  # positions that are asked for
    slots: Lease[Slots] | None = None  # that `memory` is in


@dataclass(frozen=True, eq=False)
class StaticState:
    """Rows, wherever they lie; they get their slots when a step is taken."""

    config: ARConfig = field(repr=False)
    rows: tuple[SlotPlace, ...]

    @torch.inference_mode()
    def fork(self, rows: np.ndarray) -> StaticState:
        chosen = [self.rows[row] for row in rows]
        moving = [row for row in chosen if row.slots is not None]  # a slot is written to, what was read is not
        if not moving:
            return replace(self, rows=tuple(chosen))
        device, longest = moving[0].memory.keys.device, max(row.length for row in moving)
        memory = Memory.empty(self.config, len(moving), longest, device)
        memory.copy(moving, range(len(moving)))
        places = iter(range(len(moving)))
        return replace(
            self,
            rows=tuple(
                row if row.slots is None else replace(row, memory=memory, index=next(places), slots=None)
                for row in chosen
            ),
        )

    def join(self, other: StaticState) -> StaticState:
        return replace(self, rows=(*self.rows, *other.rows))

    def keep(self, rows: np.ndarray) -> StaticState:
        return replace(self, rows=tuple(self.rows[row] for row in rows))


class StaticAR(TorchAR):
    """An `AREngine` over the network."""

    def __init__(self, network: AR) -> None:
        super().__init__(network)
        with torch.inference_mode():
            self.capturer = Capturer(self._device)
        self._stock = Stock(lambda count, room: Slots(network, count, room, self.capturer), lambda slots: slots.bytes)

    def prefill(self, rows: ARRows, room: int) -> tuple[ARScores, EngineState]:
        scores, state = super().prefill(rows, 0)
        assert isinstance(state, TorchState)
        cache, positions = state.inner.cache, state.inner.position.tolist()
        symbols = state.inner.symbols if self._is_aligned else state.inner.symbols[:, :0]
        memory = Memory(cache.keys, cache.values, symbols)
        places = zip(cache.lens, positions, strict=True)
        return scores, StaticState(
            self.config,
            tuple(SlotPlace(memory, row, length, at, length + room) for row, (length, at) in enumerate(places)),
        )

    @torch.inference_mode()
    def step(
        self, groups: np.ndarray, aligned: np.ndarray | None, languages: np.ndarray, state: EngineState
    ) -> tuple[ARScores, EngineState]:
        assert isinstance(state, StaticState) and (aligned is not None or not self._is_aligned)
        rows, lease = self._settle(state.rows)
        self.network.positions.check(torch.tensor([row.position for row in rows]))
        slots, at = lease.lent, [row.index for row in rows]
        given = np.zeros((slots.count, self.config.group + 4), np.int64)
        given[at, : self.config.group] = groups
        given[at, -4] = 0 if aligned is None else aligned
        given[at, -3] = languages
        given[at, -2] = [row.position for row in rows]
        given[at, -1] = [row.length for row in rows]
        with self._choose_threads():
            scores = slots.step(given)[at]
        codes = self.config.group * (self.config.codebook_size + 1)
        after = [replace(row, length=row.length + 1, position=row.position + 1) for row in rows]
        return (
            ARScores(
                scores[:, :codes].reshape(len(rows), self.config.group, -1),
                scores[:, codes:] if self._is_aligned else None,
            ),
            replace(state, rows=tuple(after)),
        )

    def _settle(self, rows: Sequence[SlotPlace]) -> tuple[list[SlotPlace], Lease[Slots]]:
        """Return the rows in slots of one kind, the fewest that hold them all, and these."""
        count, longest = _next_power(len(rows)), max(row.length for row in rows) + 1
        usual = Counter(row.slots for row in rows if row.slots is not None).most_common(1)
        lease = usual[0][0] if usual else None
        if lease is None or lease.lent.count != count or lease.lent.room < longest:
            room = max(LEAST_ROOM, longest, *(row.room for row in rows))
            lease = Lease(self._stock, count, _next_power(room))
        taken = {row.index for row in rows if row.slots is lease}
        free = iter([slot for slot in range(count) if slot not in taken])
        memory = lease.lent.memory
        settled = [
            row if row.slots is lease else replace(row, memory=memory, index=next(free), slots=lease) for row in rows
        ]
        moving = [(row, now.index) for row, now in zip(rows, settled, strict=True) if row is not now]
        memory.copy([row for row, _ in moving], [slot for _, slot in moving])
        return settled, lease

    @property
    def _is_aligned(self) -> bool:
        return self.config.alignment == Alignment.PHONEME


class Slots:
    """Memory of so many rows and positions, and the step that all of them take together."""

    def __init__(self, network: AR, count: int, room: int, capturer: Capturer) -> None:
        self.count, self.room = count, room
        device, config = capturer.device, network.config
        self.memory = Memory.empty(config, count, room, device)
        self._given = torch.zeros(count, config.group + 4, dtype=torch.int64, device=device)
        self._host = torch.zeros(self._given.shape, dtype=torch.int64, pin_memory=capturer.captures)
        self._run = capturer.capture(partial(compute_step, network, self.memory, self._given))

    @property
    def bytes(self) -> int:
        """What it holds."""
        tensors = self.memory.keys, self.memory.values, self.memory.symbols
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def step(self, given: np.ndarray) -> np.ndarray:
        """Return the scores (slots, n) after what is `given` of each slot (slots, G + 4), as `compute_step`."""
        self._host.numpy()[:] = given  # of the step before all is done: its scores were waited for
        self._given.copy_(self._host, non_blocking=True)
        return self._run().cpu().numpy()


def compute_step(network: AR, memory: Memory, given: Tensor) -> Tensor:
    """Return the scores of codes and then phonemes (slots, n) after what is given of each slot: a group of codes, its
    symbol's index, its language, its position, the row's length (slots, G + 4)."""
    *_, aligned, languages, position, lens = given.unbind(1)
    logits = network.follow(given[:, :-4], aligned, languages, position, memory.symbols, SlotCache(memory, lens))
    scores = [logits.codes, *([] if logits.phonemes is None else [logits.phonemes])]
    return torch.cat([each.flatten(1).float() for each in scores], 1)


class SlotCache:
    """A `Cache` of slots that take one position each: its place lies on the device."""

    def __init__(self, memory: Memory, lens: Tensor) -> None:
        self._memory, self._lens = memory, lens
        room = memory.keys.shape[3]
        is_seen = torch.arange(room, device=lens.device) <= lens[:, None]
        bias = memory.keys.new_zeros(len(lens), room).masked_fill(~is_seen, -torch.inf)
        self._seen = SlotMask(causal=False, bias=bias[:, None, None])

    def places(self, length: int) -> Tensor:
        assert length == 1, length
        return self._lens[:, None]

    def update(self, layer: int, key: Tensor, value: Tensor, mask: Mask) -> tuple[Tensor, Tensor, Mask]:
        keys, values = self._memory.keys[layer], self._memory.values[layer]
        at = self._lens[:, None, None, None].expand_as(key)
        keys.scatter_(2, at, key.to(keys.dtype))
        values.scatter_(2, at, value.to(values.dtype))
        return keys.to(key.dtype), values.to(value.dtype), self._seen


@dataclass(frozen=True)
class SlotMask(Mask):
    """A mask that is the same for all layers, made once."""

    bias: Tensor | None = None  # (B, 1, 1, L) 0 where a position is seen, else minus infinity

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(query.dtype)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


def _next_power(count: int) -> int:
    """Return the least power of two that is not below `count`."""
    return 1 << (count - 1).bit_length()
