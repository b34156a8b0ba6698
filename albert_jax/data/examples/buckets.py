"""Rows of a few lengths in the place of one: examples of about one length stand in a batch together and are padded to a
row length that holds the longest of them. A program is compiled for each row length, so there are few.

    pieces of examples    9 30 12 14 28 11       in batches of two rows, padded to 32
    arranged             30 28 | 9 12 | 14 11    padded to 32, 16 and 16
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from albert_jax.data.examples import draws

LEAST_LENGTH = 16  # S of the shortest rows; shorter ones would hardly be faster
_WORTH = 1.05  # one length more has to save a twentieth of all pieces, or the time to compile it is not paid back


def steps(longest: int) -> list[int]:
    """Row lengths up to `longest`, which is the last: 16, 24, 32, then four to a doubling, so that from 32 on at most a
    fifth of a row is padding."""
    quarters = (LEAST_LENGTH // 2 << n for n in range(14))
    found = [LEAST_LENGTH, 3 * LEAST_LENGTH // 2, *(count * quarter for quarter in quarters for count in (4, 5, 6, 7))]
    return [*(length for length in found if length < longest), longest]


def choose(lengths: np.ndarray, longest: int, most: int) -> tuple[int, ...]:
    """Of `steps(longest)`, at most `most` that hold examples of `lengths` pieces with least padding, ascending; fewer
    where more would save little."""
    offered = np.array(steps(longest))
    counts = np.bincount(np.searchsorted(offered, lengths), minlength=len(offered))
    last = int(np.flatnonzero(counts).max())
    below = np.concatenate([[0], np.cumsum(counts)])  # examples of the lengths before each
    # cheapest[i] = (pieces of all examples up to offered[i], padded to at most so many lengths of which it is one, and
    # these lengths).
    cheapest: list[tuple[int, tuple[int, ...]]]
    cheapest = [(int(below[i + 1] * offered[i]), (int(offered[i]),)) for i in range(last + 1)]
    found = [cheapest[last]]
    for _ in range(most - 1):
        more = []
        for i, alone in enumerate(cheapest):
            with_others = [
                (pieces + int((below[i + 1] - below[j + 1]) * offered[i]), (*taken, int(offered[i])))
                for j, (pieces, taken) in enumerate(cheapest[:i])
            ]
            more.append(min([alone, *with_others]))
        cheapest = more
        found.append(cheapest[last])
    return next(taken for pieces, taken in found if pieces <= _WORTH * found[-1][0])


@dataclass(frozen=True)
class Buckets:
    """How the examples of a source are put into batches by length, a function of (seed, epoch)."""

    lengths: np.ndarray  # int [examples], pieces of each
    row_lengths: tuple[int, ...]  # that rows are padded to, ascending
    _known: dict[tuple[int, int], np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def row_length(self, examples: np.ndarray) -> int:
        """What a batch of these examples is padded to."""
        return self.row_lengths[int(np.searchsorted(self.row_lengths, self.lengths[examples].max()))]

    @cached_property
    def descending(self) -> np.ndarray:
        """The example at each position of a pass from long to short, int64 [examples]; the order stays within a row
        length. So the batch that is filled up has the shortest rows."""
        return np.argsort(-self._bucket, kind="stable")

    @cached_property
    def _bucket(self) -> np.ndarray:
        return np.searchsorted(self.row_lengths, self.lengths)

    def shuffled(self, seed: int, epoch: int, batch_size: int) -> np.ndarray:
        """The example at each position of an epoch, each once: int64 [examples]."""
        known = self._known
        if (seed, epoch) not in known:
            if len(known) >= 2:  # a batch may lie in two epochs
                del known[min(known)]
            known[seed, epoch] = self._shuffled(seed, epoch, batch_size)
        return known[seed, epoch]

    def _shuffled(self, seed: int, epoch: int, batch_size: int) -> np.ndarray:
        size = len(self.lengths)
        order = _permutation(size, seed, epoch)
        order = order[np.argsort(self._bucket[order], kind="stable")]  # by row length, random within each
        # Batches are cut across epochs. The examples on either side of such a cut are taken from one place in the
        # order of lengths, or the batch would have rows of every length.
        head = min(-epoch * size % batch_size, size)
        order, first = _taken(order, head, seed, epoch)
        order, last = _taken(order, (size - head) % batch_size, seed, epoch + 1)
        batches = order.reshape(-1, batch_size)
        batches = batches[_permutation(len(batches), seed, epoch, 1)]
        return np.concatenate([first, batches.reshape(-1), last])


def _permutation(size: int, seed: int, *epoch: int) -> np.ndarray:
    keys = np.full(size, draws.key(seed, draws.ORDER, *epoch), np.uint64)
    return draws.shuffled(np.arange(size), size, keys) if size else np.zeros(0, np.int64)


def _taken(order: np.ndarray, count: int, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """`order` without `count` examples in a row, and these; where they stand is drawn for the beginning of `epoch`."""
    start = int(draws.Draws(seed, draws.ORDER, epoch, 2).uniform() * (len(order) - count + 1))
    chosen = slice(start, start + count)
    return np.delete(order, chosen), order[chosen]
