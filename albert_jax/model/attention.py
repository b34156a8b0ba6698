"""Scaled dot-product attention over all positions of a sequence (no causal mask), with float32 softmax.

One signature, three implementations: `attend` below runs everywhere; those of `attention_splash` (TPU) and
`attention_cudnn` (NVIDIA GPU) never hold all scores in memory and are imported only when chosen.
"""

from __future__ import annotations

import math
from typing import Protocol

import jax
import jax.numpy as jnp

from albert_jax.model import functions


class AttentionFn(Protocol):
    """What every attention backend looks like; `attend` is the plain one."""

    def __call__(
        self,
        q_BxSxNxK: jax.Array,
        k_BxSxNxK: jax.Array,
        v_BxSxNxK: jax.Array,
        mask_BxS: jax.Array,
        dropout_rate: float = 0.0,
        dropout_keys: jax.Array | None = None,
    ) -> jax.Array: ...


def backend(name: str) -> AttentionFn:
    """The implementation that `model.attention` names: "xla", "splash" or "cudnn"."""
    if name == "splash":
        from albert_jax.model import attention_splash

        return attention_splash.attend
    if name == "cudnn":
        from albert_jax.model import attention_cudnn

        return attention_cudnn.attend
    return attend


@jax.custom_vjp
def _scores(q_BxNxSxK: jax.Array, k_BxNxTxK: jax.Array) -> jax.Array:
    """q k^T in float32, [B, N, S, T]. Its gradient is rounded to the dtype of q and k before the two products of
    the backward pass; the automatic rule would multiply float32 by bfloat16, which no matrix unit does."""
    return jnp.einsum("BNSK,BNTK->BNST", q_BxNxSxK, k_BxNxTxK, preferred_element_type=jnp.float32)


def _scores_fwd(q: jax.Array, k: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _scores(q, k), (q, k)


def _scores_bwd(residuals: tuple[jax.Array, jax.Array], grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    q, k = residuals
    grad = grad.astype(q.dtype)
    return jnp.einsum("BNST,BNTK->BNSK", grad, k), jnp.einsum("BNST,BNSK->BNTK", grad, q)


_scores.defvjp(_scores_fwd, _scores_bwd)


def attend(
    q_BxSxNxK: jax.Array,
    k_BxSxNxK: jax.Array,
    v_BxSxNxK: jax.Array,
    mask_BxS: jax.Array,
    dropout_rate: float = 0.0,
    dropout_keys: jax.Array | None = None,
) -> jax.Array:
    """softmax(q k^T / sqrt(K) + bias) v, bias = -10000 on masked keys; -> [B, S, N, K] in the dtype of q.

    Args:
        q_BxSxNxK, k_BxSxNxK, v_BxSxNxK: queries, keys and values.
        mask_BxS: bool, True where the position holds a real token that may be attended to.
        dropout_rate: share of attention probabilities set to 0, element-wise.
        dropout_keys: [B] keys, one for each example; needed when the rate is positive.
    """
    scale = 1.0 / math.sqrt(q_BxSxNxK.shape[-1])
    # Heads move beside the batch before the two products: these then read contiguous matrices in both passes.
    q_BxNxSxK = q_BxSxNxK.swapaxes(1, 2) * jnp.asarray(scale, q_BxSxNxK.dtype)
    k_BxNxSxK = k_BxSxNxK.swapaxes(1, 2)
    v_BxNxSxK = v_BxSxNxK.swapaxes(1, 2)
    scores_BxNxSxT = _scores(q_BxNxSxK, k_BxNxSxK)
    bias_Bx1x1xT = jnp.where(mask_BxS, 0.0, functions.MASK_BIAS)[:, None, None, :]
    probs_BxNxSxT = jax.nn.softmax(scores_BxNxSxT + bias_Bx1x1xT)
    probs_BxNxSxT = functions.dropout(probs_BxNxSxT, dropout_rate, dropout_keys).astype(v_BxSxNxK.dtype)
    return jnp.einsum("BNST,BNTK->BNSK", probs_BxNxSxT, v_BxNxSxK).swapaxes(1, 2)
