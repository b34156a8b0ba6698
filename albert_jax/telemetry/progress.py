"""The line that one watches: on a terminal it is rewritten in place, elsewhere a plain line now and then."""

import time
from collections.abc import Callable, Mapping
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from albert_jax.telemetry.tables import terminal

_LIVE_SECONDS = 0.2  # the live line is redrawn at most this often
_SMOOTHING = 0.3  # weight of the newest measurement in seconds per step


class Progress:
    """Step of total, losses and accuracies, rate, tokens/s, share of peak, time left.

    On a terminal or in a notebook one live line; where stdout is a file or a pipe, plain lines at most every
    `plain_seconds` seconds. Records other than training ones always get a line of their own.

    Args:
        total_steps: where the run ends.
        start_step: where it starts; larger than 0 after a resume, and time left counts from here.
        name: first word of the line, such as "pretrain".
        plain_seconds: least seconds between two plain lines.
        console: default is stdout.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        total_steps: int,
        start_step: int = 0,
        name: str = "train",
        plain_seconds: float = 10.0,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total, self._step, self._name = total_steps, start_step, name
        self._plain_seconds, self._clock = plain_seconds, clock
        self._console = console or terminal()
        self._scalars: Mapping[str, float] = {}
        self._seconds_per_step: float | None = None
        self._mark: tuple[int, float] | None = None  # step and time of the last measurement
        self._drawn = self._printed = float("-inf")
        self._live: Live | None = None
        if (self._console.is_terminal and not self._console.is_dumb_terminal) or self._console.is_jupyter:
            self._live = Live(_Line(self), console=self._console, auto_refresh=False)
            self._live.start(refresh=True)

    # -- what the loop calls ---------------------------------------------------------------------

    def tick(self, step: int) -> None:
        """A step has been taken; cheap enough for every step. Moves the live line only."""
        self._advance(step)
        if self._live and self._clock() - self._drawn >= _LIVE_SECONDS:
            self._draw()

    def show(self, step: int, kind: str, scalars: Mapping[str, float]) -> None:
        """New scalars of a record of this `kind`; "train" ones feed the live line."""
        if kind != "train":
            self.say(f"{self._name} {step:,}/{self._total:,} {kind} | " + " | ".join(_parts(scalars)))
            return
        self._advance(step)
        self._scalars = scalars
        if self._live:
            self._draw()
        elif self._clock() - self._printed >= self._plain_seconds or step >= self._total:
            self.say(" | ".join(self.parts()))
            self._printed = self._clock()

    def say(self, text: str) -> None:
        """Prints a line above the live one."""
        self._console.print(Text(text), soft_wrap=True)

    def close(self) -> None:
        """Leaves the last state of the live line on the screen. May be called twice."""
        if self._live:
            self._draw()
            self._live.stop()
            self._live = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- what the line says ----------------------------------------------------------------------

    @property
    def seconds_left(self) -> float | None:
        """None until two points in time are known: the first step is compilation and is not counted."""
        if self._seconds_per_step is None:
            return None
        return max(self._total - self._step, 0) * self._seconds_per_step

    def parts(self) -> list[str]:
        """The pieces of the line, most important first."""
        share = f"{self._step / self._total:.0%}" if self._total else "-"
        parts = [f"{self._name} {self._step:,}/{self._total:,} {share}", *_parts(self._scalars)]
        if self._mark is None:
            parts.append("compiling the first step")
        elif self.seconds_left is not None:
            parts.append(f"{format_seconds(self.seconds_left)} left")
        return parts

    def _advance(self, step: int) -> None:
        now = self._clock()
        if self._mark is None:
            self._mark = (step, now)
        elif step > self._mark[0] and now - self._mark[1] >= 1.0:  # a shorter interval is mostly noise
            rate = (now - self._mark[1]) / (step - self._mark[0])
            known = self._seconds_per_step
            self._seconds_per_step = rate if known is None else known + _SMOOTHING * (rate - known)
            self._mark = (step, now)
        self._step = max(self._step, step)

    def _draw(self) -> None:
        if self._live:
            self._live.refresh()
            self._drawn = self._clock()


class _Line:
    """Draws a `Progress` in the width there is: a bar, and as many parts as fit, time left first to stay."""

    def __init__(self, progress: Progress):
        self._progress = progress

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        parts, bar = self._progress.parts(), 16
        while len(parts) > 2 and len(" | ".join(parts)) + bar + 1 > options.max_width:
            if bar:
                bar = 0
            else:
                del parts[-2]
        line = Table.grid(padding=(0, 1))
        text = Text(" | ".join(parts), no_wrap=True, overflow="ellipsis")
        if bar:
            done = ProgressBar(total=max(self._progress._total, 1), completed=self._progress._step, width=bar)
            line.add_row(done, text)
        else:
            line.add_row(text)
        yield line


# Scalars in the order of the line: name, label, how it is written.
_SHOWN: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("loss", "loss", lambda value: f"{value:.4f}"),
    ("mlm_accuracy", "MLM", lambda value: f"{value:.1%}"),
    ("order_accuracy", "order", lambda value: f"{value:.1%}"),
    ("accuracy", "accuracy", lambda value: f"{value:.1%}"),
    ("f1", "entity F1", lambda value: f"{value:.3f}"),
    ("f1_micro", "micro F1", lambda value: f"{value:.3f}"),
    ("f1_macro", "macro F1", lambda value: f"{value:.3f}"),
    ("pearson", "Pearson", lambda value: f"{value:.3f}"),
    ("learning_rate", "rate", lambda value: f"{value:.2e}"),
    ("tokens_per_second", "", lambda value: f"{format_count(value)} tokens/s"),
    ("model_flops_per_second", "", lambda value: f"{format_count(value)}FLOP/s"),
    ("peak_share", "MFU", lambda value: f"{value:.0%}"),
    ("data_wait_share", "data wait", lambda value: f"{value:.0%}"),
)


def _parts(scalars: Mapping[str, float]) -> list[str]:
    return [f"{label} {write(scalars[name])}".strip() for name, label, write in _SHOWN if scalars.get(name) is not None]


def format_count(value: float) -> str:
    """830, 15.2k, 3.1M: three figures at most, for reading at a glance."""
    for limit, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            scaled = value / limit
            return f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.1f}{unit}"
    return f"{value:.0f}"


def format_seconds(seconds: float) -> str:
    """0:07, 12:34, 3:04:05 or "2d 3h" from two days on."""
    whole = round(seconds)
    if whole >= 2 * 86400:
        return f"{whole // 86400}d {whole % 86400 // 3600}h"
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
