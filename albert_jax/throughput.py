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
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            result = equation.outvars[0].aval.shape
            total += 2 * math.prod(result) * math.prod(left[axis] for axis in contracted)
        trips = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
            if _is_program(value):
                total += trips * _count(getattr(value, "jaxpr", value))
    return total


def _is_program(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


# ---------------------------------------------------------------------------------------------- peaks

# Dense bfloat16 FLOP/s of one chip, as the makers publish them, and how many JAX devices share that chip.
# Matched by prefix of `jax.Device.device_kind`, first row wins. A kind without a row is unknown: a share of
# a guessed peak is worse than none. The PCIe and NVL cards of the H100 are slower than the SXM one, hence
# the row without a number.
DEVICE_PEAKS: tuple[tuple[str, float | None, int], ...] = (
    ("TPU v3", 123e12, 2),  # a v3 chip shows up as two devices, one a core
    ("TPU v4", 275e12, 1),
    ("TPU v5 lite", 197e12, 1),
    ("TPU v5e", 197e12, 1),
    ("TPU v5p", 459e12, 1),
    ("TPU v5", 459e12, 1),  # the kind that a v5p reports
    ("TPU v6 lite", 918e12, 1),
    ("TPU v6e", 918e12, 1),
    ("NVIDIA A100", 312e12, 1),
    ("NVIDIA H100 PCIe", None, 1),
    ("NVIDIA H100 NVL", None, 1),
    ("NVIDIA H100", 989e12, 1),
)


def device_peak(device_kind: str) -> float | None:
    """bfloat16 FLOP/s of one JAX device of this kind, or None when it is not in `DEVICE_PEAKS`."""
    for prefix, chip_peak, devices_per_chip in DEVICE_PEAKS:
        if device_kind.lower().startswith(prefix.lower()):
            return None if chip_peak is None else chip_peak / devices_per_chip
    return None


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
    """Turns step numbers into tokens/s, share of peak and share of time spent waiting for data.

    `lap(step)` is called when the result of `step` has arrived. The first lap only starts the clock; make it
    after the first step, so that compilation is in no figure. Time spent inside `pause()`
    (evaluation, saving) is in none either::

        with meter.waiting():
            batch = next(batches)
        ...
        scalars |= meter.lap(step)

    Args:
        tokens_per_step: token positions of one optimizer step, all devices and micro-batches together.
        flops_per_token: from `train_flops_per_token`.
        peak: FLOP/s of all devices together from `machine_peak`; None leaves `peak_share` out.
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
        self._since = self._waited = self._paused = 0.0

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
            self._paused += self._clock() - start

    def lap(self, step: int) -> dict[str, float]:
        """Scalars since the last lap: tokens_per_second, data_wait_share, peak_share (both 0..1) and
        seconds since the meter was made. Only `seconds` on the first lap or when no step has passed."""
        now = self._clock()
        scalars = {"seconds": now - self._born}
        if self._step is not None and step > self._step:
            spent = max(now - self._since - self._paused, 1e-9)
            rate = (step - self._step) * self._tokens / spent
            scalars["tokens_per_second"] = rate
            scalars["data_wait_share"] = min(self._waited / spent, 1.0)
            share = peak_share(rate, self._flops, self._peak)
            if share:
                scalars["peak_share"] = share
        self._step, self._since, self._waited, self._paused = step, now, 0.0, 0.0
        return scalars
