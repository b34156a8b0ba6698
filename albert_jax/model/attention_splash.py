"""Attention by the Pallas splash kernels that ship with JAX, on TPUs; `attention.backend` checks the device.

The scores of one tile at a time stay in a TPU core's own memory, so the backward pass keeps [B, N, S] numbers where
`attention.attend` keeps [B, N, S, S].
"""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental.pallas.ops.tpu import splash_attention as library
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from albert_jax.errors import refuse

TENSOR = "tensor"  # the automatic mesh axis that heads are split over

_LANES = 128  # numbers in a row of a TPU's vector register; a tile of scores is a multiple of it on both sides
_TILES = (512, 384, 256, 128)  # rows and columns of a tile of scores; the largest that divides the length is taken


def attend(q_BxSxNxK: Array, k_BxSxNxK: Array, v_BxSxNxK: Array, mask_BxS: Array, *, interpret: bool = False) -> Array:
    """What `attention.attend` computes without dropout; -> [B, S, N, K] in the dtype of q.

    Where the mesh has an automatic axis "tensor", each of its devices runs the kernel on its own heads. `interpret`
    runs the kernel as plain operations, on any device, for tests.

    Raises AlbertError for heads that do not divide over the axis "tensor", and for any other automatic axis of the
    mesh, over which the kernel cannot be split.
    """
    S, N = q_BxSxNxK.shape[1:3]
    mesh = jax.sharding.get_abstract_mesh()
    kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
    automatic = {name: mesh.shape[name] for name, kind in kinds if kind != AxisType.Manual and mesh.shape[name] > 1}
    shards = automatic.pop(TENSOR, 1)
    refuse(_unsplittable(N, shards, automatic))
    fill = -S % _LANES  # masked keys up to a multiple of 128, so that a sequence of 64 costs as much as one of 128
    q, k, v = (
        jnp.pad(x, ((0, 0), (0, fill), (0, 0), (0, 0))).swapaxes(1, 2) for x in (q_BxSxNxK, k_BxSxNxK, v_BxSxNxK)
    )
    q = q * jnp.asarray(1.0 / math.sqrt(q.shape[-1]), q.dtype)
    # The padding mask becomes segment ids of the keys, 1 for real ones and 0 for padding, while all queries have id 1:
    # padded queries, too, attend to the real keys, as in `attention.attend`. Only an example without any real key
    # differs: its outputs are means of its values, not weighted by the scores.
    ids_BxS = jnp.pad(mask_BxS.astype(jnp.int32), ((0, 0), (0, fill)))
    return _attend(shards, interpret, q, k, v, ids_BxS).swapaxes(1, 2)[:, :S]


def _unsplittable(heads: int, shards: int, automatic: Iterable[str]) -> Iterator[str]:
    for axis in automatic:
        yield (
            f"model.attention 'splash' cannot be split over the automatic mesh axis {axis!r}; call "
            "the model inside a jax.shard_map over it, as the training step does, or set model.attention to 'xla'"
        )
    if heads % shards:
        yield (
            f"model.heads {heads} does not divide over the {shards} devices of the mesh axis {TENSOR!r}; change "
            "mesh.shape or set model.attention to 'xla'"
        )


def _kernel(heads: int, length: int, interpret: bool) -> Callable[..., Array]:
    """The kernel of one example: (q, k, v [N, S, K], segment ids [S]) -> [N, S, K]."""
    tile = next(tile for tile in _TILES if length % tile == 0)
    # One tile holds all keys: then one kernel computes all three gradients with five products instead of seven. With
    # more tiles that kernel would sum the gradient of q over parts already rounded to the dtype of q.
    fused = tile == length
    sizes: dict[str, Any] = dict.fromkeys(("block_q", "block_kv", "block_q_dkv", "block_kv_dkv"), tile)
    apart = None if fused else tile  # of the kernel of the gradient of q, where that is one of its own
    blocks = library.BlockSizes(**sizes, block_q_dq=apart, block_kv_dq=apart, use_fused_bwd_kernel=fused)
    mask = library.MultiHeadMask([library.FullMask((length, length)) for _ in range(heads)])
    return library.make_splash_mha_single_device(mask, block_sizes=blocks, interpret=interpret)


# The library's kernels do not declare over which mesh axes their results vary, which jax.shard_map requires unless its
# check is off. So the kernel and its derivative each run in an inner shard_map without the check, which also gives
# every device of "tensor" its heads, and the rule below declares what varies. What the kernel keeps for its derivative
# travels between the two as the arrays of jax.vjp's function, each with a leading axis for "tensor".


def _inner(function: Callable, in_specs: Any, out_specs: Any) -> Callable:
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return function
    axes = set(mesh.axis_names)  # the kernel cannot run under an automatic axis, not even one of size 1
    return jax.shard_map(function, in_specs=in_specs, out_specs=out_specs, axis_names=axes, check_vma=False)


def _specs(shards: int) -> tuple[P, P]:
    """Of arrays [B, N, ...] and of what the kernel keeps."""
    return (P(None, TENSOR), P(TENSOR)) if shards > 1 else (P(), P())


def _marked(x: Array, like: Array) -> Array:
    """`x` declared to vary over the mesh axes that `like` varies over."""
    missing = jax.typeof(like).manual_axis_type.varying - jax.typeof(x).manual_axis_type.varying
    return jax.lax.pcast(x, tuple(missing), to="varying") if missing else x


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(shards: int, interpret: bool, q: Array, k: Array, v: Array, ids: Array) -> Array:
    """Of queries, keys and values [B, N, S, K] and segment ids of the keys [B, S]; -> [B, N, S, K]."""
    return _attend_fwd(shards, interpret, q, k, v, ids)[0]


def _attend_fwd(shards: int, interpret: bool, q: Array, k: Array, v: Array, ids: Array) -> tuple[Array, Callable]:
    heads, kept = _specs(shards)

    def run(q: Array, k: Array, v: Array, ids: Array) -> tuple[Array, Callable]:
        _, N, S, _ = q.shape
        kernel = jax.vmap(_kernel(N, S, interpret))
        segments = library.SegmentIds(jnp.ones_like(ids), ids)
        # Times 1, which compiles to nothing: the product forgets that it varies, as the kernel's results do.
        mixed, pull_back = jax.vjp(lambda *qkv: kernel(*qkv, segments), q * 1, k * 1, v * 1)
        return mixed, jax.tree.map(lambda x: x[None], pull_back)

    mixed, pull_back = _inner(run, (heads, heads, heads, P()), (heads, kept))(q, k, v, ids)
    return _marked(mixed, q), pull_back


def _attend_bwd(shards: int, interpret: bool, pull_back: Callable, grad: Array) -> tuple:
    heads, kept = _specs(shards)

    def run(pull_back: Callable, grad: Array) -> tuple[Array, ...]:
        return jax.tree.map(lambda x: x[0], pull_back)(grad * 1)

    grads = _inner(run, (kept, heads), heads)(pull_back, grad)
    return *(_marked(x, grad) for x in grads), None


_attend.defvjp(_attend_fwd, _attend_bwd)
