"""The verb inspect: what a path holds: a workdir or one of its checkpoints, a prepared corpus, a vocabulary,
or a model in the box."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from albert_jax import experiment as experiments
from albert_jax.cluster import workdirs
from albert_jax.commands.environment import set_up_jax
from albert_jax.data.store import summary as data
from albert_jax.data.text import tokenizers
from albert_jax.engine.checkpoint import FOLDER, Checkpoints, open_for_reading
from albert_jax.errors import AlbertError
from albert_jax.interop import box, directory
from albert_jax.interop.load import open_source
from albert_jax.telemetry.records import read_evaluation
from albert_jax.telemetry.tables import format_table


@dataclass(frozen=True)
class Options:
    """Tell what a path holds."""

    # workdir, checkpoint directory, prepared directory, vocabulary, .model file, or model in the box (albert_jax/NAME)
    path: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]


def run(options: Options) -> int:
    set_up_jax()
    print(describe(options.path))
    return 0


def describe(path: str | Path) -> str:
    """A text about `path`. Raises AlbertError when it is nothing of ours."""
    named, path = str(path), workdirs.local_dir(path)
    if not path.exists() and box.is_name(named):
        found = open_source(named)
        params = {name: (array.shape, str(array.dtype)) for name, array in found.params.items()}
        return f"{named}: in the box, at {box.directory(named)}, head {found.head or 'none'}\n\n" + _table(params, "")
    if not path.exists():
        raise AlbertError(f"{path} does not exist")
    if (path / experiments.FILE).exists():
        return _workdir(path)
    # A step of a workdir's checkpoints.
    if path.resolve().parent.name == FOLDER and path.name.isdigit():
        return _checkpoint(open_for_reading(path.resolve().parent.parent), int(path.name))
    if directory.is_converted(path):
        metadata = directory.read_metadata(path)
        params = {name: (array.shape, str(array.dtype)) for name, array in directory.params(path).items()}
        return f"{path}: converted from {metadata.origin}, head {metadata.head or 'none'}\n\n" + _table(params, "")
    # Checkpoints that were copied without their experiment.
    if (path / FOLDER).is_dir():
        checkpoints = open_for_reading(path)
        return _checkpoint(checkpoints, checkpoints.steps[-1])
    return data.inspect(path)


def _workdir(path: Path) -> str:
    experiment = experiments.read(path)
    parts = [
        f"{workdirs.display_path(path)}: a run of the experiment {experiment.name!r} "
        f"({type(experiment.task).__name__}, {experiment.steps:,} steps of {experiment.batch_size}, "
        f"seed {experiment.seed})"
    ]
    if (path / "vocab").exists():
        parts.append(f"vocabulary: {tokenizers.load(path / 'vocab').fingerprint[:16]}, in {path / 'vocab'}")
    for file in sorted(path.glob("evaluation-*.json")):
        record = read_evaluation(file)
        scores = [f"{name} {'none' if value is None else f'{value:.4f}'}" for name, value in record["scores"].items()]
        split = file.stem.removeprefix("evaluation-")
        parts.append(f"{split} split at step {record.get('step')}: {', '.join(scores)}")
    # Looked for first: `Checkpoints` would make the directory.
    if not (workdirs.shared_dir(path) / FOLDER).is_dir() or not (checkpoints := Checkpoints(path)).steps:
        return "\n".join([*parts, "no finished checkpoint yet"])
    steps = checkpoints.steps
    parts.append(f"checkpoints: {', '.join(map(str, steps))} of {experiment.steps}")
    return "\n".join([*parts, "", _checkpoint(checkpoints, steps[-1])])


def _checkpoint(checkpoints: Checkpoints, step: int) -> str:
    if step not in checkpoints.steps:
        raise AlbertError(f"there is no finished checkpoint of step {step}; there are {checkpoints.steps}")
    arrays = checkpoints.shapes(step)
    params = {name.removeprefix("params/"): leaf for name, leaf in arrays.items() if name.startswith("params/")}
    rest = sum(math.prod(shape) for name, (shape, _) in arrays.items() if not name.startswith("params/"))
    return _table(params, f", {rest:,} numbers of optimizer state", f"step {step}: ")


def _table(params: dict[str, tuple[tuple[int, ...], str]], after: str, before: str = "") -> str:
    """Name, shape, count and dtype of every parameter."""
    written = {name: " x ".join(map(str, shape)) or "scalar" for name, (shape, _) in params.items()}
    rows = [(name, written[name], math.prod(shape), dtype) for name, (shape, dtype) in params.items()]
    numbers = sum(row[2] for row in rows)
    title = f"{before}{numbers:,} parameters{after}"
    return format_table(("parameter", "shape", "numbers", "dtype"), [*rows, ("total", "", numbers, "")], title)
