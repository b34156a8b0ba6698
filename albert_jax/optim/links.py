"""Links that optimizers chain: moments without bias correction, the layer-wise trust ratio, and choices by path."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from albert_jax.errors import AlbertError


def check_layer_decay(factor: float) -> None:
    """Raises AlbertError for rates that fall with depth, which other encoders are fine-tuned with."""
    if factor != 1.0:
        raise AlbertError(
            f"optim.layer_decay is {factor:g}, but ALBERT applies one shared block at every depth, so no layer has a "
            "rate of its own; scale by parameter path instead, such as "
            '--optim.rates \'{"albert/embeddings": 0.5, "albert/encoder": 0.8}\''
        )


def paths(params: Any) -> Any:
    """A tree like `params` whose leaves are their own paths, "albert/encoder/group_0/..."."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/"), params
    )


def adapts(params: Any) -> Any:
    """True where weight decay and trust ratio apply: everywhere but biases and LayerNorms.

    The original's rule (`optimization.py`, `exclude_from_weight_decay`) reads names: LayerNorm, layer_norm or bias.
    """
    return jax.tree.map(lambda path: not re.search(r"layer_norm|(^|/)bias$", path), paths(params))


class MomentsState(NamedTuple):
    mean: Any  # running mean of the gradient, a tree like the parameters
    square: Any  # running mean of its square


def scale_by_uncorrected_moments(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """m / (sqrt(v) + eps) without Adam's bias correction: the original's `lamb_optimizer.py` and `optimization.py`."""

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

    def init(params: Any) -> optax.EmptyState:
        return optax.EmptyState()

    def update(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        if params is None:
            raise ValueError("the trust ratio needs the parameters")

        def scale(update: jax.Array, param: jax.Array, adapt: bool) -> jax.Array:
            if not adapt:
                return update
            weight, step = (
                jnp.linalg.norm(param.astype(jnp.float32)),
                jnp.linalg.norm(update.astype(jnp.float32)),
            )
            ratio = jnp.where((weight > 0) & (step > 0), weight / jnp.where(step > 0, step, 1.0), 1.0)
            return update * ratio

        return jax.tree.map(scale, updates, params, adapts(params)), state

    return optax.GradientTransformation(init, update)


def scale_by_path(rates: Mapping[str, float], params: Any) -> optax.GradientTransformation:
    """Multiplies each update by the product of the rates whose pattern is found in its path; rate 0 freezes.

    Raises AlbertError for a pattern that matches no parameter (it would silently do nothing) or is none, and for a
    negative rate.
    """
    names = paths(params)
    flat = jax.tree.leaves(names)
    for pattern, rate in rates.items():
        if not 0 <= rate < float("inf"):
            raise AlbertError(f"optim.rates gives {pattern!r} {rate:g}; give a factor of at least 0")
        try:
            re.compile(pattern)
        except re.error as error:
            raise AlbertError(f"optim.rates names {pattern!r}, which is no regular expression ({error})") from error
        if not any(re.search(pattern, path) for path in flat):
            raise AlbertError(
                f"optim.rates names {pattern!r}, which matches no parameter; the paths are: {', '.join(flat)}"
            )

    def factor(path: str) -> float:
        product = 1.0
        for pattern, rate in rates.items():
            if re.search(pattern, path):
                product *= rate
        return product

    factors = jax.tree.map(factor, names)
    return optax.stateless(lambda updates, _: jax.tree.map(lambda u, f: u * f, updates, factors))
