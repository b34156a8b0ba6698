"""Prints what the parts of one ALBERT-base layer cost here, forward and backward, beside the matmul peak.

    python benchmarks/step_parts.py [--batch-size 16] [--length 128]

Each part is timed alone, as the least of a few interleaved repeats. "share" is its part of the layer's sum; "of
peak" is the rate of its useful matmul FLOPs against a plain float32 matmul. The last rows are the usual ways to write
a part, which `albert_jax.model` does without.
"""

import argparse
import math
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from albert_jax.model import attention, layers
from albert_jax.model.config import albert
from albert_jax.telemetry.tables import print_table

Part = tuple[str, Callable, tuple, float]  # name, function, arguments, matmul FLOPs


def both_passes(function: Callable) -> Callable:
    """(cotangent, *arguments) -> the value and the gradient of every argument."""

    def run(cotangent: jax.Array, *arguments: jax.Array) -> tuple:
        value, backward = jax.vjp(function, *arguments)
        return value, backward(cotangent)

    return run


def least_seconds(parts: list[Part], rounds: int) -> list[float]:
    """The least time of each part over `rounds`, all parts in turn so that other work on the machine hits each."""
    compiled = [jax.jit(function).lower(*arguments).compile() for _, function, arguments, _ in parts]
    least = [math.inf] * len(parts)
    for round_ in range(rounds + 1):
        for i, (run, (_, _, arguments, _)) in enumerate(zip(compiled, parts, strict=True)):
            start = time.perf_counter()
            jax.block_until_ready(run(*arguments))
            if round_:  # the first is the warm-up
                least[i] = min(least[i], time.perf_counter() - start)
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=16, help="examples (B)")
    parser.add_argument("--length", type=int, default=128, help="pieces in an example (S)")
    parser.add_argument("--rounds", type=int, default=5, help="repeats of each part; the least is printed")
    options = parser.parse_args()
    base = albert("base")
    B, S, D, F, N = options.batch_size, options.length, base.hidden_size, base.feed_forward_size, base.heads
    rows, random = B * S, np.random.default_rng(0)

    def array(*shape: int) -> jax.Array:
        return jnp.asarray(random.normal(size=shape), jnp.float32)

    x, wide = array(B, S, D), array(B, S, F)
    square, up, down = array(D, D) / 28, array(D, F) / 28, array(F, D) / 56
    q, k, v, mixed = (array(B, S, N, D // N) for _ in range(4))
    mask, scale, bias_D, bias_F = jnp.ones((B, S), bool), jnp.ones(D), jnp.zeros(D), jnp.zeros(F)
    scores = array(B, N, S, S)

    def naive_attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return jax.nn.dot_product_attention(q, k, v)

    def naive_dense(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        return x @ kernel + bias

    def bfloat16_dense(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        return (naive_dense(x, kernel.astype(x.dtype), bias)).astype(x.dtype)

    def naive_gelu(x: jax.Array) -> jax.Array:
        return jax.nn.gelu(x, approximate=True)

    attend = lambda q, k, v: attention.attend(q, k, v, mask)  # noqa: E731
    dense_DD, dense_DF, pairs = 2.0 * rows * D * D, 2.0 * rows * D * F, 4.0 * rows * S * D
    fwd_bwd = [
        ("dense D -> D", layers.dense, naive_dense, (x, x, square, bias_D), 3 * dense_DD, 4),
        ("dense D -> F", layers.dense, naive_dense, (wide, x, up, bias_F), 3 * dense_DF, 1),
        ("dense F -> D", layers.dense, naive_dense, (x, wide, down, bias_D), 3 * dense_DF, 1),
        ("attention", attend, naive_attention, (mixed, q, k, v), 3 * pairs, 1),
        ("gelu", layers.gelu_tanh, naive_gelu, (wide, wide), 0.0, 1),
        ("layer_norm", layers.layer_norm, None, (x, x, scale, bias_D), 0.0, 2),
    ]
    parts: list[Part] = [("matmul D -> F (peak)", jnp.matmul, (x, up), dense_DF)]
    parts += [(name, both_passes(ours), arguments, flops) for name, ours, _, arguments, flops, _ in fwd_bwd]
    extras: list[Part] = [
        ("attention, forward only", attend, (q, k, v), pairs),
        ("softmax [B, N, S, S], forward only", jax.nn.softmax, (scores,), 0.0),
    ]
    half = tuple(array.astype(jnp.bfloat16) for array in (wide, x))
    extras += [
        ("dense D -> F, bfloat16", both_passes(layers.dense), (*half, up, bias_F), 3 * dense_DF),
        ("dense D -> F, bfloat16, as usually written", both_passes(bfloat16_dense), (*half, up, bias_F), 3 * dense_DF),
    ]
    extras += [
        (f"{name}, as usually written", both_passes(naive), arguments, flops)
        for name, _, naive, arguments, flops, _ in fwd_bwd
        if naive is not None
    ]
    seconds = least_seconds(parts + extras, options.rounds)
    peak = dense_DF / seconds[0]
    counts = [count for *_, count in fwd_bwd]
    layer = sum(count * s for count, s in zip(counts, seconds[1 : len(parts)], strict=True))

    def row(part: Part, s: float, count: int | None) -> tuple[str, str, str, str, str]:
        share = "" if count is None else f"{count * s / layer:.1%}"
        times = "" if count is None else str(count)
        return part[0], f"{1e3 * s:.1f}", times, share, f"{part[3] / s / peak:.0%}" if part[3] else ""

    table = [row(parts[0], seconds[0], None)]
    table += [row(part, s, n) for part, s, n in zip(parts[1:], seconds[1 : len(parts)], counts, strict=True)]
    useful = sum(n * part[3] for part, n in zip(parts[1:], counts, strict=True))
    table.append(("one layer, forward and backward", f"{1e3 * layer:.1f}", "", "100%", f"{useful / layer / peak:.0%}"))
    table += [row(part, s, None) for part, s in zip(extras, seconds[len(parts) :], strict=True)]
    print_table(
        f"ALBERT-base layer, float32, batch {B} x {S}, {jax.devices()[0].device_kind}; peak {peak / 1e9:,.0f} GFLOP/s",
        ("part, forward and backward", "ms", "times", "share", "of peak"),
        table,
    )


if __name__ == "__main__":
    main()
