"""Our own directories as models: a converted one, and the workdir of a training run."""

from pathlib import Path
from typing import cast

import numpy as np

from albert_jax.data.text import tokenizers
from albert_jax.errors import AlbertError
from albert_jax.interop import converted
from albert_jax.interop.loaded import LoadedModel
from albert_jax.interop.names import check_ours, parts
from albert_jax.interop.restored import NEEDED, Head
from albert_jax.model.config import AlbertConfig

EXPERIMENT = "experiment.json"


def is_ours(path: Path) -> bool:
    """Whether `path` is a converted directory or a workdir."""
    return converted.is_converted(path) or (path / EXPERIMENT).is_file()


def config(path: Path) -> AlbertConfig:
    """The model's configuration. Raises AlbertError where it is damaged."""
    if converted.is_converted(path):
        return converted.read_metadata(path).model
    from albert_jax import experiment as experiments  # here for the reason that `read` has

    return experiments.read(path).model


def read(path: str | Path) -> LoadedModel:
    """The model in a converted directory, or the best checkpoint of a workdir.

    Raises AlbertError where there is none, where files are damaged or not of one model.
    """
    path = Path(path)
    if converted.is_converted(path):
        about, params = converted.read_metadata(path), converted.params(path)
    else:
        # Here, because they bring the tasks' libraries along, which take longer to import than a model to load.
        from albert_jax import experiment as experiments
        from albert_jax.interop.workdir import best_params

        experiment = experiments.read(path)
        task = experiment.task
        labels = tuple(getattr(task, "labels", ()))
        about = converted.Metadata(experiment.model, task.head or None, labels, task.problem, str(path))
        params = best_params(path)
    check_ours(params, about.model, str(path))
    head = cast(Head | None, about.head)
    if head is not None and head not in NEEDED:
        raise AlbertError(f"{path}: there is no head {head!r}; the heads are {', '.join(NEEDED)}: convert again")
    if head is not None and not NEEDED[head] <= parts(params):
        raise AlbertError(f"{path}: the parameters of its head {head!r} are missing; restore them from a copy")
    if about.labels and params.get("classifier/bias", np.zeros(len(about.labels))).shape != (len(about.labels),):
        raise AlbertError(
            f"{path}: it names {len(about.labels)} classes and the classifier has {len(params['classifier/bias'])}; "
            "convert again, or restore it from a copy"
        )
    return LoadedModel(
        origin=str(path),
        format="albert_jax",
        config=about.model,
        params=params,
        head=head,
        labels=about.labels,
        problem=about.problem,
        tokenizer=tokenizers.load(path / "vocab") if (path / "vocab").is_dir() else None,
    )


def write(directory: Path, model: LoadedModel) -> None:
    """Writes `model` into `directory`, which is there and empty."""
    if model.tokenizer is not None:
        model.tokenizer.save(directory / "vocab")
    about = converted.Metadata(model.config, model.head, model.labels, model.problem, model.origin)
    converted.write(directory, about, model.params)
