"""Batches of examples on Grain, whose position is one number.

Batch k holds batch_size examples of an endless (or finite) sequence, from place k * batch_size on, and each
is a function of the seed and its place. So the position of a run is the number of the next batch: saved as
such, it is restored by arithmetic, on any number of processes and workers, with no example made twice.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grain
import numpy as np
from absl import flags

from albert_jax.data.examples import draws
from albert_jax.errors import AlbertError

Batch = dict[str, np.ndarray]

ENDLESS = 1 << 62  # batches of a loader without an end
READ_AHEAD = 4  # batches made before they are asked for, in each process or worker


class ExampleSource(Protocol):
    """Examples drawn for (seed, index); index counts on from epoch to epoch (`PretrainingSource` is one)."""

    def __len__(self) -> int: ...

    def example(self, seed: int, index: int) -> Mapping[str, Any]: ...


class ExampleList(Protocol):
    """Examples that are the same in every epoch: any list of dicts of arrays or numbers."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class _Batches:
    """This process's rows of batch k, as a function of k; all that a worker process is sent."""

    source: ExampleSource | ExampleList
    batch_size: int
    seed: int
    shuffle: bool
    examples: int | None  # where the sequence ends
    rows: tuple[int, ...]  # of every batch, those that are this process's

    def __call__(self, number: int) -> Batch:
        places = number * self.batch_size + np.array(self.rows, np.int64)
        real = np.ones(len(places), bool) if self.examples is None else places < self.examples
        if self.examples is not None:  # rows past the end repeat the last example, and weigh nothing
            places = np.minimum(places, self.examples - 1)
        indices = self._indices(places).tolist()
        if hasattr(self.source, "example"):
            rows = [self.source.example(self.seed, index) for index in indices]
        else:
            rows = [self.source[index % len(self.source)] for index in indices]
        batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        batch["example_weight"] = np.ones(len(rows), np.float32)
        for name in batch:
            if not real.all() and name.endswith(("_weight", "_weights")):
                batch[name][~real] = 0
        return batch

    def _indices(self, places: np.ndarray) -> np.ndarray:
        """The example at each place of the sequence: int64 [n] to int64 [n], one to one in every epoch."""
        if not self.shuffle:
            return places
        size = len(self.source)
        epochs, places = np.divmod(places, size)
        keys = [draws.key(self.seed, draws.ORDER, epoch) for epoch in epochs.tolist()]
        return epochs * size + draws.shuffled(places, size, np.array(keys, np.uint64))


class Loader:
    """Iterates over batches: dicts of arrays [rows, ...], with `example_weight` float32 [rows] added.

    The global batch is the same whatever the process count: each process makes the rows of it that its devices hold. A
    finite sequence ends with a batch filled up by rows that count for nothing: `example_weight`
    and every field named *_weight or *_weights are 0 there. Every process sees the same number of batches.

    A loader is an iterator: it goes on where it stands, in another `for` too; `rewind` starts it over.

    Args:
        source: examples by (seed, index), or a list of dicts.
        batch_size: examples of a global batch.
        seed: of the order and of the examples.
        shuffle: every epoch in an order of its own; without it, in the source's order.
        epochs: how often each example comes; None for no end.
        worker_count: processes that make batches; 0 makes them in a thread of this one.
        rows: which rows of every batch to make; None for all.

    Raises:
        AlbertError: an empty source, a row outside the batch, or a foreign state.
    """

    def __init__(
        self,
        source: ExampleSource | ExampleList,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        epochs: int | None = None,
        worker_count: int = 0,
        rows: Sequence[int] | None = None,
    ) -> None:
        if not len(source):
            raise AlbertError(
                "there are no examples to load: the split is empty; choose another split or prepare more text"
            )
        if batch_size < 1:
            raise AlbertError(f"batch_size is {batch_size}; it must be at least 1")
        rows = tuple(range(batch_size)) if rows is None else tuple(rows)
        if not rows or min(rows) < 0 or max(rows) >= batch_size:
            least, greatest = min(rows, default=0), max(rows, default=0)
            raise AlbertError(f"rows {least} to {greatest} are not in a batch of {batch_size}")
        if worker_count < 0 or (epochs is not None and epochs < 1):
            raise AlbertError(
                f"worker_count={worker_count}, epochs={epochs}: give 0 or more workers and 1 or more epochs"
            )
        examples = None if epochs is None else epochs * len(source)
        self._batches = _Batches(source, batch_size, seed, shuffle, examples, rows)
        self._end = ENDLESS if examples is None else -(-examples // batch_size)
        self._worker_count = worker_count
        self._next = 0
        self._iterator: grain.DatasetIterator | None = None
        self._stream = {
            "source": getattr(source, "fingerprint", ""),
            "examples": len(source),
            "batch_size": batch_size,
            "seed": seed,
            "shuffle": shuffle,
        }

    def __len__(self) -> int:
        """Batches from the first to the end; raises AlbertError where there is no end."""
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
        if self._worker_count:  # a copy: what a worker sends lies in shared memory that ends with its last reference
            batch = {name: np.array(values) for name, values in batch.items()}
        return batch

    def _start(self) -> grain.DatasetIterator:
        batches = grain.MapDataset.range(self._next, self._end).map(self._batches)
        # One thread: examples are made in Python, which runs one thread at a time.
        ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=READ_AHEAD)
        dataset = batches.to_iter_dataset(ahead)
        if self._worker_count:
            flags.FLAGS.mark_as_parsed()  # Grain reads absl flags when it starts workers; we parse none
            workers = min(self._worker_count, self._end - self._next)
            dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(workers, per_worker_buffer_size=READ_AHEAD))
        return iter(dataset)

    def get_state(self) -> dict[str, Any]:
        """The position, as JSON: the number of the next batch, and which sequence it counts in."""
        return {"next_batch": self._next, "stream": dict(self._stream)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes to a saved position, whatever the process and worker counts then and now; no replay."""
        for name, value in self._stream.items():
            saved = state["stream"].get(name)
            if saved != value:
                what = "the training examples" if name == "source" else name
                raise AlbertError(
                    f"the saved data position belongs to another sequence: {what} changed from {saved!r} to {value!r}; "
                    "set that back, or start in a new workdir"
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
