"""The three parametrised pieces everything is made of. Parameters are float32; the compute dtype is cast at use, inside
the scanned body, so that the shared weights' gradients are summed over layers in float32."""

import jax
import jax.numpy as jnp
from flax import nnx

from albert_jax.model import functions
from albert_jax.model.axes import Axes, constrain, divides


def truncated_normal(rngs: nnx.Rngs, shape: tuple[int, ...], deviation: float, axes: Axes = ()) -> nnx.Param:
    """A parameter drawn as the original draws: normal cut at two nominal deviations and not rescaled. `axes` are its
    logical axes (see `albert_jax.model.axes`); without them it is never divided."""
    return nnx.Param(jax.nn.initializers.truncated_normal(deviation)(rngs.params(), shape, jnp.float32), axes=axes)


def placed(param: nnx.Param) -> jax.Array:
    """The array, divided as its logical axes are placed. Said where it is used, so that the gradient of each use is
    too: in the backward loop the compiler would otherwise divide what nobody asked it to divide."""
    if not (divides("heads") or divides("feed_forward")):
        return param[...]
    axes = param.get_metadata().get("axes", ())
    return constrain(param[...], *axes, *[None] * (param.ndim - len(axes)))


class Dense(nnx.Module):
    """x [..., in] -> x @ kernel + bias [..., out]; `axes` are the logical axes (in, out)."""

    def __init__(
        self,
        size_in: int,
        size_out: int,
        *,
        deviation: float,
        rngs: nnx.Rngs,
        axes: tuple[str | None, str | None] = (None, None),
    ):
        self.kernel = truncated_normal(rngs, (size_in, size_out), deviation, axes)
        self.bias = nnx.Param(jnp.zeros((size_out,), jnp.float32), axes=axes[1:])
        self.axis_in = axes[0]

    def __call__(self, x: jax.Array) -> jax.Array:
        rows = constrain(x.reshape(-1, x.shape[-1]), "batch", self.axis_in)
        return functions.dense(rows, placed(self.kernel), placed(self.bias)).reshape(*x.shape[:-1], -1)


class Dropout(nnx.Module):
    """Drops out when it is given keys, one an example; without keys (evaluation) it returns its input."""

    def __init__(self, rate: float):
        self.rate = rate

    def __call__(self, x: jax.Array, keys_B: jax.Array | None) -> jax.Array:
        return x if keys_B is None else functions.dropout(x, self.rate, keys_B)


class LayerNorm(nnx.Module):
    """Normalises the last axis with float32 statistics."""

    def __init__(self, size: int, *, eps: float):
        self.scale = nnx.Param(jnp.ones((size,), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((size,), jnp.float32))
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        return functions.layer_norm(x, placed(self.scale), placed(self.bias), self.eps)
