"""Batches of examples on Grain, whose position is one number.

Batch k holds the examples at positions k * batch_size .. (k + 1) * batch_size - 1 of a sequence that is endless or
ends after some epochs, and each example is a function of the seed and its position. So the position of a run is the
number of its next batch: it is restored by arithmetic, on any number of processes and workers, and no example is made
twice.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grain
import numpy as np
from absl import flags

from albert_jax.data.examples import draws
from albert_jax.data.examples.buckets import Buckets
from albert_jax.errors import AlbertError, refuse

Batch = dict[str, np.ndarray]

ENDLESS = 1 << 62  # batches of a loader without an end
READ_AHEAD = 4  # batches made before they are asked for, in each process or worker


class Source(Protocol):
    """What a `Loader` reads: examples as a function of (seed, index). `PretrainingSource` is one."""

    @property
    def weights(self) -> tuple[str, ...]: ...  # fields that become 0 in rows which only fill up the last batch

    @property
    def fingerprint(self) -> str: ...  # digest of what the examples are made from; a saved position belongs to it

    def __len__(self) -> int: ...  # examples of one epoch

    def example(self, seed: int, index: int, place: int | None = None) -> Mapping[str, Any]:
        """Arrays or numbers; `index` counts on over epochs. `place`: how many examples of the sequence came before the
        batch, for what changes during a run; None: after all changes."""
        ...


class SizedSource(Protocol):
    """A `Source` whose examples differ in length, so that short ones can be put into shorter rows."""

    @property
    def weights(self) -> tuple[str, ...]: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def lengths(self) -> np.ndarray: ...  # int [examples], pieces of each
    @property
    def max_length(self) -> int: ...  # of the longest rows
    def __len__(self) -> int: ...
    def example(
        self, seed: int, index: int, place: int | None = None, length: int | None = None
    ) -> Mapping[str, Any]: ...  # padded to `length`


@dataclass(frozen=True)
class _Batches:
    """This process's rows of batch k, as a function of k; all that a worker process is sent."""

    source: Source | SizedSource
    batch_size: int
    seed: int
    shuffle: bool
    total: int  # examples of the sequence
    rows: tuple[int, ...]  # of every batch, those that are this process's
    buckets: Buckets | None  # None: all examples in rows of one length

    def __call__(self, number: int) -> Batch:
        positions = number * self.batch_size + np.array(self.rows, np.int64)
        real = positions < self.total
        # Rows past the end repeat the last example with weight 0: all batches have one shape, so one compiled program.
        indices = self._indices(np.minimum(positions, self.total - 1))
        # One place for all rows, whichever process makes them: the rows of a batch have one length.
        options = {"length": self._row_length(number)} if self.buckets else {"place": number * self.batch_size}
        rows = [self.source.example(self.seed, index, **options) for index in indices.tolist()]
        batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        batch["example_weight"] = real.astype(np.float32)
        if not real.all():
            for name in self.source.weights:
                batch[name][~real] = 0
        return batch

    def _indices(self, positions: np.ndarray) -> np.ndarray:
        """The example at each position of the sequence: int64 [n] to int64 [n], one to one in every epoch."""
        size = len(self.source)
        epochs, places = np.divmod(positions, size)
        if self.buckets and self.shuffle:
            orders = {epoch: self.buckets.shuffled(self.seed, epoch, self.batch_size) for epoch in set(epochs.tolist())}
            return positions - places + [orders[e][p] for e, p in zip(epochs.tolist(), places.tolist(), strict=True)]
        if self.buckets:
            return positions - places + self.buckets.descending[places]
        if not self.shuffle:
            return positions
        keys = [draws.key(self.seed, draws.ORDER, epoch) for epoch in epochs.tolist()]
        return epochs * size + draws.shuffled(places, size, np.array(keys, np.uint64))

    def _row_length(self, number: int) -> int:
        # Of the whole batch: every process must come to the same, whichever rows are its own.
        assert self.buckets
        positions = np.minimum(number * self.batch_size + np.arange(self.batch_size), self.total - 1)
        return self.buckets.row_length(self._indices(positions) % len(self.source))


class Loader:
    """Iterates over batches: dicts of arrays [rows, ...], with `example_weight` float32 [rows] added.

    The global batch is the same whatever the process count: each process makes the rows of it that its devices hold. A
    finite sequence ends with a batch that is filled up by rows whose `example_weight` and `source.weights` are 0. Every
    process sees the same number of batches.

    A loader is an iterator: another `for` goes on where the last one stopped; `rewind` starts it over.

    Raises AlbertError for an empty source, a row outside the batch, or a number that is too small.
    """

    def __init__(
        self,
        source: Source | SizedSource,
        batch_size: int,  # of the global batch
        seed: int = 0,  # of the order and of the examples
        shuffle: bool = True,  # every epoch in an order of its own; without it, in the source's order
        epochs: int | None = None,  # how often each example comes; None for no end
        worker_count: int = 0,  # processes that make batches; 0 makes them in a thread of this one
        rows: Sequence[int] | None = None,  # which rows of every batch to make; None for all
        row_lengths: Sequence[int] = (),  # that rows of a `SizedSource` are padded to, ascending; none: to max_length
    ) -> None:
        rows = tuple(range(batch_size)) if rows is None else tuple(rows)
        refuse(_flaws(source, batch_size, epochs, worker_count, rows))
        total = ENDLESS if epochs is None else epochs * len(source)
        self.buckets = self._buckets(source, tuple(row_lengths))
        self._batches = _Batches(source, batch_size, seed, shuffle, total, rows, self.buckets)
        self._end = ENDLESS if epochs is None else -(-total // batch_size)
        self._worker_count = worker_count
        self._next = 0
        self._iterator: grain.DatasetIterator | None = None
        # What decides which examples a batch number stands for. Processes, workers and rows may change between saving
        # a position and restoring it.
        counts = {"examples": len(source), "batch_size": batch_size, "seed": seed, "shuffle": shuffle}
        self._stream = {"source": source.fingerprint, **counts}
        if self.buckets:
            self._stream["row_lengths"] = list(self.buckets.row_lengths)

    @staticmethod
    def _buckets(source: Any, row_lengths: tuple[int, ...]) -> Buckets | None:
        # Without buckets where there is nothing to choose, so that batches are quite at random.
        if not row_lengths or row_lengths == (source.max_length,):
            return None
        return Buckets(source.lengths, row_lengths)

    @property
    def order(self) -> np.ndarray | None:
        """Where a pass without shuffling is by length, the example at each of its positions: int64 [examples]."""
        return self.buckets.descending if self.buckets and not self._batches.shuffle else None

    def padding(self) -> float:
        """Pieces that the first epoch computes for each real one, where rows are padded by length."""
        assert self.buckets
        batches, size = self._batches, self.examples
        by_length = self.buckets.descending
        order = self.buckets.shuffled(batches.seed, 0, batches.batch_size) if batches.shuffle else by_length
        rows = min(batches.batch_size, size)
        whole = order[: size // rows * rows].reshape(-1, rows)
        computed = sum(rows * self.buckets.row_length(examples) for examples in whole)
        return computed / int(self.buckets.lengths[whole].sum())

    def __len__(self) -> int:
        """Batches from the first to the end. Raises AlbertError where there is no end."""
        if self._end == ENDLESS:
            raise AlbertError("this loader has no end; give it a number of epochs")
        return self._end

    @property
    def examples(self) -> int:
        """Examples of an epoch."""
        return len(self._batches.source)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._next >= self._end:
            self.close()
            raise StopIteration
        if self._iterator is None:
            self._iterator = self._start()
        batch = next(self._iterator)
        self._next += 1
        if self._worker_count:
            # A copy, because what a worker sends lies in shared memory that ends with its last reference.
            batch = {name: np.array(values) for name, values in batch.items()}
        return batch

    def _start(self) -> grain.DatasetIterator:
        # One thread: examples are made in Python, which runs one thread at a time.
        ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=READ_AHEAD)
        dataset = grain.MapDataset.range(self._next, self._end).map(self._batches).to_iter_dataset(ahead)
        if self._worker_count:
            flags.FLAGS.mark_as_parsed()  # Grain reads absl flags when it starts workers; we parse none
            workers = min(self._worker_count, self._end - self._next)
            dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(workers, per_worker_buffer_size=READ_AHEAD))
        return iter(dataset)

    def get_state(self) -> dict[str, Any]:
        """The position, as JSON: the number of the next batch, and which sequence it counts in."""
        # Our own count and not Grain's state, which would also hold the workers and what they have read ahead.
        return {"next_batch": self._next, "stream": dict(self._stream)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes to a saved position, without a replay. Raises AlbertError for a position of another sequence."""
        refuse(
            "the saved data position belongs to another sequence: "
            f"{'the training examples' if name == 'source' else name} changed from {saved!r} to {value!r}; "
            "set that back, or start in a new workdir"
            for name, value in self._stream.items()
            if (saved := state["stream"].get(name)) != value
        )
        self.close()
        self._next = int(state["next_batch"])

    def rewind(self) -> "Loader":
        """Back to the first batch; `for batch in loader.rewind()` is one whole pass of a finite loader."""
        self.close()
        self._next = 0
        return self

    def close(self) -> None:
        """Ends the reading ahead. The position stays, and iterating goes on from it."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None


def _flaws(
    source: Source, batch_size: int, epochs: int | None, worker_count: int, rows: tuple[int, ...]
) -> Iterator[str]:
    if not len(source):
        yield "there are no examples to load: the split is empty; choose another split or prepare more text"
    if batch_size < 1:
        yield f"batch_size is {batch_size}; it must be at least 1"
    if not rows or min(rows) < 0 or max(rows) >= batch_size:
        yield f"rows {min(rows, default=0)} to {max(rows, default=0)} are not in a batch of {batch_size}"
    if worker_count < 0 or (epochs is not None and epochs < 1):
        yield f"worker_count={worker_count}, epochs={epochs}: give 0 or more workers and 1 or more epochs"
