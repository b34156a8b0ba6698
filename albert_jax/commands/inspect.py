"""What a path holds, told on a terminal: a workdir, one of its checkpoints, a prepared corpus or a vocabulary."""

import math
from pathlib import Path

from albert_jax import experiment as experiments
from albert_jax.cluster import workdirs
from albert_jax.data.corpus import describe as data
from albert_jax.data.text import tokenizers
from albert_jax.engine.checkpoint import FOLDER, Checkpoints, open_for_reading
from albert_jax.errors import AlbertError
from albert_jax.interop import directory
from albert_jax.telemetry.records import read_evaluation
from albert_jax.telemetry.tables import format_table


def describe(path: str | Path) -> str:
    """A text about `path`. Raises AlbertError when it is nothing of ours."""
    path = workdirs.local(path)
    if not path.exists():
        raise AlbertError(f"{path} does not exist")
    if (path / experiments.FILE).exists():
        return _workdir(path)
    if path.resolve().parent.name == FOLDER and path.name.isdigit():
        return _checkpoint(open_for_reading(path.resolve().parent.parent), int(path.name))
    if directory.is_converted(path):
        about = directory.read_metadata(path)
        params = {name: (array.shape, str(array.dtype)) for name, array in directory.params(path).items()}
        return f"{path}: converted from {about.origin}, head {about.head or 'none'}\n\n" + _table(params, "")
    if (path / FOLDER).is_dir():
        checkpoints = open_for_reading(path)
        return _checkpoint(checkpoints, checkpoints.steps[-1])
    return data.inspect(path)


def _workdir(path: Path) -> str:
    experiment = experiments.read(path)
    parts = [
        f"{workdirs.address(path)}: a run of the experiment {experiment.name!r} ({type(experiment.task).__name__}, "
        f"{experiment.steps:,} steps of {experiment.batch_size}, seed {experiment.seed})"
    ]
    if (path / "vocab").exists():
        parts.append(f"vocabulary: {tokenizers.load(path / 'vocab').fingerprint[:16]}, in {path / 'vocab'}")
    for scored in sorted(path.glob("evaluation-*.json")):
        record = read_evaluation(scored)
        known = {name: "none" if value is None else f"{value:.4f}" for name, value in record["scores"].items()}
        scores = ", ".join(f"{name} {value}" for name, value in known.items())
        parts.append(f"{scored.stem.removeprefix('evaluation-')} split at step {record.get('step')}: {scores}")
    if not (workdirs.shared(path) / FOLDER).is_dir() or not (checkpoints := Checkpoints(path)).steps:
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
    rows = [(name, " x ".join(map(str, shape)) or "scalar", math.prod(shape), dtype)
            for name, (shape, dtype) in params.items()]  # fmt: skip
    numbers = sum(row[2] for row in rows)
    return format_table(
        ("parameter", "shape", "numbers", "dtype"),
        [*rows, ("total", "", numbers, "")],
        f"{before}{numbers:,} parameters{after}",
    )
