"""What everything is made of: pure functions, the sharding of what flows through them, and layers with parameters.

The functions take any float dtype and return the dtype of their input; statistics, exponentials and sums are float32
whatever the input is. `benchmarks/step_parts.py` prints what their formulations save.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import PartitionSpec as P

from albert_jax.errors import AlbertError, refuse

# ---- functions

Activation = Callable[[Array], Array]

_SLOPE = 2.0 * math.sqrt(2.0 / math.pi)
_CUBIC = 0.044715  # third-order coefficient of the tanh approximation (Hendrycks & Gimpel 2016, section 2)


@jax.custom_jvp
def gelu_tanh(x: Array) -> Array:
    """GELU by the tanh approximation, what google-research/albert calls "gelu" and Hugging Face "gelu_new"."""
    # 0.5 x (1 + tanh u) = x sigmoid(2u)
    x32 = x.astype(jnp.float32)
    return (x32 * lax.logistic(x32 * (_SLOPE + _SLOPE * _CUBIC * x32 * x32))).astype(x.dtype)


# Written out so that the forward pass keeps one array for the backward pass; differentiating the formula keeps several.
@gelu_tanh.defjvp
def _gelu_tanh_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    x32 = x.astype(jnp.float32)
    square = x32 * x32
    gate = lax.logistic(x32 * (_SLOPE + _SLOPE * _CUBIC * square))
    slope = gate * (1.0 + x32 * (1.0 - gate) * (_SLOPE + 3.0 * _SLOPE * _CUBIC * square))
    return (x32 * gate).astype(x.dtype), dx * slope.astype(x.dtype)


def gelu_erf(x: Array) -> Array:
    """GELU as defined, x Phi(x): what Hugging Face calls "gelu"."""
    x32 = x.astype(jnp.float32)
    return (0.5 * x32 * (1.0 + lax.erf(x32 * math.sqrt(0.5)))).astype(x.dtype)


# No plain "gelu": sources disagree on which of the two it is, and they differ by up to 4.7e-4.
_ACTIVATIONS: dict[str, Activation] = {"gelu_tanh": gelu_tanh, "gelu_erf": gelu_erf, "relu": jax.nn.relu}


def activation(name: str) -> Activation:
    """The activation called `name`. Raises AlbertError for an unknown name."""
    if name not in _ACTIVATIONS:
        raise AlbertError(f"unknown activation {name!r}; choose one of {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


PRODUCT = "product"  # name of what `dense` gives, for the policies of `remat`


def platform() -> str:
    """What the program that is being traced is for: "cpu", "gpu" or "tpu"."""
    # The surrounding mesh may be of devices that are not here (`plan` compiles for a slice from a laptop); without a
    # mesh the program is for this machine.
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else str(device.platform)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(x_RxI: Array, kernel: Array, axis: int = 0) -> Array:
    """x @ kernel in the dtype of x with float32 sums, float32 [R, O]; the backward pass has factors of that dtype too,
    and does not round the gradient of a float32 kernel. `axis` is that of I: 0 of a kernel [I, O], 1 of a table [O, I].
    """
    # XLA:CPU uses a CPU's matrix unit (AMX, AVX512-BF16) where two bfloat16 factors make a float32 result, and only
    # there: any other product is first converted to float32, at a fraction of the speed (benchmarks/step_parts.py).
    return _contract(x_RxI, kernel.astype(x_RxI.dtype), axis)


def _contract(x: Array, kernel: Array, axis: int) -> Array:
    return lax.dot_general(x, kernel, (((1,), (axis,)), ((), ())), preferred_element_type=jnp.float32)


def _product_bwd(axis: int, factors: tuple[Array, Array], grad_RxO: Array) -> tuple[Array, Array]:
    x_RxI, kernel = factors
    # The automatic rule would multiply float32 by bfloat16, which no matrix unit does.
    grad_RxO = grad_RxO.astype(x_RxI.dtype)
    x_grad = _contract(grad_RxO, kernel.astype(x_RxI.dtype), 1 - axis).astype(x_RxI.dtype)
    first, second = (x_RxI, grad_RxO) if axis == 0 else (grad_RxO, x_RxI)
    return x_grad, _contract(_columns(first), second, 0)


def _has_matrix_unit(x: Array) -> bool:
    """Whether products of x's dtype are what `product` is formulated for."""
    return x.dtype == jnp.bfloat16 and platform() == "cpu"


def _columns(x_RxI: Array) -> Array:
    """x^T, with a layout of its own where that is faster."""
    if _has_matrix_unit(x_RxI):
        # The unit wants the summed axis last in the first factor; without a layout the transposition would be folded
        # back into the product.
        return with_layout_constraint(x_RxI.T, Layout(major_to_minor=(0, 1)))
    return x_RxI.T


product.defvjp(lambda x, kernel, axis: (product(x, kernel, axis), (x, kernel)), _product_bwd)


def dense(x: Array, kernel: Array, bias: Array) -> Array:
    """x [..., I] @ kernel [I, O] + bias [O] -> [..., O]; the product is in the dtype of `x`."""
    # A product of two matrices whatever the shape of `x`: only then does XLA:CPU form the kernel's gradient without
    # first copying the wide operand to another layout.
    rows = x.reshape(-1, x.shape[-1])
    # The cast of the stored float32 kernel stands here, not with the caller, so that the gradient of a shared kernel is
    # summed over the layers in float32.
    # On other devices the plain product has float32 sums anyway, and where a mesh divides it, a float32 result would
    # double what crosses the network.
    if _has_matrix_unit(x):
        # Named for `remat`, which sees no product inside a function with a gradient of its own.
        added = checkpoint_name((product(rows, kernel) + bias).astype(x.dtype), PRODUCT)
    else:
        added = (rows @ kernel.astype(x.dtype) + bias).astype(x.dtype)
    return added.reshape(*x.shape[:-1], kernel.shape[-1])


def layer_norm(x: Array, scale: Array, bias: Array, eps: float = 1e-12) -> Array:
    """LayerNorm over the last axis of x [..., D] with scale and bias [D]; `eps` as in google-research/albert."""
    x32 = x.astype(jnp.float32)
    # Two passes: E[x^2] - E[x]^2 in one pass loses all digits where the mean dwarfs the deviation.
    centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    rstd = lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + eps)
    return (centred * rstd * scale.astype(jnp.float32) + bias.astype(jnp.float32)).astype(x.dtype)


def dropout(x_Bx: Array, rate: float, keys_B: Array | None) -> Array:
    """Zeroes each element of x [B, ...] with probability `rate` and scales the rest by 1 / (1 - rate).

    At rate 0 it returns its input and draws nothing. Raises AlbertError for a rate outside [0, 1), or without keys.
    """
    if rate == 0.0:
        return x_Bx
    refuse(_dropout_flaws(rate, keys_B))
    # One key for each example, so that the draw depends neither on the mesh nor on how the batch is split.
    keep_Bx = jax.vmap(lambda key: jax.random.bernoulli(key, 1.0 - rate, x_Bx.shape[1:]))(keys_B)
    return jnp.where(keep_Bx, x_Bx / jnp.asarray(1.0 - rate, x_Bx.dtype), jnp.zeros((), x_Bx.dtype))


def _dropout_flaws(rate: float, keys_B: Array | None) -> Iterator[str]:
    if not 0.0 <= rate < 1.0:
        yield f"dropout rate {rate} is outside [0, 1)"
    if keys_B is None:
        yield f"dropout rate {rate} needs one random key for each example"


# ---- sharding
#
# The model knows no mesh. It gives the axes of its arrays logical names, None for one that is never divided, and
# `albert_jax.engine.sharding` decides which mesh axis divides which name.
#
# - Parameters carry their names as metadata of their `nnx.Param`: vocab, factor, hidden, heads (N x K of the query, key
#   and value projections), feed_forward, pooled.
# - Activations are named in the calls of `shard`: batch, heads (N), feed_forward. The training step traces the model
#   inside `shard_activations`, which says where these names go; outside of it every `shard` returns its input.
#
# The mapping is a context variable because it holds for a whole traced program; as an argument it would have to pass
# through every module between the step and a dense layer.

Axes = tuple[str | None, ...]

_mesh_axes: ContextVar[Mapping[str, Any]] = ContextVar("mesh_axes", default=MappingProxyType({}))


@contextmanager
def shard_activations(mesh_axes: Mapping[str, Any]) -> Iterator[None]:
    """What is traced within it is sharded by `mesh_axes`: logical name -> automatic mesh axis, or several."""
    token = _mesh_axes.set(mesh_axes)
    try:
        yield
    finally:
        _mesh_axes.reset(token)


def is_sharded(name: str) -> bool:
    """Whether the program that is being traced divides the axis of that name."""
    return name in _mesh_axes.get()


def shard(x: Array, *axes: str | None) -> Array:
    """`x`, constrained to be divided along its logical `axes` as the mesh says and whole along all others."""
    mesh_axes = _mesh_axes.get()
    if not mesh_axes:
        return x
    # Left alone, XLA moves the split elsewhere: between blocks it would divide the hidden states and gather them again
    # for every product.
    return lax.with_sharding_constraint(x, P(*(mesh_axes.get(name) if name else None for name in axes)))


def shard_rows(x_BxSxD: Array) -> Array:
    """Hidden states [B, S, D], divided along their batch at most."""
    return shard(x_BxSxD, "batch", None, None)


def shard_param(param: nnx.Param) -> Array:
    """The array of a parameter, constrained by its logical axes where the mesh divides heads or feed-forward."""
    if not (is_sharded("heads") or is_sharded("feed_forward")):
        return param[...]
    axes = param.get_metadata().get("axes", ())
    # Constrain at each use so that each gradient inherits the sharding: in the loop of the backward pass the compiler
    # would otherwise divide gradients that nobody asked it to divide.
    return shard(param[...], *axes, *[None] * (param.ndim - len(axes)))


# ---- layers: parameters are float32


def normal_param(rngs: nnx.Rngs, shape: tuple[int, ...], deviation: float, axes: Axes = ()) -> nnx.Param:
    """A float32 parameter with logical `axes`, drawn from the normal distribution cut at two nominal deviations."""
    # As the original (`create_initializer` in modeling.py): not rescaled after the cut, so 0.02 deviates by 0.0176.
    return nnx.Param(jax.nn.initializers.truncated_normal(deviation)(rngs.params(), shape, jnp.float32), axes=axes)


class Dense(nnx.Module):
    """x [..., in] -> x @ kernel + bias [..., out]; `axes` are the logical axes (in, out)."""

    def __init__(self, size_in: int, size_out: int, *, deviation: float, rngs: nnx.Rngs, axes: Axes = (None, None)):
        self.kernel = normal_param(rngs, (size_in, size_out), deviation, axes)
        self.bias = nnx.Param(jnp.zeros((size_out,), jnp.float32), axes=axes[1:])
        self.axis_in = axes[0]

    def __call__(self, x: Array) -> Array:
        rows = shard(x.reshape(-1, x.shape[-1]), "batch", self.axis_in)
        return dense(rows, shard_param(self.kernel), shard_param(self.bias)).reshape(*x.shape[:-1], -1)


def joint(layers: list[Dense], x_BxSxD: Array, axis: str) -> list[Array]:
    """The outputs [B, S, D] of several layers D -> D on the same input; `axis` is the logical axis of their outputs."""
    if not is_sharded(axis):
        return [dense(x_BxSxD) for dense in layers]
    # One product where that axis is divided over devices: the gradient of x is then one sum over them, not several.
    kernels = shard(jnp.stack([shard_param(dense.kernel) for dense in layers]), None, None, axis)
    biases = jnp.stack([shard_param(dense.bias) for dense in layers])[:, None, None]
    product = jnp.einsum("BSD,cDE->cBSE", x_BxSxD, kernels.astype(x_BxSxD.dtype))
    return list((product + biases).astype(x_BxSxD.dtype))


class LayerNorm(nnx.Module):
    """Normalises the last axis with float32 statistics."""

    def __init__(self, size: int, *, eps: float):
        self.scale = nnx.Param(jnp.ones((size,), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((size,), jnp.float32))
        self.eps = eps

    def __call__(self, x: Array) -> Array:
        return layer_norm(x, shard_param(self.scale), shard_param(self.bias), self.eps)


class Dropout(nnx.Module):
    """Drops out when it is given keys, one an example; without keys (evaluation) it returns its input."""

    def __init__(self, rate: float):
        self.rate = rate

    def __call__(self, x: Array, keys_B: Array | None) -> Array:
        return x if keys_B is None else dropout(x, self.rate, keys_B)


def fold(keys_B: Array | None, number: int | Array) -> Array | None:
    """A fresh key for each example, for the use or layer called `number`; None (no dropout) stays None."""
    return None if keys_B is None else jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys_B, number)
