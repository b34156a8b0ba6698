"""The verb bench: how fast a training step is here, and what share of the machine's matmul peak it reaches."""

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import jax
import numpy as np

from albert_jax import experiment as experiments
from albert_jax.commands.environment import set_up_jax
from albert_jax.engine.assemble import assemble
from albert_jax.engine.sharding import MeshConfig
from albert_jax.experiment import Experiment
from albert_jax.fields import check, knob
from albert_jax.model.config import albert
from albert_jax.optim import Lamb
from albert_jax.tasks import pretraining
from albert_jax.telemetry.tables import print_table
from albert_jax.telemetry.throughput import machine_peak, train_flops_per_token


@dataclass(frozen=True)
class Options:
    """Times the training step of a config, or of a published size, on random pieces; needs no data."""

    config: str = ""  # configs/NAME.py; its model, optimizer, batch and micro-batches are timed
    size: str = "base"  # published size to time when no config is given
    batch_size: int = knob(16, at_least=1)  # examples in a step, when no config is given
    length: int = knob(128, at_least=1)  # pieces in an example (S), when no config is given
    compute_dtype: Literal["", "float32", "bfloat16"] = ""  # float32 or bfloat16; empty keeps the config's
    steps: int = knob(8, at_least=1)  # timed steps
    profile: str = ""  # directory for a jax.profiler trace of two more steps; empty takes none


def run(options: Options) -> int:
    """Measures and prints a table. Raises AlbertError for numbers below 1, a config that does not pretrain, and a batch
    that does not divide over the devices."""
    check(options)
    set_up_jax()
    experiment = experiments.load_config(options.config) if options.config else _published(options)
    dtype = options.compute_dtype or experiment.model.compute_dtype
    task = experiment.task.objective(dataclasses.replace(experiment.model, compute_dtype=dtype))
    rows, length, predictions = experiment.batch_size, task.tokens_per_example, task.predictions_per_example
    # 1000 steps: the length of the schedule changes nothing in the time of a step.
    assembly = assemble(
        task, experiment.optim, MeshConfig(), steps=1000, batch_size=rows, micro_batches=experiment.micro_batches
    )
    state, batch = assembly.initial_state(), assembly.layout.to_devices(task.example_batch(rows))
    # The first step compiles, the second fills caches.
    for _ in range(2):
        state, metrics = assembly.train_step(state, batch)
    jax.block_until_ready((state, metrics))

    # The peak is measured before and after every timed step, so that other work on the machine slows both.
    seconds, peaks = [], [machine_peak()]
    for _ in range(options.steps):
        start = time.perf_counter()
        state, metrics = assembly.train_step(state, batch)
        jax.block_until_ready((state, metrics))
        seconds.append(time.perf_counter() - start)
        peaks.append(machine_peak())
    if options.profile:
        with jax.profiler.trace(options.profile):
            for _ in range(2):
                state, metrics = assembly.train_step(state, batch)
            jax.block_until_ready(state)

    tokens = rows * length
    flops = train_flops_per_token(task.config, length, predictions) * tokens
    print_table(
        f"{experiment.name}, {dtype}, batch {rows} x {length}, {predictions} predictions, "
        f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        ("figure", "value"),
        # Of the largest peak, not of the one measured beside a step: the yardstick is what the machine can do at all.
        list(_rows(tokens, flops, np.array(seconds), max((peak for peak in peaks if peak), default=0.0))),
    )
    return 0


def _published(options: Options) -> Experiment:
    model = albert(options.size)
    model = dataclasses.replace(model, max_positions=max(options.length, model.max_positions))
    task = pretraining(options.length)
    return Experiment(f"ALBERT-{options.size}", model, task, Lamb(), steps=1, batch_size=options.batch_size)


def _rows(tokens: int, flops: float, seconds: np.ndarray, peak: float) -> Iterator[tuple[str, str]]:
    """The table of a step of so many tokens and FLOPs; `peak` in FLOP/s, 0 where the device is unknown."""
    median, low, high = (np.median(seconds), np.min(seconds), np.max(seconds))
    yield "tokens/s (median step)", f"{tokens / median:,.0f}"
    yield "step, ms (median; min to max)", f"{1e3 * median:,.0f}; {1e3 * low:,.0f} to {1e3 * high:,.0f}"
    yield "model GFLOP/s", f"{flops / median / 1e9:,.0f}"
    yield "matmul peak GFLOP/s, same run", f"{peak / 1e9:,.0f}" if peak else "unknown device"
    yield "share of peak (median)", f"{flops / median / peak:.1%}" if peak else "-"
    yield "share of peak (min to max)", f"{flops / high / peak:.1%} to {flops / low / peak:.1%}" if peak else "-"
