"""Items as they arrive: from a list or a file at once, from a pipe or a generator when somebody sends them."""

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import Any

_END = object()
_LOOK_S = 0.2  # seconds between two looks of the reading thread whether anybody still wants its items


class Arrivals:
    """Hands out items in groups without waiting for those that have not come.

    Args:
      items: what to hand out.
      waits: whether asking for the next item may wait for somebody; items are then read by a thread.
      ahead: items that the thread reads before they are asked for, at most.

    Attributes:
      waited: seconds that `take` has waited for items
      error: what the iterator of the items raised, which ended them
    """

    def __init__(self, items: Iterable[Any], waits: bool, ahead: int):
        self._items: Iterator[Any] = iter(items)
        self._queue: queue.Queue[Any] | None = queue.Queue(ahead) if waits else None
        self._wanted = True
        self.error: BaseException | None = None
        self._ended = False
        self.waited = 0.0
        if waits:
            threading.Thread(target=self._read, daemon=True, name="albert_jax arrivals").start()

    def take(self, count: int, patience: float | None) -> list[Any] | None:
        """Up to `count` items that are there; waits for the first for `patience` seconds (None: until it comes).

        An empty list when none came in that time, None after the last.
        """
        found: list[Any] = []
        if self._queue is None:
            try:
                for item in islice(self._items, count):
                    found.append(item)
            except Exception as error:
                self.error = error
            return found or None
        while len(found) < count and not self._ended:
            start = time.perf_counter()
            try:
                item = self._queue.get(timeout=patience) if not found and patience != 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            finally:
                self.waited += time.perf_counter() - start
            if item is _END:
                self._ended = True
            else:
                found.append(item)
        return None if self._ended and not found else found

    def _read(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except BaseException as error:  # for whoever takes the items
            self.error = error
        self._put(_END)

    def _put(self, item: Any) -> bool:
        """Whether somebody still wants items."""
        assert self._queue is not None
        while self._wanted:
            try:
                self._queue.put(item, timeout=_LOOK_S)
                return True
            except queue.Full:
                continue
        return False

    def __enter__(self) -> "Arrivals":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wanted = False
