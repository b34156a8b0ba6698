"""The story of a run, top to bottom: task, mesh, state, restore, iterate, log, evaluate, save."""

import dataclasses
import json
import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from albert_jax import experiment as experiments
from albert_jax.checkpoint import Checkpoints, initialise
from albert_jax.errors import AlbertError
from albert_jax.evaluate import check_vocabulary, score
from albert_jax.experiment import Experiment
from albert_jax.records import write_atomically, write_baselines
from albert_jax.report import write_report
from albert_jax.sharding import to_devices
from albert_jax.state import abstract_params, count, create
from albert_jax.step import make_eval_step, make_train_step
from albert_jax.tasks.base import OpenTask
from albert_jax.throughput import Meter, machine_peak, train_flops_per_token


def train(experiment: Experiment, workdir: str | Path) -> dict[str, float]:
    """Runs `experiment` in `workdir` to its last step, continuing what is there; returns the last validation scores.

    Raises AlbertError for bad input, a workdir of another experiment, or a run that diverged.
    """
    workdir = Path(workdir)
    experiment = experiment.check()

    # ---- the task on its data, and the experiment as it will be stored
    task = experiment.task.open(experiment.model, experiment.seed)
    experiment = dataclasses.replace(experiment, model=task.config)
    claim(workdir, experiment, task)

    # ---- devices, optimizer, an empty state
    mesh = experiment.mesh.build()
    if experiment.batch_size % (mesh.size * experiment.micro_batches):
        raise AlbertError(
            f"batch_size {experiment.batch_size} does not divide over {mesh.size} devices x "
            f"{experiment.micro_batches} micro-batches; make it a multiple of {mesh.size * experiment.micro_batches}"
        )
    optimizer = experiment.optim.build(experiment.steps, abstract_params(task))
    schedule = experiment.optim.schedule.build(experiment.optim.peak_lr, experiment.steps)
    checkpoints = Checkpoints(workdir, experiment.checkpoint, task.best, writing=True)
    batches = task.train_batches(experiment.batch_size, experiment.seed, experiment.data_workers)

    # ---- where to start: 1. resume  2. (an explicit restore is --init)  3. initialise from  4. scratch
    state = create(task, optimizer, experiment.seed, mesh)
    latest = max(checkpoints.steps, default=None)
    said: list[str] = []
    if latest is not None:
        state = checkpoints.restore(latest, jax.eval_shape(lambda: state), mesh)
        batches.set_state(checkpoints.about(latest)["data"])
        said.append(f"continuing at step {latest}")
    elif experiment.init:
        check_vocabulary(experiment.init, task)
        params, fresh, unused = initialise(state.params, experiment.init)
        state = state.replace(params=params)
        said.append(
            f"starting from {experiment.init}; not found there and fresh: {', '.join(fresh) or 'nothing'}; "
            f"found there and not needed: {', '.join(unused) or 'nothing'}"
        )
    elif experiment.task.fine_tunes and not experiment.from_scratch:
        raise AlbertError(
            "fine-tuning would start from random parameters; give --init WORKDIR of a pretrained model, "
            "or --from-scratch if that is what you want"
        )
    start = int(state.step)

    # ---- steps
    train_step = make_train_step(
        task, optimizer, schedule, mesh, micro_batches=experiment.micro_batches, seed=experiment.seed
    )
    eval_step = make_eval_step(task, mesh)
    eval_size = experiment.eval_batch_size or experiment.batch_size
    eval_size += -eval_size % mesh.size
    config = task.config
    flops = train_flops_per_token(config, task.tokens_per_example, task.predictions_per_example, config.inner_groups)
    meter = Meter(experiment.batch_size * task.tokens_per_example, flops, machine_peak(list(mesh.devices.flat)))
    window = Window()
    scores: dict[str, float] = {}
    done = start >= experiment.steps

    telemetry = experiment.telemetry.build(
        workdir,
        experiment.steps,
        start,
        enabled=jax.process_index() == 0,
        name=experiment.name,
        watch=experiment.watch.build(task.baselines.get("unigram_entropy")),
        experiment=experiments.to_dict(experiment),
    )
    with telemetry, stop_signals() as stopped:
        for line in [banner(experiment, mesh.size, count(state.params)), *said]:
            telemetry.say(line)
        if done:
            telemetry.say(f"{workdir} is done: {start} of {experiment.steps} steps")
        for number in range(start, experiment.steps):
            with meter.waiting():
                batch = to_devices(next(batches), mesh)
            state, metrics = train_step(state, batch)
            step = number + 1
            window.add(metrics)  # fetches the metrics of the step before, so the devices never wait for this line
            telemetry.tick(step)
            if number == start:
                meter.lap(step)  # starts the clock: compilation is in no figure
            last, stopping = step == experiment.steps, stopped.is_set()
            evaluating = last or bool(experiment.eval_every and step % experiment.eval_every == 0)
            saving = last or stopping or step % experiment.checkpoint.every == 0
            if saving or evaluating or step % experiment.telemetry.log_every == 0:
                means = window.take()
                telemetry.log(step, "train", means | meter.lap(step))
                if means["skipped"] >= experiment.max_skipped:
                    raise AlbertError(
                        f"{int(means['skipped'])} steps in a row had a gradient that is not finite, the last is "
                        f"{step}; "
                        f"the checkpoint of step {max(checkpoints.steps, default=0)} is intact: lower optim.peak_lr, "
                        "raise optim.schedule.warmup_steps, or compute in float32"
                    )
            with meter.pause():
                if evaluating:
                    evaluation, _ = score(task, eval_step, state.params, mesh, "validation", eval_size)
                    scores = evaluation.scores
                    telemetry.log(step, "validation", scores)
                if saving:
                    about = {"data": batches.get_state(), "experiment": experiments.to_dict(experiment)}
                    about["vocabulary"] = task.tokenizer.fingerprint
                    usable = scores if evaluating and math.isfinite(scores[task.best[0]]) else None
                    checkpoints.save(state, about, usable)
            if stopping and not last:
                checkpoints.close()
                telemetry.event(step, f"stopped by a signal after step {step}; run the command again to continue")
                raise SystemExit(143)
    checkpoints.close()
    if jax.process_index() == 0:
        print(f"report: {write_report(workdir)}")
    return scores


def claim(workdir: Path, experiment: Experiment, task: OpenTask) -> None:
    """Writes experiment, baselines and vocabulary into a new workdir, or checks that they are those of this one.

    Raises AlbertError when the workdir belongs to another experiment or cannot be written.
    """
    if (workdir / experiments.FILE).exists():
        changed = experiments.differences(experiments.read(workdir), experiment)
        if changed:
            raise AlbertError(
                f"{workdir} belongs to another experiment ({'; '.join(changed[:4])}"
                f"{'; ...' if len(changed) > 4 else ''}); use another --workdir, or give the same fields to continue it"
            )
        check_vocabulary(workdir, task)
    if jax.process_index() == 0:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            task.tokenizer.save(workdir / "vocab")
            write_baselines(workdir, task.baselines)
            # Last: a workdir with an experiment has all the rest.
            text = json.dumps(experiments.to_dict(experiment), indent=2)
            write_atomically(workdir / experiments.FILE, text + "\n")
        except OSError as error:
            raise AlbertError(
                f"cannot write to {workdir}: {error.strerror}; make room there or choose another --workdir"
            ) from error


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
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM (preemption) or a first Ctrl-C sets: the loop then saves at the next step and leaves."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def stop(number: int, frame: Any) -> None:
        event.set()
        signal.signal(number, before[signal.Signals(number)])  # a second one stops at once

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def banner(experiment: Experiment, devices: int, parameters: int) -> str:
    """What the run is, in one line: the batch is global, and here is how it divides."""
    tokens = experiment.batch_size * experiment.task.max_length
    return (
        f"{experiment.name}: {parameters:,} parameters, {experiment.steps:,} steps of {experiment.batch_size} examples "
        f"({experiment.batch_size // devices} a device on {devices} x {jax.devices()[0].device_kind}, "
        f"{experiment.micro_batches} micro-batches), {tokens:,} tokens a step; "
        f"{type(experiment.optim).__name__} up to {experiment.optim.peak_lr:g} "
        f"after {experiment.optim.schedule.warmup_steps} steps"
    )
