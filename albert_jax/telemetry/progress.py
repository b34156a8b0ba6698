"""The line that one watches: on a terminal it is rewritten in place, elsewhere a plain line now and then.

`ProgressLine` is for whatever takes long; `Progress` is the line of training, `PrepareProgress` that of `prepare`.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from rich import progress
from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from albert_jax.telemetry.scores import KNOWN, MEASURES, Score
from albert_jax.telemetry.tables import format_seconds, terminal

_LIVE_SECONDS = 0.2  # the live line is redrawn at most this often
_PACE_SECONDS = 600.0  # the time left is estimated from the last so many: a step may take minutes on a laptop

T = TypeVar("T")


class ProgressLine(AbstractContextManager[Any]):
    """Name, how much is done, details, time left.

    On a terminal or in a notebook one live line; where the console is a file or a pipe, plain lines, the first of them
    and each next one after `plain_seconds` seconds.

    The time left counts from `done`, what was done before. `counted` shows done and total as numbers too, not only the
    share. `shown` False prints nothing at all. The default `console` is stderr.
    """

    def __init__(
        self,
        name: str,
        total: int,
        done: int = 0,
        *,
        counted: bool = True,
        shown: bool = True,
        console: Console | None = None,
        plain_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._name, self._total, self._start, self._counted, self._shown = name, total, done, counted, shown
        self._plain_seconds, self._clock = plain_seconds, clock
        self._console = console = console or Console(stderr=True)
        self._live = shown and (console.is_jupyter or (console.is_terminal and not console.is_dumb_terminal))
        self._drawn, self._next_plain, self._printed = clock(), clock() + plain_seconds, False
        self._details: Sequence[str] = ()
        # No auto_refresh: it takes a thread, and whoever works calls often enough.
        self._rich = progress.Progress(progress.RenderableColumn(self), console=console, auto_refresh=False,
                                       get_time=clock, speed_estimate_period=_PACE_SECONDS,
                                       disable=not self._live)  # fmt: skip
        self._rich.add_task(name, total=total, completed=done)
        (self._task,) = self._rich.tasks
        self._rich.start()

    def move(self, done: int, details: Sequence[str] | None = None) -> None:
        """So much is done; cheap enough for every step. Only with `details` may it print a plain line."""
        self._rich.update(self._task.id, completed=min(max(done, self.done), self._total))
        self._details = self._details if details is None else details
        now = self._clock()
        if self._live and (details or now - self._drawn >= _LIVE_SECONDS):
            self._rich.refresh()
            self._drawn = now
        # Whoever has seen a line wants to see the last one too; what ends within seconds needs none.
        due = now >= self._next_plain or (self._printed and self.done >= self._total)
        if self._shown and not self._live and details is not None and due:
            self.say(" | ".join(self.parts()))
            self._next_plain, self._printed = now + self._plain_seconds, True

    def follow(self, items: Iterable[T], size: Callable[[T], int]) -> Iterator[T]:
        """`items`, each counted with its `size` when the next is asked for."""
        for item in items:
            yield item
            self.move(self.done + size(item), ())

    def say(self, text: str) -> None:
        """Prints a line above the live one."""
        self._console.print(Text(text), soft_wrap=True)  # Text: a "[MASK]" is no markup

    def close(self) -> None:
        """Leaves the last state of the live line on the screen. May be called twice."""
        if self._live:
            self._rich.stop()
        self._live = self._shown = False

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def done(self) -> int:
        return int(self._task.completed)

    @property
    def seconds_left(self) -> float | None:
        """None until two points in time are known."""
        # rich measures from the end of the first step on, so that compiling is not taken for the pace of the rest.
        speed = self._task.speed
        return (self._total - self.done) / speed if speed else None

    def parts(self) -> list[str]:
        """The pieces of the line, most important first."""
        counts = f" {self.done:,}/{self._total:,}" if self._counted else ""
        share = f"{self.done / self._total:.0%}" if self._total else "-"
        parts = [f"{self._name}{counts} {share}", *self._details]
        if self._task.finished_time is not None:
            return [*parts, f"took {format_seconds(self._task.finished_time)}"]
        return parts if self.seconds_left is None else [*parts, f"{format_seconds(self.seconds_left)} left"]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The live line in the width of the console: a bar, and as many parts as fit."""
        parts, bar = self.parts(), [ProgressBar(max(self._total, 1), self.done, width=16)]
        while len(parts) > 2 and len(" | ".join(parts)) + 16 * len(bar) + 1 > options.max_width:
            if bar:
                bar.clear()
            else:
                del parts[-2]  # the last is the time left, which one looks for
        line = Table.grid(padding=(0, 1))
        line.add_row(*bar, Text(" | ".join(parts), no_wrap=True, overflow="ellipsis"))
        yield line


class Progress(ProgressLine):
    """The line of training on stdout: step of total, headline scores, rate, tokens/s, share of peak, time left.

    Records other than training ones always get a line of their own. `scores` are the task's; None takes those that
    this package knows. `rest` is as in `ProgressLine`.
    """

    def __init__(
        self,
        total_steps: int,
        start_step: int = 0,
        name: str = "train",
        scores: Sequence[Score] | None = None,
        **rest: Any,
    ):
        known = KNOWN.values() if scores is None else scores
        self._on_line = [*(score for score in known if score.headline), *MEASURES]
        super().__init__(name, total_steps, start_step, **{"console": terminal()} | rest)
        # The first record is a sign of life: it does not wait.
        self._next_plain = self._clock()

    def show(self, step: int, kind: str, scalars: Mapping[str, float]) -> None:
        """New scalars of a record of this `kind`; "train" ones feed the live line."""
        details = [score.on_line(scalars[score.name]) for score in self._on_line if scalars.get(score.name) is not None]
        if kind == "train":
            self.move(step, details)
        else:
            self.say(f"{self._name} {step:,}/{self._total:,} {kind} | " + " | ".join(details))

    def parts(self) -> list[str]:
        waiting = self.done == self._start < self._total
        return super().parts() + (["compiling the first step"] if waiting else [])


class PrepareProgress(ProgressLine):
    """The line of `prepare` on stderr: share done, documents, tokens a second, time left."""

    def __init__(self, size: int, shown: bool):
        """`size`: about how many characters there are to do."""
        super().__init__("prepare", max(size, 1), counted=False, shown=shown)
        self._documents = self._pieces = self._characters = 0
        self._began = time.monotonic()

    def report(self, documents: int, pieces: int, characters: int) -> None:
        """Adds what was done since the last report."""
        self._documents += documents
        self._pieces += pieces
        self._characters += characters
        rate = self._pieces / max(time.monotonic() - self._began, 1e-9)
        self.move(self._characters, [f"{self._documents:,} documents", f"{rate:,.0f} tokens/s"])

    def __exit__(self, *error: object) -> None:
        # Characters are fewer than bytes, so that the bar of a whole corpus would stop short of the end.
        if error[0] is None:
            self.move(self._total)
        self.close()


def step(name: str, shown: bool) -> AbstractContextManager[Any]:
    """Shows on stderr that a step of `prepare` is under way, if `shown`."""
    return Console(stderr=True).status(f"prepare: {name}") if shown else nullcontext()


def in_chunks(items: Sequence[Any], size: int, doing: str) -> Iterator[Sequence[Any]]:
    """`items` in slices of `size`; every five seconds that it takes, stderr tells how far `doing` is."""
    # Plain on a terminal too: a generator that is not read to its end would leave a live line open.
    console = Console(stderr=True, force_terminal=False, force_jupyter=False)
    line = ProgressLine(doing, len(items), console=console, plain_seconds=5.0)
    return line.follow((items[start : start + size] for start in range(0, len(items), size)), len)
