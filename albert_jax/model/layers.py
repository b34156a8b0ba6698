"""The three parametrised pieces everything is made of. Parameters are float32; the compute dtype is cast at use, inside
the scanned body, so that the shared weights' gradients are summed over layers in float32."""

import jax
import jax.numpy as jnp
from flax import nnx

from albert_jax.model import functions


def truncated_normal(rngs: nnx.Rngs, shape: tuple[int, ...], deviation: float) -> nnx.Param:
    """A parameter drawn as the original draws: normal cut at two nominal deviations and not rescaled."""
    return nnx.Param(jax.nn.initializers.truncated_normal(deviation)(rngs.params(), shape, jnp.float32))


class Dense(nnx.Module):
    """x [..., in] -> x @ kernel + bias [..., out]."""

    def __init__(self, size_in: int, size_out: int, *, deviation: float, rngs: nnx.Rngs):
        self.kernel = truncated_normal(rngs, (size_in, size_out), deviation)
        self.bias = nnx.Param(jnp.zeros((size_out,), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        return functions.dense(x, self.kernel[...], self.bias[...])


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
        return functions.layer_norm(x, self.scale[...], self.bias[...], self.eps)
