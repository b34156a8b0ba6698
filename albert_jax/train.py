"""The story of a run, top to bottom: task, mesh, state, restore, iterate, log, evaluate, save."""

import dataclasses
import math
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from albert_jax import experiment as experiments
from albert_jax.cluster import workdirs
from albert_jax.cluster.agreement import barrier, check_equal, check_rows, of_first, slow_hosts
from albert_jax.engine.assemble import Assembly, assemble
from albert_jax.engine.checkpoint import Checkpoints
from albert_jax.engine.sharding import ROWS
from albert_jax.engine.state import abstract_params, count, shardings, with_values
from albert_jax.engine.stopping import Patience
from albert_jax.errors import AlbertError
from albert_jax.evaluate import score
from albert_jax.experiment import Experiment
from albert_jax.files import unwritable, write_json
from albert_jax.interop.load import source_at
from albert_jax.interop.start import check_vocabulary, inherit, initialise
from albert_jax.tasks.base import OpenTask
from albert_jax.telemetry.baselines import best_of, fitted, verdict
from albert_jax.telemetry.report import write_report
from albert_jax.telemetry.scores import Score, write_scores
from albert_jax.telemetry.tables import print_table
from albert_jax.telemetry.throughput import Meter, machine_peak, train_flops_per_token
from albert_jax.telemetry.watch import CollapseWatch


class Diverged(AlbertError):
    """Too many steps in a row had a gradient that is not finite."""


def train(
    experiment: Experiment, workdir: str | Path, on_evaluation: Callable[[int, dict[str, float]], None] | None = None
) -> dict[str, float]:
    """Runs `experiment` in `workdir` to its last step, continuing what is there; returns the last validation scores.
    Of several processes (`albert_jax.cluster.processes`) all call it, with the same experiment and a workdir that
    all share.

    `on_evaluation(step, scores)` is called after each evaluation; what it raises ends the run there.

    Raises AlbertError for bad input, a workdir of another experiment or processes that disagree, and Diverged.
    """
    workdir = workdirs.local_dir(workdir)
    # A model to start from is opened once for all that ask it: an archive takes seconds to unpack.
    begun = (workdir / experiments.FILE).exists()
    with source_at(experiment.init) if experiment.init and not begun else nullcontext():
        return _train(experiment, workdir, on_evaluation)


def _train(
    experiment: Experiment, workdir: Path, on_evaluation: Callable[[int, dict[str, float]], None] | None
) -> dict[str, float]:
    asked = experiment
    experiment = inherit(experiment, workdir).check()
    # Processes that differ would not fail: they would hang in the first collective that only one of them enters.
    check_equal("different experiments", experiments.shared(experiment), "start all with the same command and code")

    # ---- the task on its data, and the experiment as it will be stored
    task = experiment.task.open(experiment.model, experiment.seed)
    # Stored as resolved: the workdir must stay readable when data and source model are gone.
    experiment = dataclasses.replace(experiment, model=task.config, task=task.resolved)
    experiment, taken = in_steps(experiment, task, workdir)
    ranking = experiment.stopping.rank_by(task.best, task.scores)
    ranked = (ranking.name, ranking.higher_is_better)
    seen = {"vocabulary": task.tokenizer.fingerprint, "steps": experiment.steps}
    check_equal("different data", seen, "give all the same prepared files")
    # Before anything is allocated: a wrong --workdir should cost seconds.
    check_own(workdir, experiment, task)

    # Before the last step a part of the validation split may have to do; it ranks the last one's checkpoint too.
    most = experiment.eval_examples
    part = task if most is None else task.scored_on("validation", most)

    # ---- devices, optimizer and steps
    assembly = assemble_run(experiment, task)
    layout = assembly.layout
    rows = layout.process_rows(experiment.batch_size)
    # A second loader, since only now is it known which rows of a batch this process holds.
    batches = task.train_batches(experiment.batch_size, experiment.seed, experiment.data_workers, rows)
    checkpoints = Checkpoints(workdir, experiment.checkpoint, ranked, writing=True)

    # ---- where to start: 1. resume  2. (an explicit restore is --init)  3. initialise from  4. scratch, which goes
    # before 3 where it is asked for: of a model named beside it only shape and vocabulary are taken
    latest = max(checkpoints.steps, default=None)
    messages: list[str] = [*taken, *task.notes]
    patience, complete = Patience(experiment.stopping, ranked), False  # complete: starts as a whole trained model
    # A host with an old copy of the workdir would start at another step and never meet the others again.
    seen = {"latest checkpoint": latest, "data": batches.get_state()}
    check_equal("different files", seen, f"{workdir} must be one directory that all share, and the data the same files")
    if latest is not None:
        state = checkpoints.restore(latest, assembly.abstract_state())
        metadata = checkpoints.metadata(latest)
        batches.set_state(metadata["data"])
        # Part of the checkpoint: a run that is killed shall stop early at the same evaluation as one that is not.
        patience = Patience(experiment.stopping, ranked, metadata.get("patience"))
        messages.append(f"continuing at step {latest}")
    elif experiment.init and not experiment.from_scratch:
        state = assembly.initial_state()
        params, fresh, unused = initialise(state.params, experiment.init, task)
        state, complete = state.replace(params=params), not fresh
        why = "" if asked.init else ", the model in the box, since no --init is given"
        messages.append(
            f"starting from {experiment.init}{why}; not found there and fresh: {', '.join(fresh) or 'nothing'}; "
            f"found there and not needed: {', '.join(unused) or 'nothing'}"
        )
    elif experiment.task.fine_tunes and not experiment.from_scratch:
        raise AlbertError(
            "fine-tuning would start from random parameters; give --init WORKDIR of a pretrained model, "
            "or --from-scratch if that is what you want"
        )
    else:
        state = assembly.initial_state()
        if experiment.init:
            messages.append(f"from scratch: shape and vocabulary of {experiment.init}, random values")
        # Every process makes them, and takes those of the first: two kinds of CPU round differently.
        if values := of_first(task.initial_values(experiment.seed)):
            state = state.replace(params=with_values(state.params, values))
            messages.append(f"initial values from the data: {', '.join(sorted(values))}")
    start = int(state.step)
    # Nothing is written before here: after a refusal a corrected command finds the workdir as it was.
    write_run_files(workdir, experiment, task)

    # ---- steps
    eval_rows = assembly.eval_rows(experiment.eval_batch_size)
    config = task.config
    flops = train_flops_per_token(config, task.tokens_per_example, task.predictions_per_example)
    peak = machine_peak(list(layout.mesh.devices.flat))
    meter = Meter(experiment.batch_size * task.tokens_per_example, flops, peak)
    if peak is None:
        kind = layout.mesh.devices.flat[0].device_kind
        messages.append(f"MFU: unknown device {kind!r}, so its share of a peak is not reported")
    compiled: set[int] = set()  # row lengths of the steps so far
    if part is not task:
        some, every = (each.eval_batches("validation", eval_rows).examples for each in (part, task))
        messages.append(
            f"evaluations before the last score {some:,} of {every:,} validation examples, evenly spaced, and rank the "
            "checkpoints by them; --eval-share 0 scores all"
        )
    window = Window()
    scores: dict[str, float] = {}
    done = start >= experiment.steps or patience.over

    with (
        workdirs.upload_at_end(workdir),
        stop_signals() as stopped,
        experiment.telemetry.build(
            workdir,
            experiment.steps,
            start,
            enabled=jax.process_index() == 0,
            name=experiment.name,
            watch=CollapseWatch(experiment.watch, task.baselines("validation").get("mlm_loss")),
            experiment=experiments.to_dict(experiment),
            scores=task.scores,
        ) as telemetry,
    ):
        for line in [banner(experiment, layout.mesh, count(state.params)), *messages]:
            telemetry.say(line)
        if complete:  # what it can do before the first step
            evaluation, _ = score(task, assembly.eval_step, state.params, layout, "validation", eval_rows)
            telemetry.log(0, "validation", evaluation.scores)
        if done:
            ended = f"; {patience.reason}" if patience.over else ""
            telemetry.say(f"{workdirs.display_path(workdir)} is done: {start} of {experiment.steps} steps{ended}")
        for number in range(start, start if done else experiment.steps):
            with meter.waiting():
                made = next(batches)
                batch = layout.to_devices(made)
            # The first batch of every process is compared once: rows that two of them share would train on half the
            # data.
            if number == start and batches.examples >= experiment.batch_size:  # fewer may well repeat
                check_rows(made, rows)
            # Rows may be of several lengths, and each is compiled where it is first met.
            length = made["input_ids"].shape[1] if "input_ids" in made else task.tokens_per_example
            new = number > start and length not in compiled
            compiled.add(length)
            with meter.compiling() if new else meter.devices():
                state, metrics = assembly.train_step(state, batch)
                if new:
                    jax.block_until_ready(metrics)
                window.add(metrics)  # fetches the metrics of the step before, so the devices never wait for this line
            if not new:
                per_token = train_flops_per_token(config, length, task.predictions_per_example)
                meter.took(experiment.batch_size * length, per_token)
            step = number + 1
            telemetry.tick(step)
            # Compilation happens in the first step and would hide in every figure of speed.
            if number == start:
                meter.lap(step)  # starts the clock: compilation is in no figure
            # A signal is looked at between steps only, so that what is saved is a whole step.
            last, stopping = step == experiment.steps, stopped(step)
            evaluating = last or bool(experiment.eval_every and step % experiment.eval_every == 0)
            saving = last or stopping or step % experiment.checkpoint.every == 0
            # Also before a save: the record of a step must be on disk no later than its checkpoint, or a resumed run
            # would miss it.
            if saving or evaluating or step % experiment.telemetry.log_every == 0:
                with meter.devices():
                    means = window.take()
                speed = meter.lap(step)
                telemetry.log(step, "train", means | speed)
                with meter.devices():
                    slow = slow_hosts(speed.get("seconds_per_step", 0.0), meter.host_seconds)
                for sentence in slow:
                    telemetry.event(step, sentence)
                # A few skipped steps are normal with bfloat16; many in a row mean that the parameters no longer
                # recover.
                if means["skipped"] >= experiment.max_skipped:
                    raise diverged(int(means["skipped"]), step, checkpoints.steps)
            with meter.pause():
                if evaluating:
                    evaluation, _ = score(part, assembly.eval_step, state.params, layout, "validation", eval_rows)
                    compared = scores = evaluation.scores
                    if last and part is not task:
                        evaluation, _ = score(task, assembly.eval_step, state.params, layout, "validation", eval_rows)
                        scores = evaluation.scores
                    telemetry.log(step, "validation", scores)
                    for note in evaluation.notes:
                        if note not in messages:
                            telemetry.event(step, note)
                            messages.append(note)
                    better = patience.observe(step, compared)
                    # A fine-tuning run is short and its best step is what it is for; in pretraining the last is.
                    saving |= patience.over or (better and experiment.task.fine_tunes)
                if saving:
                    # A checkpoint without a finite score is kept as the latest but can never be the best.
                    usable = compared if evaluating and math.isfinite(compared[ranking.name]) else None
                    checkpoints.save(state, describe(experiment, task, batches, patience, ranking), usable)
                    workdirs.upload(workdir)
                if evaluating and on_evaluation is not None:
                    checkpoints.wait()  # whatever it raises, what was saved is on disk
                    on_evaluation(step, compared)
            if stopping and not last:
                checkpoints.close()
                telemetry.event(step, f"stopped by a signal after step {step}; run the command again to continue")
                # 128 + SIGTERM, what launchers take for "preempted, run it again".
                raise SystemExit(143)
            if patience.over:
                telemetry.event(step, patience.reason)
                break
        best = patience.state["best"]
        if not done and part is not task:  # what is told of a run is never the score of a part
            if patience.over or checkpoints.best_step != step:
                best_step, whole = best_on_all(task, assembly, checkpoints, eval_rows)
                shown = f"{ranking.name} {whole[ranking.name]:.4f}"
                telemetry.event(step, f"the best checkpoint, of step {best_step:,}, on all of validation: {shown}")
                best, scores = whole[ranking.name], whole if patience.over else scores
            else:
                best = scores[ranking.name]
        if not done and jax.process_index() == 0:
            # At the end, when it delays nothing: what the run was worth beside plain models of the same data.
            plain, notes = fitted(workdir, "validation", task.plain("validation"))
            rivals = best_of(task.scores, task.baselines("validation"), plain)
            for line in [*notes, verdict(rivals.get(ranking.name, ranking), best)]:
                if line:
                    telemetry.event(step, f"validation: {line}")
    checkpoints.close()
    if jax.process_index() == 0:
        with workdirs.upload_at_end(workdir):
            print(f"report: {workdirs.display_path(write_report(workdir))}")
    return scores


def dry_run(experiment: Experiment, workdir: str | Path) -> None:
    """Prints what `train` would run: a line for the run and one for each parameter, with its shape, its spec on the
    mesh and its bytes on a device. Writes nothing.

    Raises AlbertError as `train` does before its first step, but for what is in the workdir.
    """
    experiment = inherit(experiment, workdirs.local_dir(workdir)).check()
    task = experiment.task.open(experiment.model, experiment.seed)
    # The width that a recipe goes by may be the data's or the model's to start from.
    experiment = dataclasses.replace(experiment, model=task.config)
    experiment, taken = in_steps(experiment, task, workdirs.local_dir(workdir))
    layout = assemble_run(experiment, task).layout
    rows = layout.table()
    for line in [banner(experiment, layout.mesh, sum(math.prod(shape) for shape in layout.shapes.values())), *taken]:
        print(line)
    print_table("Parameters", ("path", "shape", "spec", "bytes a device", "of its moments"), rows)
    stored, moments = sum(row[3] for row in rows), sum(row[4] for row in rows)
    print(f"{stored:,} bytes of parameters and {moments:,} of moments on each device")


def in_steps(experiment: Experiment, task: OpenTask, workdir: Path) -> tuple[Experiment, list[str]]:
    """The experiment with the length of its run in steps and its recipe, if any, filled in; and what to say of that.

    Raises AlbertError where the fields do not go together.
    """
    examples = task.train_batches(experiment.batch_size or 1, experiment.seed, 0).examples
    # What a run has begun with stands in its workdir, which `inherit` has read: the table may be another by now.
    begun = (workdir / experiments.FILE).exists()
    experiment, taken = (experiment, []) if begun else experiment.with_recipe(examples)
    return experiment.in_steps(examples), taken


def check_own(workdir: Path, experiment: Experiment, task: OpenTask) -> None:
    """Raises AlbertError when the workdir belongs to another experiment, or a model to start from has another
    vocabulary."""
    if (workdir / experiments.FILE).exists():
        changed = experiments.differences(experiments.read(workdir), experiment)
        if changed:
            raise AlbertError(
                f"{workdir} belongs to another experiment ({'; '.join(changed[:4])}"
                f"{'; ...' if len(changed) > 4 else ''}); use another --workdir, or give the same fields to continue it"
            )
        check_vocabulary(workdir, task)
    elif experiment.init:
        check_vocabulary(experiment.init, task)
    barrier("checked")  # nobody reads what process 0 is about to write


def assemble_run(experiment: Experiment, task: OpenTask) -> Assembly:
    """The experiment's mesh, optimizer and steps. Raises AlbertError where they do not fit."""
    return assemble(
        task, experiment.optim, experiment.mesh, steps=experiment.steps, batch_size=experiment.batch_size,
        micro_batches=experiment.micro_batches, seed=experiment.seed,
    )  # fmt: skip


def write_run_files(workdir: Path, experiment: Experiment, task: OpenTask) -> None:
    """Writes experiment, scores, vocabulary and, of an own kind of task, its code into the workdir.

    Raises AlbertError when it cannot be written.
    """
    if jax.process_index() == 0:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            task.tokenizer.save(workdir / "vocab")
            # Read here once, so that reports and comparisons need not open the data.
            baselines = task.baselines("validation")
            ranking = experiment.stopping.rank_by(task.best, task.scores).name
            scores = [score.with_baseline(baselines.get(score.name)) for score in task.scores]
            write_scores(workdir, [dataclasses.replace(score, ranks=score.name == ranking) for score in scores])
            # Without its code the run could not be opened once the user has edited or moved the config.
            code = experiments.own_config(experiment)
            if code is not None and code.resolve() != (workdir / experiments.CONFIG).resolve():
                shutil.copyfile(code, workdir / experiments.CONFIG)
            # Last: a workdir with an experiment has all the rest.
            write_json(workdir / experiments.FILE, experiments.to_dict(experiment))
        except OSError as error:
            raise unwritable(workdir, error) from error
    workdirs.upload(workdir)
    # The others must not look before process 0 has written, and see the same files where they look.
    barrier("written")
    workdirs.download(workdir)
    existing = {f"{experiments.FILE} exists": (workdir / experiments.FILE).exists()}
    check_equal("different workdirs", existing, f"{workdir} must be one directory that all share")


def best_on_all(
    task: OpenTask, assembly: Assembly, checkpoints: Checkpoints, eval_rows: int
) -> tuple[int, dict[str, float]]:
    """The step of the best checkpoint, and its scores on the whole validation split."""
    checkpoints.wait()
    step, layout = checkpoints.best_step, assembly.layout
    assert step is not None
    params = checkpoints.params(step, shardings(abstract_params(task), layout))
    return step, score(task, assembly.eval_step, params, layout, "validation", eval_rows)[0].scores


def describe(
    experiment: Experiment, task: OpenTask, batches: Any, patience: Patience, ranking: Score
) -> dict[str, Any]:
    """What a checkpoint holds beside its arrays, as JSON."""
    return {
        "data": batches.get_state(),
        "experiment": experiments.to_dict(experiment),
        "vocabulary": task.tokenizer.fingerprint,
        "patience": patience.state,
        "ranking": [ranking.name, ranking.higher_is_better],  # for those who read checkpoints without opening the task
    }


def diverged(skipped: int, step: int, saved: list[int]) -> Diverged:
    intact = f"the checkpoint of step {max(saved)} is intact" if saved else "nothing was saved yet"
    return Diverged(
        f"{skipped} steps in a row had a gradient that is not finite, the last is {step}; {intact}: lower "
        "optim.peak_lr, raise optim.schedule.warmup_steps, or compute in float32"
    )


class Window:
    """Means of the metrics since the last record, fetched one step late."""

    def __init__(self) -> None:
        self._late: dict[str, Any] | None = None
        self._seen: list[dict[str, Any]] = []

    def add(self, metrics: dict[str, Any]) -> None:
        if self._late is not None:
            self._seen.append(jax.device_get(self._late))
        self._late = metrics

    def take(self) -> dict[str, float]:
        """Means, but for the learning rate and the count of skipped steps, which are the last step's."""
        assert self._late is not None
        self._seen.append(jax.device_get(self._late))
        seen, self._seen, self._late = self._seen, [], None
        newest = {name: float(seen[-1][name]) for name in ("learning_rate", "skipped")}
        return {name: float(np.mean([m[name] for m in seen])) for name in seen[0]} | newest


@contextmanager
def stop_signals() -> Iterator[Callable[[int], bool]]:
    """A function of the step just taken: whether to save and leave, for SIGTERM (preemption) or a first Ctrl-C came.

    A signal to one of several processes stops all after the same step. JAX's preemption service, which has taken
    SIGTERM since they joined, tells the others of it within about a second; until then a step costs no communication.
    """
    event, several = threading.Event(), jax.process_count() > 1
    stopped = multihost_utils.reached_preemption_sync_point if several else lambda step: event.is_set()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def stop(number: int, frame: Any) -> None:
        event.set()
        signal.signal(number, before[signal.Signals(number)])  # a second one stops at once
        if several:
            os.kill(os.getpid(), signal.SIGTERM)

    numbers = (signal.SIGINT,) if several else (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def banner(experiment: Experiment, mesh: Mesh, parameters: int) -> str:
    """What the run is, in one line: the batch is global, and here is how it divides."""
    tokens = experiment.batch_size * experiment.task.max_length
    groups = math.prod(mesh.shape[axis] for axis in ROWS)
    grid = ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items() if size > 1)
    return (
        f"{experiment.name}: {parameters:,} parameters, {experiment.steps:,} steps of {experiment.batch_size} examples "
        f"({experiment.batch_size // groups} a device on {mesh.size} x {mesh.devices.flat[0].device_kind}"
        f"{f' ({grid})' if grid else ''}{f' of {jax.process_count()} processes' if jax.process_count() > 1 else ''}, "
        f"{experiment.micro_batches} micro-batches), {tokens:,} tokens a step; "
        f"{type(experiment.optim).__name__} up to {experiment.optim.peak_lr:g} "
        f"after {experiment.optim.schedule.warmup(experiment.steps):,} steps"
    )
