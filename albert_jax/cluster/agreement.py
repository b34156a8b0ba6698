"""What the processes of a run compare: that they run one experiment on one workdir, each on rows of its own, and which
host the others wait for. With one process nothing here does anything.

Every function is a collective: all processes call it, in the same order. They run at the start and when a record is
logged, never between two steps.
"""

import hashlib
import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from albert_jax.errors import AlbertError

_SLOW = 1.5  # times the median host's time outside its devices ...
_FELT = 0.05  # ... and this share of a step more than it: then the others wait for the host
_HICCUP = 1.0  # a single step this many mean steps longer outside the devices than on the median host


def gather(text: str) -> list[str]:
    """A text of every process, by process."""
    if jax.process_count() == 1:
        return [text]
    data = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(data.size))
    padded = np.zeros(max(sizes.max(), 1), np.uint8)
    padded[: data.size] = data
    rows = multihost_utils.process_allgather(padded)
    return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]


def check_equal(what: str, values: Mapping[str, Any], remedy: str) -> None:
    """Raises AlbertError in every process when `values`, name to what JSON holds, are not the same in all: it names
    `what`, each name, both processes and both values."""
    if jax.process_count() == 1:
        return
    text = json.dumps(values, sort_keys=True)
    digests = multihost_utils.process_allgather(_digest(text.encode()))
    if (digests == digests[0]).all():
        return
    everyone = [json.loads(told) for told in gather(text)]
    hosts = gather(socket.gethostname())
    found = _differing(everyone, hosts)
    raise AlbertError(f"the processes have {what}: {'; '.join(found[:4])}{'; ...' if len(found) > 4 else ''}; {remedy}")


def _differing(everyone: Sequence[Mapping[str, Any]], hosts: Sequence[str]) -> list[str]:
    """A clause for each name whose value is not the same everywhere, with the first process that differs from 0."""
    found = []
    for name in sorted({name for values in everyone for name in values}):
        values = [json.dumps(values.get(name), ensure_ascii=False) for values in everyone]
        other = next((number for number, value in enumerate(values) if value != values[0]), None)
        if other is not None:
            here, there = (
                f"{values[0]} in process 0 ({hosts[0]})",
                f"{values[other]} in process {other} ({hosts[other]})",
            )
            found.append(f"{name} is {here} and {there}")
    return found


def check_rows(batch: Mapping[str, np.ndarray], rows: Sequence[int]) -> None:
    """Raises AlbertError in every process when two that hold different rows of the global batch have made the same
    examples, or two that hold the same rows different ones."""
    if jax.process_count() == 1:
        return
    data = _digest(*(np.ascontiguousarray(batch[name]).tobytes() for name in sorted(batch)))
    place = _digest(np.asarray(rows, np.int64).tobytes())
    compare_rows(multihost_utils.process_allgather(data), multihost_utils.process_allgather(place))


def compare_rows(data: np.ndarray, places: np.ndarray) -> None:
    """The same from every process's digest of its first batch and of its row numbers, both [processes, bytes]."""
    for second in range(len(data)):
        for first in range(second):
            same_data = bool((data[first] == data[second]).all())
            if same_data == bool((places[first] == places[second]).all()):
                continue
            if same_data:
                raise AlbertError(
                    f"processes {first} and {second} hold different rows of the batch and made the same examples: the "
                    "data is not divided over processes; the task's train_batches must make the rows that it is given"
                )
            raise AlbertError(
                f"processes {first} and {second} hold the same rows of the batch and made different examples: their "
                "data differs; give all processes the same prepared files"
            )


def barrier(name: str) -> None:
    """Returns when all processes are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def slow_hosts(seconds_per_step: float, host_seconds: Mapping[str, float]) -> list[str]:
    """Sentences about hosts that the others wait for, usually none; the same in every process.

    Processes leave a step together, so its length tells nothing about one of them: what differs is the time that each
    spends outside its devices (waiting for data, Python), the "mean" and "longest" of a step in `host_seconds`.
    """
    if jax.process_count() == 1:
        return []
    own = np.array([seconds_per_step, host_seconds["mean"], host_seconds["longest"]], np.float32)
    seconds = multihost_utils.process_allgather(own)
    found = outliers(*seconds.T)
    if not found:
        return []
    hosts = gather(socket.gethostname())
    return [f"step times: host {hosts[process]} (process {process}) {what}" for process, what in found]


def outliers(step: np.ndarray, mean: np.ndarray, longest: np.ndarray) -> list[tuple[int, str]]:
    """(process, what is slow about it), from each process's seconds: of a step, and of it outside the devices, on
    average and in the longest one; all [processes]."""
    found = []
    usual, usual_longest, length = np.median(mean), np.median(longest), np.median(step)
    for process in np.argsort(-mean):
        if mean[process] > _SLOW * usual and mean[process] - usual > _FELT * length:
            found.append((int(process), _told(mean[process], usual, "of every step")))
        elif longest[process] - usual_longest > _HICCUP * length:
            found.append((int(process), _told(longest[process], usual_longest, "of one step")))
    return found


def _told(seconds: float, median: float, when: str) -> str:
    times = f"{seconds / median:.1f} x the median" if median > 1e-6 else "the median is 0 s"
    return f"spends {seconds:.2g} s {when} outside its devices, {times}; the others wait for it"


def _digest(*parts: bytes) -> np.ndarray:
    """SHA-256, uint8 [32]."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "little"))
        whole.update(part)
    return np.frombuffer(whole.digest(), np.uint8)
