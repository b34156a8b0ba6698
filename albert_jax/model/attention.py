"""Scaled dot-product attention over all positions of a sequence (no causal mask), with float32 softmax.

Three implementations: `attend` runs everywhere; `attend_cudnn` (NVIDIA GPU) and the kernels of `attention_splash` (TPU)
never hold all scores in memory.
"""

import math
from collections.abc import Callable, Iterator
from functools import cache

import jax
import jax.numpy as jnp
from jax import Array

from albert_jax.errors import refuse
from albert_jax.model.layers import dropout, platform

# Added to the scores of masked keys, as google-research/albert does. Beside any real key exp(-10000) is exactly 0 in
# float32, and a row whose keys are all masked still has finite scores.
_MASK_BIAS = -10000.0


# Cached: the function is a part of the model's graph, and two models of one configuration should have equal graphs.
@cache
def backend(name: str) -> Callable[..., Array]:
    """The implementation that `model.attention` names ("xla", "splash", "cudnn"), called as `attend` is.

    The last two raise AlbertError when called with a positive dropout rate or for a device that they do not run on.
    """
    if name == "xla":
        return attend
    kernel: Callable[..., Array] = attend_cudnn
    # Imported only when chosen: Pallas takes a while to load.
    if name == "splash":
        from albert_jax.model.attention_splash import attend as kernel

    def checked(*q_k_v_mask: Array, dropout_rate: float = 0.0, dropout_keys: Array | None = None) -> Array:
        refuse(_kernel_misfits(name, dropout_rate))
        return kernel(*q_k_v_mask)

    return checked


def _kernel_misfits(name: str, dropout_rate: float) -> Iterator[str]:
    if dropout_rate:
        yield (
            f"model.attention {name!r} cannot drop attention probabilities; set model.attention_dropout to 0 "
            "or model.attention to 'xla'"
        )
    found = platform()
    wanted = "tpu" if name == "splash" else "gpu"
    if found != wanted:
        yield (
            f"model.attention {name!r} needs a {wanted.upper()} and this program is for a {found.upper()}; "
            "set model.attention to 'xla'"
        )


@jax.custom_vjp
def _scores(q_BxNxSxK: Array, k_BxNxTxK: Array) -> Array:
    """q k^T in float32, [B, N, S, T]."""
    return jnp.einsum("BNSK,BNTK->BNST", q_BxNxSxK, k_BxNxTxK, preferred_element_type=jnp.float32)


def _scores_bwd(residuals: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    q, k = residuals
    # Rounded to the dtype of q and k before the two products of the backward pass; the automatic rule would multiply
    # float32 by bfloat16, which no matrix unit does.
    grad = grad.astype(q.dtype)
    return jnp.einsum("BNST,BNTK->BNSK", grad, k), jnp.einsum("BNST,BNSK->BNTK", grad, q)


_scores.defvjp(lambda q, k: (_scores(q, k), (q, k)), _scores_bwd)


def attend(
    q_BxSxNxK: Array,
    k_BxSxNxK: Array,
    v_BxSxNxK: Array,
    mask_BxS: Array,
    dropout_rate: float = 0.0,
    dropout_keys: Array | None = None,
) -> Array:
    """softmax(q k^T / sqrt(K) + bias) v, bias = -10000 on masked keys; -> [B, S, N, K] in the dtype of q.

    `mask_BxS` is True where the position holds a real token. Dropout sets single probabilities to 0; it needs one key
    for each example [B].
    """
    scale = 1.0 / math.sqrt(q_BxSxNxK.shape[-1])
    # Heads move beside the batch before the two products: these then read contiguous matrices in both passes.
    q_BxNxSxK, k_BxNxSxK, v_BxNxSxK = (x.swapaxes(1, 2) for x in (q_BxSxNxK, k_BxSxNxK, v_BxSxNxK))
    q_BxNxSxK = q_BxNxSxK * jnp.asarray(scale, q_BxSxNxK.dtype)
    scores_BxNxSxT = _scores(q_BxNxSxK, k_BxNxSxK)
    bias_Bx1x1xT = jnp.where(mask_BxS, 0.0, _MASK_BIAS)[:, None, None, :]
    probs_BxNxSxT = jax.nn.softmax(scores_BxNxSxT + bias_Bx1x1xT)
    probs_BxNxSxT = dropout(probs_BxNxSxT, dropout_rate, dropout_keys).astype(v_BxSxNxK.dtype)
    return jnp.einsum("BNST,BNTK->BNSK", probs_BxNxSxT, v_BxNxSxK).swapaxes(1, 2)


def attend_cudnn(q_BxSxNxK: Array, k_BxSxNxK: Array, v_BxSxNxK: Array, mask_BxS: Array) -> Array:
    """What `attend` computes without dropout, by cuDNN's fused kernels, in bfloat16."""
    B, S = mask_BxS.shape
    # A mask of the scores and not sequence lengths, because the padding mask may have holes.
    mask_Bx1xSxT = jnp.broadcast_to(mask_BxS[:, None, None, :], (B, 1, S, S))
    return jax.nn.dot_product_attention(q_BxSxNxK, k_BxSxNxK, v_BxSxNxK, mask=mask_Bx1xSxT, implementation="cudnn")
