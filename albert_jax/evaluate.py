"""A task's score over a finite split. The last batch is padded with rows of weight 0, so every example counts once on
any number of devices."""

import dataclasses
import heapq
import json
from collections.abc import Callable, Iterable
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
from albert_jax.errors import AlbertError, retold
from albert_jax.experiment import Experiment
from albert_jax.files import write_atomically, write_json
from albert_jax.interop.start import check_vocabulary, inherit
from albert_jax.tasks.base import Evaluation, Objective, OpenTask
from albert_jax.telemetry.baselines import best_of, fitted, verdict

SPLITS = ("train", "validation", "test")
_MISTAKES = 50  # that an evaluation keeps
_SHOWN = 500  # characters of the text of each


def score(
    task: OpenTask, eval_step: Callable, params: Params, layout: Layout, split: str, batch_size: int
) -> tuple[Evaluation, list[dict[str, np.ndarray]]]:
    """The evaluation of `split`, and the outputs of its examples in order."""
    totals: dict[str, tuple[float, float]] = {}
    outputs: list[dict[str, np.ndarray]] = []
    batches = task.eval_batches(split, batch_size, layout.process_rows(batch_size))
    for batch in batches:
        sums, rows = jax.device_get(eval_step(params, layout.to_devices(batch)))
        for name, (total, weight) in sums.items():
            before = totals.get(name, (0.0, 0.0))
            totals[name] = (before[0] + float(total), before[1] + float(weight))
        # Padding rows repeat the last example; in the outputs they would count it twice.
        real = np.flatnonzero(rows.pop("example_weight"))
        outputs += [{name: values[i] for name, values in rows.items()} for i in real]
    if batches.order is not None:
        outputs = [outputs[place] for place in np.argsort(batches.order)]
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
    workdir = workdirs.local_dir(workdir)
    # The vocabulary stands in the workdir, whatever has become of the model that it came from.
    experiment = inherit(experiments.read(workdir), workdir)
    chosen = experiment.task.with_split(split, data) if data else experiment.task
    task = chosen.open(experiment.model, experiment.seed)
    check_vocabulary(workdir, task)
    # The checkpoint decides the vocabulary, not the data at hand: pieces of another one would score as noise.
    params, layout, step = restored(workdir, experiment, task, task.tokenizer.fingerprint, checkpoint)
    rows = experiment.eval_batch_size or experiment.batch_size
    rows += -rows % layout.row_groups
    evaluation, outputs = score(task, make_eval_step(task, layout), params, layout, split, rows)
    evaluation = dataclasses.replace(evaluation, mistakes=worst(task.mistakes(split, outputs)))
    predictions = list(task.predictions(split, outputs))
    if jax.process_index() == 0:
        evaluation = write_evaluation(workdir, experiment, task, split, step, evaluation, predictions, len(outputs))
    return evaluation


def worst(mistakes: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The most confident of `OpenTask.mistakes`, or those with the largest error, surest first; long texts cut."""
    found = heapq.nlargest(_MISTAKES, mistakes, key=lambda each: each.get("probability", each.get("error", 0.0)))
    return [each | {"text": each["text"][:_SHOWN]} for each in found]


def write_evaluation(
    workdir: Path, experiment: Experiment, task: OpenTask, split: str, step: int, evaluation: Evaluation,
    predictions: list[dict[str, Any]], rows: int,
) -> Evaluation:  # fmt: skip
    """Writes evaluation-SPLIT.json and, of a task that has any, predictions-SPLIT.jsonl into the workdir; returns the
    evaluation with its plain baselines and the verdict."""
    # Of the texts that they learned from, plain models would only tell how well they can be learned by heart.
    plain, verdicts = fitted(workdir, split, task.plain(split) if split != "train" else None)
    rivals = best_of(task.scores, task.baselines(split), plain)
    ranking = experiment.stopping.rank_by(task.best, task.scores)
    if beaten := verdict(rivals.get(ranking.name, ranking), evaluation.scores.get(ranking.name)):
        verdicts.append(beaten)
    evaluation = dataclasses.replace(evaluation, plain=plain, verdicts=verdicts)
    record = {"split": split, "step": step, "examples": len(predictions) or rows, **dataclasses.asdict(evaluation)}
    # Strict JSON has no NaN: a score without a value is null.
    record["scores"] = {name: None if np.isnan(value) else value for name, value in evaluation.scores.items()}
    record |= {
        "baselines": {name: score.baseline for name, score in rivals.items()},  # the best of each score
        "against": {name: score.against for name, score in rivals.items()},  # what that is
        "ranking": [ranking.name, ranking.higher_is_better],
        "experiment": experiment.name,
        "seed": experiment.seed,
    }
    write_json(workdir / f"evaluation-{split}.json", record)
    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in predictions)
    if lines:
        write_atomically(workdir / f"predictions-{split}.jsonl", lines)
    return evaluation


def restored(
    workdir: Path, experiment: Experiment, task: Objective, vocabulary: str, checkpoint: str
) -> tuple[Params, Layout, int]:
    """Parameters of a checkpoint ("best", "latest" or a step) of a workdir, their layout and the checkpoint's step.
    `vocabulary` is the fingerprint of that in use.

    Raises AlbertError where there is no such checkpoint, it cannot be read, or it is another model's or vocabulary's.
    """
    try:
        layout = lay_out(task, experiment.mesh)
    except AlbertError:  # trained elsewhere: a mesh that does not fit the devices here
        layout = lay_out(task, MeshConfig())
    ranking = experiment.stopping.rank_by(task.best, task.scores)

    def unreadable(message: str) -> str:
        return (
            f"{workdir}: checkpoint {checkpoint!r} cannot be read ({message[:200]}); choose another with --checkpoint, "
            "or restore it from a copy"
        )

    with retold(unreadable, OSError, ValueError, KeyError, TypeError):  # what Orbax makes of damaged files
        checkpoints = open_for_reading(workdir, (ranking.name, ranking.higher_is_better))
        step = _choose(checkpoints.steps, checkpoints.best_step, checkpoint)
        params, metadata = (
            checkpoints.params(step, shardings(abstract_params(task), layout)),
            checkpoints.metadata(step),
        )
    known = metadata.get("vocabulary", "")
    if known and known != vocabulary:
        raise AlbertError(
            f"{workdir}: checkpoint {step} was trained with the vocabulary {known[:12]} and that of now is "
            f"{vocabulary[:12]}; put back the vocabulary that the run was started with"
        )
    return params, layout, step


def _choose(steps: list[int], best: int | None, wanted: str) -> int:
    known = {"best": best, "latest": steps[-1], **{str(step): step for step in steps}}
    if known.get(wanted) is None:
        raise AlbertError(f"there is no checkpoint {wanted!r}; choose best, latest or one of {steps}")
    return int(known[wanted])  # type: ignore[arg-type]
