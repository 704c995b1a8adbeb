"""Which rows make up the batch of a step: a function of (seed, step, rank) that costs O(log rows).

Rows lie in the order of their lengths, as an `Index` holds it for all ranks. A rank keeps running sums of their
weights for every `STRIDE` of them only: a weight belongs to a speaker, so those in between follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from openvalle.data.index import Index

PLASTIC = 1.324717957244746  # the real root of x**3 = x + 1
SPREAD = 1.08  # longest to anchor, and anchor to shortest: keeps padding near 5 %
STRIDE = 256  # rows between two running sums that are kept
AT_ONCE = 1 << 18  # rows that are looked at together while a rank opens an index
FEW = 1 << 16  # rows that are weighed against each other one by one; among more, they are looked up


def draw_generator(seed: int, step: int, rank: int) -> np.random.Generator:
    """Return the generator of one step on one rank: resuming needs the step number and nothing else."""
    return np.random.default_rng([seed, step, rank])


def even_point(seed: int, index: int) -> tuple[float, float]:
    """Return point `index` of a sequence of which any stretch covers the unit square evenly, shifted by the seed.

    Each coordinate goes on by a fixed step, modulo 1 (Roberts' R2). What two independent draws would meet by chance,
    some twice as often and some not at all, meets equally often, and still the point follows from its index alone.
    """
    first, second = draw_generator(seed, 0, 0).random(2)
    return float((first + index / PLASTIC) % 1), float((second + index / PLASTIC**2) % 1)


def row_weights(speakers: Sequence[str], lengths: np.ndarray, power: float, *, by_length: bool = False) -> np.ndarray:
    """Return the probability of each row, (rows,) float64: speakers count by length ** power.

    `power` 1 draws by hours, 0 gives every speaker the same share. Within a speaker rows are equally likely,
    or likely by their length.
    """
    _, speaker = np.unique(np.asarray(speakers), return_inverse=True)  # (rows,)
    total = np.bincount(speaker, lengths)  # (speakers,)
    share = total**power / np.sum(total**power)
    within = lengths / total[speaker] if by_length else 1 / np.bincount(speaker)[speaker]
    weights = share[speaker] * within
    return weights / weights.sum()


class RunningSums:
    """Running sums of `count` positive values; `values(a, b)` gives those from a to b, (b - a,) float64."""

    def __init__(self, count: int, values: Callable[[int, int], np.ndarray]) -> None:
        self.count, self._values = count, values
        self._ends = np.empty(0)  # (strides,) sum up to the end of each
        self.total = 0.0

    def add(self, values: np.ndarray) -> None:
        """Count the values that come next; all but the last time whole strides of them."""
        values[0] += self.total
        sums = np.cumsum(values)
        self.total = float(sums[-1])
        rest = sums[-1:] if len(sums) % STRIDE else sums[:0]
        self._ends = np.concatenate([self._ends, sums[STRIDE - 1 :: STRIDE], rest])

    def before(self, place: int) -> float:
        """Return the sum of the values before a place."""
        stride = place // STRIDE
        start = float(self._ends[stride - 1]) if stride else 0.0
        return start + float(self._values(stride * STRIDE, place).sum())

    def find(self, targets: np.ndarray) -> np.ndarray:
        """Return the first place at which the running sum reaches each target, (targets,) int64."""
        strides = np.minimum(np.searchsorted(self._ends, targets), len(self._ends) - 1)
        found = np.empty(len(targets), np.int64)
        for number, stride in enumerate(strides.tolist()):
            start, end = stride * STRIDE, min(self.count, (stride + 1) * STRIDE)
            part = self._values(start, end)
            part[0] += self._ends[stride - 1] if stride else 0.0
            found[number] = start + min(int(np.searchsorted(np.cumsum(part), targets[number])), end - start - 1)
        return found


class RowDraws:
    """Draws of rows of about one length, by speaker ∝ hours ** power and evenly within a speaker.

    Rows longer than `most` frames count as that long, or, with `leave_out`, not at all.
    """

    def __init__(
        self,
        index: Index,
        budget: int,
        power: float,
        most: int | None = None,
        *,
        leave_out: bool = False,
        part: np.ndarray | None = None,
        shares: Sequence[float] | None = None,
    ) -> None:
        """`budget`: frames of a batch; `part` (rows,): the folder of each row, where folders have `shares`."""
        self._speaker = index.names["speaker"].codes
        self.budget = budget
        longest = int(index.frames[index.by_length[-1]]) if len(index) else 0
        self.most = most or longest
        counts = _count(index.frames, longest)
        borders = np.concatenate([[0], np.cumsum(counts)])  # rows shorter than n frames, for each n
        if leave_out:
            borders = borders[: self.most + 2]
        self._order = index.by_length[: borders[-1]]  # (usable rows,)
        self._speaker_weights = self._weigh(index, len(borders) - 2, power, part, shares)
        cut = int(borders[min(self.most, len(borders) - 1)])
        # All rows that are cropped are of one length, and so in the order of the index.
        self._cropped, self._cut = np.sort(self._order[cut:]), cut
        borders = borders[: self.most + 2].copy()
        borders[self.most + 1 :] = len(self._order)
        self._borders = borders
        self._weights = RunningSums(len(self), self._weight)
        self._anchors = RunningSums(len(self), lambda a, b: self._weight(a, b) / self._starts(a, b))
        for start in range(0, len(self), AT_ONCE):
            end = min(len(self), start + AT_ONCE)
            weights = self._weight(start, end)  # looked up once for both
            self._anchors.add(weights / self._starts(start, end))
            self._weights.add(weights)

    def __len__(self) -> int:
        """Rows that may be drawn."""
        return len(self._order)

    def draw(self, point: float, rng: np.random.Generator, prompt: int = 0) -> list[int]:
        """Return the rows of a batch: one that `point` from [0, 1) says and others of about its length.

        Each takes `prompt` frames more. The batch is of `budget` frames at most, or of one row.
        """
        anchor = int(self._anchors.find(np.array([point * self._anchors.total]))[0])
        low, high = self._window(anchor)
        shortest = int(self._lengths(low, low + 1)[0]) + prompt
        enough = min(high - low, self.budget // shortest + 1)
        if high - low <= max(FEW, 4 * enough):
            drawn = self._weigh_out(anchor, low, high, enough, rng)
        else:
            drawn = self._look_up(anchor, low, high, enough, rng)
        longest = np.maximum.accumulate(self._find_lengths(drawn))
        fits = (longest + prompt) * np.arange(1, len(drawn) + 1) <= self.budget
        count = max(1, len(drawn) if fits.all() else int(np.argmin(fits)))
        return [int(self._row(place)) for place in drawn[:count]]

    def _weigh_out(self, anchor: int, low: int, high: int, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw places without putting any back: the k largest of log weight + Gumbel noise are such a draw of k."""
        keys = np.log(self._weight(low, high)) + rng.gumbel(size=high - low)
        keys[anchor - low] = np.inf
        largest = np.argpartition(-keys, count - 1)[:count]
        return low + largest[np.argsort(-keys[largest])]

    def _look_up(self, anchor: int, low: int, high: int, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the same way where there are many: one after the other by the running sums, those met before again."""
        start = self._weights.before(low)
        whole = self._weights.before(high) - start
        found = {anchor: None}  # in their order
        while len(found) < count:
            places = self._weights.find(start + whole * rng.random(count - len(found)))
            found |= dict.fromkeys(np.clip(places, low, high - 1).tolist())
        return np.array(list(found))

    def _weigh(
        self, index: Index, longest: int, power: float, part: np.ndarray | None, shares: Sequence[float] | None
    ) -> np.ndarray:
        """Return the weight of a row of each speaker, (speakers,) float64."""
        speakers = len(index.names["speaker"].values)
        hours, counts = np.zeros(speakers), np.zeros(speakers)
        for start in range(0, len(index), AT_ONCE):
            frames, speaker = index.frames[start : start + AT_ONCE], self._speaker[start : start + AT_ONCE]
            usable = frames <= longest  # others are left out
            hours += np.bincount(speaker[usable], frames[usable], speakers)
            counts += np.bincount(speaker[usable], minlength=speakers)
        met = np.flatnonzero(counts)
        share = hours[met] ** power
        weights = np.zeros(speakers)
        weights[met] = share / share.sum() / counts[met]
        if shares is None or part is None:
            return weights
        folder = np.zeros(speakers, np.int64)
        folder[self._speaker] = part
        total = np.bincount(folder, weights * counts, len(shares))
        scales = np.divide(shares, total, out=np.zeros(len(shares)), where=total > 0)
        return weights * scales[folder]

    def _row(self, place: int) -> int:
        return int(self._order[place] if place < self._cut else self._cropped[place - self._cut])

    def _rows(self, start: int, end: int) -> np.ndarray:
        cut = self._cut
        if end <= cut:
            return self._order[start:end]
        return np.concatenate([self._order[start:cut], self._cropped[max(0, start - cut) : end - cut]])

    def _weight(self, start: int, end: int) -> np.ndarray:
        """Return the weights of the rows at these places, (end - start,) float64."""
        return self._speaker_weights[self._speaker[self._rows(start, end)]]

    def _starts(self, start: int, end: int) -> np.ndarray:
        """Return how many rows a batch around each of the rows at these places has, (end - start,) int64.

        Long rows have fewer beside them and so start batches more often: every row is drawn as its weight says.
        """
        return np.clip(self.budget // np.maximum(self._lengths(start, end), 1), 1, len(self))

    def _find_lengths(self, places: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._borders, places, side="right") - 1

    def _lengths(self, start: int, end: int) -> np.ndarray:
        """Return the frames of the rows at these places, (end - start,) int64."""
        first, last = self._find_lengths(np.array([start, max(start, end - 1)])).tolist()
        edges = np.clip(self._borders[first : last + 2], start, end)
        return np.repeat(np.arange(first, last + 1), np.diff(edges))

    def _window(self, anchor: int) -> tuple[int, int]:
        """Return the range of places near the anchor's length; wider where a batch needs more rows."""
        frames = int(self._find_lengths(np.array([anchor]))[0])
        low, high = self._first(frames / SPREAD), self._first(np.nextafter(frames * SPREAD, np.inf))
        needed = min(len(self._order), self.budget // max(frames, 1))
        while high - low < needed:
            low, high = max(0, low - 1), min(len(self._order), high + 1)
        return low, high

    def _first(self, frames: float) -> int:
        """Return the first place of a row of at least so many frames."""
        return int(self._borders[min(int(np.ceil(frames)), len(self._borders) - 1)])


def _count(frames: np.ndarray, longest: int) -> np.ndarray:
    """Return how many rows have each number of frames, (longest + 1,)."""
    counts = np.zeros(longest + 1, np.int64)
    for start in range(0, len(frames), AT_ONCE):
        counts += np.bincount(frames[start : start + AT_ONCE], minlength=longest + 1)
    return counts
