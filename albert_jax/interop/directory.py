"""Our own directories as models: a converted one, and the workdir of a training run."""

from pathlib import Path
from typing import cast

from albert_jax import converted
from albert_jax.data import tokenizers
from albert_jax.errors import AlbertError
from albert_jax.interop.names import parts
from albert_jax.interop.restored import NEEDED, Head
from albert_jax.interop.source import Source
from albert_jax.model.config import AlbertConfig

EXPERIMENT = "experiment.json"
# Heads by the class of the task that trains them.
_HEADS: dict[str, Head] = {
    "Pretrain": "pretrain",
    "Classification": "classification",
    "Tagging": "tagging",
    "Span": "span",
    "Choice": "choice",
}
_PROBLEMS = {"labels": "multi_label_classification", "number": "regression"}  # by a Classification's target


def head_of(task: object) -> Head | None:
    """The head that a task's config trains."""
    return _HEADS.get(type(task).__name__)


def is_ours(path: Path) -> bool:
    """Whether `path` is a converted directory or a workdir."""
    return converted.is_converted(path) or (path / EXPERIMENT).is_file()


def config(path: Path) -> AlbertConfig:
    """The model's configuration. Raises AlbertError where it is damaged."""
    if converted.is_converted(path):
        return converted.about(path).model
    from albert_jax import experiment as experiments  # here for the reason that `read` has

    return experiments.read(path).model


def read(path: str | Path) -> Source:
    """The model in a converted directory, or the best checkpoint of a workdir.

    Raises AlbertError where there is none, where files are damaged or not of one model.
    """
    path = Path(path)
    if converted.is_converted(path):
        about, params = converted.about(path), converted.params(path)
    else:
        # Here, because they bring the tasks' libraries along, which take longer to import than a model to load.
        from albert_jax import experiment as experiments
        from albert_jax.checkpoint import flat, open_for_reading

        experiment = experiments.read(path)
        task = experiment.task
        problem, labels = _PROBLEMS.get(getattr(task, "target", ""), ""), tuple(getattr(task, "labels", ()))
        about = converted.About(experiment.model, head_of(task), labels, problem, str(path))
        checkpoints = open_for_reading(path)
        assert checkpoints.best_step is not None
        params = flat(checkpoints.params(checkpoints.best_step))
    head = cast(Head | None, about.head)
    if head is not None and not NEEDED.get(head, {head}) <= parts(params):
        raise AlbertError(f"{path}: the parameters of its head {head!r} are missing; restore them from a copy")
    return Source(
        origin=str(path),
        format="albert_jax",
        config=about.model,
        params=params,
        head=head,
        labels=about.labels,
        problem=about.problem,
        tokenizer=tokenizers.load(path / "vocab") if (path / "vocab").is_dir() else None,
    )


def write(directory: Path, model: Source) -> None:
    """Writes `model` into `directory`, which is there and empty."""
    if model.tokenizer is not None:
        model.tokenizer.save(directory / "vocab")
    about = converted.About(model.config, model.head, model.labels, model.problem, model.origin)
    converted.write(directory, about, model.params)
