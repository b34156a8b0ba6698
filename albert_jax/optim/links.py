"""Links that optimizers chain: moments without bias correction, the layer-wise trust ratio, factors by path."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from albert_jax.errors import refuse
from albert_jax.trees import map_with_path


def paths(params: Any) -> Any:
    """A tree like `params` whose leaves are their own paths, "albert/encoder/group_0/..."."""
    return map_with_path(lambda path, _: path, params)


def adapts(params: Any) -> Any:
    """True where weight decay and trust ratio apply: everywhere but biases and LayerNorms."""
    # By name, as the original does (`optimization.py`, `exclude_from_weight_decay`: LayerNorm, layer_norm, bias). So a
    # head of your own has its biases decayed unless they are called "bias".
    return jax.tree.map(lambda path: not re.search(r"layer_norm|(^|/)bias$", path), paths(params))


class MomentsState(NamedTuple):
    mean: Any  # running mean of the gradient, a tree like the parameters
    square: Any  # running mean of its square


def scale_by_uncorrected_moments(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """m / (sqrt(v) + eps) without Adam's bias correction: the original's `lamb_optimizer.py` and `optimization.py`."""
    # optax.scale_by_adam has no switch for the correction. Dividing it out again would cost float32 digits that the
    # stored trajectories of the original show.

    def init(params: Any) -> MomentsState:
        return MomentsState(optax.tree.zeros_like(params), optax.tree.zeros_like(params))

    def update(grads: Any, state: MomentsState, params: Any = None) -> tuple[Any, MomentsState]:
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mean, grads)
        square = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * jnp.square(g), state.square, grads)
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mean, square)
        return updates, MomentsState(mean, square)

    return optax.GradientTransformation(init, update)


def scale_by_trust_ratio() -> optax.GradientTransformation:
    """Scales each variable's update by |parameter| / |update|, in float32; 1 where either norm is 0; no clamp.

    LAMB (You et al. 2019, algorithm 2, with phi the identity) as the original applies it: one ratio for each variable,
    query, key and value apart. `adapts` says which variables have one.
    """

    # Not optax.scale_by_trust_ratio, whose `safe_norm` takes every norm twice, the second after the first: for base on
    # v5e-256 6 all-reduces a step instead of 5 under ZeRO-3, and 66 MB more memory traffic without.
    def scale(update: jax.Array, param: jax.Array) -> jax.Array:
        weight, step = (jnp.linalg.norm(x.astype(jnp.float32)) for x in (param, update))
        ratio = jnp.where((weight > 0) & (step > 0), weight / jnp.where(step > 0, step, 1.0), 1.0)
        return update * ratio

    return optax.masked(optax.stateless_with_tree_map(scale), adapts)


def scale_by_path(rates: Mapping[str, float], params: Any) -> optax.GradientTransformation:
    """Multiplies each update by the product of the rates whose pattern is found in its path; rate 0 freezes.

    Raises AlbertError for a pattern that is no regular expression or matches no parameter, and for a negative rate.
    """
    names = paths(params)
    refuse(_flaws(rates, jax.tree.leaves(names)))
    # Known before tracing: numbers in the program, no tree of arrays that has to be stored or divided.
    factors = jax.tree.map(
        lambda name: math.prod(rate for pattern, rate in rates.items() if re.search(pattern, name)), names
    )
    return optax.stateless(lambda updates, _: jax.tree.map(lambda u, f: u * f, updates, factors))


def _flaws(rates: Mapping[str, float], names: Sequence[str]) -> Iterator[str]:
    for pattern, rate in rates.items():
        if not 0 <= rate < float("inf"):
            yield f"optim.rates gives {pattern!r} {rate:g}; give a factor of at least 0"
        try:
            matched = any(re.search(pattern, name) for name in names)
        except re.error as error:
            yield f"optim.rates names {pattern!r}, which is no regular expression ({error})"
        if not matched:  # it would silently do nothing
            yield f"optim.rates names {pattern!r}, which matches no parameter; the paths are: {', '.join(names)}"
