"""An experiment is a value: one immutable tree of frozen dataclasses, built by a config file, changed by command-line
overrides, written beside the checkpoints as JSON."""

import contextlib
import dataclasses
import hashlib
import importlib.util
import json
import math
import sys
import traceback
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from albert_jax import fields
from albert_jax.cluster import workdirs
from albert_jax.engine.checkpoint import CheckpointConfig
from albert_jax.engine.sharding import MeshConfig
from albert_jax.engine.stopping import StoppingConfig
from albert_jax.errors import AlbertError, refuse
from albert_jax.fields import knob
from albert_jax.files import reading
from albert_jax.model.config import AlbertConfig, albert
from albert_jax.optim import AdamW, Lamb, Optimizer
from albert_jax.tasks import Task, pretraining, recipes
from albert_jax.telemetry.run import TelemetryConfig
from albert_jax.telemetry.watch import WatchConfig

FILE = "experiment.json"
CONFIG = "config.py"  # in a workdir: the file that its own kind of task or optimizer is from


@dataclass(frozen=True)
class Experiment:
    """All that decides a run; the same value gives the same run."""

    name: str = knob(free=True)  # what logs and reports call it
    model: AlbertConfig = knob()
    task: Task = knob()
    optim: Optimizer = knob()
    steps: int = knob(at_least=0)  # optimizer steps in the whole run; 0 where epochs says it
    batch_size: int = knob(at_least=0)  # examples in a step, over all devices, processes and micro-batches
    epochs: float = knob(0.0, at_least=0)  # times that each training example is seen, instead of steps; stored as steps
    # Take peak rate, epochs, batch size and warm-up, each where it is 0, by the sizes of model and data from the
    # table in albert_jax/tasks/recipes.py; stored as taken.
    recipe: bool = knob(False, free=True)
    micro_batches: int = knob(1, at_least=1, free=True)  # pieces of a step, to save memory; does not change the result
    seed: int = 0  # of initial values, order of examples, masks and dropout
    init: str = knob("", free=True, local=True)  # workdir or checkpoint whose parameters to start from
    model_of_init: bool = knob(False, free=True)  # take the model's shape from init; dropout, dtype and speed stay
    from_scratch: bool = knob(False, free=True)  # start from random values; of init only shape and vocabulary
    eval_every: int = knob(1000, at_least=0, free=True)  # steps between evaluations; 0 at the end, and after each epoch
    # Most that an evaluation before the last may cost, as a share of the training since the one before: it scores as
    # many evenly spaced examples of the validation split as that allows, where the task can; 0 = always all.
    eval_share: float = knob(0.5, at_least=0, free=True, older=0.0)
    eval_batch_size: int = knob(0, at_least=0, free=True)  # examples of an evaluation batch; 0 = batch_size
    data_workers: int = knob(0, at_least=0, free=True, local=True)  # processes that make examples; 0 = a thread
    max_skipped: int = knob(10, at_least=1, free=True)  # steps with a gradient that is not finite until it ends
    mesh: MeshConfig = knob(default_factory=MeshConfig, free=True)
    stopping: StoppingConfig = knob(default_factory=StoppingConfig, free=True)
    checkpoint: CheckpointConfig = knob(default_factory=CheckpointConfig, free=True)
    telemetry: TelemetryConfig = knob(default_factory=TelemetryConfig, free=True)
    watch: WatchConfig = knob(default_factory=WatchConfig, free=True)

    def check(self) -> "Experiment":
        """Itself. Raises AlbertError where a field is out of its range or two fields do not go together."""
        refuse(self._flaws_of_length())
        fields.check(self)
        refuse(self._flaws())
        if self.steps:
            # Built once for its checks: a warm-up longer than the run is known here, not after the data has been
            # read.
            self.optim.learning_rate(self.steps)
        return self

    @property
    def eval_examples(self) -> int | None:
        """Examples that an evaluation before the last may score; None where nothing bounds them."""
        if not (self.eval_share and self.eval_every):
            return None
        # A training step computes each row three times: forward, and for two gradients.
        return max(round(3 * self.eval_share * self.eval_every * self.batch_size), self.batch_size)

    def _flaws_of_length(self) -> Iterator[str]:
        if not 0 <= self.epochs < math.inf or (self.epochs and self.steps):
            yield f"steps is {self.steps} and epochs {self.epochs:g}; give one of them, 0 for the other"

    def _flaws(self) -> Iterator[str]:
        if self.recipe and not self.task.fine_tunes:
            yield "recipe is for fine-tuning; give steps, batch_size and optim.peak_lr of a pretraining run"
        if self.recipe and not (self.optim.peak_lr or isinstance(self.optim, AdamW)):
            yield f"recipe knows rates of AdamW; give optim.peak_lr of {type(self.optim).__name__}"
        if not (self.epochs or self.steps or self.recipe):
            yield f"steps is {self.steps}; it must be at least 1"
        if not (self.batch_size or self.recipe):
            yield f"batch_size is {self.batch_size}; it must be at least 1"
        if self.batch_size % self.micro_batches:
            yield (
                f"batch_size {self.batch_size} does not divide into micro_batches {self.micro_batches}; "
                "change one of them"
            )
        if self.task.max_length > self.model.max_positions:
            yield (
                f"the task's sequences of {self.task.max_length} pieces are longer than the position table: "
                f"model.max_positions is {self.model.max_positions}; shorten the one or raise the other"
            )

    def left_open_as(self, before: "Experiment") -> "Experiment":
        """Itself, to go on with a run that was begun `before`: what `recipe` leaves open, and what that run's version
        did not know yet, are as they were there."""
        if not self.recipe:
            return fields.as_before(self, before)
        schedule, old = self.optim.schedule, before.optim.schedule
        if not (schedule.warmup_steps or schedule.warmup_share):
            schedule = dataclasses.replace(schedule, warmup_steps=old.warmup_steps, warmup_share=old.warmup_share)
        optim = dataclasses.replace(self.optim, peak_lr=self.optim.peak_lr or before.optim.peak_lr, schedule=schedule)
        length = (self.steps, self.epochs) if self.steps or self.epochs else (before.steps, before.epochs)
        made = dataclasses.replace(
            self, optim=optim, batch_size=self.batch_size or before.batch_size, steps=length[0], epochs=length[1]
        )
        return fields.as_before(made, before)

    def with_recipe(self, examples: int) -> tuple["Experiment", list[str]]:
        """Itself with what `recipe` leaves open filled in, for its model's width and so many training examples; and a
        line that says what was taken."""
        if not self.recipe:
            return self, []
        found, taken = recipes.choose(self.model.hidden_size, examples), []
        schedule, batch_size = self.optim.schedule, self.batch_size or found.batch_size
        made = dataclasses.replace(self, batch_size=batch_size)
        if not self.optim.peak_lr:
            taken.append(f"rate {found.peak_lr:g}")
            made = dataclasses.replace(made, optim=dataclasses.replace(made.optim, peak_lr=found.peak_lr))
        if not (self.steps or self.epochs):
            steps = found.steps(examples, batch_size)
            taken.append(f"{steps * batch_size / examples:.3g} epochs ({steps:,} steps)")
            every = self.eval_every or recipes.evaluation_steps(steps, examples, batch_size)
            made = dataclasses.replace(made, steps=steps, eval_every=every)
        if not self.batch_size:
            taken.append(f"batch {batch_size}")
        if not (schedule.warmup_steps or schedule.warmup_share):
            taken.append(f"warm-up {found.warmup_share:.0%}")
            schedule = dataclasses.replace(schedule, warmup_share=found.warmup_share)
            made = dataclasses.replace(made, optim=dataclasses.replace(made.optim, schedule=schedule))
        line = f"recipe for width {self.model.hidden_size}, {examples:,} examples: {', '.join(taken)}"
        return made.check(), [line] if taken else []

    def in_steps(self, examples: int) -> "Experiment":
        """Itself with `epochs` of so many training examples given in steps."""
        if not self.epochs:
            return self
        steps = math.ceil(self.epochs * examples / self.batch_size)
        # Rounded up, or the last epoch would be evaluated one step before the end and then again at it.
        epoch = math.ceil(steps / self.epochs)  # the last evaluation falls on the last step
        return dataclasses.replace(self, steps=steps, epochs=0.0, eval_every=self.eval_every or epoch).check()


def example() -> Experiment:
    """What `train --help` shows when it is given no config."""
    return Experiment(
        name="example", model=albert("base"), task=pretraining(), optim=Lamb(), steps=125_000, batch_size=4096
    )


def differences(stored: Experiment, asked: Experiment) -> list[str]:
    """Where two experiments compute different things, as "path: stored -> asked"; what is `free` may differ."""
    before, after = ({path: to_dict(value) for path, value, free, _ in fields.leaves(each) if not free}
                     for each in (stored, asked))  # fmt: skip
    return [
        f"{path}: {before.get(path)!r} -> {after.get(path)!r}"
        for path in sorted({*before, *after})
        if before.get(path) != after.get(path)
    ]


def shared(experiment: Experiment) -> dict[str, Any]:
    """Path -> value of every field that must be the same in all processes of a run: all but places of files."""
    return {path: to_dict(value) for path, value, _, local in fields.leaves(experiment) if not local}


# ---- files


def load_config(path: str | Path) -> Experiment:
    """The `experiment()` of a config file. Raises AlbertError when there is none."""
    path = Path(path)
    if not path.is_file():
        raise AlbertError(f"no config file {path}; configs/ has some, such as configs/demo.py")
    module = import_config(path)
    if not hasattr(module, "experiment"):
        raise AlbertError(f"{path} defines no function experiment() that returns an Experiment")
    with _blamed_on(path):
        made = module.experiment()
    if not isinstance(made, Experiment):
        raise AlbertError(f"{path}: experiment() returned a {type(made).__name__}, not an Experiment")
    return made


def import_config(path: Path) -> ModuleType:
    """The file as a module. One path and content is one module, so that its classes are the same however often it is
    asked for."""
    # Two configs may have one file name, as config.py in every workdir has; and one that was edited is another
    # module.
    digest = hashlib.sha256(str(path.resolve()).encode() + path.read_bytes()).hexdigest()[:12]
    name = f"albert_jax_config_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise AlbertError(f"{path} is no Python file; a config ends in .py, such as configs/demo.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and type hints look their module up there
    try:
        with _blamed_on(path):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def _blamed_on(path: Path) -> Iterator[None]:
    """Within it, whatever a config's code raises becomes one line with the file and the line of it."""
    try:
        yield
    except AlbertError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename) == path.absolute()]
        where = f", line {lines[-1]}" if lines else ""
        raise AlbertError(f"{path}{where}: cannot be loaded: {type(error).__name__}: {error}") from error


def own_config(experiment: Experiment) -> Path | None:
    """The file that defines the experiment's kind of task or optimizer, where that is not part of this package; None
    too for a class without a file, such as one of a notebook's cell."""
    # Everything else in an experiment is this package's own dataclasses, which a workdir can always be read with.
    for kind in (type(experiment.task), type(experiment.optim)):
        file = getattr(sys.modules.get(kind.__module__), "__file__", None)
        if file and not kind.__module__.startswith("albert_jax."):
            return Path(file)
    return None


def read(workdir: str | Path) -> Experiment:
    """The experiment that a workdir holds. Raises AlbertError when it holds none, or a broken one."""
    folder = workdirs.local_dir(workdir)
    path = folder / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AlbertError(f"{workdir} is not a workdir: it has no {FILE}; give the --workdir of a train run") from error
    except (OSError, UnicodeDecodeError) as error:
        raise AlbertError(f"{path} cannot be read ({error}); restore it from a copy, or train again") from error
    with reading(path, "restore it from a copy, or train again"):
        return from_dict(Experiment, json.loads(text), folder)


# ---- JSON


def to_dict(value: Any) -> Any:
    """Dataclasses as dicts with a "kind" that names the class; the rest as it is."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        content = {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **content}
    if isinstance(value, (list, tuple)):
        return [to_dict(item) for item in value]
    return value


def from_dict(kind: Any, value: Any, folder: Path | None = None) -> Any:
    """The inverse of `to_dict` for a field of type `kind`; a class that this package does not have is looked for in the
    config.py of `folder`. Fields that the file lacks take their `older` value, or else their defaults; fields that the
    class lacks raise AlbertError."""
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return from_dict(typing.get_args(kind)[0], value, folder)
    if origin in (types.UnionType, typing.Union):
        options = {getattr(option, "__name__", str(option)): option for option in typing.get_args(kind)}
        if isinstance(value, dict) and value.get("kind") in options:
            return from_dict(options[value["kind"]], value, folder)
        return value
    if origin is tuple:
        return tuple(from_dict(typing.get_args(kind)[0], item, folder) for item in value)
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        # bool is an int in Python and int is accepted for float in JSON, so only exact types are compared, and float
        # is not.
        if kind in (int, str, bool) and type(value) is not kind:
            raise TypeError(f"{value!r} where {kind.__name__} is needed")
        return value
    kind = _kind(kind, value.get("kind", kind.__name__), folder)
    hints = typing.get_type_hints(kind, include_extras=True)
    known = {field.name for field in dataclasses.fields(kind)}
    given = {name: item for name, item in value.items() if name != "kind"}
    unknown = sorted(set(given) - known)
    if unknown:
        raise AlbertError(f"{kind.__name__} has no field {unknown[0]!r}; the file was written by another version")
    older = {field.name: field.metadata["older"] for field in dataclasses.fields(kind) if "older" in field.metadata}
    return kind(**older | {name: from_dict(hints[name], item, folder) for name, item in given.items()})


def _kind(base: type, name: str, folder: Path | None) -> type:
    """The class `name` among `base` and its subclasses: that of the workdir's config.py, then this package's, then
    whatever this process has defined."""
    # A run of this package's own kinds has no config.py, so reading a workdir runs no code that it does not need.
    if folder is not None and issubclass(base, (Task, Optimizer)) and (folder / CONFIG).is_file():
        own = getattr(import_config(folder / CONFIG), name, None)
        if isinstance(own, type) and issubclass(own, base):
            return own
    known = [each for each in _subclasses(base) if each.__name__ == name]
    if not known:
        raise AlbertError(f"there is no {base.__name__.lower()} {name!r} in this version, and no {CONFIG} that has it")
    return min(known, key=lambda each: not each.__module__.startswith("albert_jax."))


def _subclasses(base: Any) -> Iterator[Any]:
    yield base
    for each in base.__subclasses__():
        yield from _subclasses(each)
