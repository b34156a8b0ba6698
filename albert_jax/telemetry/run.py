"""What a run reports while it goes: the progress line, metrics.jsonl, TensorBoard, W&B, a profile.

The sinks are in `sinks.py`, the format of the records is in `records.py`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from albert_jax.fields import knob
from albert_jax.telemetry import sinks
from albert_jax.telemetry.progress import Progress
from albert_jax.telemetry.records import to_numbers
from albert_jax.telemetry.scores import Score
from albert_jax.telemetry.watch import CollapseWatch


@dataclass(frozen=True)
class TelemetryConfig:
    """What is recorded and where; nothing here can change what is learned."""

    log_every: int = knob(50, at_least=1)  # steps between two training records
    plain_seconds: float = knob(10.0, at_least=0)  # least seconds between two lines where stdout is not a terminal
    tensorboard: bool = True  # event files in WORKDIR/tensorboard; off, and reported once, without tensorboardX
    wandb: bool = False  # also send scalars to Weights & Biases (the wandb package, logged in)
    wandb_project: str = "albert_jax"  # project that the W&B run appears in
    profile_from: int = knob(0, at_least=0)  # step after which a jax.profiler trace starts; 0 = no trace
    profile_steps: int = knob(5, at_least=1)  # steps in the trace, written to WORKDIR/profile

    def build(
        self, workdir: str | Path, total_steps: int, start_step: int | None = None, *, enabled: bool = True, **rest: Any
    ) -> "Telemetry":
        """`Telemetry(workdir, self, ...)` with `rest` as its keyword arguments; a silent one where not `enabled`."""
        # One of several processes reports. No method runs a collective, so they may differ in it.
        return Telemetry(workdir, self, total_steps, start_step, **rest) if enabled else NullTelemetry()


class Telemetry(AbstractContextManager["Telemetry"]):
    """The one thing that the loop reports to.

    Args:
        workdir: directory of the run; made when missing.
        config: see `TelemetryConfig`.
        total_steps: where the run ends, for time left.
        start_step: step of the state that training continues from: records of later steps are dropped.
            0 is a fresh start and drops all. None appends and drops nothing.
        name: first word of the progress line.
        scores: of the task, for the progress line; None takes those that this package knows.
        watch: is fed the training records; its sentences become events.
        experiment: the configuration, shown by W&B.
        progress: replaces the progress line that would be made, for instance by one whose console is quiet.

    Raises AlbertError when `metrics.jsonl` cannot be written, or holds a broken line other than its last.
    """

    def __init__(
        self,
        workdir: str | Path,
        config: TelemetryConfig,
        total_steps: int,
        start_step: int | None = None,
        *,
        name: str = "train",
        scores: Sequence[Score] | None = None,
        watch: CollapseWatch | None = None,
        experiment: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ):
        workdir, self._watch = Path(workdir), watch
        # Before the progress line: an error of this would be printed into a live line that nobody closes.
        self._metrics = sinks.MetricsFile(workdir, start_step)
        self._progress = progress or Progress(
            total_steps, start_step or 0, name, scores, plain_seconds=config.plain_seconds
        )
        self._optional = sinks.OptionalSinks(self.say)
        if config.tensorboard:
            self._optional.open("TensorBoard", lambda: sinks.TensorBoard(workdir, start_step))
        if config.wandb:
            self._optional.open("W&B", lambda: sinks.WandB(workdir, config.wandb_project, experiment))
        self._profile = _ProfileWindow(workdir / "profile", config.profile_from, config.profile_steps, self.say)

    def log(self, step: int, kind: str, scalars: Mapping[str, Any]) -> None:
        """Writes one record. Values may be numbers, NumPy or JAX arrays of one element; they are fetched in
        one transfer, which waits for the step that computes them: call it one step late.

        Raises ValueError when a value has more than one element, AlbertError when the record cannot be written.
        """
        step, values = int(step), to_numbers(scalars)
        for sink in (self._metrics, self._optional):
            sink.write(step, kind, values)
        self._progress.show(step, kind, values)
        if kind == "train" and self._watch is not None:
            for sentence in self._watch.observe(step, values):
                self.event(step, sentence)

    def event(self, step: int, text: str) -> None:
        """Writes a sentence worth keeping beside the scalars, and prints it."""
        self._metrics.event(int(step), text)
        self.say(text)

    def say(self, text: str) -> None:
        """Prints a line that is not worth keeping, above the progress line."""
        self._progress.say(text)

    def tick(self, step: int) -> None:
        """Call after every step: moves the progress line, opens and closes the profile window."""
        self._progress.move(step)
        self._profile.tick(step)

    def close(self) -> None:
        """Closes files and sinks. May be called twice."""
        # The metrics last: what the others report while they close may still be an event.
        for part in (self._profile, self._optional, self._progress, self._metrics):
            part.close()

    def __exit__(self, *error: object) -> None:
        self.close()


class NullTelemetry(Telemetry):
    """What a process that is not the first reports to: it writes nothing, and waits for no value."""

    def __init__(self) -> None:
        pass

    def _nothing(self, *arguments: Any, **keywords: Any) -> None:
        pass

    log = event = say = tick = close = _nothing


class _ProfileWindow:
    """A `jax.profiler` trace of `steps` steps after step `first`, written to `folder`; `first` 0 is no trace."""

    def __init__(self, folder: Path, first: int, steps: int, say: Callable[[str], None]):
        self._folder, self._window, self._say = folder, range(first, first + steps if first else 0), say
        self._is_open = False

    def tick(self, step: int) -> None:
        # Inside, not at its beginning: a resumed run may start in the middle of the window.
        if not self._is_open and step in self._window:
            with self._failure_reported():
                jax.profiler.start_trace(str(self._folder))
                self._is_open = True
        elif self._is_open and step >= self._window.stop:
            self.close()

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            with self._failure_reported():
                jax.profiler.stop_trace()
                self._say(f"profile of {len(self._window)} steps in {self._folder}")

    @contextmanager
    def _failure_reported(self) -> Iterator[None]:
        try:
            yield
        # Whatever the backend's profiler raises: a run is worth more than its trace.
        except Exception as error:
            self._window = range(0)
            self._say(f"no profile: {type(error).__name__}: {error}")
