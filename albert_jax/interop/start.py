"""What a run starts from: shape, vocabulary and parameters of another model, whatever format that came in."""

import dataclasses
from pathlib import Path

from albert_jax import experiment as experiments
from albert_jax.cluster import workdirs
from albert_jax.engine.state import Params, with_values
from albert_jax.errors import AlbertError, refuse
from albert_jax.experiment import Experiment
from albert_jax.interop import box
from albert_jax.interop.load import open_source, source_at
from albert_jax.tasks.base import OpenTask
from albert_jax.trees import flatten

# What a model of another shape would not load; the rest is how it is trained and computed.
_SHAPE = ("vocab_size", "embedding_size", "hidden_size", "layers", "heads", "feed_forward_size", "groups",
          "inner_groups", "max_positions", "segment_types", "activation", "layer_norm_eps")  # fmt: skip

BOXED = f"{box.PREFIX}small"  # the model that fine-tuning starts from where nothing else is said


def init_of(experiment: Experiment, workdir: str | Path) -> str:
    """The model that a run starts from: that which is given; else, for a fine-tuning run that takes its shape from it,
    that which the workdir has begun with, or the one in the box. Empty where there is none."""
    left_open = experiment.model_of_init and experiment.task.fine_tunes and not experiment.from_scratch
    if experiment.init or not left_open:
        return experiment.init
    if (workdirs.local_dir(workdir) / experiments.FILE).exists():
        return experiments.read(workdir).init
    return BOXED if BOXED in box.names() else ""


def inherit(experiment: Experiment, workdir: str | Path) -> Experiment:
    """`experiment` with what it leaves to the model that it starts from (`init_of`): the vocabulary of labelled files,
    and with `model_of_init` or `from_scratch` the model's shape. A workdir that has begun answers for itself, so `init`
    may be gone by then.

    Raises AlbertError when `model_of_init` is set and neither has a model.
    """
    begun = (workdirs.local_dir(workdir) / experiments.FILE).exists()
    if begun:
        experiment = experiment.left_open_as(experiments.read(workdir))
    experiment = dataclasses.replace(experiment, init=init_of(experiment, workdir))
    if experiment.model_of_init and not (begun or experiment.init or experiment.from_scratch):
        raise AlbertError(
            "fine-tuning would start from random parameters; give --init WORKDIR of a pretrained model, whose "
            "shape is taken, or --from-scratch and the model.* fields that you want"
        )
    if not (begun or experiment.init):
        return experiment
    with source_at(workdir if begun else experiment.init) as source:
        stored, vocab = source.config, source.vocab
    # From scratch beside a model, everything but the values is that model's: else the two would not compare.
    if experiment.model_of_init or (experiment.from_scratch and experiment.init):
        shape = {name: getattr(stored, name) for name in _SHAPE}
        experiment = dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, **shape))
    elif not begun:
        for name in ("heads", "activation", "layer_norm_eps"):  # no weight shows them: loading would not fail
            have, want = getattr(stored, name), getattr(experiment.model, name)
            if have != want:
                raise AlbertError(
                    f"{experiment.init} was made with model.{name} {have} and this experiment has {want}; give "
                    f"--model.{name.replace('_', '-')} {have}, or --model-of-init"
                )
    before = getattr(experiments.read(workdir).task, "vocab", "") if begun else ""
    return dataclasses.replace(experiment, task=experiment.task.with_vocabulary(str(vocab), before))


def check_vocabulary(source: str | Path, task: OpenTask) -> None:
    """Raises AlbertError when the model at `source` was trained on another vocabulary than the task's data, or has none
    to tell what its pieces are."""
    with source_at(source) as opened:
        if opened.tokenizer is None:
            raise AlbertError(
                f"{source} has no vocabulary, which would tell what its pieces are; put the spiece.model or vocab.txt "
                "that it was trained with beside its weights"
            )
        known, wanted = opened.tokenizer.fingerprint, task.tokenizer.fingerprint
        if known != wanted:
            raise AlbertError(
                f"vocabularies differ: {source} was trained with {known[:12]}, the data was prepared with "
                f"{wanted[:12]}; prepare the data with --vocab {opened.vocab}"
            )


def initialise(params: Params, init: str | Path, task: OpenTask) -> tuple[Params, list[str], list[str]]:
    """`params` with every array that the model at `init` (whatever `albert_jax.load` takes; of a workdir the best
    checkpoint) has under the same path and shape. A classifier is taken only from a model of the same kind of task
    whose classes, where it names them, are this task's.

    Returns (parameters, paths that the source lacks and keep their fresh values, paths of the source not used).
    Raises AlbertError when an array of the encoder has another shape.
    """
    source = open_source(init)
    labels = tuple(getattr(task.resolved, "labels", ()))
    ours = source.head == (task.resolved.head or None) and source.labels in ((), labels)
    found = {name: array for name, array in source.params.items() if ours or not name.startswith("classifier/")}
    want = flatten(params)
    refuse(
        f"cannot start from {init}: {name} has shape {found[name].shape} there and {leaf.shape} here; "
        "use the same model.* fields as that run"
        for name, leaf in want.items()
        if name in found and found[name].shape != leaf.shape and name.startswith("albert/")
    )
    taken = {name for name in want if name in found and found[name].shape == want[name].shape}
    filled = with_values(params, {name: found[name] for name in taken})
    return filled, sorted(set(want) - taken), sorted(set(source.params) - taken)
