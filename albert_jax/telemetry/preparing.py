"""The progress line of `prepare`: share done, documents, tokens a second, time left. And of encoding a labelled set."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any


@contextlib.contextmanager
def step(name: str, shown: bool) -> Iterator[None]:
    """Shows on stderr that `name` is under way, if `shown`."""
    if not shown:
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"prepare: {name}"):
        yield


def in_chunks(items: Sequence[Any], size: int, doing: str) -> Iterator[Sequence[Any]]:
    """`items` in slices of `size`; every five seconds that it takes, stderr tells how far `doing` is."""
    told = time.monotonic()
    for start in range(0, len(items), size):
        yield items[start : start + size]
        if time.monotonic() - told > 5.0:
            told = time.monotonic()
            print(f"{doing}: {min(start + size, len(items)):,} of {len(items):,}", file=sys.stderr, flush=True)


class Progress:
    """A rich progress bar on stderr, or only its counts when `shown` is false."""

    def __init__(self, size: int, shown: bool):
        """`size`: about how many characters there are to do."""
        self.documents = 0
        self.pieces = 0
        self._characters = 0
        self._size = max(size, 1)
        self._bar: Any = None
        self._started = time.monotonic()
        if shown:
            from rich import progress
            from rich.console import Console

            self._bar = progress.Progress(
                progress.TextColumn("prepare"),
                progress.BarColumn(),
                progress.TaskProgressColumn(),
                progress.TextColumn("{task.fields[counts]}"),
                progress.TimeRemainingColumn(elapsed_when_finished=True),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("prepare", total=self._size, counts="")

    def report(self, documents: int, pieces: int, characters: int) -> None:
        """Adds what was done since the last report."""
        self.documents += documents
        self.pieces += pieces
        self._characters += characters
        if self._bar is not None:
            rate = self.pieces / max(time.monotonic() - self._started, 1e-9)
            counts = f"{self.documents:,} documents  {rate:,.0f} tokens/s"
            # Characters are fewer than bytes, so the bar may stop short of the end; never past it.
            self._bar.update(self._task, completed=min(self._characters, self._size), counts=counts)

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            if kind is None:
                self._bar.update(self._task, completed=self._size)
            self._bar.stop()
