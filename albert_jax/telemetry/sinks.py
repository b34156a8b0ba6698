"""Where the records of a run go: metrics.jsonl always, TensorBoard and W&B where they are installed.

One more is a class with the methods of `Sink`, a field of `TelemetryConfig` and a line in `Telemetry`.
"""

import importlib.util
import json
import math
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from albert_jax.files import unwritable, write_atomically
from albert_jax.telemetry.records import ADVICE, METRICS, drop_after, make_record


class Sink(Protocol):
    """Takes the scalars of a record. `kind` is "train", "validation" or "test"."""

    def write(self, step: int, kind: str, scalars: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class MetricsFile:
    """`metrics.jsonl`, the record that all else can be made from; its format is in `records.py`.

    Raises AlbertError when the file cannot be written, or holds a broken line other than its last.
    """

    def __init__(self, workdir: Path, start_step: int | None):
        self._path = workdir / METRICS
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            # What an earlier attempt wrote past its checkpoint will come again, and steps must never go back.
            drop_after(self._path, start_step)
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise unwritable(self._path, error) from error

    def write(self, step: int, kind: str, scalars: Mapping[str, float]) -> None:
        self._append(make_record(step, kind, scalars))

    def event(self, step: int, text: str) -> None:
        self._append({"step": step, "kind": "event", "text": text})

    def _append(self, record: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
            # A kill loses nothing, and `tail -f` shows the run as it is.
            self._file.flush()
        except OSError as error:
            raise unwritable(self._path, error) from error

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
        self._writer = SummaryWriter(str(workdir / "tensorboard"), purge_step=purge, flush_secs=10,
                                     filename_suffix=suffix)  # fmt: skip

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
            raise NotInstalled("the wandb package is not installed; pip install wandb")
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
