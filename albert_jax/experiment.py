"""An experiment is a value: one immutable tree of frozen dataclasses, built by a config file, changed by command-line
overrides, written beside the checkpoints as JSON."""

import dataclasses
import importlib.util
import json
import math
import traceback
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

from albert_jax.cluster import workdirs
from albert_jax.engine.checkpoint import CheckpointConfig
from albert_jax.engine.sharding import MeshConfig
from albert_jax.engine.stopping import StoppingConfig
from albert_jax.errors import AlbertError
from albert_jax.model.config import AlbertConfig, albert
from albert_jax.optim import AdamW, Lamb
from albert_jax.tasks import Classification, Pretrain, Tagging
from albert_jax.telemetry.run import TelemetryConfig
from albert_jax.telemetry.watch import WatchConfig

FILE = "experiment.json"


@dataclass(frozen=True)
class Experiment:
    """All that decides a run; the same value gives the same run."""

    name: str  # what logs and reports call it
    model: AlbertConfig
    task: Pretrain | Classification | Tagging
    optim: Lamb | AdamW
    steps: int  # optimizer steps in the whole run; 0 where epochs say it
    batch_size: int  # examples in a step, over all devices, processes and micro-batches
    epochs: float = 0.0  # times that each training example is seen, instead of steps; the run stores them as steps
    micro_batches: int = 1  # pieces that a step is computed in, to save memory; does not change the result
    seed: int = 0  # of initial values, order of examples, masks and dropout
    init: str = ""  # workdir or checkpoint whose parameters to start from
    model_of_init: bool = False  # take the model's shape from init; dropout, dtype and speed stay those of model
    from_scratch: bool = False  # let a fine-tuning task start from random values
    eval_every: int = 1000  # steps between evaluations on the validation split; 0 at the end, and after each of epochs
    eval_batch_size: int = 0  # examples in an evaluation batch, over all devices; 0 = batch_size
    data_workers: int = 0  # processes that make examples; 0 = a thread of this process
    max_skipped: int = 10  # steps in a row with a gradient that is not finite before the run stops
    mesh: MeshConfig = field(default_factory=MeshConfig)
    stopping: StoppingConfig = field(default_factory=StoppingConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)

    def check(self) -> "Experiment":
        """Itself. Raises AlbertError where two fields do not go together."""
        if not 0 <= self.epochs < math.inf or (self.epochs and self.steps):
            raise AlbertError(f"steps is {self.steps} and epochs {self.epochs:g}; give one of them, 0 for the other")
        for name in (*(() if self.epochs else ("steps",)), *_POSITIVE):
            if (value := attrgetter(name)(self)) < 1:
                raise AlbertError(f"{name} is {value}; it must be at least 1")
        for name in _NOT_NEGATIVE:
            if not (value := attrgetter(name)(self)) >= 0:
                raise AlbertError(f"{name} is {value:g}; it must not be negative")
        if self.batch_size % self.micro_batches:
            raise AlbertError(
                f"batch_size {self.batch_size} does not divide into micro_batches "
                f"{self.micro_batches}; change one of them"
            )
        if self.task.max_length > self.model.max_positions:
            raise AlbertError(
                f"the task's sequences of {self.task.max_length} pieces are longer than the position table: "
                f"model.max_positions is {self.model.max_positions}; shorten the one or raise the other"
            )
        if self.steps:
            self.optim.schedule.build(self.optim.peak_lr, self.steps)
        return self

    def in_steps(self, examples: int) -> "Experiment":
        """Itself with `epochs` of so many training examples told in steps."""
        if not self.epochs:
            return self
        steps = math.ceil(self.epochs * examples / self.batch_size)
        epoch = math.ceil(steps / self.epochs)  # the last evaluation falls on the last step
        return dataclasses.replace(self, steps=steps, epochs=0.0, eval_every=self.eval_every or epoch).check()


_POSITIVE = ("batch_size", "micro_batches", "max_skipped", "checkpoint.every", "checkpoint.keep", "telemetry.log_every",
             "telemetry.profile_steps", "watch.window")  # fmt: skip
_NOT_NEGATIVE = ("eval_every", "eval_batch_size", "data_workers", "checkpoint.keep_best", "telemetry.plain_seconds",
                 "telemetry.profile_from", "watch.grace_steps", "watch.order_grace_steps")  # fmt: skip


def example() -> Experiment:
    """What `train --help` shows when it is given no config."""
    return Experiment(
        name="example", model=albert("base"), task=Pretrain(), optim=Lamb(), steps=125_000, batch_size=4096
    )


# Fields that may differ when a run is continued: they change where and how fast it runs, not what it computes.
_FREE = ("telemetry", "watch", "mesh", "checkpoint", "data_workers", "micro_batches", "eval_every", "eval_batch_size",
         "max_skipped", "init", "from_scratch", "name", "model.attention", "model.remat",
         "model.scan", "task.data", "task.train", "task.dev", "task.test", "task.vocab", "task.eval_data",
         "model_of_init", "stopping")  # fmt: skip


def differences(stored: Experiment, asked: Experiment) -> list[str]:
    """Where two experiments compute different things, as "path: stored -> asked"."""
    before, after = dict(_leaves(to_dict(stored))), dict(_leaves(to_dict(asked)))
    return [
        f"{path}: {before.get(path)!r} -> {after.get(path)!r}"
        for path in sorted({*before, *after})
        if before.get(path) != after.get(path)
        and not any(path == free or path.startswith(free + ".") for free in _FREE)
    ]


# Where a process finds its files, and how it reads them: hosts may differ in it.
_LOCAL = ("init", "data_workers", "task.data", "task.eval_data", "task.train", "task.dev", "task.test", "task.vocab")


def shared(experiment: Experiment) -> dict[str, Any]:
    """Path -> value of every field that must be the same in all processes of a run: all but places of files."""
    return {path: value for path, value in _leaves(to_dict(experiment)) if path not in _LOCAL}


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict) and tree:
        for name, value in tree.items():
            yield from _leaves(value, f"{path}.{name}" if path else name)
    else:
        yield path, tree


# ---- files


def load_config(path: str | Path) -> Experiment:
    """The `experiment()` of a config file. Raises AlbertError when there is none."""
    path = Path(path)
    if not path.is_file():
        raise AlbertError(f"no config file {path}; configs/ has some, such as configs/demo.py")
    spec = importlib.util.spec_from_file_location(f"albert_jax_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise AlbertError(f"{path} is no Python file; a config ends in .py, such as configs/demo.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        made = module.experiment() if hasattr(module, "experiment") else None
    except AlbertError:
        raise
    except Exception as error:  # whatever a config's code does
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename) == path.absolute()
        ]
        where = f", line {lines[-1]}" if lines else ""
        raise AlbertError(f"{path}{where}: cannot be loaded: {type(error).__name__}: {error}") from error
    if not hasattr(module, "experiment"):
        raise AlbertError(f"{path} defines no function experiment() that returns an Experiment")
    if not isinstance(made, Experiment):
        raise AlbertError(f"{path}: experiment() returned a {type(made).__name__}, not an Experiment")
    return made


def read(workdir: str | Path) -> Experiment:
    """The experiment that a workdir holds. Raises AlbertError when it holds none, or a broken one."""
    path = workdirs.local(workdir) / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AlbertError(f"{workdir} is not a workdir: it has no {FILE}; give the --workdir of a train run") from error
    except (OSError, UnicodeDecodeError) as error:
        raise AlbertError(f"{path} cannot be read ({error}); restore it from a copy, or train again") from error
    try:
        return from_dict(Experiment, json.loads(text))
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise AlbertError(f"{path} is damaged ({error}); restore it from a copy, or train again") from error


# ---- JSON


def to_dict(value: Any) -> Any:
    """Dataclasses as dicts with a "kind" that names the class; the rest as it is."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields}
    if isinstance(value, (list, tuple)):
        return [to_dict(item) for item in value]
    return value


def from_dict(kind: Any, value: Any) -> Any:
    """The inverse of `to_dict` for a field of type `kind`. Fields that the file lacks take their defaults; fields
    that the class lacks raise AlbertError."""
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return from_dict(typing.get_args(kind)[0], value)
    if origin in (types.UnionType, typing.Union):
        options = {getattr(option, "__name__", str(option)): option for option in typing.get_args(kind)}
        if isinstance(value, dict) and value.get("kind") in options:
            return from_dict(options[value["kind"]], value)
        return value
    if origin is tuple:
        return tuple(from_dict(typing.get_args(kind)[0], item) for item in value)
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        if kind in (int, str, bool) and type(value) is not kind:
            raise TypeError(f"{value!r} where {kind.__name__} is needed")
        return value
    hints = typing.get_type_hints(kind, include_extras=True)
    given = {name: item for name, item in value.items() if name != "kind"}
    unknown = sorted(set(given) - set(hints))
    if unknown:
        raise AlbertError(f"{kind.__name__} has no field {unknown[0]!r}; the file was written by another version")
    return kind(**{name: from_dict(hints[name], item) for name, item in given.items()})
