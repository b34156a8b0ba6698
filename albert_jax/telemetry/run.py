"""What a run tells the world: the progress line, `metrics.jsonl` always, TensorBoard and W&B where they are
at hand.

A resumed run first drops what an earlier attempt wrote past its checkpoint, so steps never go back. The
format of the records is in `records.py`.
"""

import importlib.util
import json
import math
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import jax

from albert_jax.telemetry.progress import Progress
from albert_jax.telemetry.records import METRICS, drop_after, make_record, to_numbers, unwritable, write_atomically
from albert_jax.telemetry.watch import CollapseWatch


@dataclass(frozen=True)
class TelemetryConfig:
    """What is recorded and where; nothing here can change what is learned."""

    log_every: int = 50  # steps between two training records
    plain_seconds: float = 10.0  # least seconds between two lines where stdout is not a terminal
    tensorboard: bool = True  # event files in WORKDIR/tensorboard; off, and said once, without tensorboardX
    wandb: bool = False  # also send scalars to Weights & Biases (the wandb package, logged in)
    wandb_project: str = "albert_jax"  # project that the W&B run appears in
    profile_from: int = 0  # step after which a jax.profiler trace starts; 0 = no trace
    profile_steps: int = 5  # steps in the trace, written to WORKDIR/profile

    def build(self, workdir: str | Path, total_steps: int, start_step: int | None = None, **rest: Any) -> "Telemetry":
        """`Telemetry(workdir, self, ...)`; `rest` are its keyword arguments."""
        return Telemetry(workdir, self, total_steps, start_step, **rest)


class Telemetry:
    """The one thing that the loop reports to.

    Args:
        workdir: directory of the run; made when missing.
        config: see `TelemetryConfig`.
        total_steps: where the run ends, for time left.
        start_step: step of the state that training continues from: records of later steps are dropped.
            0 is a fresh start and drops all. None appends and drops nothing.
        enabled: False makes every method do nothing; pass `jax.process_index() == 0`. No method runs a
            collective, so processes may differ in it.
        name: first word of the progress line.
        watch: is fed the training records; its sentences become events.
        experiment: the configuration, shown by W&B.
        progress: replaces the progress line that would be made, for instance by one whose console is quiet.

    Raises:
        AlbertError: `metrics.jsonl` cannot be written, or holds a broken line other than its last.
    """

    def __init__(
        self,
        workdir: str | Path,
        config: TelemetryConfig,
        total_steps: int,
        start_step: int | None = None,
        *,
        enabled: bool = True,
        name: str = "train",
        watch: CollapseWatch | None = None,
        experiment: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ):
        self._enabled = enabled
        if not enabled:
            return
        self._workdir, self._config, self._watch = Path(workdir), config, watch
        self._path = self._workdir / METRICS
        try:
            self._workdir.mkdir(parents=True, exist_ok=True)
            drop_after(self._path, start_step)
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise unwritable(self._path, error) from error
        self._progress = progress or Progress(total_steps, start_step or 0, name, config.plain_seconds)
        self._sinks: list[_Sink] = []
        if config.tensorboard:
            self._open("TensorBoard", lambda: _TensorBoard(self._workdir / "tensorboard", start_step))
        if config.wandb:
            self._open("W&B", lambda: _WandB(self._workdir, config.wandb_project, experiment))
        self._profiling = False
        self._profile_from = config.profile_from if config.profile_steps > 0 else 0

    # -- what the loop calls ---------------------------------------------------------------------

    def log(self, step: int, kind: str, scalars: Mapping[str, Any]) -> None:
        """Writes one record. Values may be numbers, NumPy or JAX arrays of one element; they are fetched in
        one transfer, which waits for the step that computes them: call it one step late.

        Raises:
            ValueError: a value has more than one element.
            AlbertError: the record cannot be written.
        """
        if not self._enabled:
            return
        values = to_numbers(scalars)
        self._write(make_record(int(step), kind, values))
        for sink in list(self._sinks):
            self._try(sink, lambda sink=sink: sink.write(int(step), kind, values))  # type: ignore[misc]
        self._progress.show(int(step), kind, values)
        if kind == "train" and self._watch is not None:
            for sentence in self._watch.observe(int(step), values):
                self.event(step, sentence)

    def event(self, step: int, text: str) -> None:
        """Writes a sentence worth keeping beside the scalars, and prints it."""
        if self._enabled:
            self._write({"step": int(step), "kind": "event", "text": text})
            self._progress.say(text)

    def say(self, text: str) -> None:
        """Prints a line that is not worth keeping, above the progress line."""
        if self._enabled:
            self._progress.say(text)

    def tick(self, step: int) -> None:
        """Call after every step: moves the progress line, opens and closes the profile window."""
        if not self._enabled:
            return
        self._progress.tick(step)
        if self._profile_from:
            self._profile(step)

    def close(self) -> None:
        """Closes files and sinks. May be called twice."""
        if not self._enabled:
            return
        if self._profiling:
            self._profile(self._profile_from + self._config.profile_steps)
        for sink in list(self._sinks):
            self._try(sink, sink.close)
        self._progress.close()
        self._file.close()
        self._enabled = False

    def __enter__(self) -> "Telemetry":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the record ------------------------------------------------------------------------------

    def _write(self, record: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise unwritable(self._path, error) from error

    # -- optional places, which may fail but not stop the run ------------------------------------

    def _open(self, name: str, make: Callable[[], "_Sink"]) -> None:
        try:
            self._sinks.append(make())
        except _NotInstalled as error:
            if name not in _SAID:
                self.say(f"{name} is off: {error}")
                _SAID.add(name)
        except Exception as error:  # whatever a third party throws: scalars are in metrics.jsonl anyway
            self.say(f"{name} is off: {type(error).__name__}: {error}")

    def _try(self, sink: "_Sink", action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._sinks.remove(sink)
            self.say(f"{sink.name} is off from here on: {type(error).__name__}: {error}")

    # -- the profile window ----------------------------------------------------------------------

    def _profile(self, step: int) -> None:
        first = self._profile_from
        try:
            if not self._profiling and first <= step < first + self._config.profile_steps:
                jax.profiler.start_trace(str(self._workdir / "profile"))
                self._profiling = True
            elif self._profiling and step >= first + self._config.profile_steps:
                self._stop_profile()
        except Exception as error:
            self._profile_from, self._profiling = 0, False
            self.say(f"no profile: {type(error).__name__}: {error}")

    def _stop_profile(self) -> None:
        self._profiling, self._profile_from = False, 0
        jax.profiler.stop_trace()
        self.say(f"profile of {self._config.profile_steps} steps in {self._workdir / 'profile'}")


# ------------------------------------------------------------------------------------------ sinks

_SAID: set[str] = set()  # packages whose absence this process has mentioned


class _NotInstalled(Exception):
    """An optional package is absent: worth one line, not an alarm."""


class _Sink(Protocol):
    name: str

    def write(self, step: int, kind: str, scalars: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class _TensorBoard:
    """Event files by tensorboardX, which needs no TensorFlow. Tags are KIND/SCALAR."""

    name = "TensorBoard"

    def __init__(self, directory: Path, start_step: int | None):
        if importlib.util.find_spec("tensorboardX") is None:
            raise _NotInstalled("the tensorboardX package is not installed (metrics.jsonl has everything)")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of protobuf, about itself
            from tensorboardX import SummaryWriter
        # purge_step makes TensorBoard forget what an earlier attempt logged from there on.
        purge = None if start_step is None else start_step + 1 if start_step else 0
        # Files are named by host and second: without a suffix a quick restart would overwrite the first one.
        suffix = f".{os.getpid()}.from-{start_step or 0}"
        self._writer = SummaryWriter(str(directory), purge_step=purge, flush_secs=10, filename_suffix=suffix)

    def write(self, step: int, kind: str, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            if math.isfinite(value):  # of the others tensorboardX warns at every one
                self._writer.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        self._writer.close()


class _WandB:
    """One W&B run a workdir, found again after a resume by the id stored beside the metrics. W&B itself
    ignores steps that it has seen, and those of a resumed run are the same numbers."""

    name = "W&B"

    def __init__(self, workdir: Path, project: str, experiment: Mapping[str, Any] | None):
        if importlib.util.find_spec("wandb") is None:
            raise _NotInstalled("the wandb package is not installed; pip install wandb")
        import wandb

        stored = workdir / "wandb-id.txt"
        identity = stored.read_text(encoding="utf-8").strip() if stored.exists() else os.urandom(6).hex()
        self._run = wandb.init(
            project=project,
            id=identity,
            name=workdir.resolve().name,
            dir=str(workdir),
            resume="allow",
            config=dict(experiment or {}),
        )
        write_atomically(stored, identity + "\n")

    def write(self, step: int, kind: str, scalars: Mapping[str, float]) -> None:
        self._run.log({f"{kind}/{name}": value for name, value in scalars.items()}, step=step)

    def close(self) -> None:
        self._run.finish()
