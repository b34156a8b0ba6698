"""How fast a run is, and how fast it could be: FLOPs by formula, peaks by table or by measurement.

ALBERT applies one block L times, so the usual "6 x parameters x tokens" is too low by about L. The formula
here counts the matmuls that are executed; `traced_matmul_flops` counts them again from the traced program,
and the tests compare the two.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from albert_jax.cluster.devices import find_chip
from albert_jax.model.config import AlbertConfig

# ---------------------------------------------------------------------------------------------- FLOPs


def forward_flops_per_token(config: AlbertConfig, sequence_length: int, predictions: float = 0) -> float:
    """Matmul FLOPs of one forward pass, per token position (padding included), a multiply-add being 2.

    `predictions` (P) are the masked positions of a sequence that are decoded, 0 when there is no MLM head.
    """
    # Left out, for they stay below one part in a thousand: biases, LayerNorm, softmax, GELU, order and other heads.
    L, D, E, S = config.layers * config.inner_groups, config.hidden_size, config.embedding_size, sequence_length
    F, V, P = config.feed_forward_size, config.vocab_size, predictions
    # Query, key, value and output; the two matmuls of the feed-forward part; scores and mixing.
    layers = L * (8 * D**2 + 4 * D * F + 4 * S * D)
    projection = 2 * E * D if E != D else 0
    # The transform of the MLM head, and the product with the tied table.
    decoding = P / S * (2 * D * E + 2 * E * V)
    # The pooler works on one position of a sequence.
    return layers + projection + decoding + 2 * D**2 / S


def train_flops_per_token(config: AlbertConfig, sequence_length: int, predictions: float = 0) -> float:
    """Model FLOPs of one training step per token position."""
    # The gradient of each matmul with respect to each of its two operands is a matmul of the same size. What
    # rematerialisation repeats costs time and is no work of the model, so it does not raise this number.
    return 3.0 * forward_flops_per_token(config, sequence_length, predictions)


def traced_matmul_flops(jaxpr: Any) -> int:
    """FLOPs of all `dot_general`s that a traced program executes. A `while` whose trip count is not in the program
    counts its body once, and all branches of a `cond` count."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left, result = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
            total += 2 * math.prod(result) * math.prod(left[axis] for axis in contracted)
        for value in filter(_is_program, jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program)):
            total += _repeats(equation) * traced_matmul_flops(getattr(value, "jaxpr", value))
    return total


def _repeats(equation: Any) -> int:
    """How often an equation runs the programs inside it."""
    name, given = equation.primitive.name, equation.params
    # Once per trip, which XLA's own cost_analysis does not do: it would count one layer of a scan over L.
    if name == "scan":
        return given["length"]
    # The body is one device's share of the work, and the count is that of all devices.
    if name == "shard_map":
        return math.prod(given["mesh"].shape[axis] for axis in given["newly_manual_axes"])
    if name == "pallas_call":
        return math.prod(size for size in given["grid_mapping"].grid if isinstance(size, int))
    return 1


def _is_program(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def device_peak(device_kind: str) -> float | None:
    """bfloat16 FLOP/s of one JAX device of this kind, or None when `albert_jax.cluster.devices` does not know it."""
    chip = find_chip(device_kind)
    return None if chip is None else chip.peak / chip.devices


def machine_peak(devices: list[jax.Device] | None = None) -> float | None:
    """FLOP/s of all `devices` (default: all of this run) together, or None when their kind is unknown.

    Accelerators come from the table, in bfloat16 whatever the run computes in: a float32 run sees what it leaves
    unused. A CPU is measured in float32; the first call takes about a second.
    """
    devices = jax.devices() if devices is None else devices
    if devices[0].platform == "cpu":
        # Once for each machine, not for each device: the devices of a CPU share its cores.
        return measure_matmul_peak() * len({device.process_index for device in devices})
    peak = device_peak(devices[0].device_kind)
    return None if peak is None else peak * len(devices)


def measure_matmul_peak(sizes: tuple[int, ...] = (1024, 2048), seconds: float = 0.5) -> float:
    """FLOP/s of the fastest square matmul that jitted JAX does on the default device, best of many repeats: of each
    size in order, then in rounds until `seconds` are spent. Compilation comes on top."""
    multiply = jax.jit(lambda left, right: left @ right)
    random, deadline = np.random.default_rng(0), time.perf_counter() + seconds
    best, operands = 0.0, []
    # The best counts, not the mean: other work on the machine can only slow a repeat down.
    for size in sizes:
        # A single run of this size would take more than the time there is.
        if best and 2 * (2 * size**3 / best) > seconds:
            break
        operands.append(jax.device_put(random.random((size, size), np.float32)))
        # The first run compiles: it is not counted.
        _matmul_rate(multiply, operands[-1])
        best = max(best, _matmul_rate(multiply, operands[-1]))
    while time.perf_counter() < deadline:
        best = max(best, *(_matmul_rate(multiply, matrix) for matrix in operands))
    return best


def _matmul_rate(multiply: Callable[..., jax.Array], matrix: jax.Array) -> float:
    start = time.perf_counter()
    multiply(matrix, matrix).block_until_ready()
    return 2 * matrix.shape[0] ** 3 / (time.perf_counter() - start)


@dataclass
class Meter:
    """Turns step numbers into tokens/s, model FLOP/s, MFU and share of time spent waiting for data.

    `lap(step)` is called when the result of `step` has arrived. The first lap only starts the clock; make it
    after the first step, so that compilation is in no figure. Steps of another size than `tokens_per_step` are told by
    `took`, and a later step that compiles is made in `compiling`.

    Attributes:
        host_seconds: of the last lap, outside `devices()`: the mean of a step, and the longest stretch.
    """

    tokens_per_step: int  # token positions of one optimizer step, all devices and micro-batches together
    flops_per_token: float = 0.0  # from `train_flops_per_token`
    peak: float | None = None  # FLOP/s of all devices from `machine_peak`; None leaves `peak_share` (MFU) out
    clock: Callable[[], float] = time.perf_counter  # seconds, monotonic

    def __post_init__(self) -> None:
        self._born = self.clock()
        self._step: int | None = None
        self._uncounted = 0  # steps since the last lap that compiled
        self._more_tokens = self._more_flops = 0.0  # than in steps of the usual size
        self._since = self._waited = self._paused = self._on_devices = 0.0
        self._host_since = self._longest = 0.0
        self.host_seconds = {"mean": 0.0, "longest": 0.0}

    # The blocks need no `finally`: an exception that leaves one ends the run.

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time in this block counts as waiting for data."""
        start = self.clock()
        yield
        self._waited += self.clock() - start

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Time in this block (evaluation, saving) is not training and counts nowhere but in `seconds`."""
        start = self.clock()
        yield
        spent = self.clock() - start
        self._paused += spent
        self._host_since += spent

    @contextmanager
    def compiling(self) -> Iterator[None]:
        """A step in this block compiles: it counts nowhere, as in `pause`. It must end when its result is there."""
        self._uncounted += 1
        with self.pause():
            yield

    def took(self, tokens: int, flops_per_token: float) -> None:
        """A step, outside `compiling`, was of so many token positions."""
        self._more_tokens += tokens - self.tokens_per_step
        self._more_flops += tokens * flops_per_token - self.tokens_per_step * self.flops_per_token

    @contextmanager
    def devices(self) -> Iterator[None]:
        """Time in this block is the devices', and waiting for other processes; the rest is this host's own."""
        start = self.clock()
        self._longest = max(self._longest, start - self._host_since)
        yield
        self._host_since = self.clock()
        self._on_devices += self._host_since - start

    def lap(self, step: int) -> dict[str, float]:
        """Scalars since the last lap: tokens_per_second, seconds_per_step, model_flops_per_second (where FLOPs a token
        are known), data_wait_share, peak_share (both 0..1) and seconds since the meter was made. Only `seconds` on the
        first lap or when no step has passed."""
        now = self.clock()
        scalars = {"seconds": now - self._born}
        self.host_seconds = {"mean": 0.0, "longest": 0.0}  # where no step has counted
        if self._step is not None and step > self._step + self._uncounted:
            spent = max(now - self._since - self._paused, 1e-9)
            steps = step - self._step - self._uncounted
            rate = (steps * self.tokens_per_step + self._more_tokens) / spent
            flops = (steps * self.tokens_per_step * self.flops_per_token + self._more_flops) / spent
            scalars |= {"tokens_per_second": rate, "seconds_per_step": spent / steps}
            scalars["data_wait_share"] = min(self._waited / spent, 1.0)
            if self.flops_per_token:
                scalars["model_flops_per_second"] = flops
                if self.peak:
                    scalars["peak_share"] = flops / self.peak
            # A slow host is found by its own time: in a collective all wait for it, so that spent is the same for all.
            self.host_seconds = {"mean": max(spent - self._on_devices, 0.0) / steps, "longest": self._longest}
        self._step, self._since, self._waited, self._paused = step, now, 0.0, 0.0
        self._uncounted, self._more_tokens, self._more_flops = 0, 0.0, 0.0
        self._host_since, self._on_devices, self._longest = now, 0.0, 0.0
        return scalars
