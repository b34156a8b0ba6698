"""What the processes of a run compare: that they run one experiment on one workdir, each on rows of its own, and which
host the others wait for. With one process nothing here does anything.

Every function is a collective: all processes call it, in the same order. They run at the start and when a record is
logged, never between two steps.
"""

import hashlib
import itertools
import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from albert_jax.errors import AlbertError

# A host is slow when its time outside its devices is _SLOW times that of the median host and exceeds it by this share
# of a step. The share keeps hosts quiet that take 3 ms instead of 1 ms in a step of a second.
_SLOW, _SLOW_SHARE = 1.5, 0.05
_HICCUP = 1.0  # or when a single step was longer outside its devices than on the median host by so many mean steps


def gather(text: str) -> list[str]:
    """A text of every process, by process."""
    if jax.process_count() == 1:
        return [text]
    data = np.frombuffer(text.encode(), np.uint8)
    # Arrays of one shape are all that can be gathered: first the sizes, then the texts padded to the longest.
    sizes = multihost_utils.process_allgather(np.int32(data.size))
    padded = np.zeros(max(sizes.max(), 1), np.uint8)
    padded[: data.size] = data
    rows = multihost_utils.process_allgather(padded)
    return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]


def check_equal(what: str, values: Mapping[str, Any], remedy: str) -> None:
    """Raises AlbertError in every process when `values`, name to JSON value, are not the same in all: it names `what`,
    each name, both processes and both values."""
    if jax.process_count() == 1:
        return
    text = json.dumps(values, sort_keys=True)
    # 32 bytes cross the network where all agree, which is nearly always.
    digests = multihost_utils.process_allgather(_digest(text.encode()))
    if (digests == digests[0]).all():
        return
    everyone, hosts = [json.loads(each) for each in gather(text)], gather(socket.gethostname())
    clauses = []
    for name in sorted({name for each in everyone for name in each}):
        found = [json.dumps(each.get(name), ensure_ascii=False) for each in everyone]
        # Of those that differ from process 0, the first.
        other = next((process for process, value in enumerate(found) if value != found[0]), None)
        if other is not None:
            both = (f"{found[process]} in process {process} ({hosts[process]})" for process in (0, other))
            clauses.append(f"{name} is {' and '.join(both)}")
    more = "; ..." if len(clauses) > 4 else ""
    raise AlbertError(f"the processes have {what}: {'; '.join(clauses[:4])}{more}; {remedy}")


def check_rows(batch: Mapping[str, np.ndarray], rows: Sequence[int]) -> None:
    """Raises AlbertError in every process when two that hold different rows of the global batch have made the same
    examples, or two that hold the same rows different ones."""
    if jax.process_count() == 1:
        return
    examples = _digest(*(np.ascontiguousarray(batch[name]).tobytes() for name in sorted(batch)))
    numbers = _digest(np.asarray(rows, np.int64).tobytes())
    compare_rows(multihost_utils.process_allgather(examples), multihost_utils.process_allgather(numbers))


def compare_rows(examples: np.ndarray, rows: np.ndarray) -> None:
    """`check_rows` on every process's digest of its first batch and of its row numbers, both [processes, bytes]."""
    for first, second in itertools.combinations(range(len(examples)), 2):
        same_examples = np.array_equal(examples[first], examples[second])
        same_rows = np.array_equal(rows[first], rows[second])
        # Processes along the tensor axis share their rows, so the same examples alone are no fault.
        if same_examples and not same_rows:
            raise AlbertError(
                f"processes {first} and {second} hold different rows of the batch and made the same examples: the "
                "data is not divided over processes; the task's train_batches must make the rows that it is given"
            )
        if same_rows and not same_examples:
            raise AlbertError(
                f"processes {first} and {second} hold the same rows of the batch and made different examples: their "
                "data differs; give all processes the same prepared files"
            )


def of_first(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those of process 0, in every process; names and shapes are the same in all."""
    if jax.process_count() == 1:
        return values
    first: dict[str, np.ndarray] = multihost_utils.broadcast_one_to_all(values)
    return first


def barrier(name: str) -> None:
    """Returns when all processes have come to the barrier of that name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def slow_hosts(seconds_per_step: float, host_seconds: Mapping[str, float]) -> list[str]:
    """Sentences about hosts that the others wait for, usually none; the same in every process.

    `host_seconds` holds the "mean" and the "longest" time of a step that this process spends outside its devices.
    """
    if jax.process_count() == 1:
        return []
    # Not the length of a step: processes leave a step together, so all have the same. What differs is what each does
    # outside its devices: waiting for data, Python.
    own = np.array([seconds_per_step, host_seconds["mean"], host_seconds["longest"]], np.float32)
    found = outliers(*multihost_utils.process_allgather(own).T)
    if not found:
        return []
    hosts = gather(socket.gethostname())
    return [f"step times: host {hosts[process]} (process {process}) {what}" for process, what in found]


def outliers(step: np.ndarray, mean: np.ndarray, longest: np.ndarray) -> list[tuple[int, str]]:
    """(process, what is slow about it), from each process's seconds: of a step, and of it outside the devices, on
    average and in the longest one; all [processes]."""
    found = []
    length, usual, usual_longest = np.median(step), np.median(mean), np.median(longest)
    for process in map(int, np.argsort(-mean)):
        if mean[process] > _SLOW * usual and mean[process] - usual > _SLOW_SHARE * length:
            found.append((process, _sentence(mean[process], usual, "of every step")))
        elif longest[process] - usual_longest > _HICCUP * length:
            found.append((process, _sentence(longest[process], usual_longest, "of one step")))
    return found


def _sentence(seconds: float, median: float, when: str) -> str:
    times = f"{seconds / median:.1f} x the median" if median > 1e-6 else "the median is 0 s"
    return f"spends {seconds:.2g} s {when} outside its devices, {times}; the others wait for it"


def _digest(*parts: bytes) -> np.ndarray:
    """SHA-256, uint8 [32]."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "little"))  # or parts that are cut elsewhere would have the same digest
        whole.update(part)
    return np.frombuffer(whole.digest(), np.uint8)
