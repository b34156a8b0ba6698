"""How fast a run is, and how fast it could be: FLOPs by formula, peaks by table or by measurement.

ALBERT applies one block L times, so the usual "6 x parameters x tokens" is too low by about L. The formula
here counts the matmuls that are executed; `matmul_flops` counts them again from the traced program, and
the tests compare the two.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import numpy as np

from albert_jax.cluster.devices import find_chip


class Shape(Protocol):
    """The five sizes that decide the FLOPs; `AlbertConfig` has them, and so may anything else."""

    @property
    def layers(self) -> int: ...  # L, applications of the shared layer
    @property
    def hidden_size(self) -> int: ...  # D
    @property
    def embedding_size(self) -> int: ...  # E
    @property
    def feed_forward_size(self) -> int: ...  # F
    @property
    def vocab_size(self) -> int: ...  # V


def forward_flops_per_token(
    shape: Shape, sequence_length: int, predictions: float = 0, blocks_per_layer: int = 1
) -> float:
    """Matmul FLOPs of one forward pass, per token position (padding included), a multiply-add being 2.

    With S = `sequence_length` and P = `predictions` (masked positions that are decoded per sequence, 0 when
    there is no MLM head)::

        L (8 D^2 + 4 D F + 4 S D)     Q, K, V, output; the two feed-forward matmuls; scores and mixing
        + 2 E D                       embedding factor to hidden width; nothing when E = D (no such layer)
        + P/S (2 D E + 2 E V)         MLM transform, and decoding with the tied table
        + 2 D^2 / S                   pooler, one position a sequence

    `blocks_per_layer` multiplies L: ALBERT's inner groups. Left out because they stay below one part in a
    thousand: biases, LayerNorm, softmax, GELU, the order and classification heads.
    """
    hidden, factor, inner = shape.hidden_size, shape.embedding_size, shape.feed_forward_size
    block = 8 * hidden**2 + 4 * hidden * inner + 4 * sequence_length * hidden
    projection = 2 * factor * hidden if factor != hidden else 0
    decode = predictions / sequence_length * (2 * hidden * factor + 2 * factor * shape.vocab_size)
    return shape.layers * blocks_per_layer * block + projection + decode + 2 * hidden**2 / sequence_length


def train_flops_per_token(
    shape: Shape, sequence_length: int, predictions: float = 0, blocks_per_layer: int = 1
) -> float:
    """Model FLOPs of one training step per token position: three forward passes (forward, and the gradient
    of each matmul with respect to both of its operands). Rematerialisation repeats work, so it costs time
    and never raises this number."""
    return 3.0 * forward_flops_per_token(shape, sequence_length, predictions, blocks_per_layer)


def matmul_flops(function: Callable[..., Any], *arguments: Any) -> int:
    """FLOPs of all `dot_general`s that `function(*arguments)` executes, by walking its traced program.

    Scan bodies count once per trip, which XLA's own `cost_analysis` does not do. A `while` whose trip count
    is not in the program counts its body once, and all branches of a `cond` count. Nothing is run:
    arguments may be `jax.ShapeDtypeStruct`s.
    """
    return traced_matmul_flops(jax.make_jaxpr(function)(*arguments).jaxpr)


def traced_matmul_flops(jaxpr: Any) -> int:
    """The same of a traced program. What stands under `shard_map` counts on every device, a Pallas kernel at every
    point of its grid."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            result = equation.outvars[0].aval.shape
            total += 2 * math.prod(result) * math.prod(left[axis] for axis in contracted)
        trips = _repeats(equation)
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
            if _is_program(value):
                total += trips * traced_matmul_flops(getattr(value, "jaxpr", value))
    return total


def _repeats(equation: Any) -> int:
    """How often an equation runs the programs inside it."""
    name, given = equation.primitive.name, equation.params
    if name == "scan":
        return given["length"]
    if name == "shard_map":
        return math.prod(given["mesh"].shape[axis] for axis in given["newly_manual_axes"])
    if name == "pallas_call":
        return math.prod(size for size in given["grid_mapping"].grid if isinstance(size, int))
    return 1


def _is_program(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


# ---------------------------------------------------------------------------------------------- peaks


def device_peak(device_kind: str) -> float | None:
    """bfloat16 FLOP/s of one JAX device of this kind, or None when `albert_jax.cluster.devices` does not know it."""
    chip = find_chip(device_kind)
    return None if chip is None else chip.peak / chip.devices


def machine_peak(devices: list[jax.Device] | None = None) -> float | None:
    """FLOP/s of all `devices` (default: all of this run) together, or None when their kind is unknown.

    Accelerators come from the table (bfloat16, whatever the run computes in: a float32 run sees what it
    leaves on the table). A CPU is measured in float32, once for the machine, because its cores are what its
    devices share; the first call takes about a second.
    """
    devices = jax.devices() if devices is None else devices
    if devices[0].platform == "cpu":
        return measure_matmul_peak() * len({device.process_index for device in devices})
    peak = device_peak(devices[0].device_kind)
    return None if peak is None else peak * len(devices)


def measure_matmul_peak(sizes: tuple[int, ...] = (1024, 2048), seconds: float = 0.5, dtype: Any = np.float32) -> float:
    """FLOP/s of the fastest square matmul that jitted JAX does on the default device, best of many repeats.

    Sizes are tried in order and then in rounds until `seconds` are spent (compilation comes on top); a size
    whose single run would overstep the budget is skipped. The best counts, not the mean: other
    work on the machine can only slow a repeat down.
    """
    multiply = jax.jit(lambda left, right: left @ right)
    random = np.random.default_rng(0)
    deadline = time.perf_counter() + seconds
    best, operands = 0.0, {}
    for size in sizes:
        if best and 2 * (2 * size**3 / best) > seconds:
            break
        operands[size] = jax.device_put(random.random((size, size), np.float32).astype(dtype))
        multiply(operands[size], operands[size]).block_until_ready()
        best = max(best, _matmul_rate(multiply, operands[size]))
    while time.perf_counter() < deadline:
        for matrix in operands.values():
            best = max(best, _matmul_rate(multiply, matrix))
    return best


def _matmul_rate(multiply: Callable[..., jax.Array], matrix: jax.Array) -> float:
    start = time.perf_counter()
    multiply(matrix, matrix).block_until_ready()
    return 2 * matrix.shape[0] ** 3 / (time.perf_counter() - start)


def peak_share(tokens_per_second: float, flops_per_token: float, peak: float | None) -> float | None:
    """Share of `peak` FLOP/s that goes into the model's matmuls (MFU), or None for an unknown peak."""
    return None if not peak else tokens_per_second * flops_per_token / peak


# ---------------------------------------------------------------------------------------------- clock


class Meter:
    """Turns step numbers into tokens/s, model FLOP/s, MFU and share of time spent waiting for data.

    `lap(step)` is called when the result of `step` has arrived. The first lap only starts the clock; make it
    after the first step, so that compilation is in no figure. Time spent inside `pause()`
    (evaluation, saving) is in none either::

        with meter.waiting():
            batch = next(batches)
        with meter.devices():
            state, metrics = train_step(state, batch)
        ...
        scalars |= meter.lap(step)

    Args:
        tokens_per_step: token positions of one optimizer step, all devices and micro-batches together.
        flops_per_token: from `train_flops_per_token`.
        peak: FLOP/s of all devices together from `machine_peak`; None leaves `peak_share` (MFU) out.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        tokens_per_step: int,
        flops_per_token: float = 0.0,
        peak: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._tokens, self._flops, self._peak, self._clock = tokens_per_step, flops_per_token, peak, clock
        self._born = clock()
        self._step: int | None = None
        self._since = self._waited = self._paused = self._on_devices = 0.0
        self._host_since = self._longest = 0.0
        # Of the last lap, outside `devices()`: the mean of a step, and the longest stretch.
        self.host_seconds = {"mean": 0.0, "longest": 0.0}

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Time in this block counts as waiting for data."""
        start = self._clock()
        try:
            yield
        finally:
            self._waited += self._clock() - start

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Time in this block is not training and counts nowhere but in `seconds`."""
        start = self._clock()
        try:
            yield
        finally:
            spent = self._clock() - start
            self._paused += spent
            self._host_since += spent

    @contextlib.contextmanager
    def devices(self) -> Iterator[None]:
        """Time in this block is the devices', and waiting for other processes; the rest is this host's own."""
        start = self._clock()
        self._longest = max(self._longest, start - self._host_since)
        try:
            yield
        finally:
            self._host_since = self._clock()
            self._on_devices += self._host_since - start

    def lap(self, step: int) -> dict[str, float]:
        """Scalars since the last lap: tokens_per_second, seconds_per_step, model_flops_per_second (where FLOPs a token
        are known), data_wait_share, peak_share (both 0..1) and seconds since the meter was made. Only `seconds` on the
        first lap or when no step has passed."""
        now = self._clock()
        scalars = {"seconds": now - self._born}
        if self._step is not None and step > self._step:
            spent = max(now - self._since - self._paused, 1e-9)
            rate = (step - self._step) * self._tokens / spent
            scalars["tokens_per_second"] = rate
            scalars["seconds_per_step"] = spent / (step - self._step)
            own = max(spent - self._on_devices, 0.0) / (step - self._step)
            self.host_seconds = {"mean": own, "longest": self._longest}
            if self._flops:
                scalars["model_flops_per_second"] = rate * self._flops
            scalars["data_wait_share"] = min(self._waited / spent, 1.0)
            share = peak_share(rate, self._flops, self._peak)
            if share:
                scalars["peak_share"] = share
        self._step, self._since, self._waited, self._paused = step, now, 0.0, 0.0
        self._host_since, self._on_devices, self._longest = now, 0.0, 0.0
        return scalars
