"""How fast the training step is here, and how much of the machine's matmul peak that is, both measured in one run."""

import dataclasses
import time
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np

from albert_jax import experiment as experiments
from albert_jax.engine.sharding import MeshConfig
from albert_jax.engine.state import abstract_params, create, lay_out
from albert_jax.engine.step import make_train_step
from albert_jax.errors import AlbertError
from albert_jax.model.config import AlbertConfig, albert
from albert_jax.optim import AdamW, Lamb
from albert_jax.tasks import Pretrain
from albert_jax.tasks.pretrain import PretrainObjective, random_batch
from albert_jax.telemetry.tables import print_table
from albert_jax.telemetry.throughput import machine_peak, train_flops_per_token


@dataclass(frozen=True)
class BenchConfig:
    """Times the training step of a config, or of a published size, on random pieces; needs no data.

    The matmul peak is measured again before and after every timed step, so that other work on the machine slows both.
    """

    config: str = ""  # configs/NAME.py; its model, optimizer, batch and micro-batches are timed
    size: str = "base"  # published size to time when no config is given
    batch_size: int = 16  # examples in a step, when no config is given
    length: int = 128  # pieces in an example (S), when no config is given
    compute_dtype: Literal["", "float32", "bfloat16"] = ""  # float32 or bfloat16; empty keeps the config's
    steps: int = 8  # timed steps
    profile: str = ""  # directory for a jax.profiler trace of two more steps; empty takes none


@dataclass(frozen=True)
class BenchResult:
    tokens_per_second: float  # at the median step
    flops_per_second: float  # useful ones of the model, at the median step
    peak: float | None  # FLOP/s of matrix products alone; None where the device is unknown
    shares: tuple[float, ...]  # of the peak, step by step
    milliseconds: tuple[float, ...]  # step by step

    @property
    def share(self) -> float:
        """Median share of the peak."""
        return float(np.median(self.shares)) if self.shares else float("nan")


def measure(
    model: AlbertConfig, optim: Lamb | AdamW, batch_size: int, length: int, predictions: int,
    micro_batches: int = 1, steps: int = 8, profile: str = "",
) -> BenchResult:  # fmt: skip
    """Times `steps` training steps, the peak beside each. Raises AlbertError for a batch that does not divide."""
    task: Any = PretrainObjective(model, length, predictions)
    layout = lay_out(task, MeshConfig())
    layout.check_batch(batch_size, micro_batches)
    schedule = optim.schedule.build(optim.peak_lr, 1000)
    optimizer = optim.build(1000, abstract_params(task))
    state = create(task, optimizer, 0, layout)
    step = make_train_step(task, optimizer, schedule, layout, micro_batches=micro_batches)
    batch = layout.to_devices(random_batch(model, batch_size, length, predictions))
    for _ in range(2):  # compile, then warm up
        state, metrics = step(state, batch)
    jax.block_until_ready((state, metrics))
    flops = train_flops_per_token(model, length, predictions, model.inner_groups) * batch_size * length
    seconds, peaks = [], [machine_peak()]
    for _ in range(steps):
        start = time.perf_counter()
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))
        seconds.append(time.perf_counter() - start)
        peaks.append(machine_peak())
    if profile:
        with jax.profiler.trace(profile):
            for _ in range(2):
                state, metrics = step(state, batch)
            jax.block_until_ready(state)
    typical = float(np.median(seconds))
    known = [peak for peak in peaks if peak]
    # The best of the peaks, not the one beside the step: what the machine can do at all is the yardstick.
    shares = tuple(flops / s / max(known) for s in seconds) if known else ()
    return BenchResult(
        batch_size * length / typical,
        flops / typical,
        max(known, default=None),
        shares,
        tuple(1e3 * s for s in seconds),
    )


def bench(config: BenchConfig) -> BenchResult:
    """Measures and prints a table. Raises AlbertError for numbers below 1 and what `measure` refuses."""
    for field in ("batch_size", "length", "steps"):
        if (given := getattr(config, field)) < 1:
            raise AlbertError(f"{field} is {given}; it must be at least 1")
    if config.config:
        experiment = experiments.load_config(config.config)
        if not isinstance(experiment.task, Pretrain):
            raise AlbertError(f"{config.config} does not pretrain; bench times pretraining steps")
        model, optim = experiment.model, experiment.optim
        model = model if model.vocab_size else dataclasses.replace(model, vocab_size=30_000)
        rows, length, name = experiment.batch_size, experiment.task.max_length, experiment.name
        predictions, micro = experiment.task.masks.slots(length), experiment.micro_batches
    else:
        model, optim = albert(config.size), Lamb()
        rows, length, name, micro = config.batch_size, config.length, f"ALBERT-{config.size}", 1
        model = dataclasses.replace(model, max_positions=max(length, model.max_positions))
        predictions = -(-15 * length // 100)
    if config.compute_dtype:
        model = dataclasses.replace(model, compute_dtype=config.compute_dtype)
    result = measure(model, optim, rows, length, predictions, micro, config.steps, config.profile)
    peak = f"{result.peak / 1e9:,.0f}" if result.peak else "unknown device"
    spread = f"{min(result.shares):.1%} to {max(result.shares):.1%}" if result.shares else "-"
    print_table(
        f"{name}, {model.compute_dtype}, batch {rows} x {length}, {predictions} predictions, "
        f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        ("figure", "value"),
        [
            ("tokens/s (median step)", f"{result.tokens_per_second:,.0f}"),
            ("step, ms (median; min to max)", f"{np.median(result.milliseconds):,.0f}; {min(result.milliseconds):,.0f} "
             f"to {max(result.milliseconds):,.0f}"),
            ("model GFLOP/s", f"{result.flops_per_second / 1e9:,.0f}"),
            ("matmul peak GFLOP/s, same run", peak),
            ("share of peak (median)", f"{result.share:.1%}" if result.shares else "-"),
            ("share of peak (min to max)", spread),
        ],
    )  # fmt: skip
    return result
