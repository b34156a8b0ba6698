"""Logical names of the axes that a mesh may divide, and constraints on activations while a program is traced.

A parameter carries its names as metadata of its `nnx.Param` (`axes=("hidden", "heads")`); which mesh axis a name goes
to is decided outside the model, by `albert_jax.engine.sharding`. Names: vocab, factor, hidden, heads (N x K of the
query, key and value projections), feed_forward, pooled; of activations batch, heads (N) and feed_forward. An axis
that is never divided is None.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import jax
from jax.sharding import PartitionSpec as P

Axes = tuple[str | None, ...]

_placed: ContextVar[Mapping[str, Any]] = ContextVar("placed", default=MappingProxyType({}))


@contextmanager
def placing(axes: Mapping[str, Any]) -> Iterator[None]:
    """While it lasts, `constrain` divides activations: logical name -> automatic mesh axis, or axes."""
    token = _placed.set(axes)
    try:
        yield
    finally:
        _placed.reset(token)


def divides(name: str) -> bool:
    """Whether the axis of that name is divided in what is being traced."""
    return name in _placed.get()


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """`x` divided as its logical axes are placed, whole along all others; `x` itself where nothing is placed.

    Without it XLA is free to move the split elsewhere, and does: between blocks it would divide the hidden states and
    gather them again for every product.
    """
    placed = _placed.get()
    if not placed:
        return x
    return jax.lax.with_sharding_constraint(x, P(*(placed.get(name) if name else None for name in axes)))


def whole(x: jax.Array) -> jax.Array:
    """Hidden states [B, S, D], divided along their batch at most."""
    return constrain(x, "batch", None, None)
