"""A task's score over a finite split. The last batch is padded with rows of weight 0, so every example counts once on
any number of devices."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from albert_jax import experiment as experiments
from albert_jax.cluster import workdirs
from albert_jax.engine.checkpoint import open_for_reading
from albert_jax.engine.sharding import Layout, MeshConfig
from albert_jax.engine.state import Params, abstract_params, lay_out, shardings
from albert_jax.engine.step import make_eval_step
from albert_jax.errors import AlbertError
from albert_jax.experiment import Experiment
from albert_jax.interop.start import check_vocabulary, inherit
from albert_jax.tasks import Classification, Tagging
from albert_jax.tasks.base import Evaluation, OpenTask
from albert_jax.tasks.files import FIELDS
from albert_jax.telemetry.records import read_baselines, write_atomically

SPLITS = ("train", "validation", "test")


def score(
    task: OpenTask, eval_step: Callable, params: Params, layout: Layout, split: str, batch_size: int
) -> tuple[Evaluation, list[dict[str, np.ndarray]]]:
    """The evaluation of `split`, and the outputs of its examples in order."""
    totals: dict[str, tuple[float, float]] = {}
    outputs: list[dict[str, np.ndarray]] = []
    for batch in task.eval_batches(split, batch_size, layout.process_rows(batch_size)):
        sums, rows = jax.device_get(eval_step(params, layout.to_devices(batch)))
        for name, (total, weight) in sums.items():
            before = totals.get(name, (0.0, 0.0))
            totals[name] = (before[0] + float(total), before[1] + float(weight))
        real = np.flatnonzero(rows.pop("example_weight"))
        outputs += [{name: values[i] for name, values in rows.items()} for i in real]
    scores = {name: total / weight if weight else float("nan") for name, (total, weight) in totals.items()}
    # Without the losses that nothing was weighed for, but with one that is not a number: it must not count as 0.
    scores["loss"] = sum(scores[name] for name in task.losses if totals[name][1])
    return task.evaluation(scores, outputs), outputs


def evaluate(workdir: str | Path, split: str = "test", checkpoint: str = "best", data: str = "") -> Evaluation:
    """Scores a workdir's checkpoint ("best", "latest" or a step) on a split; writes evaluation-SPLIT.json and
    predictions-SPLIT.jsonl beside it. `data` is another prepared directory, should that have moved, or another labelled
    file for the split.

    Raises AlbertError for an unknown split, a workdir without checkpoint, or data of another vocabulary.
    """
    if split not in SPLITS:
        raise AlbertError(f"there is no split {split!r}; choose {', '.join(SPLITS)}")
    workdir = workdirs.local(workdir)
    experiment = inherit(experiments.read(workdir), workdir)
    chosen = experiment.task
    if data:
        on_files = isinstance(chosen, (Classification, Tagging)) and chosen.train
        place: dict[str, Any] = {FIELDS[split]: (data,)} if on_files else {"data": data}
        chosen = dataclasses.replace(chosen, **place)
    task = chosen.open(experiment.model, experiment.seed)
    check_vocabulary(workdir, task)
    params, layout, step = restored(workdir, experiment, task, checkpoint)
    size = experiment.eval_batch_size or experiment.batch_size
    size += -size % layout.row_groups
    evaluation, outputs = score(task, make_eval_step(task, layout), params, layout, split, size)
    predictions = list(task.predictions(split, outputs))
    count = len(predictions) or len(outputs)
    if jax.process_index() > 0:
        return evaluation
    record = {"split": split, "step": step, "examples": count, **dataclasses.asdict(evaluation)}
    record["scores"] = {name: None if np.isnan(value) else value for name, value in evaluation.scores.items()}
    record |= {"baselines": read_baselines(workdir), "experiment": experiment.name, "seed": experiment.seed}
    write_atomically(workdir / f"evaluation-{split}.json", json.dumps(record, indent=2) + "\n")
    lines = [json.dumps(line, ensure_ascii=False) for line in predictions]
    if lines:
        write_atomically(workdir / f"predictions-{split}.jsonl", "\n".join(lines) + "\n")
    return evaluation


def restored(workdir: Path, experiment: Experiment, task: OpenTask, checkpoint: str) -> tuple[Params, Layout, int]:
    """Parameters of a checkpoint ("best", "latest" or a step) of a workdir, their layout and the checkpoint's step.

    Raises AlbertError where there is no such checkpoint, it cannot be read, or it is another model's or vocabulary's.
    """
    try:
        layout = lay_out(task, experiment.mesh)
    except AlbertError:  # trained elsewhere: a mesh that does not fit the devices here
        layout = lay_out(task, MeshConfig())
    try:
        checkpoints = open_for_reading(workdir, experiment.stopping.ranking(task.best, task.scores))
        step = _choose(checkpoints.steps, checkpoints.best_step, checkpoint)
        params, about = checkpoints.params(step, shardings(abstract_params(task), layout)), checkpoints.metadata(step)
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = str(error).strip().splitlines() or [repr(error)]
        raise AlbertError(
            f"{workdir}: checkpoint {checkpoint!r} cannot be read ({said[0][:200]}); choose another with "
            "--checkpoint, or restore it from a copy"
        ) from error
    known, found = about.get("vocabulary", ""), task.tokenizer.fingerprint
    if known and known != found:
        raise AlbertError(
            f"{workdir}: checkpoint {step} was trained with the vocabulary {known[:12]} and that of now is "
            f"{found[:12]}; put back the vocabulary that the run was started with"
        )
    return params, layout, step


def _choose(steps: list[int], best: int | None, wanted: str) -> int:
    known = {"best": best, "latest": steps[-1], **{str(step): step for step in steps}}
    if known.get(wanted) is None:
        raise AlbertError(f"there is no checkpoint {wanted!r}; choose best, latest or one of {steps}")
    return int(known[wanted])  # type: ignore[arg-type]
