"""What a run reports while it goes: the progress line, metrics.jsonl, TensorBoard, W&B, a profile.

The format of the records is in `records.py`. One more sink is a class with the methods of `TensorBoard`,
a field of `TelemetryConfig` and a line in `Telemetry`.
"""

import importlib.util
import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from albert_jax.errors import extra, retold
from albert_jax.fields import knob
from albert_jax.files import write_atomically
from albert_jax.telemetry.progress import Progress
from albert_jax.telemetry.records import ADVICE, METRICS, drop_after, make_record, to_numbers
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

    Raises AlbertError when `metrics.jsonl` cannot be written, or holds a broken line other than its last.
    """

    def __init__(
        self,
        workdir: str | Path,  # made when missing
        config: TelemetryConfig,
        total_steps: int,  # where the run ends, for the time left
        # Training continues from this step, and records of later ones are dropped: of a fresh start (0) all. None
        # appends and drops nothing.
        start_step: int | None = None,
        *,
        name: str = "train",  # first word of the progress line
        scores: Sequence[Score] | None = None,  # of the task, for the progress line
        watch: CollapseWatch | None = None,  # is fed the training records; its sentences become events
        experiment: Mapping[str, Any] | None = None,  # the configuration, shown by W&B
        progress: Progress | None = None,  # instead of the line that is made here
    ):
        workdir, self._watch = Path(workdir), watch
        # Before the progress line: an error of this would be printed into a live line that nobody closes.
        self._metrics = MetricsFile(workdir, start_step)
        seconds = config.plain_seconds
        self._progress = progress or Progress(total_steps, start_step or 0, name, scores, plain_seconds=seconds)
        self._optional = OptionalSinks(self.say)
        if config.tensorboard:
            self._optional.open("TensorBoard", lambda: TensorBoard(workdir, start_step))
        if config.wandb:
            self._optional.open("W&B", lambda: WandB(workdir, config.wandb_project, experiment))
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

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        pass

    log = event = say = tick = close = __init__


# ---- where the scalars go: metrics.jsonl always, TensorBoard and W&B where they are installed


class MetricsFile:
    """`metrics.jsonl`, the record that all else can be made from."""

    def __init__(self, workdir: Path, start_step: int | None):
        self._path = workdir / METRICS
        with self._writing():
            workdir.mkdir(parents=True, exist_ok=True)
            # What an earlier attempt wrote past its checkpoint will come again, and steps must never go back.
            drop_after(self._path, start_step)
            self._file = self._path.open("a", encoding="utf-8")

    def write(self, step: int, kind: str, scalars: Mapping[str, float]) -> None:
        self._append(make_record(step, kind, scalars))

    def event(self, step: int, text: str) -> None:
        self._append({"step": step, "kind": "event", "text": text})

    def _append(self, record: Mapping[str, Any]) -> None:
        with self._writing():
            self._file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
            # A kill loses nothing, and `tail -f` shows the run as it is.
            self._file.flush()

    def _writing(self) -> AbstractContextManager[None]:
        return retold(lambda message: f"{self._path}: cannot be written ({message}); {ADVICE}", OSError)

    def close(self) -> None:
        self._file.close()


class NotInstalled(Exception):
    """An optional package is absent: worth one line, not an alarm."""


class TensorBoard:
    """Event files in WORKDIR/tensorboard by tensorboardX, which needs no TensorFlow. Tags are KIND/SCALAR."""

    def __init__(self, workdir: Path, start_step: int | None):
        if importlib.util.find_spec("tensorboardX") is None:
            raise NotInstalled("the tensorboardX package is not installed (metrics.jsonl has everything)")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # protobuf's, about its own version
            from tensorboardX import SummaryWriter
        # purge_step makes TensorBoard forget what an earlier attempt logged from there on.
        purge = None if start_step is None else start_step + 1 if start_step else 0
        # Files are named by host and second: without a suffix a quick restart would overwrite the first one.
        suffix = f".{os.getpid()}.from-{start_step or 0}"
        self._writer = SummaryWriter(str(workdir / "tensorboard"), "", purge, flush_secs=10, filename_suffix=suffix)

    def write(self, step: int, kind: str, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            # tensorboardX prints a warning for each NaN, which would bury the one of the collapse watch.
            if math.isfinite(value):
                self._writer.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        self._writer.close()


class WandB:
    """One W&B run a workdir, found again after a resume by the id stored beside the metrics."""

    def __init__(self, workdir: Path, project: str, experiment: Mapping[str, Any] | None):
        if importlib.util.find_spec("wandb") is None:
            raise NotInstalled(f"the wandb package is not installed; {extra('wandb')}")
        import wandb

        stored = workdir / "wandb-id.txt"
        identity = stored.read_text(encoding="utf-8").strip() if stored.exists() else os.urandom(6).hex()
        self._run = wandb.init(project=project, id=identity, name=workdir.resolve().name, dir=str(workdir),
                               resume="allow", config=dict(experiment or {}))  # fmt: skip
        write_atomically(stored, identity + "\n", ADVICE)

    def write(self, step: int, kind: str, scalars: Mapping[str, float]) -> None:
        # W&B ignores steps that it has seen; those that a resumed run repeats are the same numbers anyway.
        self._run.log({f"{kind}/{name}": value for name, value in scalars.items()}, step=step)

    def close(self) -> None:
        self._run.finish()


# Sinks whose absence this process has reported. Of the process, not the run: a study opens many runs.
_REPORTED_ABSENT: set[str] = set()


Sink = TensorBoard | WandB


class OptionalSinks:
    """Sinks of other packages. One that fails is reported with `say` and dropped: no run may end for it."""

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self._sinks: dict[str, Sink] = {}

    def open(self, name: str, make: Callable[[], Sink]) -> None:
        try:
            self._sinks[name] = make()
        except NotInstalled as error:
            if name not in _REPORTED_ABSENT:
                self._say(f"{name} is off: {error}")
                _REPORTED_ABSENT.add(name)
        # Whatever another package raises: the scalars are in metrics.jsonl anyway.
        except Exception as error:
            self._say(f"{name} is off: {type(error).__name__}: {error}")

    def write(self, step: int, kind: str, scalars: Mapping[str, float]) -> None:
        self._each(lambda sink: sink.write(step, kind, scalars))

    def close(self) -> None:
        self._each(lambda sink: sink.close())
        self._sinks.clear()

    def _each(self, action: Callable[[Sink], None]) -> None:
        for name, sink in list(self._sinks.items()):
            try:
                action(sink)
            except Exception as error:
                del self._sinks[name]
                self._say(f"{name} is off from here on: {type(error).__name__}: {error}")


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
