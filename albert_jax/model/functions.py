"""The pure functions under the modules: activations, dense products, LayerNorm, softmax, dropout.

All take any float dtype and return the dtype of their input; statistics, exponentials and sums are float32
whatever the input is. `benchmarks/step_parts.py` prints what their formulations buy.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from albert_jax.errors import AlbertError

Activation = Callable[[jax.Array], jax.Array]

_SLOPE = 2.0 * math.sqrt(2.0 / math.pi)
_CUBIC = 0.044715  # third-order coefficient of the tanh approximation (Hendrycks & Gimpel 2016, section 2)
# Added to the scores of masked keys, as google-research/albert does. Beside any real key exp(-10000) is
# exactly 0 in float32, and a row whose keys are all masked still has finite scores.
MASK_BIAS = -10000.0


@jax.custom_jvp
def gelu_tanh(x: jax.Array) -> jax.Array:
    """GELU by the tanh approximation, what google-research/albert calls "gelu" and Hugging Face "gelu_new".

    0.5 x (1 + tanh u) = x sigmoid(2u). The derivative is written out so that the forward pass keeps one array
    for the backward pass, where differentiating the formula keeps several.
    """
    x32 = x.astype(jnp.float32)
    return (x32 * lax.logistic(x32 * (_SLOPE + _SLOPE * _CUBIC * x32 * x32))).astype(x.dtype)


@gelu_tanh.defjvp
def _gelu_tanh_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    x32 = x.astype(jnp.float32)
    square = x32 * x32
    gate = lax.logistic(x32 * (_SLOPE + _SLOPE * _CUBIC * square))
    slope = gate * (1.0 + x32 * (1.0 - gate) * (_SLOPE + 3.0 * _SLOPE * _CUBIC * square))
    return (x32 * gate).astype(x.dtype), dx * slope.astype(x.dtype)


def gelu_erf(x: jax.Array) -> jax.Array:
    """GELU as defined, x Phi(x): what Hugging Face calls "gelu"."""
    x32 = x.astype(jnp.float32)
    return (0.5 * x32 * (1.0 + lax.erf(x32 * math.sqrt(0.5)))).astype(x.dtype)


_ACTIVATIONS: dict[str, Activation] = {
    "gelu_tanh": gelu_tanh,
    "gelu_erf": gelu_erf,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
}


def activation(name: str) -> Activation:
    """The activation called `name`.

    Raises:
        AlbertError: for an unknown name; plain "gelu" is refused, since sources disagree on which one it is.
    """
    if name not in _ACTIVATIONS:
        raise AlbertError(f"unknown activation {name!r}; choose one of {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


def dense(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """x kernel + bias, the product in the dtype of `x`.

    Args:
        x: [..., I].
        kernel: [I, O], the stored (float32) parameter. It is cast to the dtype of `x` here rather than by the
            caller, so that a shared kernel's gradient is summed over the layers in its own dtype.
        bias: [O].

    The product is one of two matrices whatever the shape of `x`: only then does XLA:CPU form the kernel's
    gradient without first copying the wide operand to another layout.
    """
    rows = x.reshape(-1, x.shape[-1])
    product = (rows @ kernel.astype(x.dtype) + bias).astype(x.dtype)
    return product.reshape(*x.shape[:-1], kernel.shape[-1])


def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float = 1e-12) -> jax.Array:
    """LayerNorm over the last axis with two-pass float32 statistics.

    Args:
        x: [..., D].
        scale: [D].
        bias: [D].
        eps: added to the variance; 1e-12 as in google-research/albert.
    """
    x32 = x.astype(jnp.float32)
    centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    rstd = lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + eps)
    return (centred * rstd * scale.astype(jnp.float32) + bias.astype(jnp.float32)).astype(x.dtype)


def dropout(x_Bx: jax.Array, rate: float, keys_B: jax.Array | None) -> jax.Array:
    """Zeroes each element with probability `rate` and scales the rest by 1 / (1 - rate).

    Args:
        x_Bx: [B, ...].
        rate: in [0, 1); at 0 the input is returned and no random number is drawn.
        keys_B: [B] typed keys, one for each example, so that the draw depends neither on the mesh nor on how
            the batch is split.

    Raises:
        AlbertError: for a rate outside [0, 1), or a positive rate without keys.
    """
    if rate == 0.0:
        return x_Bx
    if not 0.0 <= rate < 1.0:
        raise AlbertError(f"dropout rate {rate} is outside [0, 1)")
    if keys_B is None:
        raise AlbertError(f"dropout rate {rate} needs one random key for each example")
    keep_Bx = jax.vmap(lambda key: jax.random.bernoulli(key, 1.0 - rate, x_Bx.shape[1:]))(keys_B)
    return jnp.where(keep_Bx, x_Bx / jnp.asarray(1.0 - rate, x_Bx.dtype), jnp.zeros((), x_Bx.dtype))
